# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What stands against a pod, and what should be known about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List


@dataclass(frozen=True)
class Refusal:
    """One reason. ``id`` is stable; ``source`` says where it is known from."""

    id: str
    what: str
    fix: str
    source: str = ""

    def to_dict(self) -> Dict[str, Any]:
        return {"id": self.id, "what": self.what, "fix": self.fix, "source": self.source}


class Findings:
    """Reasons and notes, in the order that they were found."""

    def __init__(self) -> None:
        self.refusals: List[Refusal] = []
        self.notes: List[str] = []

    def refuse(self, code: str, what: str, fix: str, source: str = "") -> None:
        self.refusals.append(Refusal(code, what, fix, source))

    def note(self, text: str) -> None:
        self.notes.append(text)
