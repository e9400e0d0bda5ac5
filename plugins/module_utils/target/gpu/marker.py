# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the machine remembers of switches over reboots: one that has begun and did not end, a quarantine, and modes that were verified."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import BDF
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.models import MODES

SCHEMA = "attested.ai/gpu-cc-state/1"
FOLDER = "/var/lib/attested-ai/gpu-cc"
PATH, LOCK = FOLDER + "/state.json", FOLDER + "/lock"
SETTLED, SWITCHING, QUARANTINED = "settled", "switching", "quarantined"
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Marker:
    """``devices`` are the modes that devices had before the switch (switching, quarantined) or were verified to have (settled), by address."""

    state: str = SETTLED
    desired: str = ""
    since: str = ""
    reason: str = ""
    devices: Mapping[str, str] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        return self.state != SETTLED

    def dump(self) -> str:
        document = {
            "schema": SCHEMA, "state": self.state, "desired": self.desired, "since": self.since, "reason": self.reason, "devices": dict(self.devices),
        }  # fmt: skip
        return json.dumps(document, indent=1, sort_keys=True) + "\n"

    def to_dict(self) -> Dict[str, Any]:
        return {"state": self.state, "desired": self.desired, "since": self.since, "reason": self.reason, "devices": dict(self.devices)}

    @property
    def verified(self) -> Mapping[str, str]:
        return self.devices if self.state == SETTLED else {}


def parse(text: Optional[str]) -> Marker:
    """None is a machine without a history. What is no record of ours is a quarantine: nobody knows what was going on."""
    if text is None:
        return Marker()
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA or document.get("state") not in (SETTLED, SWITCHING, QUARANTINED):
        return Marker(QUARANTINED, reason="the record %s cannot be read" % PATH)
    texts = {name: document.get(name, "") for name in ("desired", "since", "reason")}
    devices = document.get("devices")
    good = all(isinstance(value, str) and len(value) < 2000 for value in texts.values())
    if not good or not isinstance(devices, dict) or not all(_entry(key, value) for key, value in devices.items()):
        return Marker(QUARANTINED, reason="the record %s cannot be read" % PATH)
    return Marker(document["state"], texts["desired"], texts["since"], texts["reason"], devices)


def _entry(key: Any, value: Any) -> bool:
    return isinstance(key, str) and bool(BDF.fullmatch(key)) and isinstance(value, str) and len(value) < 20


def check_open(marker: Marker, clear: bool) -> Optional[Mapping[str, str]]:
    """The modes before a switch that did not end, None where none is open. Raises HostError for a quarantine that nobody lifted."""
    if marker.state == QUARANTINED and not clear:
        raise HostError(
            "this machine is quarantined%s: %s" % (" since " + marker.since if marker.since else "", marker.reason), where=PATH, code="gpu-quarantined",
            fix="Look at it with attested.ai.gpu_cc_info, cut its power and start it, then run the task with clear_quarantine: true",
        )  # fmt: skip
    return {bdf: mode for bdf, mode in marker.devices.items() if mode in MODES} if marker.open else None


def settled(modes: Tuple[Tuple[str, str], ...], since: str, desired: str) -> Marker:
    return Marker(SETTLED, desired, since, "", dict(modes))
