# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A comparison as rows for attested.ai.summary_table and for the report."""

from __future__ import annotations

import typing as t

COLUMNS: t.Final = [
    {"key": "measure", "title": "Measured"},
    {"key": "off", "title": "Off", "align": "right"},
    {"key": "on", "title": "On", "align": "right"},
    {"key": "ratio", "title": "On/off", "align": "right"},
    {"key": "interval", "title": "Interval", "align": "right"},
    {"key": "outliers", "title": "Outliers", "align": "right"},
    {"key": "effect", "title": "Effect"},
    {"key": "found", "title": "Published"},
]
_OUTCOMES = {"within": "pass", "more": "fail"}


def summary(document: t.Mapping[str, t.Any]) -> list[dict[str, str]]:
    rows = [_row(row) for row in document["rows"]]
    return rows + [_alone(entry) for entry in document["only"]]


def _row(row: t.Mapping[str, t.Any]) -> dict[str, str]:
    known = "ratio" in row
    return {
        "measure": row["id"],
        "off": amount(row["off_seconds"], row["bytes"]),
        "on": amount(row["on_seconds"], row["bytes"]),
        "ratio": f"{row['ratio']:.3f}" if known else "",
        "interval": f"{row['low']:.3f}..{row['high']:.3f}" if known else "",
        "outliers": f"{row['outliers']['off']}, {row['outliers']['on']}",
        "effect": row["effect"].replace("-", " "),
        "outcome": _OUTCOMES.get(row["verdict"], "warning" if row["effect"] != "none-seen" else "ok"),
        "found": row["because"],
    }


def _alone(entry: t.Mapping[str, t.Any]) -> dict[str, str]:
    return {
        "measure": entry["id"], entry["side"]: amount(entry["seconds"], None), "effect": "unknown", "outcome": "warning",
        "found": f"not comparable, because only the side {entry['side']} has it: {entry['why']}",
    }  # fmt: skip


def notes(document: t.Mapping[str, t.Any]) -> list[str]:
    lines = list(document["warnings"])
    lines += [f"Beside the TEE the sides differ in {one['what']}: {one['on']} on, {one['off']} off" for one in document["differences"]]
    for side in ("on", "off"):
        lines += [f"Not measured on the side {side}: {name}, {why}" for name, why in document[side]["absent"].items()]
        lines.append(f"Bounce buffers, side {side}: {_buffers(document[side]['swiotlb'])}")
    lines.append(f"The intervals hold the true ratio in {document['confidence'] * 100:g} % of all runs, for all rows together. Outliers are counted and kept")
    return lines


def _buffers(found: t.Mapping[str, t.Any]) -> str:
    if found.get("used_most") is None:
        return str(found.get("why") or "unknown")
    return f"{found['used_most']} of {found.get('slots') or 'unknown'} slots in use at most, {found.get('used_before')} before"


def amount(seconds: float, size: t.Any) -> str:
    """A time in a unit that reads well, and the rate where bytes were moved."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1 or unit == "us":
            break
    text = f"{seconds * factor:.3g} {unit}"
    return f"{text} ({size / seconds / 1e9:.2f} GB/s)" if isinstance(size, int) and size else text
