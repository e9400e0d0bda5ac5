# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bounce buffers: all data between a confidential guest and its devices goes through them."""

from __future__ import annotations

import os
from typing import Any, Dict, Optional

DIRECTORY = "/sys/kernel/debug/swiotlb"


class Swiotlb:
    """Looked at between the measurements. Slots are of 2 KiB."""

    def __init__(self, directory: str = DIRECTORY) -> None:
        self._directory = directory
        self._before = self._most = self._used()

    def look(self) -> None:
        used = self._used()
        if used is not None:
            self._most = max(used, self._most or 0)

    def to_dict(self) -> Dict[str, Any]:
        why = "" if self._before is not None else self._why()
        # The kernel's own high-water mark, where it keeps one, saw what lay between two looks; it counts since boot.
        return {
            "slots": self._number("io_tlb_nslabs"),
            "used_before": self._before,
            "used_most": self._most,
            "high_water": self._number("io_tlb_used_hiwater"),
            "why": why,
        }

    def _used(self) -> Optional[int]:
        return self._number("io_tlb_used")

    def _number(self, name: str) -> Optional[int]:
        try:
            with open(os.path.join(self._directory, name), encoding="ascii") as stream:
                return int(stream.read(32))
        except (OSError, ValueError):
            return None

    def _why(self) -> str:
        if os.path.isdir(self._directory):
            return "%s holds no number: become root" % os.path.join(self._directory, "io_tlb_used")
        return "%s is not there: no bounce buffers, no debugfs, or no right to look" % self._directory
