# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which GPUs and NVSwitches a machine has, who drives them and how they can be handed to a virtual machine. Reads sysfs and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import models
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, Unreadable

DEVICES = "/sys/bus/pci/devices"
GROUPS = "/sys/kernel/iommu_groups"
GPU, SWITCH = "gpu", "switch"
BDF = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Device:
    """``group`` is the IOMMU group ('' without one) and ``beside`` the other devices in it that are no bridges. ``lost`` devices are listed by the
    kernel and answer no more. ``vbios`` is known only while NVIDIA's driver runs on the host."""

    bdf: str
    kind: str
    device: int
    model: str
    chip: str
    architecture: str
    driver: str
    override: str
    group: str
    beside: Tuple[str, ...]
    vfio: str
    numa: str
    lost: bool
    virtual: bool
    vbios: str

    @property
    def title(self) -> str:
        return "%s (%s)" % (self.bdf, self.model)


@dataclass(frozen=True)
class Inventory:
    """Sorted by address. ``vanished`` were asked for and are not there."""

    devices: Tuple[Device, ...]
    vanished: Tuple[str, ...]

    @property
    def gpus(self) -> Tuple[Device, ...]:
        return tuple(device for device in self.devices if device.kind == GPU)

    @property
    def switches(self) -> Tuple[Device, ...]:
        return tuple(device for device in self.devices if device.kind == SWITCH)


def addresses(texts: Sequence[str]) -> Tuple[str, ...]:
    """PCI addresses as sysfs has them. Raises HostError for what is none."""
    found = []
    for text in texts:
        word = text.strip().lower()
        word = word if word.count(":") == 2 else "0000:" + word
        if not BDF.fullmatch(word):
            raise HostError("%s is no PCI address" % ascii(text[:40]), where="devices", fix="Write it whole, as 0000:3a:00.0", code="gpu-address")
        found.append(word)
    return tuple(dict.fromkeys(found))


def architectures(named: Mapping[str, str]) -> Dict[int, str]:
    """The user's own table for devices that ours does not know, checked."""
    found = {}
    for key, value in named.items():
        if not re.fullmatch(r"(0x)?[0-9a-fA-F]{4}", str(key)) or value not in models.ARCHITECTURES:
            raise HostError(
                "%s: %s is no device id with an architecture" % (ascii(str(key)[:20]), ascii(str(value)[:20])), where="architectures", code="gpu-address",
                fix="Write it as {\"0x2bb5\": blackwell}; known are %s" % ", ".join(models.ARCHITECTURES),
            )  # fmt: skip
        found[int(str(key), 16)] = value
    return found


def read_inventory(host: Host, named: Optional[Mapping[int, str]] = None, wanted: Sequence[str] = ()) -> Inventory:
    """``named`` are architectures of devices that our table does not know, ``wanted`` addresses that must be there. Raises HostError without sysfs."""
    listed = host.listdir(DEVICES)
    if isinstance(listed, Unreadable):
        if listed.kind == ABSENT:
            return Inventory((), tuple(wanted))
        raise HostError(listed.reason, fix="Run the task as root (become: true)", code="gpu-denied")
    groups: Dict[str, Tuple[str, Tuple[str, ...]]] = {}
    nvidia = [bdf for bdf in listed if BDF.fullmatch(bdf) and _text(host, bdf, "vendor") == models.NVIDIA]
    if nvidia:
        groups = _groups(host)
    found: List[Device] = []
    for bdf in nvidia:
        kind = {models.SWITCH_CLASS: SWITCH}.get(_text(host, bdf, "class")) or (GPU if _text(host, bdf, "class") in models.GPU_CLASSES else "")
        if kind:
            found.append(_device(host, bdf, kind, named or {}, groups))
    present = [device.bdf for device in found]
    return Inventory(tuple(found), tuple(bdf for bdf in wanted if bdf not in present))


def _device(host: Host, bdf: str, kind: str, named: Mapping[int, str], groups: Mapping[str, Tuple[str, Tuple[str, ...]]]) -> Device:
    number = _number(_text(host, bdf, "device"))
    chip = models.chip_of(number)
    if kind == SWITCH:
        model, architecture = models.SWITCH_NAMES.get(number, ("NVSwitch 0x%04x" % number, UNKNOWN))
    else:
        model = models.NAMES.get(number, "%s 0x%04x" % (chip.name if chip else "GPU", number))
        architecture = chip.architecture if chip else UNKNOWN
    group, members = groups.get(bdf, ("", ()))
    uevent = _uevent(host, bdf)
    override = _text(host, bdf, "driver_override")
    return Device(
        bdf=bdf, kind=kind, device=number, model=model, chip=chip.name if chip and kind == GPU else "", architecture=named.get(number, architecture),
        driver=uevent.get("DRIVER", ""), override="" if override == "(null)" else override, group=group,
        beside=tuple(member for member in members if member != bdf and not _text(host, member, "class").startswith("0x0604")),
        vfio=_vfio(host, bdf), numa=_text(host, bdf, "numa_node"), lost=_lost(host, bdf), virtual=host.exists("%s/%s/physfn" % (DEVICES, bdf)) is True,
        vbios=_vbios(host, bdf),
    )  # fmt: skip


def _text(host: Host, bdf: str, name: str) -> str:
    """'' for what cannot be read: a device may go while we look at it."""
    text = host.text("%s/%s/%s" % (DEVICES, bdf, name))
    return "" if isinstance(text, Unreadable) else text


def _number(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0


def _uevent(host: Host, bdf: str) -> Dict[str, str]:
    return dict(line.split("=", 1) for line in _text(host, bdf, "uevent").splitlines() if "=" in line)


def _lost(host: Host, bdf: str) -> bool:
    """sysfs keeps the ids of a device that fell off the bus; its configuration space then reads as ones."""
    data = host.read("%s/%s/config" % (DEVICES, bdf))
    return not isinstance(data, Unreadable) and data[:4] == b"\xff\xff\xff\xff"


def _vfio(host: Host, bdf: str) -> str:
    names = host.listdir("%s/%s/vfio-dev" % (DEVICES, bdf))
    return names[0] if not isinstance(names, Unreadable) and names else ""


def _vbios(host: Host, bdf: str) -> str:
    text = host.text("/proc/driver/nvidia/gpus/%s/information" % bdf)
    found = None if isinstance(text, Unreadable) else re.search(r"^Video BIOS:\s+([0-9A-Fa-f.]+)$", text, re.MULTILINE)
    return found.group(1) if found else ""


def _groups(host: Host) -> Dict[str, Tuple[str, Tuple[str, ...]]]:
    listed = host.listdir(GROUPS)
    found: Dict[str, Tuple[str, Tuple[str, ...]]] = {}
    for name in () if isinstance(listed, Unreadable) else listed:
        members = host.listdir("%s/%s/devices" % (GROUPS, name))
        for member in () if isinstance(members, Unreadable) else members:
            found[member] = (name, () if isinstance(members, Unreadable) else members)
    return found
