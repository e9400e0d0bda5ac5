# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The three states of data, each with what proves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, PASS, Check

AT_REST, IN_TRANSIT, IN_USE = "at-rest", "in-transit", "in-use"
# What of a record proves which state, those that it needs first. Whatever fails speaks against it: what is encrypted on the way to, or for, a machine that the
# policy refuses is not protected.
PROOFS: Mapping[str, Tuple[str, ...]] = {
    AT_REST: ("manifest", "served-model", "appraisal", "releases", "channel"),
    IN_TRANSIT: ("channel", "appraisal"),
    IN_USE: ("appraisal", "channel"),
}
_NEEDED: Mapping[str, int] = {AT_REST: 3, IN_TRANSIT: 2, IN_USE: 1}
# A refusal that a record tells is good bookkeeping. Where one of these fails, the record itself is not what it should be, and shows nothing.
INTEGRITY = ("file", "reproduced", "ear", "manifest", "releases", "order", "fresh")


@dataclass(frozen=True)
class State:
    """One state of the data of a deployment, and the checks that speak of it."""

    name: str
    shown: bool
    proofs: Tuple[Check, ...]

    def to_dict(self) -> Dict[str, Any]:
        return {"state": self.name, "shown": self.shown, "proofs": [check.to_dict() for check in self.proofs]}


def states_of(checks: Mapping[str, Check]) -> Tuple[State, ...]:
    """The states from the checks of one record, by their ids."""
    whole = all(checks[one].outcome != FAIL for one in INTEGRITY if one in checks)
    found = []
    for name, ids in PROOFS.items():
        proofs = tuple(checks[one] for one in ids)
        enough = all(check.outcome == PASS for check in proofs[: _NEEDED[name]])
        found.append(State(name, whole and enough and all(check.outcome != FAIL for check in proofs), proofs))
    return tuple(found)
