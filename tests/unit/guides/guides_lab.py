# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocks of all guides: what they are, and where they stand."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import textwrap
import typing as t

REPO = pathlib.Path(__file__).resolve().parents[3]
_BLOCK = re.compile(r"^( *)```([a-z]+)[^\n]*\n(.*?)^\1```[ \t]*$", re.MULTILINE | re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Block:
    file: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def guides() -> list[pathlib.Path]:
    return [REPO / "README.md", *sorted((REPO / "docs").glob("*.md")), *sorted((REPO / "roles").glob("*/README.md"))]


def blocks(*kinds: str) -> list[Block]:
    found = []
    for path in guides():
        text = path.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            if match.group(2) in kinds:
                found.append(Block(str(path.relative_to(REPO)), text[: match.start()].count("\n") + 1, match.group(2), textwrap.dedent(match.group(3))))
    return found


def commands() -> t.Iterator[tuple[Block, str]]:
    """Lines that a person types in a console block, with those that a backslash continues."""
    for block in blocks("console"):
        for match in re.finditer(r"^[$#] ((?:[^\n]*\\\n)*[^\n]*)", block.text, re.MULTILINE):
            yield block, match.group(1).replace("\\\n", " ")
