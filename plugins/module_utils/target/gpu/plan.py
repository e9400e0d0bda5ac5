# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is to be done so that a machine's devices are in one mode: computed whole before anything is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.target.gpu import tool
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import GPU, Device
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.models import HOPPER, OFF, ON, PPCIE
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.modes import UNKNOWN, Reading, capable

Step = Tuple[str, ...]
SETTLED = (OFF, "")


@dataclass(frozen=True)
class DeviceChange:
    """``back`` is the mode to go back to if the change fails, '' where the old one is no mode."""

    device: Device
    reading: Reading
    after: str
    back: str
    steps: Tuple[Step, ...]

    @property
    def needed(self) -> bool:
        return bool(self.steps)

    def to_dict(self) -> Dict[str, Any]:
        return {
            "device": self.device.bdf, "kind": self.device.kind, "model": self.device.model, "before": self.reading.mode, "pending": self.reading.pending,
            "after": self.after, "source": self.reading.source, "steps": [tool.shown(step) for step in self.steps],
        }  # fmt: skip


@dataclass(frozen=True)
class Change:
    """All devices of the machine that the task is about, those that stay as they are included. ``repair``: an earlier switch did not end."""

    desired: str
    repair: bool
    devices: Tuple[DeviceChange, ...]

    @property
    def touched(self) -> Tuple[DeviceChange, ...]:
        return tuple(change for change in self.devices if change.needed)

    @property
    def needed(self) -> bool:
        return bool(self.touched)

    @property
    def code(self) -> str:
        """What the machine is found in."""
        if not self.needed and not self.repair:
            return "as-wanted"
        return "interrupted" if self.repair else "to-switch"

    def text(self, after: bool) -> str:
        """One line for each device, for the diff."""
        lines = []
        for change in self.devices:
            mode = change.after if after else change.reading.mode
            pending = "" if after or change.reading.pending in (change.reading.mode, UNKNOWN) else ", %s after the next reset" % change.reading.pending
            lines.append("%s %s: %s%s\n" % (change.device.bdf, change.device.model, mode, pending))
        return "".join(lines)


def plan(desired: str, readings: Sequence[Tuple[Device, Reading]], before: Optional[Mapping[str, str]] = None) -> Change:
    """``before`` are the modes of a switch that did not end, by address; its devices are set again where it cannot be told how far it came."""
    changes = []
    for device, reading in readings:
        after = wanted(device, desired)
        unsure = before is not None and device.bdf in before and reading.pending == UNKNOWN
        back = (before or {}).get(device.bdf, reading.mode)
        changes.append(DeviceChange(
            device, reading, after, back if back in (OFF, ON, "devtools", PPCIE) else "", steps(device, reading, after, unsure) if capable(device) else (),
        ))  # fmt: skip
    return Change(desired, before is not None, tuple(changes))


def wanted(device: Device, desired: str) -> str:
    """Switches have no mode but Protected PCIe, and devices before Hopper have none at all."""
    if not capable(device):
        return OFF
    return desired if device.kind == GPU or desired == PPCIE else OFF


def steps(device: Device, reading: Reading, after: str, again: bool = False) -> Tuple[Step, ...]:
    """Calls of the tool, each with its reset. The other mode goes off first, with a reset of its own: the order that was proven in the field."""
    if reading.at(after) and not again:
        return ()
    found: List[Step] = []
    cc = device.kind == GPU and not (reading.cc in SETTLED and reading.cc_pending in SETTLED)
    ppcie = device.architecture == HOPPER and not (reading.ppcie in SETTLED and reading.ppcie_pending in SETTLED)
    if after == PPCIE:
        if cc:
            found.append(tool.set_cc(device.bdf, OFF))
        found.append(tool.set_ppcie(device.bdf, ON))
        return tuple(found)
    if ppcie:
        found.append(tool.set_ppcie(device.bdf, OFF))
    if device.kind == GPU and (after != OFF or cc or again):
        found.append(tool.set_cc(device.bdf, after))
    if not found and again:
        found.append(tool.set_ppcie(device.bdf, OFF))
    return tuple(found)
