# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From a description and what a host has: whether the guest may be started there, and what it is started with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.formats.jcs import canonicalize
from ansible_collections.attested.ai.plugins.module_utils.measure.boot import root_hash
from ansible_collections.attested.ai.plugins.module_utils.vm.policy import weaknesses
from ansible_collections.attested.ai.plugins.module_utils.vm.spec import VmSpec

PROTECTION = {"tdx": "tdx", "snp": "sev-snp", "cca": "cca", "none": "unprotected"}


@dataclass(frozen=True)
class Refusal:
    """Why a guest is not started: ``id`` for programs, ``what`` and ``fix`` for people."""

    id: str
    what: str
    fix: str

    def to_dict(self) -> Dict[str, str]:
        return {"id": self.id, "what": self.what, "fix": self.fix}


@dataclass(frozen=True)
class Expectations:
    """SHA-256 digests that files on the host must have, and what the operator said yes to."""

    digests: Mapping[str, str]
    debug_confirmed: bool
    running: bool
    # Files that the caller brings before the start.
    coming: Tuple[str, ...] = ()


def chain_end(spec: VmSpec) -> str:
    """How far the measurement vouches once it fits: none, launch, kernel, or root-fs. Keys are released from root-fs on, by default."""
    if not spec.protected:
        return "none"
    if spec.boot != "direct" or (spec.tee == "snp" and not spec.kernel_hashes):
        return "launch"
    return "root-fs" if root_hash(spec.cmdline) else "kernel"


def refusals(spec: VmSpec, host: Mapping[str, Any], expected: Expectations) -> Tuple[Refusal, ...]:
    """Everything that stands against it, not only the first."""
    found: List[Refusal] = []
    for part in (_policy, _features, _files, _memory, _devices, _network):
        found += part(spec, host, expected)
    return tuple(found)


def _policy(spec: VmSpec, host: Mapping[str, Any], expected: Expectations) -> List[Refusal]:
    found = []
    for name, what in weaknesses(spec.tee, spec.policy):
        if name == "debug" and expected.debug_confirmed:
            continue
        fix = "Take the bit out. Only for a test: set confidential_vm_debug_confirm to the guest's name" if name == "debug" else "Take the bit out"
        found.append(Refusal(name, what, "Set bit 28 of confidential_vm_policy" if "sept_ve" in what else fix))
    if spec.tee == "snp" and spec.boot == "direct" and not spec.kernel_hashes:
        what = "without kernel_hashes kernel, initrd and command line are whatever the host gives, and no measurement shows it"
        found.append(Refusal("kernel-unmeasured", what, "Leave kernel_hashes on"))
    return found


def _features(spec: VmSpec, host: Mapping[str, Any], expected: Expectations) -> List[Refusal]:
    found = []
    features = host["features"]
    if spec.accelerator == "kvm" and not features["kvm"]:
        fix = "Switch virtualisation on in the BIOS, or take accelerator: tcg for a test without protection"
        found.append(Refusal("kvm", "the host has no /dev/kvm", fix))
    if spec.protected and spec.accelerator != "kvm":
        found.append(Refusal("kvm", "software emulation protects nothing", "Take accelerator: kvm"))
    if spec.protected and not features[spec.tee]:
        what = "KVM of this host starts no guest of %s" % PROTECTION[spec.tee]
        found.append(Refusal("tee-unavailable", what, "Run attested.ai.preflight on it. For a trial only: confidential_vm_allow_unprotected: true"))
    if spec.vsock_cid and not features["vhost_vsock"]:
        found.append(Refusal("vsock", "the host has no /dev/vhost-vsock", "Run: modprobe vhost_vsock"))
    holder = host["vsock_cids"].get(str(spec.vsock_cid))
    if spec.vsock_cid and holder is not None and holder != spec.name:
        found.append(Refusal("vsock", "the vsock number %d belongs to %s" % (spec.vsock_cid, holder or "another QEMU"), "Take another vsock_cid"))
    return found


def _files(spec: VmSpec, host: Mapping[str, Any], expected: Expectations) -> List[Refusal]:
    found = []
    wanted = [("firmware", spec.firmware), ("kernel", spec.kernel), ("initrd", spec.initrd), ("emulator", spec.emulator)]
    for what, path in wanted + [("disk %s" % disk.serial, disk.path) for disk in spec.disks]:
        if not path or path in expected.coming:
            continue
        state = host["files"].get(path) or {"kind": "missing"}
        name = what.partition(" ")[0]
        if state["kind"] != "file":
            found.append(Refusal("%s-missing" % name, "%s: the %s is %s on the host" % (path, what, state["kind"]), "Install or copy it there"))
        elif path in expected.digests and state["sha256"] != expected.digests[path]:
            fix = "Copy it anew. If it was changed on purpose, build and measure it anew"
            found.append(Refusal("%s-differs" % name, "%s: the %s is not the one that is expected (SHA-256 %s)" % (path, what, state["sha256"][:16]), fix))
    if spec.protected and spec.firmware and spec.firmware not in expected.digests:
        what = "%s: the host's own firmware is trusted by nobody" % spec.firmware
        found.append(Refusal("firmware-untrusted", what, "Give confidential_vm_firmware_src, a file on the controller, or confidential_vm_firmware_sha256"))
    if spec.quoting is not None and spec.quoting.path and (host["files"].get(spec.quoting.path) or {}).get("kind") != "socket":
        found.append(Refusal("qgs", "%s: no Quote Generation Service listens there" % spec.quoting.path, "Start qgsd, see attested.ai.tdx_quoting"))
    return found


def _memory(spec: VmSpec, host: Mapping[str, Any], expected: Expectations) -> List[Refusal]:
    total, available = (host["memory"][name] // 1024 for name in ("total_kib", "available_kib"))
    found = []
    if spec.memory_mib > total:
        found.append(Refusal("memory", "the guest wants %d MiB, the host has %d" % (spec.memory_mib, total), "Take less memory, or another host"))
    elif spec.protected and not spec.hugepage_kib and not expected.running and spec.memory_mib > available:
        what = "the guest wants %d MiB, %d are free, and memory of a confidential guest cannot be swapped" % (spec.memory_mib, available)
        found.append(Refusal("memory", what, "Stop other guests, or take less"))
    if spec.hugepage_kib and not expected.running:
        free = host["hugepages"].get(str(spec.hugepage_kib), 0) * spec.hugepage_kib // 1024
        if spec.memory_mib > free:
            what = "%d MiB in pages of %d KiB are free, the guest wants %d" % (free, spec.hugepage_kib, spec.memory_mib)
            found.append(Refusal("hugepages", what, "Reserve more on the host's command line, or leave hugepage_kib away"))
    return found


def _devices(spec: VmSpec, host: Mapping[str, Any], expected: Expectations) -> List[Refusal]:
    found = []
    if spec.devices and not host["features"]["iommufd"]:
        found.append(Refusal("iommufd", "the host has no /dev/iommu", "Take a kernel with iommufd (6.6 or newer), and run: modprobe iommufd"))
    for bdf in spec.devices:
        state = host["devices"].get(bdf) or {"exists": False}
        if not state["exists"]:
            found.append(Refusal("device-missing", "%s: there is no such device" % bdf, "Look with lspci -D. A device that vanished needs a reset of the host"))
            continue
        if state["driver"] != "vfio-pci":
            what = "%s is bound to %s" % (bdf, state["driver"] or "no driver")
            found.append(Refusal("device-driver", what, "Run attested.ai.gpu_cc_host, which binds it to vfio-pci"))
        if not state["group"]:
            found.append(Refusal("device-group", "%s has no IOMMU group" % bdf, "Switch the IOMMU on"))
        for other in state["members"]:
            if other["driver"] not in ("", "vfio-pci") and not other["bridge"]:
                what = "%s shares IOMMU group %s with %s, which %s drives" % (bdf, state["group"], other["bdf"], other["driver"])
                found.append(Refusal("device-group", what, "Bind all of the group to vfio-pci, or switch ACS on"))
        for holder in state["holders"]:
            if holder["vm"] != spec.name:
                what = "%s is in use by %s (process %d)" % (bdf, holder["vm"] or holder["name"], holder["pid"])
                found.append(Refusal("device-in-use", what, "Stop it first, or take another device"))
    return found


def _network(spec: VmSpec, host: Mapping[str, Any], expected: Expectations) -> List[Refusal]:
    taken = {(item["address"], item["port"]) for item in host["listening"]}
    found = []
    for forward in () if expected.running else spec.network.forwards:
        if (forward.address, forward.host_port) in taken or ("*", forward.host_port) in taken:
            what = "somebody listens on %s port %d of the host" % (forward.address, forward.host_port)
            found.append(Refusal("port-in-use", what, "Take another host_port"))
    return found


def notes(spec: VmSpec, host: Mapping[str, Any]) -> Tuple[str, ...]:
    """What is not wrong and should be known."""
    found = []
    end = chain_end(spec)
    if end == "none":
        found.append("unprotected: the host reads and changes everything in this guest")
    elif end != "root-fs":
        found.append("the measurement ends at %s: what comes after can be changed by the host, so no key is released to it by default" % end)
    nodes = host["nodes"]
    if len(nodes) > 1 and spec.protected:
        found.append("private memory of a confidential guest has no NUMA affinity; keep the guest below one node's memory, and pin its CPUs with cpuset")
    biggest = max((node["total_kib"] // 1024 for node in nodes), default=0)
    if nodes and spec.memory_mib > biggest:
        found.append("the guest has more memory (%d MiB) than the biggest NUMA node (%d MiB)" % (spec.memory_mib, biggest))
    if spec.tee == "tdx" and spec.quoting is None:
        found.append("without quoting the TD gets no quotes, so that it cannot be attested")
    if spec.devices and spec.memory_mib < 16384:
        found.append("a guest with GPUs needs memory for bounce buffers and for what it loads; %d MiB is little" % spec.memory_mib)
    return tuple(found)


def config_document(spec: VmSpec, digests: Mapping[str, str], config: Optional[Mapping[str, Any]]) -> bytes:
    """What HOST_DATA, MRCONFIGID or the personalisation value vouch for, as canonical JSON: the description, and what the operator adds."""
    return canonicalize({
        "schema": "attested.ai/vm-config/1", "name": spec.name, "vcpus": spec.vcpus, "memory_mib": spec.memory_mib, "boot": spec.boot,
        "cmdline": spec.cmdline, "files": {path.rpartition("/")[2]: digest for path, digest in digests.items()}, "config": dict(config or {}),
    })  # fmt: skip


def definition_digest(text: str, digests: Mapping[str, str]) -> str:
    """What tells one definition from another: its text, and the contents of the files that it names."""
    return hashlib.sha256(canonicalize({"text": text, "files": dict(digests)})).hexdigest()
