# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Aligned plain-text tables. Pure: no terminal is asked here."""

from __future__ import annotations

import textwrap
import typing as t
import unicodedata
from dataclasses import dataclass

GAP = "  "
MISSING = "-"
SMALLEST_LAST_COLUMN = 24


@dataclass(frozen=True)
class Column:
    """``key`` of the value in each row, heading, and whether the text stands to the right."""

    key: str
    title: str
    right: bool = False


@dataclass(frozen=True)
class Line:
    """One line of text; ``row`` is the index of the row that it belongs to, None for headings and rules."""

    text: str
    row: int | None = None


def render(columns: t.Sequence[Column], rows: t.Sequence[t.Mapping[str, t.Any]], width: int, rule: str = "-") -> list[Line]:
    """The table in lines of at most ``width`` characters where the last column, which is wrapped, can be made that narrow."""
    cells = [[one_line(row.get(column.key)) for column in columns] for row in rows]
    titles = [one_line(column.title) for column in columns]
    widths = [max(display_width(line[index]) for line in [titles, *cells]) for index in range(len(columns))]
    before_last = sum(widths[:-1]) + len(GAP) * (len(columns) - 1)
    widths[-1] = min(widths[-1], max(width - before_last, SMALLEST_LAST_COLUMN))
    lines = [Line(_join(titles, columns, widths)), Line(rule * min(sum(widths) + len(GAP) * (len(columns) - 1), max(width, 1)))]
    for number, values in enumerate(cells):
        for part in _wrap_last(values, widths[-1]):
            lines.append(Line(_join(part, columns, widths), number))
    return lines


def one_line(value: t.Any) -> str:
    """The value as text on one line. Control characters become spaces: a value from a guest must not draw on the terminal."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    visible = (" " if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") else character for character in str(value))
    return " ".join("".join(visible).split()) or MISSING


def display_width(text: str) -> int:
    """Columns that the text takes on a terminal: wide characters two, combining marks none."""
    return sum(0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _wrap_last(values: list[str], width: int) -> list[list[str]]:
    pieces = textwrap.wrap(values[-1], width) if display_width(values[-1]) > width else [values[-1]]
    blank = [""] * (len(values) - 1)
    return [[*(values[:-1] if number == 0 else blank), piece] for number, piece in enumerate(pieces)]


def _join(values: t.Sequence[str], columns: t.Sequence[Column], widths: t.Sequence[int]) -> str:
    parts = []
    for value, column, width in zip(values, columns, widths):
        space = " " * max(width - display_width(value), 0)
        parts.append(space + value if column.right else value + space)
    return GAP.join(parts).rstrip()
