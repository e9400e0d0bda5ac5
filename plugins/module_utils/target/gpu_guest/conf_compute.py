# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Output of `nvidia-smi conf-compute`. Recorded forms: -q of drivers 550 to 595 on Hopper, -f, -grs; what no record shows is None, never guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Optional

QUERY, READY = ("conf-compute", "-q"), ("conf-compute", "-grs")


@dataclass(frozen=True)
class ConfCompute:
    """``feature`` and ``devtools``: True for on. ``multi_gpu``: none, ppcie or the driver's own word. ``ready``: whether GPUs take work."""

    feature: Optional[bool] = None
    devtools: Optional[bool] = None
    multi_gpu: Optional[str] = None
    cpu: str = ""
    gpu: str = ""
    ready: Optional[bool] = None

    @property
    def mode(self) -> Optional[str]:
        """on, devtools, ppcie or off. In protected PCIe mode the feature is off, and that is right."""
        if self.multi_gpu == "ppcie":
            return "ppcie"
        if self.feature is None:
            return None
        return ("devtools" if self.devtools else "on") if self.feature else "off"


def parse_query(text: str) -> ConfCompute:
    """`nvidia-smi conf-compute -q`."""
    fields: Dict[str, str] = {}
    for line in text.splitlines():
        name, sign, value = line.partition(":")
        if sign:
            fields.setdefault(name.strip().lower(), value.strip())
    multi = fields.get("multi-gpu mode")
    return ConfCompute(
        feature=_switch(fields.get("cc state")),
        devtools=_switch(fields.get("devtools mode")),
        multi_gpu=None if multi is None else {"protected pcie": "ppcie", "none": "none"}.get(multi.lower(), multi[:40]),
        cpu=fields.get("cpu cc capabilities", "")[:60],
        gpu=fields.get("gpu cc capabilities", "")[:60],
        ready=_ready(fields.get("cc gpus ready state")),
    )


def parse_ready(text: str) -> Optional[bool]:
    """`nvidia-smi conf-compute -grs`: 'Confidential Compute GPUs Ready state: ready' or not-ready; other drivers write Ready or Not Ready."""
    match = re.search(r"ready state\s*:\s*(.+)$", text, re.IGNORECASE | re.MULTILINE)
    return _ready(match.group(1).strip()) if match else None


def _switch(value: Optional[str]) -> Optional[bool]:
    return {"on": True, "off": False}.get((value or "").lower())


def _ready(value: Optional[str]) -> Optional[bool]:
    word = re.sub(r"[^a-z]", "", (value or "").lower())
    return {"ready": True, "notready": False}.get(word)
