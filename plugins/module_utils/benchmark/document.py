# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The document of one side: what the machine is, and the seconds of every measurement, round by round."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.attested.ai.plugins.module_utils.benchmark.failure import BenchmarkError

SCHEMA = "attested.ai/overhead/1"
LEAST_SECONDS, MOST_SECONDS = 1e-12, 1e7
# What has to be the same on both sides, or else is named in the comparison. tee is the difference that is looked for.
MACHINE = ("architecture", "cpu", "cpus", "memory_gib", "kernel", "python", "numpy", "torch", "gpu", "gpu_capability", "driver", "hypervisor")
_ID = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+){0,5}\Z")


def parse(given: Any, where: str) -> Dict[str, Any]:
    """The document, if it is one. Raises BenchmarkError."""
    if not isinstance(given, Mapping) or given.get("schema") != SCHEMA:
        raise BenchmarkError("it is no document of the schema %s" % SCHEMA, where=where, fix="Give what attested.ai.overhead_measure returned", code="document")
    for key, kind in (("machine", Mapping), ("measures", Mapping), ("absent", Mapping), ("swiotlb", Mapping), ("settings", Mapping)):
        if not isinstance(given.get(key), kind):
            raise BenchmarkError("%s is missing or has another form" % key, where=where, code="document")
    for name, measure in given["measures"].items():
        _check(name, measure, where)
    return dict(given)


def _check(name: Any, measure: Any, where: str) -> None:
    if not isinstance(name, str) or not _ID.match(name):
        raise BenchmarkError("%s is no name of a measurement" % ascii(name)[:60], where=where, code="document")
    seconds = measure.get("seconds") if isinstance(measure, Mapping) else None
    if not isinstance(seconds, (list, tuple)) or not seconds:
        raise BenchmarkError("it has no seconds", where="%s, %s" % (where, name), code="document")
    for value in seconds:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not LEAST_SECONDS <= value <= MOST_SECONDS:
            raise BenchmarkError("%s is no time" % ascii(value)[:40], where="%s, %s" % (where, name), code="document")


def merge(documents: Sequence[Any], where: str) -> Dict[str, Any]:
    """Several passes of one side as one, in which each measure has its seconds pass by pass. The machine must have stayed what it was."""
    if not documents:
        raise BenchmarkError("there is no document", where=where, fix="Measure this side first", code="document")
    parsed = [parse(document, "%s, pass %d" % (where, number)) for number, document in enumerate(documents, 1)]
    first = parsed[0]
    for other in parsed[1:]:
        changed = [key for key in MACHINE + ("tee",) if other["machine"].get(key) != first["machine"].get(key)]
        if changed or other["settings"] != first["settings"]:
            what = ", ".join(changed) or "settings"
            raise BenchmarkError("%s changed between two passes" % what, where=where, fix="Measure all passes of a side on one machine", code="passes-differ")
    measures: Dict[str, Any] = {}
    for name, one in first["measures"].items():
        parts = [document["measures"].get(name) for document in parsed]
        # A measurement that failed in one pass would shift the pairs of all later ones.
        if all(part is not None for part in parts):
            measures[name] = {**one, "passes": [list(part["seconds"]) for part in parts if part is not None]}
    absent: Dict[str, str] = {}
    for document in parsed:
        absent.update(document["absent"])
    gone = [name for document in parsed for name in document["measures"] if name not in measures]
    absent.update({name: absent.get(name, "it failed in some of the passes") for name in gone})
    return {**first, "measures": measures, "absent": absent, "swiotlb": _most([document["swiotlb"] for document in parsed])}


def _most(found: List[Mapping[str, Any]]) -> Dict[str, Any]:
    """The highest use that was seen in any pass."""
    answer = dict(found[0])
    for other in found[1:]:
        for key in ("used_before", "used_most"):
            values = [value for value in (answer.get(key), other.get(key)) if isinstance(value, int)]
            answer[key] = max(values) if values else None
    return answer
