# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a confidential VM shall be: one description, from which the XML for libvirt and the words for QEMU are both made."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.vm.fields import BDF, MAC, NAME, PATH, WORDS, Fields

TEES = ("tdx", "snp", "cca", "none")
HEX = re.compile(r"([0-9a-f]{2})*\Z")
CPUSET = re.compile(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*\Z")
ADDRESS = re.compile(r"[0-9a-f.:]{2,45}\Z")
# Bytes of the field that carries the digest of the configuration: HOST_DATA, MRCONFIGID, the personalisation value.
CONFIG_BYTES = {"snp": 32, "tdx": 48, "cca": 64, "none": 0}
GIB_MIB = 1024


@dataclass(frozen=True)
class Disk:
    """A disk on virtio. A disk that is read-only may be shared by guests."""

    path: str
    serial: str
    kind: str
    read_only: bool


@dataclass(frozen=True)
class Forward:
    """A port of the host that leads to one of the guest."""

    address: str
    host_port: int
    guest_port: int


@dataclass(frozen=True)
class Network:
    """user: through the VMM itself, with forwarded ports; bridge and network: named by ``source``; none."""

    kind: str
    source: str
    mac: str
    forwards: Tuple[Forward, ...]


@dataclass(frozen=True)
class Quoting:
    """How the VMM reaches the Quote Generation Service: by the Unix socket ``path``, or by vsock (``cid``, ``port``)."""

    path: str
    cid: int
    port: int


@dataclass(frozen=True)
class VmSpec:
    """One guest. ``boot`` direct: kernel, initrd and command line from the VMM; uefi: what the disk holds."""

    name: str
    tee: str
    vcpus: int
    memory_mib: int
    cpu: str
    accelerator: str
    firmware: str
    boot: str
    kernel: str
    initrd: str
    cmdline: str
    kernel_hashes: bool
    disks: Tuple[Disk, ...]
    network: Network
    vsock_cid: int
    quoting: Optional[Quoting]
    policy: int
    config: str
    c_bit: int
    reduced_phys_bits: int
    devices: Tuple[str, ...]
    mmio_gib: int
    hugepage_kib: int
    cpuset: str
    emulator: str
    console: str

    @property
    def uuid(self) -> str:
        """The same for the same name, so that a definition can be compared."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, "attested.ai/vm/" + self.name))

    @property
    def protected(self) -> bool:
        return self.tee != "none"

    @property
    def window_gib(self) -> int:
        """The 64-bit window that firmware leaves for the memory of devices."""
        return self.mmio_gib * len(self.devices)


def parse_spec(given: Any) -> VmSpec:
    """Raises FormatError for what is unknown, malformed, or does not fit together."""
    fields = Fields(given, "vm")
    tee = fields.choice("tee", TEES)
    boot = fields.choice("boot", ("direct", "uefi"))
    spec = VmSpec(
        name=fields.text("name", NAME),
        tee=tee,
        vcpus=fields.number("vcpus", 1, 1024),
        memory_mib=fields.number("memory_mib", 128, 64 * GIB_MIB * GIB_MIB),
        cpu=fields.text("cpu", NAME),
        accelerator=fields.choice("accelerator", ("kvm", "tcg"), "kvm"),
        firmware=fields.text("firmware", PATH, ""),
        boot=boot,
        kernel=fields.text("kernel", PATH, None if boot == "direct" else ""),
        initrd=fields.text("initrd", PATH, ""),
        cmdline=fields.text("cmdline", WORDS, ""),
        kernel_hashes=fields.flag("kernel_hashes", True),
        disks=tuple(_disk(item, "vm.disks[%d]" % index) for index, item in enumerate(fields.listed("disks"))),
        network=_network(fields.given.get("network") or {"kind": "none"}),
        vsock_cid=fields.number("vsock_cid", 0, 2**32 - 2, 0),
        quoting=_quoting(fields.given.get("quoting")),
        policy=fields.number("policy", 0, 2**64 - 1, 0),
        config=fields.text("config", HEX, ""),
        c_bit=fields.number("c_bit", 0, 63, 51),
        reduced_phys_bits=fields.number("reduced_phys_bits", 0, 63, 1),
        devices=tuple(_bdf(item) for item in fields.listed("devices")),
        mmio_gib=fields.number("mmio_gib", 1, 16384, 256),
        hugepage_kib=fields.number("hugepage_kib", 0, 1024 * 1024, 0),
        cpuset=fields.text("cpuset", CPUSET, ""),
        emulator=fields.text("emulator", PATH),
        console=fields.text("console", PATH, ""),
    )
    fields.seen.update(("network", "quoting"))
    fields.done()
    _fits(spec)
    return spec


def _fits(spec: VmSpec) -> None:
    if spec.config and len(spec.config) != 2 * CONFIG_BYTES[spec.tee]:
        raise FormatError("it is %d bytes, the field has %d" % (len(spec.config) // 2, CONFIG_BYTES[spec.tee]), where="vm.config")
    if spec.vsock_cid in (1, 2):
        raise FormatError("%d is the host's own" % spec.vsock_cid, where="vm.vsock_cid", fix="Take a number from 3 on")
    for what, found in (("serial", [disk.serial for disk in spec.disks]), ("path", [disk.path for disk in spec.disks]), ("device", list(spec.devices))):
        if len(set(found)) != len(found):
            raise FormatError("a %s occurs twice" % what, where="vm")
    if spec.boot == "uefi" and not spec.firmware:
        raise FormatError("booting from the disk needs firmware", where="vm.firmware")
    if spec.protected and spec.tee != "cca" and not spec.firmware:
        raise FormatError("a guest of %s starts in firmware made for it" % spec.tee, where="vm.firmware")
    if spec.quoting is not None and spec.tee != "tdx":
        raise FormatError("only a TD asks for quotes through the VMM", where="vm.quoting")
    if spec.boot == "uefi" and (spec.kernel or spec.initrd or spec.cmdline):
        raise FormatError("kernel, initrd and cmdline are for boot: direct", where="vm.boot")


def _disk(given: Any, where: str) -> Disk:
    fields = Fields(given, where)
    disk = Disk(
        fields.text("path", PATH), fields.text("serial", re.compile(r"[a-z0-9-]{1,20}\Z")), fields.choice("kind", ("raw", "qcow2"), "raw"),
        fields.flag("read_only"),
    )  # fmt: skip
    fields.done()
    return disk


def _network(given: Any) -> Network:
    fields = Fields(given, "vm.network")
    kind = fields.choice("kind", ("none", "user", "bridge", "network"))
    source = fields.text("source", NAME, None if kind in ("bridge", "network") else "")
    mac = fields.text("mac", MAC, "")
    forwards = []
    for index, item in enumerate(fields.listed("forwards")):
        inner = Fields(item, "vm.network.forwards[%d]" % index)
        forwards.append(Forward(inner.text("address", ADDRESS, "127.0.0.1"), inner.number("host_port", 1, 65535), inner.number("guest_port", 1, 65535)))
        inner.done()
    fields.done()
    if forwards and kind != "user":
        raise FormatError("ports are forwarded in a network of the kind user", where="vm.network.forwards")
    return Network(kind, source, mac, tuple(forwards))


def _quoting(given: Any) -> Optional[Quoting]:
    if given is None:
        return None
    fields = Fields(given, "vm.quoting")
    path = fields.text("path", PATH, "")
    found = Quoting(path, 0 if path else fields.number("cid", 2, 2, 2), 0 if path else fields.number("port", 1, 65535, 4050))
    fields.done()
    return found


def _bdf(value: Any) -> str:
    if not isinstance(value, str) or not BDF.match(value):
        raise FormatError("%s is no address of a PCI device" % ascii(value)[:40], where="vm.devices", fix="Write it as 0000:17:00.0, in small letters")
    return value
