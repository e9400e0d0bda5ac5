# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a guest's file systems, its swap and its model servers lie on: memory, an encrypted device, or a disk as it is. Claims of the guest, and never a key."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.target.guest_os.plain_memory import active_swaps
from ansible_collections.attested.ai.plugins.module_utils.target.memory import Mount, parse_mountinfo
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, Unreadable

MEMORY = ("tmpfs", "ramfs", "hugetlbfs")
# File systems without a block device of their own that hold files all the same, some of them on another machine.
ELSEWHERE = ("9p", "bcachefs", "btrfs", "ceph", "cifs", "nfs", "nfs4", "overlay", "virtiofs", "zfs")
# Where secrets and temporary files are, if they are in memory. Of other file systems all are told.
PLACES = ("/run", "/run/attested-ai", "/tmp", "/var/tmp", "/dev/shm")
MODELS, UNITS = "/var/lib/attested-model/open", "attested-model-*@*.service"
_MOST, _DEPTH = 64, 8
# How cryptsetup names its devices (libcryptsetup: crypt_get_type), where dmsetup is not there to tell.
_UUIDS = (("CRYPT-VERITY-", "verity"), ("CRYPT-INTEGRITY-", "integrity"), ("CRYPT-", "crypt"), ("LVM-", "linear"))


def storage(host: Host) -> Dict[str, Any]:
    devices = _Devices(host)
    mounts = _mounts(host, "self")
    return {
        "swaps": _swaps(host, devices),
        "devices": [devices.told(name) for name in devices.mapped][:_MOST],
        "mounts": None if mounts is None else [devices.mount(one) for one in mounts if _tells(one)][:_MOST],
        "models": _models(host, devices),
    }


class _Devices:
    """Block devices by their numbers, and what the device mapper does with those that it makes."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._targets = _dmsetup(host)
        self._names: Dict[Tuple[int, int], str] = {}
        names = host.listdir("/sys/block")
        self._all = () if isinstance(names, Unreadable) else names
        self.mapped = tuple(name for name in self._all if name.startswith("dm-"))
        for name in self._all:
            self._number(name, "/sys/block/%s/dev" % name)
            parts = host.listdir("/sys/block/%s" % name)
            for part in () if isinstance(parts, Unreadable) else parts:
                if part.startswith(name):
                    self._number(name, "/sys/block/%s/%s/dev" % (name, part))

    def _number(self, name: str, path: str) -> None:
        text = self._host.text(path)
        major, colon, minor = ("", "", "") if isinstance(text, Unreadable) else text.partition(":")
        if colon and major.isdigit() and minor.isdigit():
            self._names[int(major), int(minor)] = name

    def told(self, name: str) -> Dict[str, Any]:
        label, below = self._host.text("/sys/block/%s/dm/name" % name), self._host.listdir("/sys/block/%s/slaves" % name)
        label = name if isinstance(label, Unreadable) else label
        target, cipher = self._targets.get(label, ("", ""))
        return {"name": label, "target": target or self._by_uuid(name), "cipher": cipher, "on": [] if isinstance(below, Unreadable) else list(below)}

    def _by_uuid(self, name: str) -> str:
        uuid = self._host.text("/sys/block/%s/dm/uuid" % name)
        return next((kind for start, kind in _UUIDS if not isinstance(uuid, Unreadable) and uuid.startswith(start)), "unknown")

    def layers(self, name: str, depth: int = 0) -> List[str]:
        """What lies between a device and the disks below it, from above; empty for a disk as it is."""
        if name.startswith("zram"):
            return ["zram"] + self._written_back(name)
        if not name.startswith("dm-") or depth > _DEPTH:
            return []
        told = self.told(name)
        found = [str(told["target"])]
        for below in told["on"]:
            found += [layer for layer in self.layers(below, depth + 1) if layer not in found]
        return found

    def _written_back(self, name: str) -> List[str]:
        """Where zram has a disk behind it, what it compresses comes to lie there."""
        backing = self._host.text("/sys/block/%s/backing_dev" % name)
        if isinstance(backing, Unreadable):
            # A kernel without write-back for zram has no such file.
            return [] if backing.kind == ABSENT else ["unknown"]
        return [] if backing == "none" else ["written-back"]

    def of(self, device: Tuple[int, int]) -> Optional[List[str]]:
        name = self._names.get(device)
        return None if name is None else self.layers(name)

    def mount(self, one: Mount) -> Dict[str, Any]:
        memory = one.kind in MEMORY
        return {"path": one.mount_point, "kind": one.kind, "layers": ["memory"] if memory else self.of(one.device), "noswap": _noswap(one)}

    def swap(self, path: str) -> Dict[str, Any]:
        name = path.rpartition("/")[2]
        disk = next((block for block in sorted(self._all, key=len, reverse=True) if path == "/dev/" + name and name.startswith(block)), None)
        # A swap file, or a device by another name.
        return {"name": path, "layers": None if disk is None else self.layers(disk)}


def _dmsetup(host: Host) -> Mapping[str, Tuple[str, str]]:
    """Target and cipher by name. dmsetup shows no key unless it is asked to, and the place of the key is not looked at here."""
    found: Dict[str, Tuple[str, str]] = {}
    answer = host.command(("dmsetup", "table"))
    if isinstance(answer, Unreadable) or answer.rc != 0:
        return found
    for line in answer.out.splitlines():
        name, colon, rest = line.partition(": ")
        words = rest.split()
        if colon and len(words) >= 3 and words[0].isdigit():
            cipher = words[3] if words[2] == "crypt" and len(words) > 3 else ""
            found.setdefault(name, (words[2], cipher))
    return found


def _mounts(host: Host, process: str) -> Optional[Tuple[Mount, ...]]:
    text = host.text("/proc/%s/mountinfo" % process)
    return None if isinstance(text, Unreadable) else parse_mountinfo(text)


def _tells(one: Mount) -> bool:
    return one.mount_point in PLACES if one.kind in MEMORY else one.device[0] != 0 or one.kind in ELSEWHERE


def _noswap(one: Mount) -> bool:
    return one.kind in ("ramfs", "hugetlbfs") or "noswap" in one.super_options


def _swaps(host: Host, devices: _Devices) -> Optional[List[Dict[str, Any]]]:
    names = active_swaps(host)
    return None if isinstance(names, Unreadable) else [devices.swap(name) for name in names]


def _models(host: Host, devices: _Devices) -> List[Dict[str, Any]]:
    """What model servers of this collection see where their model is: their own mounts, which nobody else has."""
    found: List[Dict[str, Any]] = []
    answer = host.command(("systemctl", "show", "--property=Id,MainPID", UNITS))
    if isinstance(answer, Unreadable) or answer.rc != 0:
        return found
    for block in answer.out.split("\n\n"):
        told = dict(line.partition("=")[::2] for line in block.splitlines())
        process = told.get("MainPID", "0")
        if not process.isdigit() or process == "0":
            continue
        mounts = _mounts(host, process)
        inside = [] if mounts is None else [one for one in mounts if one.mount_point == MODELS or one.mount_point.startswith(MODELS + "/")]
        found.append({"unit": told.get("Id", ""), "mounts": None if mounts is None else [devices.mount(one) for one in inside]})
    return found[:_MOST]
