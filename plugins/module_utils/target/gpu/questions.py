# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The questions about a machine that shall hand GPUs to confidential machines. Pure functions over what was read; the shape is that of tee_info."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import models, rules
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.holders import Holder
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import SWITCH, UNKNOWN, Device, Inventory
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.marker import QUARANTINED, SWITCHING, Marker
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.modes import Reading, capable
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.rules import titles
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.tool import INVALID
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question

DMA_LIMIT = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
# The kernel's own default, which confidential guests exhaust: each shared page is one mapping.
DMA_DEFAULT = 65535
IOMMUFD = "/dev/iommu"
HOST_DRIVERS = ("nvidia", "nouveau", "nova_core")
_ROLE = "Use the role attested.ai.gpu_cc_host"
_COLD = "Look at `dmesg`; a cold start of the machine brings back what fell off the bus"


@dataclass(frozen=True)
class Found:
    """All that was read. ``holders`` is None where /proc hides them."""

    host: Host
    inventory: Inventory
    readings: Tuple[Tuple[Device, Reading], ...]
    holders: Optional[Tuple[Holder, ...]]
    marker: Marker
    hgx_firmware: str = ""


def _question(name: str, expected: str, source: str, fix: str) -> Question:
    return Question("gpu." + name, "gpu", expected, source, fix)


PRESENT = _question("present", "every GPU and NVSwitch is there and answers", "/sys/bus/pci/devices", _COLD)
KNOWN = _question("known", "every device is known", "/sys/bus/pci/devices", "Update the collection, or name its architecture in the option architectures")
GENERATION = _question("generation", "GPUs of one generation", "/sys/bus/pci/devices", "Use machines whose GPUs are of one generation")
TOPOLOGY = _question("topology", "an HGX Hopper baseboard is whole", "/sys/bus/pci/devices", _COLD)
MATRIX = _question("matrix", "models that NVIDIA supports with confidential computing", "support matrix", "Ask NVIDIA, or use models of its list")
DRIVER = _question("driver", "no driver of the host's own", "/sys/bus/pci/devices/*/uevent, /sys/module", _ROLE)
BINDING = _question("binding", "every device is bound to vfio-pci", "/sys/bus/pci/devices/*/uevent", _ROLE)
GROUP = _question("iommu-group", "every device has an IOMMU group of which nothing else is in use", "/sys/kernel/iommu_groups",
                  "Turn the IOMMU and ACS on in the BIOS; on Intel add intel_iommu=on to the kernel command line")  # fmt: skip
FD = _question("iommufd", "devices can be handed over by iommufd", "/dev/iommu, /dev/vfio/devices", "Use Linux 6.6 or later with CONFIG_VFIO_DEVICE_CDEV")
DMA = _question("dma-entry-limit", "mappings for a whole confidential machine", DMA_LIMIT, "Set gpu_cc_host_dma_entry_limit in the role, such as 1048576")
LOCKDOWN = _question("lockdown", "the admin tool may read and set registers", rules.LOCKDOWN, "Boot without Secure Boot or lockdown=")
RECORD = _question("record", "no switch that did not end, and no quarantine", "/var/lib/attested-ai/gpu-cc/state.json", "")
MODE = _question("mode", "all devices are in one valid mode", "gpu-admin-tools", "Run attested.ai.gpu_cc_mode for the whole machine")
PENDING = _question("pending", "no other mode waits for a reset", "gpu-admin-tools", "Run attested.ai.gpu_cc_mode for the whole machine")
VBIOS = _question("vbios", "VBIOS as the mode needs it", "/proc/driver/nvidia/gpus", "Update it with your vendor's tools")
HGX = _question("hgx-firmware", "firmware of the baseboard as Protected PCIe needs it", "option hgx_firmware", "Update it with your vendor's tools")


def ask_all(found: Found) -> List[Probe]:
    asked: Tuple[Callable[[Found], Probe], ...] = (
        _present, _known, _generation, _topology, _matrix, _driver, _binding, _group, _iommufd, _dma, _lockdown, _record, _mode, _pending, _vbios, _hgx,
    )  # fmt: skip
    if not found.inventory.devices:
        return [_present(found)]
    return [question(found) for question in asked]


def _present(found: Found) -> Probe:
    inventory = found.inventory
    lost = [device for device in inventory.devices if device.lost]
    if inventory.vanished or lost:
        return PRESENT.failed("; ".join(["%s: not there" % bdf for bdf in inventory.vanished] + ["%s: answers no more" % device.title for device in lost]))
    if not inventory.gpus:
        return PRESENT.failed("no NVIDIA GPU is found", "Run this on a machine with GPUs. " + _COLD)
    return PRESENT.passed("%d GPUs, %d NVSwitches" % (len(inventory.gpus), len(inventory.switches)))


def _known(found: Found) -> Probe:
    strange = [device for device in found.inventory.devices if device.architecture == UNKNOWN]
    return KNOWN.judged(not strange, titles(strange) if strange else "%d devices" % len(found.inventory.devices))


def _generation(found: Found) -> Probe:
    names = sorted({device.architecture for device in found.inventory.gpus})
    return GENERATION.judged(len(names) < 2, ", ".join(names) or "no GPU")


def _topology(found: Found) -> Probe:
    gpus, switches = found.inventory.gpus, found.inventory.switches
    if not any(device.architecture == models.HOPPER for device in switches):
        return TOPOLOGY.skipped("there are no NVSwitches of Hopper")
    whole = len(gpus) == models.HGX_GPUS and len(switches) >= models.HGX_SWITCHES
    return TOPOLOGY.judged(whole, "%d of %d GPUs, %d of %d NVSwitches" % (len(gpus), models.HGX_GPUS, len(switches), models.HGX_SWITCHES))


def _matrix(found: Found) -> Probe:
    names = sorted({device.model for device in found.inventory.gpus})
    unlisted = [name for name in names if not models.support_of(name)]
    return MATRIX.judged(not unlisted, ", ".join(unlisted) + " is not in the list" if unlisted else ", ".join(names))


def _driver(found: Found) -> Probe:
    driven = ["%s by %s" % (device.title, device.driver) for device in found.inventory.devices if device.driver not in models.QUIET_DRIVERS]
    loaded = [name for name in HOST_DRIVERS if found.host.exists("/sys/module/" + name) is True]
    if driven or loaded:
        return DRIVER.failed("; ".join(driven + ["the kernel module %s is loaded" % name for name in loaded]))
    return DRIVER.passed("none")


def _binding(found: Found) -> Probe:
    loose = [device for device in found.inventory.devices if device.driver not in models.QUIET_DRIVERS or not device.driver]
    return BINDING.judged(not loose, "not bound: %s" % titles(loose) if loose else "%d devices" % len(found.inventory.devices))


def _group(found: Found) -> Probe:
    without = [device for device in found.inventory.devices if not device.group]
    if without:
        return GROUP.failed("without a group: %s" % titles(without))
    known = {device.bdf for device in found.inventory.devices}
    beside = []
    for device in found.inventory.devices:
        for bdf in device.beside:
            text = "" if bdf in known else found.host.text("/sys/bus/pci/devices/%s/uevent" % bdf)
            driver = "" if isinstance(text, Unreadable) else dict(line.split("=", 1) for line in text.splitlines() if "=" in line).get("DRIVER", "")
            if driver not in models.QUIET_DRIVERS:
                beside.append("%s is driven by %s in the group of %s" % (bdf, driver, device.title))
    return GROUP.judged(not beside, "; ".join(beside) or "%d groups" % len({device.group for device in found.inventory.devices}))


def _iommufd(found: Found) -> Probe:
    there = found.host.exists(IOMMUFD)
    without = [device for device in found.inventory.devices if not device.vfio]
    if there is True and not without:
        return FD.passed("%s, and a node for each device" % IOMMUFD)
    if there is not True:
        return FD.skipped("%s is not there: only VFIO groups can be used" % IOMMUFD)
    return FD.skipped("no node of its own for %s" % titles(without))


def _dma(found: Found) -> Probe:
    text = found.host.text(DMA_LIMIT)
    if isinstance(text, Unreadable):
        return DMA.skipped("vfio_iommu_type1 is not loaded") if text.kind == ABSENT else DMA.unknown(text.reason, "Run the task as root (become: true)")
    if not text.isdigit():
        return DMA.unknown("it reads %s" % ascii(text[:20]), "Look at it by hand")
    if int(text[:20]) > DMA_DEFAULT:
        return DMA.passed(text)
    if _iommufd(found).outcome == "pass":
        return DMA.skipped("%s; iommufd has no such limit" % text)
    return DMA.failed("%s, the kernel's default" % text)


def _lockdown(found: Found) -> Probe:
    try:
        rules.check_lockdown(found.host)
    except HostError as error:
        return LOCKDOWN.failed(error.what)
    return LOCKDOWN.passed("not locked down")


def _record(found: Found) -> Probe:
    marker = found.marker
    if marker.state == SWITCHING:
        return RECORD.failed("a switch to %s that began at %s did not end" % (marker.desired, marker.since), "Run attested.ai.gpu_cc_mode, which repairs it")
    if marker.state == QUARANTINED:
        return RECORD.failed("quarantined: %s" % marker.reason,
                             "Cut the machine's power, start it, and run attested.ai.gpu_cc_mode with clear_quarantine: true")  # fmt: skip
    return RECORD.passed("none")


def _mode(found: Found) -> Probe:
    able = [(device, reading) for device, reading in found.readings if capable(device)]
    wrong = ["%s: %s" % (device.title, reading.trouble.what) for device, reading in able if reading.trouble and not reading.known]
    if wrong:
        first = next(reading.trouble for _device, reading in able if reading.trouble and not reading.known)
        return MODE.failed("; ".join(wrong), first.fix if first else None)
    unasked = [device for device, reading in able if not reading.known]
    if unasked:
        return MODE.unknown("not asked: %s" % titles(unasked), "Name the admin tool in the option tool; devices that somebody uses are left alone")
    modes = sorted({reading.mode for device, reading in able if device.kind != SWITCH})
    each = ", ".join("%s %s" % (device.bdf, reading.mode) for device, reading in able)
    off = [device for device, reading in able if device.kind == SWITCH and (reading.mode == models.PPCIE) != (modes == [models.PPCIE])]
    return MODE.judged(len(modes) < 2 and INVALID not in modes and not off, each if len(modes) > 1 or off or INVALID in modes else ", ".join(modes) or "none")


def _pending(found: Found) -> Probe:
    waiting = ["%s is %s, and %s after its next reset" % (device.title, reading.mode, reading.pending) for device, reading in found.readings
               if reading.known and reading.pending not in (reading.mode, UNKNOWN)]  # fmt: skip
    if waiting:
        return PENDING.failed("; ".join(waiting))
    unasked = [device for device, reading in found.readings if reading.pending == UNKNOWN]
    if unasked:
        return PENDING.unknown("not asked: %s" % titles(unasked), "Name the admin tool in the option tool; devices that somebody uses are left alone")
    return PENDING.passed("none")


def _floors(question: Question, found: Found, part: str, versions: Sequence[str]) -> Probe:
    floors = [floor for floor in models.FLOORS if floor.part == part and any(device.architecture == floor.architecture for device in found.inventory.gpus)]
    if not floors:
        return question.skipped("nothing is asked of these models")
    floor = floors[0]
    if not floor.least:
        return question.skipped(floor.source)
    known = sorted({version for version in versions if version})
    if not known:
        # A host without NVIDIA's driver cannot know it, and that is how such a host must be.
        return question.skipped("not known here, and told by the management controller or a guest's evidence; %s or later is needed for %s (%s)"
                                % (floor.least, ", ".join(floor.modes), floor.source))  # fmt: skip
    try:
        old = [version for version in known if rules.older(version, floor.least)]
    except HostError as error:
        return question.unknown(error.what, error.fix)
    return question.judged(not old, "%s; needed is %s (%s)" % (", ".join(known), floor.least, floor.source))


def _vbios(found: Found) -> Probe:
    return _floors(VBIOS, found, "vbios", [device.vbios for device in found.inventory.gpus])


def _hgx(found: Found) -> Probe:
    if not found.inventory.switches:
        return HGX.skipped("there are no NVSwitches")
    return _floors(HGX, found, "hgx", [found.hgx_firmware])
