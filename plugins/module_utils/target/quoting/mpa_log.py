# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The log of Intel's registration agent (MPA): what its last run came to. The phrases are those of DCAP, RegistrationService.cpp."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Tuple

REGISTERED, COMPLETE, FAILED, DISABLED, STARTED, SILENT = "registered", "complete", "failed", "agent-disabled", "started", "silent"

# "[27-11-2026 10:00:01] INFO: text"; the agent writes times of twelve hours, so that lines cannot be sorted by them.
_LINE = re.compile(r"^\s*(?:\[[^\]]*\]\s*)?(ERROR|WARN|WARNING|INFO|DEBUG):\s*(.*?)\s*$")
_START = "SGX Registration Agent version"
_PHRASES: Tuple[Tuple[str, str], ...] = (
    ("passed successfully", REGISTERED),
    ("is completed successfully", COMPLETE),
    ("MPA won't perform platform registration", DISABLED),
    ("completed unsuccessfully", FAILED),
)


@dataclass(frozen=True)
class Run:
    """``outcome``: registered (by this run), complete (it was before), failed, agent-disabled (in the BIOS), started (no result yet), silent (no log).
    ``line`` is the one that says so."""

    outcome: str
    line: str

    def to_dict(self) -> Dict[str, str]:
        return {"outcome": self.outcome, "line": self.line}


def last_run(text: str) -> Run:
    """A run whose errors came before its success, such as a first try without network, has succeeded."""
    lines: List[Tuple[str, str, str]] = []
    for line in text.splitlines():
        found = _LINE.match(line)
        if found:
            lines.append((found.group(1), found.group(2), line.strip()[:200]))
    begin = max((number for number, (_level, said, _line) in enumerate(lines) if said.startswith(_START)), default=0)
    outcome = Run(STARTED, lines[-1][2]) if lines else Run(SILENT, "")
    for level, said, line in lines[begin:]:
        meaning = next((meaning for phrase, meaning in _PHRASES if phrase in said), "")
        if not meaning and (level == "ERROR" or said.endswith("failed.")) and outcome.outcome != FAILED:
            meaning = FAILED
        if meaning:
            outcome = Run(meaning, line)
    return outcome
