# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The words for QEMU that start a guest, and the unit of systemd that runs them. For realms, and where there is no libvirt."""

from __future__ import annotations

import base64
import json
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.vm.spec import VmSpec

# Object of QEMU and its id for each TEE.
_OBJECTS = {"tdx": "tdx-guest", "snp": "sev-snp-guest", "cca": "rme-guest"}
GUARD = "tee0"


def _words(**options: Any) -> str:
    return ",".join("%s=%s" % (name.replace("_", "-"), value) for name, value in options.items())


def qemu_argv(spec: VmSpec) -> List[str]:
    """All words, the program first. No secret is among them."""
    if spec.network.kind == "network":
        raise FormatError("networks are libvirt's", where="vm.network", fix="Use a bridge or user with the driver qemu")
    argv = [spec.emulator, "-nodefaults", "-no-user-config", "-display", "none", "-name", spec.name, "-uuid", spec.uuid]
    argv += ["-machine", _machine(spec), "-cpu", _cpu(spec), "-smp", str(spec.vcpus), "-m", "%dM" % spec.memory_mib]
    argv += ["-accel", "kvm" if spec.accelerator == "kvm" else "tcg,thread=multi"]
    backend: Dict[str, Any] = {"qom-type": "memory-backend-memfd", "id": "ram0", "size": spec.memory_mib << 20, "share": spec.protected}
    if spec.hugepage_kib:
        backend.update({"hugetlb": True, "hugetlbsize": spec.hugepage_kib << 10})
    argv += ["-object", _json(backend)]
    if spec.protected:
        argv += ["-object", _json(_guard(spec))]
    if spec.firmware:
        argv += ["-bios", spec.firmware]
    if spec.boot == "direct":
        argv += ["-kernel", spec.kernel] + (["-initrd", spec.initrd] if spec.initrd else []) + ["-append", spec.cmdline]
    return argv + _devices(spec)


def _machine(spec: VmSpec) -> str:
    options: Dict[str, Any] = {"memory_backend": "ram0"}
    if spec.tee == "cca":
        options["gic_version"] = 3
    elif spec.tee == "tdx":
        options["kernel_irqchip"] = "split"
    if spec.protected:
        options["confidential_guest_support"] = GUARD
    # kernel_irqchip alone is written with an underscore.
    return ("virt," if spec.tee == "cca" else "q35,") + _words(**options).replace("kernel-irqchip", "kernel_irqchip")


def _cpu(spec: VmSpec) -> str:
    # QEMU 7.2 emulates CMPXCHG16B with flags that are wrong at times; kernels since 6.9 use it for every allocation, unless the CPU has none.
    return spec.cpu + (",-cx16" if spec.accelerator == "tcg" else "")


def _guard(spec: VmSpec) -> Dict[str, Any]:
    """The object that makes the guest a confidential one."""
    config = base64.b64encode(bytes.fromhex(spec.config)).decode("ascii")
    guard: Dict[str, Any] = {"qom-type": _OBJECTS[spec.tee], "id": GUARD}
    if spec.tee == "tdx":
        guard["attributes"] = spec.policy
        if config:
            guard["mrconfigid"] = config
        if spec.quoting is not None and spec.quoting.path:
            guard["quote-generation-socket"] = {"type": "unix", "path": spec.quoting.path}
        elif spec.quoting is not None:
            guard["quote-generation-socket"] = {"type": "vsock", "cid": str(spec.quoting.cid), "port": str(spec.quoting.port)}
    elif spec.tee == "snp":
        guard.update({"cbitpos": spec.c_bit, "reduced-phys-bits": spec.reduced_phys_bits, "policy": spec.policy})
        guard["kernel-hashes"] = spec.boot == "direct" and spec.kernel_hashes
        if config:
            guard["host-data"] = config
    elif config:
        guard["personalization-value"] = config
    return guard


def _devices(spec: VmSpec) -> List[str]:
    argv: List[str] = []
    bus_options = ",iommu_platform=on" if spec.protected else ""
    for index, disk in enumerate(spec.disks):
        node = {"driver": disk.kind, "node-name": "disk%d" % index, "read-only": disk.read_only, "file": {"driver": "file", "filename": disk.path}}
        argv += ["-blockdev", _json(node), "-device", "virtio-blk-pci,drive=disk%d,serial=%s%s" % (index, disk.serial, bus_options)]
    if spec.network.kind != "none":
        if spec.network.kind == "user":
            forwards = "".join(",hostfwd=tcp:%s:%d-:%d" % (item.address, item.host_port, item.guest_port) for item in spec.network.forwards)
            argv += ["-netdev", "user,id=net0" + forwards]
        else:
            argv += ["-netdev", "bridge,id=net0,br=" + spec.network.source]
        mac = ",mac=" + spec.network.mac if spec.network.mac else ""
        argv += ["-device", "virtio-net-pci,netdev=net0,romfile=%s%s" % (mac, bus_options)]
    argv += ["-chardev", "file,id=console,path=%s,append=on" % spec.console if spec.console else "null,id=console", "-serial", "chardev:console"]
    argv += ["-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0" + bus_options]
    if spec.vsock_cid:
        argv += ["-device", "vhost-vsock-pci,guest-cid=%d%s" % (spec.vsock_cid, bus_options)]
    if spec.devices:
        argv += ["-object", "iommufd,id=iommufd0", "-fw_cfg", "name=opt/ovmf/X-PciMmio64Mb,string=%d" % (spec.window_gib * 1024)]
    for index, bdf in enumerate(spec.devices, 1):
        argv += ["-device", "pcie-root-port,id=port%d,bus=pcie.0,chassis=%d" % (index, index)]
        argv += ["-device", "vfio-pci,host=%s,bus=port%d,iommufd=iommufd0,rombar=0" % (bdf, index)]
    return argv


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def unit_text(argv: Sequence[str], spec: VmSpec, metadata: Mapping[str, str], runner: str) -> str:
    """The unit of systemd. Its environment has no secret, and neither have its words."""
    lines = ["# Written by attested.ai.confidential_vm. Changes are overwritten."]
    lines += ["# %s: %s" % (name, value) for name, value in sorted(metadata.items())]
    lines += ["[Unit]", "Description=Guest %s (%s)" % (spec.name, metadata.get("protection", "")), "After=network.target", "", "[Service]", "Type=exec"]
    # Ending QEMU is a power cut for the guest. Its root cannot be written, and what it holds in memory is not to outlive it.
    lines += ["User=%s" % runner, "ExecStart=" + " ".join(_quoted(word) for word in argv), "TimeoutStopSec=60", "LimitMEMLOCK=infinity", "Restart=no"]
    if spec.cpuset:
        lines.append("CPUAffinity=" + spec.cpuset.replace(",", " "))
    # Without a place to start from, systemd takes the unit for one that can be neither enabled nor disabled.
    lines += ["NoNewPrivileges=yes", "UMask=0077", "", "[Install]", "WantedBy=multi-user.target"]
    return "\n".join(lines) + "\n"


def _quoted(word: str) -> str:
    """A word of ExecStart: systemd reads backslashes, quotes, per cent and dollar signs."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return '"%s"' % text
