# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of today's evidence would be refused at a later time, and why: the appraisal itself is asked, once for each moment at which
something ends.

So a forecast never says anything else than the verdict will. What it cannot know are lists, TCB levels and firmware to come, but for those
that the user holds already: Intel's early view, a policy that is planned.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import format_time

# Why something will be refused.
NOW, EXPIRY, PLANNED_POLICY, EARLY_TCB, SHIPPED_FLOOR, FIRMWARE_UPDATE, TCB_RECOVERY = (
    "now", "expiry", "planned-policy", "early-tcb", "shipped-floor", "firmware-update", "tcb-recovery",
)  # fmt: skip
# So many times are looked at for one guest. Not one that is left out goes without being told.
INSTANTS_MAX = 256
INCOMPLETE = "forecast-incomplete"
_AFTER = timedelta(seconds=1)

# (submodule or empty, check id): what failed.
Failure = Tuple[str, str]


@dataclass(frozen=True)
class Verdict:
    """What fails at one time, with the details, and for each item when the first of what it relies on ends."""

    failures: Mapping[Failure, str]
    ends: Tuple[datetime, ...] = ()


@dataclass(frozen=True)
class Event:
    """``guest`` is refused at ``at`` by the check ``code`` of its submodule ``item`` (empty: of the whole). ``at`` is None where
    the day is not known. ``ends`` are the files of the store that end at this time."""

    guest: str
    item: str
    code: str
    at: Optional[datetime]
    because: str
    detail: str
    ends: Tuple[str, ...] = ()

    def to_dict(self, now: datetime) -> Dict[str, Any]:
        return {
            "guest": self.guest,
            "item": self.item,
            "code": self.code,
            "at": None if self.at is None else format_time(self.at),
            "days": None if self.at is None else max(0, (self.at - now).days),
            "because": self.because,
            "detail": self.detail,
            "ends": list(self.ends),
        }


def order(events: Iterable[Event]) -> List[Event]:
    """By time, those without a date last."""
    return sorted(events, key=lambda event: (event.at is None, event.at.timestamp() if event.at else 0.0, event.guest, event.item, event.code))


def expiries(guest: str, judge: Callable[[datetime], Verdict], now: datetime, until: datetime, boundaries: Mapping[datetime, Sequence[str]]) -> List[Event]:
    """Refusals of one guest from ``now`` to ``until``. ``boundaries`` are the times at which files of the store end, with their paths.

    Once something has failed for an item, what it hides fails later without being told: mend the first and ask again.
    """
    verdict = judge(now)
    seen: Set[Failure] = set(verdict.failures)
    events = [Event(guest, item, code, now, NOW, detail) for (item, code), detail in verdict.failures.items()]
    waiting = {moment for moment in boundaries if now < moment <= until}
    looked: Set[datetime] = set()
    while True:
        waiting.update(moment for moment in verdict.ends if now < moment <= until and moment not in looked)
        if not waiting:
            return events
        if len(looked) >= INSTANTS_MAX:
            detail = "more than %d things end, from here on nothing was looked at: forecast again with a shorter horizon" % INSTANTS_MAX
            return events + [Event(guest, "", INCOMPLETE, min(waiting), EXPIRY, detail)]
        moment = min(waiting)
        waiting.remove(moment)
        looked.add(moment)
        verdict = judge(moment + _AFTER)
        for failure, detail in verdict.failures.items():
            if failure not in seen:
                seen.add(failure)
                events.append(Event(guest, failure[0], failure[1], moment, EXPIRY, detail, tuple(boundaries.get(moment, ()))))


def differences(guest: str, before: Verdict, after: Verdict, at: Optional[datetime], because: str) -> List[Event]:
    """What fails in ``after`` and did not in ``before``."""
    return [
        Event(guest, item, code, at, because, detail) for (item, code), detail in after.failures.items() if (item, code) not in before.failures
    ]  # fmt: skip
