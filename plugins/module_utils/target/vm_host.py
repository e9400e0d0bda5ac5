# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host has for a guest: memory, devices and who holds them, files and their digests. Reads only."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
from typing import Any, Dict, List, Sequence, Tuple

_NAME = re.compile(r"\A(?:guest=)?([^,]+)")
_BLOCK = 1 << 20


class VmHost:
    """The host whose file system begins at ``root``; tests give another one."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def _path(self, *parts: str) -> str:
        return os.path.join(self.root, *[part.lstrip("/") for part in parts])

    def _text(self, *parts: str) -> str:
        try:
            with open(self._path(*parts), encoding="utf-8", errors="replace") as stream:
                return stream.read(1 << 20)
        except OSError:
            return ""

    def memory(self) -> Dict[str, int]:
        """MemTotal and MemAvailable, in KiB."""
        found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", self._text("proc/meminfo"), re.MULTILINE))
        return {"total_kib": int(found.get("MemTotal", 0)), "available_kib": int(found.get("MemAvailable", 0))}

    def nodes(self) -> List[Dict[str, Any]]:
        """NUMA nodes with their CPUs and memory."""
        nodes = []
        for path in sorted(glob.glob(self._path("sys/devices/system/node/node[0-9]*")), key=lambda item: int(item.rpartition("node")[2])):
            number = int(path.rpartition("node")[2])
            info = self._text("sys/devices/system/node/node%d/meminfo" % number)
            values = dict(re.findall(r"Node \d+ (MemTotal|MemFree):\s+(\d+) kB", info))
            nodes.append({
                "node": number, "cpus": self._text("sys/devices/system/node/node%d/cpulist" % number).strip(),
                "total_kib": int(values.get("MemTotal", 0)), "free_kib": int(values.get("MemFree", 0)),
            })  # fmt: skip
        return nodes

    def hugepages(self) -> Dict[str, int]:
        """Free pages by their size in KiB."""
        found = {}
        for path in glob.glob(self._path("sys/kernel/mm/hugepages/hugepages-*kB")):
            size = os.path.basename(path)[len("hugepages-") : -len("kB")]
            text = self._text("sys/kernel/mm/hugepages", os.path.basename(path), "free_hugepages").strip()
            found[size] = int(text) if text.isdigit() else 0
        return found

    def features(self) -> Dict[str, bool]:
        """Devices that QEMU opens, and TEEs whose guests KVM can start."""
        yes = ("Y", "1")
        return {
            "kvm": os.path.exists(self._path("dev/kvm")),
            "iommufd": os.path.exists(self._path("dev/iommu")),
            "vhost_vsock": os.path.exists(self._path("dev/vhost-vsock")),
            "tdx": self._text("sys/module/kvm_intel/parameters/tdx").strip() in yes,
            "snp": self._text("sys/module/kvm_amd/parameters/sev_snp").strip() in yes,
            # As kernels with realms show it; there is no other sign in the file system.
            "cca": bool(self._text("sys/module/kvm/parameters/kvm_cap_arm_rmi").strip().strip("0N")),
        }

    def file(self, path: str, digest: bool) -> Dict[str, Any]:
        """Kind, size and, if asked for, SHA-256 of a file. A missing one has the kind missing."""
        try:
            status = os.stat(self._path(path))
        except OSError:
            return {"kind": "missing", "size": 0, "sha256": ""}
        if not os.path.isfile(self._path(path)):
            return {"kind": "socket" if stat.S_ISSOCK(status.st_mode) else "other", "size": 0, "sha256": ""}
        found: Dict[str, Any] = {"kind": "file", "size": status.st_size, "sha256": ""}
        if digest:
            try:
                found["sha256"] = self._digest(path)
            except OSError:
                found["kind"] = "unreadable"
        return found

    def _digest(self, path: str) -> str:
        digest = hashlib.sha256()
        with open(self._path(path), "rb") as stream:
            for block in iter(lambda: stream.read(_BLOCK), b""):
                digest.update(block)
        return digest.hexdigest()

    def device(self, bdf: str) -> Dict[str, Any]:
        """A PCI device: its driver, the others of its IOMMU group, and who has it open."""
        base = "sys/bus/pci/devices/%s" % bdf
        if not os.path.isdir(self._path(base)):
            return {"exists": False, "driver": "", "group": "", "members": [], "holders": []}
        group = self._link(base, "iommu_group")
        members = sorted(os.listdir(self._path("sys/kernel/iommu_groups", group, "devices"))) if group else []
        # Bridges above a device are in its group on some machines; the kernel's own driver for them is no obstacle.
        others = [{"bdf": name, "driver": self._link("sys/bus/pci/devices", name, "driver"), "bridge": self._bridge(name)} for name in members if name != bdf]
        nodes = ["/dev/vfio/%s" % group] if group else []
        nodes += ["/dev/vfio/devices/" + os.path.basename(path) for path in glob.glob(self._path(base, "vfio-dev", "vfio*"))]
        return {"exists": True, "driver": self._link(base, "driver"), "group": group, "members": others, "holders": self.holders(nodes)}

    def _bridge(self, bdf: str) -> bool:
        return self._text("sys/bus/pci/devices", bdf, "class").startswith("0x0604")

    def _link(self, *parts: str) -> str:
        try:
            return os.path.basename(os.readlink(self._path(*parts)))
        except OSError:
            return ""

    def holders(self, nodes: Sequence[str]) -> List[Dict[str, Any]]:
        """Processes that have one of these device nodes open."""
        found = []
        for pid in self._processes():
            for link in glob.glob(self._path("proc", pid, "fd", "*")):
                try:
                    target = os.readlink(link)
                except OSError:
                    continue
                if target in nodes:
                    found.append({"pid": int(pid), "name": self._text("proc", pid, "comm").strip(), "vm": self._vm(pid)})
                    break
        return found

    def _processes(self) -> List[str]:
        return sorted((os.path.basename(path) for path in glob.glob(self._path("proc/[0-9]*"))), key=int)

    def _words(self, pid: str) -> List[str]:
        return self._text("proc", pid, "cmdline").split("\0")

    def _vm(self, pid: str) -> str:
        """The name of the guest that a QEMU runs, or nothing."""
        words = self._words(pid)
        if "-name" not in words[:-1]:
            return ""
        found = _NAME.match(words[words.index("-name") + 1])
        return found.group(1) if found else ""

    def vsock_cids(self) -> Dict[str, str]:
        """Context identifiers that other QEMUs use, with the names of their guests."""
        found = {}
        for pid in self._processes():
            for cid in re.findall(r"guest-cid[=\"':]+(\d+)", "\0".join(self._words(pid))):
                found[cid] = self._vm(pid)
        return found

    def listening(self) -> List[Tuple[str, int]]:
        """Addresses and ports of TCP that somebody listens on; an address of any kind is an asterisk."""
        found = set()
        for name in ("proc/net/tcp", "proc/net/tcp6"):
            for line in self._text(name).splitlines()[1:]:
                fields = line.split()
                if len(fields) > 3 and fields[3] == "0A":
                    address, _colon, port = fields[1].rpartition(":")
                    found.add(("*" if not address.strip("0") else _ipv4(address), int(port, 16)))
        return sorted(found)


def _ipv4(text: str) -> str:
    """An address as /proc/net/tcp has it. Others than IPv4 are left as they are."""
    if len(text) != 8:
        return text
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(text)))


def look(host: VmHost, files: Sequence[str], digests: Sequence[str], devices: Sequence[str]) -> Dict[str, Any]:
    """Everything in one document."""
    return {
        "memory": host.memory(), "nodes": host.nodes(), "hugepages": host.hugepages(), "features": host.features(),
        "files": {path: host.file(path, path in digests) for path in sorted(set(files) | set(digests))},
        "devices": {bdf: host.device(bdf) for bdf in devices}, "vsock_cids": host.vsock_cids(),
        "listening": [{"address": address, "port": port} for address, port in host.listening()],
    }  # fmt: skip
