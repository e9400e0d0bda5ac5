# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who uses a device right now: processes, virtual machines and containers that hold a file of it open or have its memory mapped.

The admin tool does not protect anybody: on Hopper and later it assumes that no driver is there (gpu-admin-tools, is_driver_loaded).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import DEVICES, Device

VM, CONTAINER, PROCESS = "virtual machine", "container", "process"
# Old handles of VFIO have no name of a device; the group of the same process tells which it is.
_NAMELESS = re.compile(r"anon_inode:\[?vfio-device")
_CONTAINER = re.compile(r"(docker|cri-containerd|containerd|crio|libpod|lxc|kubepods)[^/]*?[-_/.:]([0-9a-f]{12})?")
_GUEST = re.compile(rb"(?:^|,)guest=([^,\0]{1,80})")


@dataclass(frozen=True)
class Holder:
    """``name`` is that of the virtual machine or the program; command lines are never kept."""

    bdf: str
    pid: int
    kind: str
    name: str

    def to_dict(self) -> Dict[str, object]:
        return {"device": self.bdf, "pid": self.pid, "kind": self.kind, "name": self.name}

    def __str__(self) -> str:
        return "%s %s (pid %d)" % (self.kind, self.name, self.pid)


def scan(devices: Sequence[Device], root: str = "", own: int = 0) -> Tuple[Holder, ...]:
    """Holders of ``devices``, by device and process. ``own`` is a process to leave out. Raises HostError where /proc hides processes from us."""
    nodes, nvidia = _nodes(devices, root), _nvidia_majors(root)
    quiet = [device.bdf for device in devices if device.vfio or device.group]
    driven = [device.bdf for device in devices if device.driver.startswith("nvidia")]
    mapped = re.compile("(%s)/resource" % "|".join(re.escape(device.bdf) for device in devices)) if devices else None
    found: List[Holder] = []
    for pid in _pids(root):
        if pid == own or mapped is None:
            continue
        held: Set[str] = set()
        nameless = False
        for target, number in _files(root, pid):
            nameless = nameless or bool(_NAMELESS.match(target))
            if number in nodes:
                held.add(nodes[number])
            elif number is not None and number[0] in nvidia:
                held.update(driven)
            held.update(mapped.findall(target))
        held.update(mapped.findall(_read(root, "/proc/%d/maps" % pid).decode("utf-8", "replace")))
        if nameless and not held:
            # It is some device of VFIO, and which one cannot be told: then it counts for all.
            held.update(quiet)
        if held:
            kind, name = _who(root, pid)
            found.extend(Holder(bdf, pid, kind, name) for bdf in held)
    return tuple(sorted(found, key=lambda holder: (holder.bdf, holder.pid)))


def _pids(root: str) -> List[int]:
    try:
        return sorted(int(name) for name in os.listdir(root + "/proc") if name.isdigit())
    except OSError as error:
        raise HostError("/proc cannot be read (%s)" % error.strerror, fix="Run the task as root (become: true)", code="gpu-denied") from None


def _files(root: str, pid: int) -> Iterator[Tuple[str, Optional[Tuple[int, int]]]]:
    folder = "%s/proc/%d/fd" % (root, pid)
    try:
        names = os.listdir(folder)
    except PermissionError:
        raise HostError(
            "open files of process %d are hidden, so nobody can tell who uses the GPUs" % pid, where="/proc", fix="Run the task as root (become: true)",
            code="gpu-denied",
        ) from None  # fmt: skip
    except OSError:
        return  # it ended meanwhile
    for name in names:
        try:
            target = os.readlink(folder + "/" + name)
            device = target.startswith("/dev/")
            number = os.stat(folder + "/" + name).st_rdev if device else None
        except OSError:
            continue
        yield target, (os.major(number), os.minor(number)) if number else None


def _nodes(devices: Sequence[Device], root: str) -> Dict[Tuple[int, int], str]:
    """Numbers of device nodes, by which they are known inside of containers, too."""
    found: Dict[Tuple[int, int], str] = {}
    for device in devices:
        place = "%s/%s" % (DEVICES, device.bdf)
        paths = ["%s/vfio-dev/%s/dev" % (place, device.vfio)] if device.vfio else []
        paths += ["/sys/class/vfio/%s/dev" % device.group] if device.group else []
        try:
            paths += ["%s/drm/%s/dev" % (place, name) for name in os.listdir(root + place + "/drm")]
        except OSError:
            pass
        for path in paths:
            number = re.fullmatch(rb"(\d+):(\d+)\s*", _read(root, path))
            if number:
                found[int(number.group(1)), int(number.group(2))] = device.bdf
    return found


def _nvidia_majors(root: str) -> Set[int]:
    return {int(number) for number in re.findall(rb"^\s*(\d+) nvidia", _read(root, "/proc/devices"), re.MULTILINE)}


def _who(root: str, pid: int) -> Tuple[str, str]:
    name = _read(root, "/proc/%d/comm" % pid).decode("utf-8", "replace").strip() or "?"
    if name.startswith(("qemu", "cloud-hyperviso", "firecracker", "dragonball")):
        guest = _GUEST.search(_read(root, "/proc/%d/cmdline" % pid).replace(b"\0", b","))
        return VM, guest.group(1).decode("utf-8", "replace") if guest else name
    group = _CONTAINER.search(_read(root, "/proc/%d/cgroup" % pid).decode("utf-8", "replace"))
    return (CONTAINER, "%s in %s" % (name, " ".join(part for part in group.groups() if part))) if group else (PROCESS, name)


def _read(root: str, path: str) -> bytes:
    try:
        with open(root + path, "rb") as stream:
            return stream.read(4 * 1024 * 1024)
    except OSError:
        return b""
