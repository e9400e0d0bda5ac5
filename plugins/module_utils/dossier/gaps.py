# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a dossier says nothing: times between two records of a deployment that are longer than they should be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import format_time, parse_time


@dataclass(frozen=True)
class Gap:
    """``begins`` and ``ends`` are the times of the records around it, None where there is none: ``after`` is the number of the first."""

    deployment: str
    after: int
    begins: datetime
    ends: Optional[datetime]
    hours: float

    def to_dict(self) -> Dict[str, Any]:
        return {"deployment": self.deployment, "after": self.after, "begins": format_time(self.begins),
                "ends": None if self.ends is None else format_time(self.ends), "hours": round(self.hours, 2)}  # fmt: skip


def find_gaps(entries: Sequence[Mapping[str, Any]], max_hours: float, until: datetime) -> List[Gap]:
    """Gaps by deployment. Only accepted records count: a refused one shows that something was there, not that it was good. A record says nothing of the time
    after ``until``."""
    found: List[Gap] = []
    last: Dict[str, Tuple[int, datetime]] = {}
    for entry in entries:
        name, at = entry["deployment"], parse_time(entry["at"], "at")
        if name not in last:
            # Before the first record there was no deployment that anybody spoke of.
            last[name] = (entry["seq"], at)
            continue
        if not entry["accepted"]:
            continue
        found += _gap(name, last[name], at, at, max_hours)
        last[name] = (entry["seq"], at)
    for name, known in last.items():
        found += _gap(name, known, until, None, max_hours)
    return sorted(found, key=lambda gap: (gap.begins, gap.deployment))


def _gap(name: str, known: Tuple[int, datetime], at: datetime, ends: Optional[datetime], max_hours: float) -> List[Gap]:
    hours = (at - known[1]).total_seconds() / 3600
    return [Gap(name, known[0], known[1], ends, hours)] if hours > max_hours else []
