# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a bundle still permits: its window, its collateral, its uses, and a clock that was not set back. Clock and ledger are arguments."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Dict, Iterable, List, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.edge.bundle import Bundle
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import format_time, parse_time

# Times are kept in whole seconds, and a time service moves a clock by parts of one.
CLOCK_SLACK = timedelta(seconds=5)
_NEW = "Bring this gateway's ledger to the centre and install a new bundle"


@dataclass(frozen=True)
class Problem:
    """Why nothing is released. ``code`` is stable."""

    what: str
    fix: str
    code: str


@dataclass(frozen=True)
class Standing:
    """What is left of a bundle at one moment. ``used`` counts releases by model under this bundle."""

    bundle: Bundle
    now: datetime
    used: Mapping[str, int]
    problems: Tuple[Problem, ...]

    def refuse(self, model_id: str) -> None:
        """Raise KeyReleaseError if no key of this model may be released now."""
        where = "edge bundle %d of %s" % (self.bundle.sequence, self.bundle.gateway)
        for problem in self.problems:
            raise KeyReleaseError(problem.what, where=where, fix=problem.fix, code=problem.code)
        _number, grant = self.bundle.grant(model_id)
        if self.used.get(model_id, 0) >= grant.uses:
            raise KeyReleaseError("all %d releases of %s are used" % (grant.uses, model_id), where=where, fix=_NEW, code="edge-used-up")

    def to_dict(self) -> Dict[str, Any]:
        """For results and reports."""
        bundle, ends = self.bundle, ends_at(self.bundle)
        models = []
        for grant in bundle.models:
            used = self.used.get(grant.model_id, 0)
            models.append({"model_id": grant.model_id, "release": grant.release, "uses": grant.uses, "used": used, "uses_left": max(0, grant.uses - used)})
        return {
            "gateway": bundle.gateway, "sequence": bundle.sequence, "not_before": format_time(bundle.not_before), "not_after": format_time(bundle.not_after),
            "collateral_until": None if bundle.collateral_until is None else format_time(bundle.collateral_until), "ends_at": format_time(ends),
            "ends_by": "window" if ends == bundle.not_after else "collateral", "days_left": max(0.0, round((ends - self.now).total_seconds() / 86400, 2)),
            "models": models, "usable": not self.problems and any(model["uses_left"] for model in models),
            "problems": [{"code": problem.code, "detail": problem.what} for problem in self.problems],
        }  # fmt: skip


def ends_at(bundle: Bundle) -> datetime:
    """When nothing is released any more, whatever ends first."""
    return bundle.not_after if bundle.collateral_until is None else min(bundle.not_after, bundle.collateral_until)


def standing(bundle: Bundle, now: datetime, newest: datetime, entries: Iterable[Mapping[str, Any]]) -> Standing:
    """Judge. ``newest`` is the newest time that the gateway ever saw, ``entries`` are those of its ledger (verified): they count the uses and bear times."""
    used: Dict[str, int] = {}
    ours = mark(bundle.gateway, bundle.sequence)
    for entry in entries:
        newest = max(newest, _time(entry, newest))
        if entry["decision"] == "released" and ours in entry["reasons"]:
            used[entry["model_id"]] = used.get(entry["model_id"], 0) + 1
    return Standing(bundle, now, used, tuple(_problems(bundle, now, max(newest, bundle.created_at))))


def mark(gateway: str, sequence: int) -> str:
    """What an entry of the ledger bears that was released under a bundle."""
    return "edge-bundle: %s %d" % (gateway, sequence)


def _problems(bundle: Bundle, now: datetime, newest: datetime) -> List[Problem]:
    found = []
    if now + CLOCK_SLACK < newest:
        found.append(Problem("the clock says %s, but %s was seen before: it was set back" % (format_time(now), format_time(newest)), code="edge-clock-back",
                             fix="Set the clock right. If it was the earlier time that was wrong, only a gateway prepared anew helps"))  # fmt: skip
    if now < bundle.not_before:
        found.append(Problem("it begins at %s" % format_time(bundle.not_before), fix="Wait, or have the centre make another", code="edge-not-yet"))
    if now > bundle.not_after:
        found.append(Problem("it ended at %s" % format_time(bundle.not_after), fix=_NEW, code="edge-expired"))
    if bundle.collateral_until is not None and now > bundle.collateral_until:
        found.append(Problem("the first piece of its collateral ended at %s" % format_time(bundle.collateral_until), fix=_NEW, code="edge-collateral-ended"))
    return found


def _time(entry: Mapping[str, Any], newest: datetime) -> datetime:
    try:
        return parse_time(entry["at"], "ledger entry")
    except AttestedError:
        # An entry of ours always has one; another spelling tells nothing.
        return newest
