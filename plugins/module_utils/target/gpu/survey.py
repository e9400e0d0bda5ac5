# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A look at a machine's GPUs as one document, and recordings of it that can be judged elsewhere."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import models, modes, questions
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.holders import Holder
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import Device, read_inventory
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.marker import PATH, parse
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.modes import Reading, Tool
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.questions import Found
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.tool import Run
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.work import Holders, look
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import FAIL, OUTCOMES
from ansible_collections.attested.ai.plugins.module_utils.target.probes.survey import verdict

# Of a recording of tee_info, which this extends.
SECTION = "gpu"


def survey(
    host: Host, ask: Optional[Tool], holders: Holders, named: Mapping[int, str], wanted: Sequence[str] = (), hgx_firmware: str = "", limit: int = 0,
) -> Dict[str, Any]:  # fmt: skip
    """``ask`` is None where no admin tool is at hand. Reads only, and touches no device that somebody uses."""
    text = host.text(PATH)
    marker = parse(None if isinstance(text, Unreadable) else text)
    inventory = read_inventory(host, named, wanted)
    held: Optional[Tuple[Holder, ...]] = None
    hidden = ""
    try:
        held = holders(inventory.devices)
    except HostError as error:
        hidden = error.what
    readings = tuple(
        (device, look(ask, device, held is None or any(holder.bdf == device.bdf for holder in held), marker, limit)) for device in inventory.devices
    )  # fmt: skip
    found = Found(host, inventory, readings, held, marker, hgx_firmware)
    probes = questions.ask_all(found)
    devices = [_device(device, reading, held) for device, reading in readings]
    return {
        "devices": devices,
        "counts": {outcome: sum(probe.outcome == outcome for probe in probes) for outcome in OUTCOMES},
        "verdict": verdict(probes),
        "mode": _mode(readings),
        "supported": _supported(inventory.gpus),
        "record": marker.to_dict(),
        "users": [holder.to_dict() for holder in held or ()],
        "users_hidden": hidden,
        "probes": [probe.to_dict() for probe in probes],
        "rows": _rows(devices, [probe.to_dict() for probe in probes]),
    }


def _device(device: Device, reading: Reading, held: Optional[Sequence[Holder]]) -> Dict[str, Any]:
    users = sorted({str(holder) for holder in held or () if holder.bdf == device.bdf})
    return {
        "address": device.bdf, "kind": device.kind, "model": device.model, "device_id": "0x%04x" % device.device, "chip": device.chip,
        "architecture": device.architecture, "driver": device.driver, "driver_override": device.override, "iommu_group": device.group,
        "in_group": list(device.beside), "vfio": device.vfio, "numa_node": device.numa, "lost": device.lost, "virtual_function": device.virtual,
        "vbios": device.vbios, "mode": reading.mode, "pending": reading.pending, "mode_source": reading.source, "out_of_band_only": reading.locked,
        "trouble": reading.trouble.what if reading.trouble else "", "code": reading.trouble.code if reading.trouble else "", "users": users,
    }  # fmt: skip


def _mode(readings: Sequence[Tuple[Device, Reading]]) -> str:
    """That of the machine: of its GPUs, where they agree."""
    found = {reading.mode for device, reading in readings if device.kind == "gpu"}
    return found.pop() if len(found) == 1 else ("mixed" if found and modes.UNKNOWN not in found else modes.UNKNOWN)


def _supported(gpus: Sequence[Device]) -> Dict[str, str]:
    lines = {models.support_of(device.model) for device in gpus}
    line = lines.pop() if len(lines) == 1 else None
    return {"single": line.single if line else "", "multi": line.multi if line else "", "source": line.source if line else ""}


def _rows(devices: Sequence[Mapping[str, Any]], probes: Sequence[Mapping[str, Any]]) -> List[Dict[str, str]]:
    """For attested.ai.summary_table: each device, then what is wrong with the machine."""
    rows = []
    for device in devices:
        pending = "" if device["pending"] in (device["mode"], modes.UNKNOWN) else " (next: %s)" % device["pending"]
        bad = device["lost"] or device["code"] or device["mode"] == "invalid"
        rows.append({
            "device": device["address"], "model": device["model"], "driver": device["driver"] or "none", "group": device["iommu_group"] or "none",
            "mode": device["mode"] + pending, "outcome": "fail" if bad else "ok" if device["mode"] != modes.UNKNOWN else "unknown",
            "found": device["trouble"] or ", ".join(device["users"]),
        })  # fmt: skip
    for probe in probes:
        if probe["outcome"] == FAIL:
            rows.append({"device": "all", "model": "", "driver": "", "group": "", "mode": "", "outcome": FAIL,
                         "found": "%s: %s. %s" % (probe["id"], probe["observed"], probe["fix"])})  # fmt: skip
    return rows


class Kept:
    """Passes on what the tool and /proc say, and keeps it beside a recording of the rest."""

    def __init__(self, ask: Optional[Tool], holders: Holders) -> None:
        self._ask, self._holders = ask, holders
        self._tool: Dict[str, Any] = {}
        self._held: Any = None

    @property
    def ask(self) -> Optional[Tool]:
        return self._asked if self._ask else None

    def _asked(self, args: Sequence[str]) -> Run:
        run = self._ask(args) if self._ask else Run(-1, "")
        self._tool[" ".join(args)] = {"rc": run.rc, "text": run.text[:20000], "hung": run.hung}
        return run

    def holders(self, devices: Sequence[Device]) -> Tuple[Holder, ...]:
        found = self._holders(devices)
        self._held = [holder.to_dict() for holder in found]
        return found

    def section(self) -> Dict[str, Any]:
        return {"tool": self._tool if self._ask else None, "holders": self._held}


def recorded(document: Mapping[str, Any]) -> Tuple[Optional[Tool], Callable[[Sequence[Device]], Tuple[Holder, ...]]]:
    """The tool and the holders of a recording. What was not recorded could not be read."""
    section = document.get(SECTION, {})
    if not isinstance(section, Mapping):
        raise FormatError("it is no object", where="recording.gpu", code="recording-invalid")
    runs, held = section.get("tool"), section.get("holders")
    if not (runs is None or isinstance(runs, Mapping)) or not (held is None or isinstance(held, list)):
        raise FormatError("tool is no object, or holders no list", where="recording.gpu", code="recording-invalid")

    def ask(args: Sequence[str]) -> Run:
        run = (runs or {}).get(" ".join(args))
        if not isinstance(run, Mapping) or not isinstance(run.get("rc"), int):
            return Run(-1, "it was not recorded")
        return Run(run["rc"], str(run.get("text", "")), run.get("hung") is True)

    def holders(_devices: Sequence[Device]) -> Tuple[Holder, ...]:
        if held is None:
            raise HostError("who uses the devices was not recorded", code="gpu-denied")
        entries = [entry for entry in held if isinstance(entry, Mapping)]
        if len(entries) != len(held):
            raise FormatError("an entry is no object", where="recording.gpu.holders", code="recording-invalid")
        return tuple(_holder(entry) for entry in entries)

    return (None if runs is None else ask), holders


def _holder(entry: Mapping[str, Any]) -> Holder:
    pid = entry.get("pid")
    if not isinstance(pid, int):
        raise FormatError("pid is no number", where="recording.gpu.holders", code="recording-invalid")
    return Holder(str(entry.get("device", "")), pid, str(entry.get("kind", "")), str(entry.get("name", "")))
