# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The answer of one probe, and the question behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional

PASS, FAIL, UNKNOWN, SKIPPED = "pass", "fail", "unknown", "skipped"
OUTCOMES = (PASS, FAIL, UNKNOWN, SKIPPED)


@dataclass(frozen=True)
class Probe:
    """What one probe found. It is a claim of the machine about itself, never evidence.

    ``unknown`` is for what could not be read, ``skipped`` for what does not apply or decides nothing; ``observed`` says why.
    """

    id: str
    area: str
    outcome: str
    observed: str
    expected: str
    source: str
    fix: str

    def to_dict(self) -> Dict[str, str]:
        return {
            "id": self.id,
            "area": self.area,
            "outcome": self.outcome,
            "observed": self.observed,
            "expected": self.expected,
            "source": self.source,
            "fix": self.fix,
        }


@dataclass(frozen=True)
class Question:
    """A probe before it was answered. ``fix`` is the step to take if the answer is not the expected one."""

    id: str
    area: str
    expected: str
    source: str
    fix: str

    def passed(self, observed: str, source: Optional[str] = None) -> Probe:
        return Probe(self.id, self.area, PASS, observed, self.expected, source or self.source, "")

    def failed(self, observed: str, fix: Optional[str] = None, source: Optional[str] = None) -> Probe:
        return Probe(self.id, self.area, FAIL, observed, self.expected, source or self.source, fix or self.fix)

    def unknown(self, reason: str, fix: str, source: Optional[str] = None) -> Probe:
        """``fix`` is what makes it readable."""
        return Probe(self.id, self.area, UNKNOWN, reason, self.expected, source or self.source, fix)

    def skipped(self, reason: str) -> Probe:
        return Probe(self.id, self.area, SKIPPED, reason, self.expected, self.source, "")

    def judged(self, good: bool, observed: str) -> Probe:
        return self.passed(observed) if good else self.failed(observed)
