# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The definition of a guest for libvirt. Checked by libvirt's own schema in the tests."""

from __future__ import annotations

import base64
from typing import Mapping, Optional
from xml.etree.ElementTree import Element, SubElement, register_namespace, tostring

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.vm.spec import Disk, VmSpec

NAMESPACE = "https://attested.ai/vm/1"
MIB_KIB, GIB_KIB = 1024, 1024 * 1024


def _add(parent: Element, tag: str, text: Optional[str] = None, **attributes: str) -> Element:
    element = SubElement(parent, tag, {name.rstrip("_"): value for name, value in attributes.items()})
    element.text = text
    return element


def domain_xml(spec: VmSpec, metadata: Mapping[str, str]) -> str:
    """The XML of a domain. ``metadata``: attributes of our element, such as the digest of the description and whether the guest is protected."""
    if spec.tee == "cca":
        raise FormatError("no release of libvirt knows realms", where="vm.tee", fix="Use the driver qemu")
    if spec.quoting is not None and not spec.quoting.path:
        raise FormatError("libvirt reaches the Quote Generation Service by its Unix socket alone", where="vm.quoting", fix="Give quoting.path")
    register_namespace("attested", NAMESPACE)
    domain = Element("domain", {"type": "kvm" if spec.accelerator == "kvm" else "qemu"})
    _add(domain, "name", spec.name)
    _add(domain, "uuid", spec.uuid)
    _add(_add(domain, "metadata"), "{%s}vm" % NAMESPACE, **dict(metadata))
    _add(domain, "memory", str(spec.memory_mib * MIB_KIB), unit="KiB")
    _memory(domain, spec)
    _add(domain, "vcpu", str(spec.vcpus), placement="static", **({"cpuset": spec.cpuset} if spec.cpuset else {}))
    _firmware(domain, spec)
    _features(domain, spec)
    if spec.cpu == "host":
        _add(domain, "cpu", mode="host-passthrough", check="none", migratable="off")
    elif spec.cpu == "max":
        _add(domain, "cpu", mode="maximum", check="none", migratable="off")
    else:
        _add(_add(domain, "cpu", mode="custom", match="exact", check="none"), "model", spec.cpu, fallback="forbid")
    _add(domain, "clock", offset="utc")
    _add(domain, "on_poweroff", "destroy")
    # A measured guest starts anew: what it was given before is not handed to it twice.
    _add(domain, "on_reboot", "destroy" if spec.protected else "restart")
    _add(domain, "on_crash", "destroy")
    power = _add(domain, "pm")
    _add(power, "suspend-to-mem", enabled="no")
    _add(power, "suspend-to-disk", enabled="no")
    _devices(_add(domain, "devices"), spec)
    _launch_security(domain, spec)
    _indent(domain, "\n")
    return tostring(domain, encoding="unicode") + "\n"


def _indent(element: Element, line: str) -> None:
    """One element a line. Python has it since 3.9."""
    children = list(element)
    if children:
        element.text = line + "  "
        for child in children:
            _indent(child, line + "  ")
            child.tail = line + "  "
        children[-1].tail = line


def _memory(domain: Element, spec: VmSpec) -> None:
    backing = _add(domain, "memoryBacking")
    if spec.hugepage_kib:
        _add(_add(backing, "hugepages"), "page", size=str(spec.hugepage_kib), unit="KiB")
    # Shared pages are in a memfd; the private ones of a TEE are guest_memfd, which QEMU adds by itself.
    _add(backing, "source", type="memfd")
    if spec.protected:
        _add(backing, "access", mode="shared")


def _firmware(domain: Element, spec: VmSpec) -> None:
    system = _add(domain, "os")
    _add(system, "type", "hvm", arch="x86_64", machine="q35")
    if spec.firmware:
        _add(system, "loader", spec.firmware, type="rom", format="raw", readonly="yes", stateless="yes")
    if spec.boot == "direct":
        _add(system, "kernel", spec.kernel)
        if spec.initrd:
            _add(system, "initrd", spec.initrd)
        _add(system, "cmdline", spec.cmdline)
    else:
        _add(system, "boot", dev="hd")


def _features(domain: Element, spec: VmSpec) -> None:
    if spec.window_gib:
        entry = _add(_add(domain, "sysinfo", type="fwcfg"), "entry", str(spec.window_gib * 1024))
        entry.set("name", "opt/ovmf/X-PciMmio64Mb")
    features = _add(domain, "features")
    _add(features, "acpi")
    if spec.tee == "tdx":
        _add(features, "ioapic", driver="qemu")


def _devices(devices: Element, spec: VmSpec) -> None:
    _add(devices, "emulator", spec.emulator)
    root = _add(devices, "controller", type="pci", index="0", model="pcie-root")
    if spec.window_gib:
        _add(root, "pcihole64", str(spec.window_gib * GIB_KIB), unit="KiB")
    for disk in spec.disks:
        _disk(devices, disk)
    network = spec.network
    if network.kind != "none":
        interface = _add(devices, "interface", type=network.kind)
        if network.mac:
            _add(interface, "mac", address=network.mac)
        if network.kind == "user":
            _add(interface, "backend", type="passt")
            for forward in network.forwards:
                _add(_add(interface, "portForward", proto="tcp", address=forward.address), "range", start=str(forward.host_port), to=str(forward.guest_port))
        else:
            _add(interface, "source", **{network.kind: network.source})
        _add(interface, "model", type="virtio")
        if spec.protected:
            _add(interface, "driver", iommu="on")
        _add(interface, "rom", enabled="no")
    serial = _add(devices, "serial", type="file" if spec.console else "pty")
    if spec.console:
        _add(serial, "source", path=spec.console)
    _add(serial, "target", type="isa-serial", port="0")
    # Nothing that nobody needs: no balloon, no screen, no input, no watchdog.
    _add(devices, "memballoon", model="none")
    _add(_add(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    if spec.vsock_cid:
        _add(_add(devices, "vsock", model="virtio"), "cid", auto="no", address=str(spec.vsock_cid))
    for bdf in spec.devices:
        domain, bus, rest = bdf.split(":")
        slot, function = rest.split(".")
        device = _add(devices, "hostdev", mode="subsystem", type="pci", managed="no")
        _add(device, "driver", name="vfio", iommufd="yes")
        _add(_add(device, "source"), "address", domain="0x" + domain, bus="0x" + bus, slot="0x" + slot, function="0x" + function)
        _add(device, "rom", bar="off")


def _disk(devices: Element, disk: Disk) -> None:
    element = _add(devices, "disk", type="file", device="disk")
    _add(element, "driver", name="qemu", type=disk.kind, discard="unmap")
    _add(element, "source", file=disk.path)
    _add(element, "target", dev="vd" + "abcdefghijklmnopqrstuvwxyz"[len(devices.findall("disk")) - 1], bus="virtio")
    if disk.read_only:
        _add(element, "readonly")
    _add(element, "serial", disk.serial)


def _launch_security(domain: Element, spec: VmSpec) -> None:
    config = base64.b64encode(bytes.fromhex(spec.config)).decode("ascii")
    if spec.tee == "tdx":
        security = _add(domain, "launchSecurity", type="tdx")
        _add(security, "policy", "0x%x" % spec.policy)
        if config:
            _add(security, "mrConfigId", config)
        if spec.quoting is not None:
            _add(security, "quoteGenerationService", path=spec.quoting.path)
    elif spec.tee == "snp":
        security = _add(domain, "launchSecurity", type="sev-snp", kernelHashes="yes" if spec.boot == "direct" and spec.kernel_hashes else "no")
        _add(security, "cbitpos", str(spec.c_bit))
        _add(security, "reducedPhysBits", str(spec.reduced_phys_bits))
        _add(security, "policy", "0x%x" % spec.policy)
        if config:
            _add(security, "hostData", config)
