# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The three states of data, each with what proves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, PASS, Check

AT_REST, IN_TRANSIT, IN_USE = "at-rest", "in-transit", "in-use"
# What of a record proves which state. A state is shown if the first of its checks passed and none failed: the others add to it.
PROOFS: Mapping[str, Tuple[str, ...]] = {
    AT_REST: ("manifest", "releases", "served-model"),
    IN_TRANSIT: ("channel",),
    IN_USE: ("appraisal",),
}


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
    found = []
    for name, ids in PROOFS.items():
        proofs = tuple(checks[one] for one in ids)
        found.append(State(name, proofs[0].outcome == PASS and all(check.outcome != FAIL for check in proofs), proofs))
    return tuple(found)
