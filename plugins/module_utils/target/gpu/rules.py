# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What must be so before a mode may be changed. Every refusal has a stable code and says what helps."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import models
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.holders import Holder
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import UNKNOWN, Device, Inventory
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.models import HOPPER, OFF, PPCIE
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.plan import Change
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, Unreadable

LOCKDOWN = "/sys/kernel/security/lockdown"
# NVIDIA's cc-manager writes this where the GPU Operator owns the mode.
OPERATOR = "/run/nvidia/validations/.cc-manager-ctr-ready"
_COLD = "Look at `dmesg`; a cold start of the machine brings back what fell off the bus"


def titles(devices: Sequence[Device]) -> str:
    return ", ".join(device.title for device in devices)


def check_machine(inventory: Inventory, expect_gpus: Optional[int] = None, expect_switches: Optional[int] = None) -> None:
    """Whether everything is there that should be, and is known."""
    if inventory.vanished:
        raise HostError("%s: no such NVIDIA GPU or NVSwitch here" % ", ".join(inventory.vanished), code="gpu-vanished", fix=_COLD)
    lost = [device for device in inventory.devices if device.lost]
    if lost:
        raise HostError("%s: the kernel lists it, and it answers no more" % titles(lost), code="gpu-lost", fix=_COLD)
    if not inventory.gpus:
        raise HostError("no NVIDIA GPU is found on the PCI bus", code="gpu-none", fix="Run this on a machine with GPUs. " + _COLD)
    for kind, expected, found in (("GPUs", expect_gpus, inventory.gpus), ("NVSwitches", expect_switches, inventory.switches)):
        if expected is not None and len(found) != expected:
            raise HostError("%d %s are expected and %d are there" % (expected, kind, len(found)), code="gpu-vanished", fix=_COLD)
    virtual = [device for device in inventory.devices if device.virtual]
    if virtual:
        raise HostError("%s: virtual functions. vGPU and MIG are not supported with confidential computing" % titles(virtual), code="gpu-virtual",
                        fix="Remove the virtual functions (sriov_numvfs)")  # fmt: skip
    strange = [device for device in inventory.devices if device.architecture == UNKNOWN]
    if strange:
        raise HostError(
            "%s: it is not known what this is" % titles(strange), code="gpu-unknown",
            fix="Update the collection, or name its architecture in the option architectures, such as {\"0x%04x\": blackwell}" % strange[0].device,
        )  # fmt: skip


def check_mode(inventory: Inventory, mode: str) -> Tuple[str, ...]:
    """Whether these devices can be in ``mode`` together. Returns warnings."""
    if mode == OFF:
        return ()
    found = sorted({device.architecture for device in inventory.gpus})
    if len(found) > 1:
        raise HostError("GPUs of several generations are in one machine: %s" % titles(inventory.gpus), code="gpu-mixed",
                        fix="Confidential modes need GPUs of one generation. Take the others out, or leave the mode off")  # fmt: skip
    if found[0] not in models.CC_ARCHITECTURES:
        raise HostError("%s has no confidential computing, which begins with Hopper" % titles(inventory.gpus), code="gpu-mode-unsupported",
                        fix="Use H100, H200, B200, B300 or RTX PRO 6000 Server Edition")  # fmt: skip
    if mode == PPCIE:
        _check_ppcie(inventory, found[0])
    warnings = []
    names = sorted({device.model for device in inventory.gpus})
    unlisted = [name for name in names if not models.support_of(name)]
    if unlisted:
        warnings.append("%s is not in NVIDIA's list of what it supports with confidential computing" % ", ".join(unlisted))
    if mode != PPCIE and len(inventory.gpus) > 1 and found[0] == HOPPER:
        warnings.append("In this mode each Hopper GPU goes to a machine of its own. For one machine with all of them, the mode is ppcie")
    elif mode != PPCIE and len(inventory.gpus) > 1 and any((support and not support.multi) for support in map(models.support_of, names)):
        warnings.append("NVIDIA supports one such GPU in a machine; several in one are not in its list")
    return tuple(warnings)


def _check_ppcie(inventory: Inventory, architecture: str) -> None:
    if architecture != HOPPER:
        raise HostError("Protected PCIe is for Hopper with NVSwitches; these are %s" % titles(inventory.gpus), code="gpu-mode-unsupported",
                        fix="Several Blackwell GPUs in one machine use the mode on")  # fmt: skip
    if not inventory.switches:
        raise HostError("Protected PCIe needs the NVSwitches of an HGX baseboard, and there are none", code="gpu-topology",
                        fix="Use the mode on, with one GPU for each machine")  # fmt: skip
    gpus, switches = len(inventory.gpus), len(inventory.switches)
    if gpus != models.HGX_GPUS or switches < models.HGX_SWITCHES:
        raise HostError(
            "an HGX Hopper baseboard has %d GPUs and %d NVSwitches, and %d and %d are there" % (models.HGX_GPUS, models.HGX_SWITCHES, gpus, switches),
            code="gpu-topology", fix="Protected PCIe is for all of them or for none. " + _COLD,
        )  # fmt: skip


def check_part(chosen: Sequence[str], mode: str, change_all: Change) -> None:
    """All GPUs of a machine must be in one mode, so a part may be set only to where the rest is."""
    other = [change for change in change_all.devices if change.device.bdf not in chosen and not change.reading.at(change.after)]
    if other:
        raise HostError(
            "%s would be in another mode than %s. NVIDIA supports no machine of which only some devices are in a confidential mode"
            % (titles([change.device for change in other]), mode), code="gpu-partial",
            fix="Leave devices out, so that the whole machine is set, or say allow_partial: true",
        )  # fmt: skip


def check_firmware(inventory: Inventory, mode: str, hgx_firmware: str = "") -> Tuple[str, ...]:
    """Too old is refused; what cannot be known here is told. Returns warnings."""
    warnings = []
    for floor in models.FLOORS:
        devices = [device for device in inventory.gpus if device.architecture == floor.architecture] if mode in floor.modes else []
        for version in sorted({device.vbios if floor.part == "vbios" else hgx_firmware for device in devices}):
            if not version or not floor.least:
                warnings.append("%s: %s" % (floor.part, "the version is not known here; %s or later is needed (%s)" % (floor.least, floor.source)
                                            if floor.least else floor.source))  # fmt: skip
            elif older(version, floor.least):
                raise HostError("%s %s is older than %s, which the mode %s needs (%s)" % (floor.part, version, floor.least, mode, floor.source),
                                code="gpu-firmware", fix="Update it with your vendor's tools")  # fmt: skip
    return tuple(dict.fromkeys(warnings))


def older(version: str, least: str) -> bool:
    """Compared number by number, in base 16 as VBIOS versions are written; dotted decimal numbers of one width compare the same."""
    def numbers(text: str) -> Tuple[int, ...]:
        try:
            return tuple(int(part, 16) for part in text.split("."))
        except ValueError:
            raise HostError("%s is no version" % ascii(text[:40]), code="gpu-firmware", fix="Write it as 1.7.0") from None

    return numbers(version)[: len(least.split("."))] < numbers(least)


def check_ground(host: Host, change: Change) -> None:
    """What forbids touching the devices at all, apart from who uses them."""
    owner = host.exists(OPERATOR)
    if owner is True:
        raise HostError("NVIDIA's GPU Operator owns the mode on this machine", where=OPERATOR, code="gpu-owned",
                        fix="Set the label nvidia.com/cc.mode of the node with the role attested.ai.gpu_cc_node")  # fmt: skip
    check_lockdown(host)
    driven = [entry.device for entry in change.touched if entry.device.driver not in models.QUIET_DRIVERS]
    if driven:
        names = ", ".join("%s by %s" % (device.title, device.driver) for device in driven)
        raise HostError("%s: a driver holds it, and setting the mode would fail or hang" % names, code="gpu-driver",
                        fix="Bind it to vfio-pci with the role attested.ai.gpu_cc_host")  # fmt: skip
    locked = [entry.device for entry in change.touched if entry.reading.locked]
    if locked:
        raise HostError("%s: the mode is locked to out-of-band control (enable-allow-inband-control = 0)" % titles(locked), code="gpu-out-of-band",
                        fix="Set the mode through the management controller of the machine")  # fmt: skip


def check_lockdown(host: Host) -> None:
    """The words of the kernel in force stand in brackets."""
    lockdown = host.text(LOCKDOWN)
    if not isinstance(lockdown, Unreadable) and lockdown and "[none]" not in lockdown:
        raise HostError("the kernel is locked down (%s) and refuses the registers of PCI devices to the admin tool" % lockdown[:60], where=LOCKDOWN,
                        code="gpu-lockdown", fix="Boot without Secure Boot or lockdown=, or set the mode through the management controller")  # fmt: skip


def check_free(holders: Sequence[Holder]) -> None:
    if holders:
        held = "; ".join("%s by %s" % (holder.bdf, holder) for holder in holders[:8])
        raise HostError("in use: %s%s" % (held, " and %d more" % (len(holders) - 8) if len(holders) > 8 else ""), code="gpu-busy",
                        fix="Stop what uses the GPUs (drain the machine), and run the task again")  # fmt: skip
