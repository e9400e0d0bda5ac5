# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Two sides of a benchmark as one comparison."""

from __future__ import annotations

import statistics as plain
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.benchmark import published
from ansible_collections.attested.ai.plugins.module_utils.benchmark.document import MACHINE, merge
from ansible_collections.attested.ai.plugins.module_utils.benchmark.failure import BenchmarkError
from ansible_collections.attested.ai.plugins.module_utils.benchmark.statistics import Interval, interval, least_pairs, outliers

SCHEMA = "attested.ai/overhead-comparison/1"
SLOWER, FASTER, SAME = "slower", "faster", "none-seen"


def compare(on: t.Sequence[t.Any], off: t.Sequence[t.Any], confidence: float = 0.95) -> dict[str, t.Any]:
    """``on`` and ``off`` are the passes of each side in their order. ``confidence`` holds for all rows together. Raises BenchmarkError."""
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)) or not 0.5 <= confidence < 1:
        raise BenchmarkError("%s is no confidence from 0.5 to below 1" % ascii(confidence)[:40], fix="Give 0.95", code="confidence")
    one, other = merge(on, "on"), merge(off, "off")
    if one["settings"] != other["settings"]:
        raise BenchmarkError("the sides were measured with different settings", fix="Measure both with the same rounds and sizes", code="settings-differ")
    differences = [
        {"what": key, "on": one["machine"].get(key), "off": other["machine"].get(key)}
        for key in MACHINE
        if one["machine"].get(key) != other["machine"].get(key)
    ]
    shared = [name for name in one["measures"] if name in other["measures"]]
    # So many rows are looked at that one of them would differ by chance; each gets its part of the doubt.
    each = 1 - (1 - confidence) / max(1, len(shared))
    rows = [_row(name, one, other, each, [entry["what"] for entry in differences]) for name in shared]
    return {
        "schema": SCHEMA,
        "confidence": confidence,
        "on": _side(one),
        "off": _side(other),
        "differences": differences,
        "warnings": _warnings(one, other),
        "rows": rows,
        "only": _only(one, other),
    }


def _side(document: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {key: document[key] for key in ("machine", "swiotlb", "absent")}


def _warnings(one: t.Mapping[str, t.Any], other: t.Mapping[str, t.Any]) -> list[str]:
    found = []
    if one["machine"].get("tee") in (None, "none"):
        found.append("The side called on says of itself that it runs in no TEE: nothing here is a cost of confidential computing")
    if other["machine"].get("tee") not in (None, "none", "unknown"):
        found.append(f"The side called off says of itself that it runs in a TEE ({other['machine']['tee']})")
    if one["machine"].get("gpu") and one["machine"].get("gpu_cc") != "on":
        found.append(f"The GPU of the side called on is in CC mode: {one['machine'].get('gpu_cc') or 'unknown'}")
    return found


def _row(name: str, one: t.Mapping[str, t.Any], other: t.Mapping[str, t.Any], confidence: float, differs: t.Sequence[str]) -> dict[str, t.Any]:
    on, off = one["measures"][name]["passes"], other["measures"][name]["passes"]
    row: dict[str, t.Any] = {
        "id": name,
        "bytes": one["measures"][name].get("bytes"),
        "on_seconds": _median(on),
        "off_seconds": _median(off),
        "outliers": {"on": outliers(_flat(on)), "off": outliers(_flat(off))},
        "pairs": min(len(on), len(off)),
    }
    needed = least_pairs(confidence)
    if len(on) != len(off) or row["pairs"] < needed:
        why = f"{len(on)} and {len(off)} passes are no pairs" if len(on) != len(off) else f"{row['pairs']} passes are too few, {needed} are needed"
        return {**row, "effect": "unknown", "verdict": published.NOT_COMPARABLE, "because": f"not comparable, because {why}", "figure": ""}
    # Rounds of one pass are no pairs: whatever slowed one of them slowed the others, too.
    found = interval([plain.median(values) for values in on], [plain.median(values) for values in off], confidence)
    row.update(ratio=found.middle, low=found.low, high=found.high, effect=_effect(found))
    why = _no_pair(one["machine"], other["machine"])
    if why:
        return {**row, "verdict": published.NOT_COMPARABLE, "because": f"not comparable, because {why}", "figure": ""}
    return {**row, **published.verdict(name, found, one["machine"], differs)}


def _no_pair(one: t.Mapping[str, t.Any], other: t.Mapping[str, t.Any]) -> str:
    """Why the difference between the sides is not that of confidential computing. Two sides in a TEE would cost nothing, and pass."""
    if one.get("tee") in (None, "none"):
        return "neither side is known to be a TEE"
    if other.get("tee") != "none":
        return "the side called off is not known to run in no TEE"
    if one.get("gpu") and (one.get("gpu_cc"), other.get("gpu_cc")) != ("on", "off"):
        return f"CC mode of the GPU is {one.get('gpu_cc') or 'unknown'} on the side called on, {other.get('gpu_cc') or 'unknown'} on the other"
    return ""


def _flat(passes: t.Sequence[t.Sequence[float]]) -> list[float]:
    return [value for values in passes for value in values]


def _median(passes: t.Sequence[t.Sequence[float]]) -> float:
    return plain.median(_flat(passes))


def _effect(found: Interval) -> str:
    if found.low > 1:
        return SLOWER
    return FASTER if found.high < 1 else SAME


def _only(one: t.Mapping[str, t.Any], other: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """What only one side has: how long, and why the other has not."""
    found = []
    for side, mine, theirs in (("on", one, other), ("off", other, one)):
        for name, measure in mine["measures"].items():
            if name not in theirs["measures"]:
                why = next((text for key, text in theirs["absent"].items() if name == key or name.startswith(key + ".")), "it was not measured there")
                found.append({"id": name, "side": side, "seconds": _median(measure["passes"]), "why": why})
    return found
