# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""In which state a host is: what its kept result says, how old that is, and whether anybody vouches for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si
from ansible_collections.attested.ai.plugins.module_utils.fleet.record import Kept
from ansible_collections.attested.ai.plugins.module_utils.fleet.summary import Summary

AFFIRMING, WARNING, CONTRAINDICATED, STALE, UNPROVEN, MISSING = STATES = (
    "affirming", "warning", "contraindicated", "stale", "unproven", "missing",
)  # fmt: skip
LEEWAY = timedelta(seconds=60)
_DAY = 86400.0


@dataclass(frozen=True)
class Standing:
    """The state of one host and why. ``days`` is how long what the result rests on still holds, rounded down, negative if it has ended."""

    state: str
    why: str
    age_hours: Optional[float]
    days: Optional[int]


def standing(kept: Kept, now: datetime, max_age: timedelta) -> Standing:
    """Judge by age and signature. Bad news counts from anybody, good news only signed, recent, and while all it rests on holds."""
    summary = kept.summary
    if summary is None:
        return Standing(UNPROVEN, kept.problem, None, None)
    age = now - summary.evaluated_at
    hours = round(age.total_seconds() / 3600, 2)
    days = None if summary.expires_at is None else math.floor((summary.expires_at - now).total_seconds() / _DAY)
    state, why = _state(kept, summary, age, now, max_age)
    return Standing(state, why, hours, days)


def _state(kept: Kept, summary: Summary, age: timedelta, now: datetime, max_age: timedelta) -> Tuple[str, str]:
    if summary.status == ar4si.CONTRAINDICATED:
        return CONTRAINDICATED, "; ".join("%s: %s" % reason for reason in summary.reasons[:3]) or "the evidence was refused"
    if not summary.accepted or summary.status not in (ar4si.AFFIRMING, ar4si.WARNING):
        return UNPROVEN, "the evidence could not be judged"
    if not kept.proven:
        return UNPROVEN, kept.problem
    if age < -LEEWAY:
        return UNPROVEN, "the result lies in the future: look at the clocks"
    if age > max_age:
        return STALE, "the result is older than %g hours" % (max_age.total_seconds() / 3600)
    if summary.expires_at is not None and summary.expires_at <= now:
        return STALE, "what the result rests on has ended"
    return summary.status, ""


def expiry_groups(days: Optional[int], steps: Sequence[int]) -> Tuple[str, ...]:
    """Names of the groups for the days that are left: ``expired``, else ``within_<n>d`` for each step that is reached."""
    if days is None:
        return ("unknown",)
    if days < 0:
        return ("expired",)
    return tuple("within_%dd" % step for step in sorted(set(steps)) if days < step) or ("later",)
