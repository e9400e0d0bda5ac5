# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From what a task asks for to the change that it means on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import modes, rules
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.holders import Holder
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import Device, addresses, architectures, read_inventory
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.marker import Marker, check_open
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.models import QUIET_DRIVERS
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.modes import Reading, Tool
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.plan import Change, plan
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host

Holders = Callable[[Sequence[Device]], Tuple[Holder, ...]]


@dataclass(frozen=True)
class Wish:
    """``devices`` are addresses, all devices of the machine where none is named."""

    mode: str
    devices: Tuple[str, ...] = ()
    named: Optional[Mapping[int, str]] = None
    expect_gpus: Optional[int] = None
    expect_switches: Optional[int] = None
    hgx_firmware: str = ""
    allow_partial: bool = False
    clear_quarantine: bool = False


@dataclass(frozen=True)
class Plan:
    change: Change
    warnings: Tuple[str, ...]
    holders: Tuple[Holder, ...]


def wish(options: Mapping[str, Any]) -> Wish:
    return Wish(
        options["mode"], addresses(options["devices"]), architectures(options["architectures"]), options["expect_gpus"], options["expect_switches"],
        options["hgx_firmware"], options["allow_partial"], options["clear_quarantine"],
    )  # fmt: skip


def look(ask: Optional[Tool], device: Device, held: bool, marker: Marker, limit: int = 0) -> Reading:
    """A device that somebody uses is never touched, not even to read: the tool enables its memory and its power, and talks to its processors."""
    if not modes.capable(device):
        return modes.nothing()
    if held or ask is None:
        return modes.remembered(device, marker.verified.get(device.bdf, modes.UNKNOWN))
    return modes.read(ask, device, pending=device.driver in QUIET_DRIVERS, limit=limit)


def prepare(host: Host, ask: Tool, holders: Holders, marker: Marker, asked: Wish, limit: int = 0) -> Plan:
    """The change, or HostError with the reason why it may not be done. Reads only."""
    before = check_open(marker, asked.clear_quarantine)
    found = read_inventory(host, asked.named, tuple(dict.fromkeys(asked.devices + tuple(before or ()))))
    rules.check_machine(found, asked.expect_gpus, asked.expect_switches)
    warnings = rules.check_mode(found, asked.mode) + rules.check_firmware(found, asked.mode, asked.hgx_firmware)
    held = holders(found.devices)
    chosen = asked.devices or tuple(device.bdf for device in found.devices)
    readings: List[Tuple[Device, Reading]] = []
    for device in found.devices:
        reading = look(ask, device, any(holder.bdf == device.bdf for holder in held), marker, limit)
        if not reading.known and asked.allow_partial and device.bdf not in chosen:
            continue
        if not reading.known:
            _unknown(host, device, reading, held)
        readings.append((device, reading))
    whole = plan(asked.mode, readings, before)
    change = plan(asked.mode, [(device, reading) for device, reading in readings if device.bdf in chosen], before)
    if not asked.allow_partial:
        rules.check_part(chosen, asked.mode, whole)
    if change.needed:
        rules.check_ground(host, change)
        rules.check_free([holder for holder in held if any(holder.bdf == entry.device.bdf for entry in change.touched)])
    return Plan(change, warnings if change.needed else (), held)


def _unknown(host: Host, device: Device, reading: Reading, held: Sequence[Holder]) -> None:
    if reading.trouble is None:
        rules.check_free([holder for holder in held if holder.bdf == device.bdf])
        raise HostError("its mode is not known", where=device.title, code="gpu-tool-failed")
    rules.check_lockdown(host)
    raise reading.trouble.error(device.title)
