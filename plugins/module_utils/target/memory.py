# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Is a path in memory that the host never gets to see as a file, and how secrets are kept and wiped there.

A memory file system is safe for secrets when its pages cannot be written to a disk: ramfs and hugetlbfs always, tmpfs with
``noswap`` (Linux 6.4) always, other tmpfs as long as no swap is active, or only swap on zram without a backing device.
"""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from typing import Callable, List, Optional, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.wiping import Wiping

_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5)). ``device`` is (major, minor)."""

    device: Tuple[int, int]
    mount_point: str
    kind: str
    super_options: Tuple[str, ...]


@dataclass(frozen=True)
class MemoryFs:
    """The file system under a path. ``safe`` says whether secrets may lie there, ``reason`` why or why not."""

    kind: str
    mount_point: str
    safe: bool
    reason: str


@dataclass(frozen=True)
class Hardening:
    """What harden_process() reached."""

    core_limit: bool
    not_dumpable: bool


def parse_mountinfo(text: str) -> Tuple[Mount, ...]:
    """Read the lines of mountinfo in their order; lines of another shape are skipped."""
    mounts: List[Mount] = []
    for line in text.splitlines():
        fields = line.split(" ")
        if "-" not in fields[6:]:
            continue
        separator = fields.index("-", 6)
        major, colon, minor = fields[2].partition(":")
        if len(fields) < separator + 4 or not (major.isdigit() and colon and minor.isdigit()):
            continue
        mounts.append(Mount((int(major), int(minor)), _unescape(fields[4]), fields[separator + 1], tuple(fields[separator + 3].split(","))))
    return tuple(mounts)


def memory_filesystem(
    path: str,
    mountinfo: str = "/proc/self/mountinfo",
    swaps: str = "/proc/swaps",
    sys_block: str = "/sys/block",
    device_of: Optional[Callable[[str], Tuple[int, int]]] = None,
) -> MemoryFs:
    """Classify the file system of ``path``, or of its nearest parent that exists. Never raises: what cannot be read is not safe."""
    existing = os.path.realpath(path)
    while not os.path.lexists(existing) and existing != "/":
        existing = os.path.dirname(existing)
    try:
        mounts = parse_mountinfo(_read_text(mountinfo))
        device = (device_of or _device_of)(existing)
    except (OSError, ValueError) as error:
        return MemoryFs("unknown", "", False, "the mounts cannot be read (%s)" % error)
    mount = _mount_of(existing, device, mounts)
    if mount is None:
        return MemoryFs("unknown", "", False, "no mount was found for %s" % existing)
    if mount.kind in ("ramfs", "hugetlbfs"):
        return MemoryFs(mount.kind, mount.mount_point, True, "%s is never swapped" % mount.kind)
    if mount.kind != "tmpfs":
        return MemoryFs(mount.kind, mount.mount_point, False, "%s is not a memory file system" % mount.kind)
    if "noswap" in mount.super_options:
        return MemoryFs("tmpfs", mount.mount_point, True, "tmpfs with noswap")
    safe, reason = _swap_state(swaps, sys_block)
    return MemoryFs("tmpfs", mount.mount_point, safe, reason)


def require_memory(path: str, mountinfo: str = "/proc/self/mountinfo", swaps: str = "/proc/swaps", sys_block: str = "/sys/block") -> MemoryFs:
    """Return the classification of ``path`` if secrets may lie there, else raise AttestedError with the code not-in-memory."""
    found = memory_filesystem(path, mountinfo, swaps, sys_block)
    if not found.safe:
        raise AttestedError(
            "secrets may not lie here: %s" % found.reason,
            where=path,
            fix="Use a ramfs or a tmpfs mounted with noswap (mount -t ramfs -o mode=0700 attested <directory>), or turn swap off",
            code="not-in-memory",
        )
    return found


def free_space(path: str, meminfo: str = "/proc/meminfo") -> int:
    """Bytes that can still be stored at ``path``, a directory on a memory file system: its own limit or the available memory, whichever is less."""
    available = _memory_available(meminfo)
    status = os.statvfs(path)
    # ramfs, and tmpfs with size=0, know no limit and report no blocks at all.
    if status.f_blocks == 0:
        return available
    return min(status.f_bavail * status.f_frsize, available)


def harden_process() -> Hardening:
    """Turn core dumps off and keep other processes of the same user from reading this one. Reports what worked, raises nothing."""
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        core_limit = True
    except (ValueError, OSError):
        core_limit = False
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        not_dumpable = libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0
    except (OSError, AttributeError):
        not_dumpable = False
    return Hardening(core_limit, not_dumpable)


def lock_memory(buffer: bytearray) -> bool:
    """Keep the pages of ``buffer`` out of swap with mlock(2). Returns whether it worked: RLIMIT_MEMLOCK may forbid it."""
    if not buffer:
        return True
    try:
        view = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.mlock(ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(len(buffer))) == 0)
    except (OSError, AttributeError):
        return False


def wipe(buffer: Union[bytearray, memoryview]) -> None:
    """Overwrite ``buffer`` with zeros in place. Copies that Python made of it elsewhere are out of reach."""
    size = buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
    if size:
        ctypes.memset(ctypes.addressof((ctypes.c_char * size).from_buffer(buffer)), 0, size)


def wipe_tree(path: str, overwrite: bool = True) -> None:
    """Overwrite every regular file under ``path`` in place, then remove it all. Nothing there is no error. However deep it is, and whatever a program exchanges
    meanwhile: links are not followed, at no moment.

    ``overwrite=False`` only removes: enough for large plaintext in memory, which the kernel clears before it gives the pages away.
    Everything is tried before AttestedError with the code wipe-incomplete names the first thing that is left.
    """
    wiping = Wiping(overwrite)
    wiping.run(path)
    if wiping.left:
        raise AttestedError("%d entries could not be wiped, first %s" % (wiping.left, wiping.first), where=path, code="wipe-incomplete")


def _mount_of(path: str, device: Tuple[int, int], mounts: Tuple[Mount, ...]) -> Optional[Mount]:
    """The mount that ``path`` lies on. The device decides between mounts of which one hides the other."""
    above = [mount for mount in mounts if path == mount.mount_point or path.startswith(mount.mount_point.rstrip("/") + "/")]
    same = [mount for mount in above if mount.device == device]
    if same:
        # Of several, the longest mount point, and of equal ones the last, which was mounted on top.
        return max(enumerate(same), key=lambda pair: (len(pair[1].mount_point), pair[0]))[1]
    # btrfs and overlay report another device than mountinfo does. A memory file system never does: then nothing is known.
    others = [mount for mount in above if mount.kind not in ("tmpfs", "ramfs", "hugetlbfs")]
    return max(others, key=lambda mount: len(mount.mount_point)) if others else None


def _swap_state(swaps: str, sys_block: str) -> Tuple[bool, str]:
    try:
        lines = _read_text(swaps).splitlines()[1:]
    except FileNotFoundError:
        return True, "tmpfs, and this kernel has no swap"
    except OSError as error:
        return False, "tmpfs, and %s cannot be read (%s)" % (swaps, error.strerror)
    names = [_unescape(line.split()[0]) for line in lines if line.strip()]
    for name in names:
        device = os.path.basename(name)
        if not re.match(r"/dev/zram[0-9]+\Z", name):
            return False, "tmpfs without noswap while swap is active on %s" % name
        try:
            backing = _read_text(os.path.join(sys_block, device, "backing_dev")).strip()
        except FileNotFoundError:
            # The kernel was built without write-back for zram.
            backing = "none"
        except OSError:
            backing = "unknown"
        if backing != "none":
            return False, "tmpfs without noswap while %s writes back to %s" % (name, backing)
    return True, "tmpfs, swap only on zram in memory" if names else "tmpfs, no swap is active"


def _memory_available(meminfo: str) -> int:
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", _read_text(meminfo), re.MULTILINE)
    if match is None:
        raise AttestedError("it does not say how much memory is available", where=meminfo, code="no-meminfo")
    return int(match.group(1)) * 1024


def _device_of(path: str) -> Tuple[int, int]:
    device = os.stat(path).st_dev
    return os.major(device), os.minor(device)


def _read_text(path: str) -> str:
    with open(path, "r", encoding="utf-8", errors="surrogateescape") as stream:
        return stream.read()


def _unescape(text: str) -> str:
    # Single characters only (blank, tab, newline, backslash): the kernel escapes no others here.
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), text)
