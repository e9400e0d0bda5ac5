# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The outcome of one named check. "Not checked" is an outcome of its own, so that nothing passes in silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict

PASS = "pass"
FAIL = "fail"
NOT_CHECKED = "not_checked"


@dataclass(frozen=True)
class Check:
    """``id`` is a stable code, ``outcome`` one of PASS, FAIL, NOT_CHECKED, ``detail`` a line for a person."""

    id: str
    outcome: str
    detail: str

    def to_dict(self) -> Dict[str, str]:
        return {"id": self.id, "outcome": self.outcome, "detail": self.detail}


def passed(check_id: str, detail: str) -> Check:
    return Check(check_id, PASS, detail)


def failed(check_id: str, detail: str) -> Check:
    return Check(check_id, FAIL, detail)


def not_checked(check_id: str, detail: str) -> Check:
    return Check(check_id, NOT_CHECKED, detail)
