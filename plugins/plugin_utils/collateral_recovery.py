# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What if a TCB recovery of Intel's became mandatory today: the appraisal is asked with the collateral of that number."""

from __future__ import annotations

import json
import typing as t
from dataclasses import replace

from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import Endorsements
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Policy
from ansible_collections.attested.ai.plugins.module_utils.endorsements import forecast as core
from ansible_collections.attested.ai.plugins.module_utils.endorsements.forecast import Event, Verdict
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError

TDX_TYPES: t.Final = ("tdx", "az-tdx-vtpm")
UNKNOWN: t.Final = "tcb-recovery-unknown"
_BY_NUMBER = "policy-tcb-eval-number"


class Recovery:
    """One TCB evaluation data number. ``pieces`` is all TDX collateral of the store by path, of every view."""

    def __init__(self, number: int, pieces: t.Mapping[str, bytes]) -> None:
        if not 0 <= number < 2**32:
            raise AttestedError("%d is no evaluation number" % number, where="recoveries")
        self.number = number
        self._tdx = _of(number, pieces)
        self._refused: list[str] = []
        self._unknown: list[str] = []
        self._guests = 0

    def policy(self, own: Policy) -> Policy:
        least = max(self.number, own.tdx.min_tcb_evaluation_data_number)
        return replace(own, tdx=replace(own.tdx, min_tcb_evaluation_data_number=least))

    def endorsements(self, today: Endorsements) -> Endorsements:
        return replace(today, tdx=self._tdx or today.tdx)

    def events(self, guest: str, today: Verdict, then: Verdict) -> list[Event]:
        """What fails only then. Without collateral of that number nobody knows, and that is said instead."""
        self._guests += 1
        found = core.differences(guest, today, then, None, core.TCB_RECOVERY)
        if any(event.code == _BY_NUMBER for event in found):
            self._unknown.append(guest)
            detail = "the store has no collateral of evaluation number %d or higher for its platform, so nobody can say: fetch it with" % self.number
            return [Event(guest, "", UNKNOWN, None, core.TCB_RECOVERY, detail + " tcb_evaluation_data_number: %d" % self.number)]
        if found:
            self._refused.append(guest)
        return [replace(event, detail="if number %d were mandatory: %s" % (self.number, event.detail)) for event in found]

    def told(self) -> dict[str, t.Any]:
        return {"number": self.number, "refused": sorted(self._refused), "unknown": sorted(self._unknown), "guests": self._guests}


def _of(number: int, pieces: t.Mapping[str, bytes]) -> tuple[bytes, ...]:
    """Of each platform the piece with the lowest number that is high enough; else the highest, by which the verdict will say that it is too low."""
    stems: dict[str, list[tuple[int, bytes]]] = {}
    for path, data in pieces.items():
        stems.setdefault(path.rpartition("-")[0], []).append((_number(data), data))
    chosen = []
    for several in stems.values():
        enough = [one for one in several if one[0] >= number]
        chosen.append((min(enough) if enough else max(several))[1])
    return tuple(chosen)


def _number(data: bytes) -> int:
    """The number that the piece gives itself; it only chooses, the verdict proves the piece."""
    try:
        info = json.loads(data)["tcb_info"]
        number = (json.loads(info) if isinstance(info, str) else info)["tcbEvaluationDataNumber"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return -1
    return number if isinstance(number, int) and not isinstance(number, bool) else -1
