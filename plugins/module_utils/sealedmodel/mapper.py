# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The kernel's device mapper, loop devices, mounts and key ring, asked directly: no program gets a key, on no command line and no pipe.

Source: include/uapi/linux/{dm-ioctl,loop,keyctl}.h. Every device made here is read-only. Raises OSError.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
import time
from contextlib import contextmanager
from typing import Any, Iterator, Tuple

_CONTROL = "/dev/mapper/control"
_LOOP_CONTROL = "/dev/loop-control"
_DM = struct.Struct("=3IIIIiIIIQ128s129s7x")
_TARGET = struct.Struct("=QQiI16s")
_CREATE, _REMOVE, _SUSPEND, _LOAD, _STATUS = 3, 4, 6, 9, 12
_READONLY, _STATUS_TABLE, _SECURE, _DEFERRED = 1 << 0, 1 << 4, 1 << 15, 1 << 17
_LOOP_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_LOOP_FLAGS = 1 | 4 | 16  # read-only, gone with its last user, no second copy of the ciphertext in memory
_BLKGETSIZE64 = 0x80081272
_MOUNT_FLAGS = 1 | 2 | 4 | 8  # ro, nosuid, nodev, noexec
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_CALLS = {"x86_64": (248, 250), "aarch64": (217, 219)}
_THREAD_KEYRING, _REVOKE = -1, 3
_WAIT_SECONDS = 10.0


def create(name: str, length: int, target: str, parameters: str) -> Tuple[int, int]:
    """Make the read-only device ``name`` of ``length`` bytes with one target; returns its numbers. On failure there is none."""
    device = _ask(_CREATE, name)[0]
    try:
        text = parameters.encode("ascii") + b"\0"
        text += bytes(-len(text) % 8)
        _ask(_LOAD, name, _READONLY | _SECURE, _TARGET.pack(0, length // 512, 0, 0, target.encode("ascii")) + text, 1)
        _ask(_SUSPEND, name, _READONLY)
    except OSError:
        remove(name)
        raise
    return os.major(device), os.minor(device)


def remove(name: str) -> bool:
    """Remove a device, at once or when its last user is done. Returns whether there was one."""
    try:
        _ask(_REMOVE, name, _DEFERRED)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return False
        raise
    return True


def table(name: str) -> str:
    """The target and the parameters of a device, as the kernel tells them; never a key. "" if there is no such device."""
    return _told(name, _STATUS_TABLE)


def met_damage(name: str) -> bool:
    """Whether dm-verity has read a block of this device that does not verify. A disk that cannot be read is none."""
    return _told(name, 0).split(" ")[:2] == ["verity", "C"]


def _told(name: str, flags: int) -> str:
    try:
        _device, count, data = _ask(_STATUS, name, flags)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            return ""
        raise
    if count != 1:
        return ""
    _start, _length, _status, _next, target = _TARGET.unpack_from(data)
    return "%s %s" % (target.split(b"\0")[0].decode("ascii", "replace"), data[_TARGET.size :].split(b"\0")[0].decode("ascii", "replace"))


def node(device: Tuple[int, int]) -> str:
    """The file of a device, once the kernel has made it."""
    path = "/dev/dm-%d" % device[1]
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            status = os.stat(path)
            if (os.major(status.st_rdev), os.minor(status.st_rdev)) == device:
                return path
        except FileNotFoundError:
            pass
        if time.monotonic() > deadline:
            raise OSError(errno.ENOENT, "the device has no file; is /dev a devtmpfs?", path)
        time.sleep(0.01)


@contextmanager
def key(description: str, secret: bytearray) -> Iterator[str]:
    """A key of type logon, which nobody can read back, in the ring of this thread as long as the block lasts. Yields the name for dm-crypt."""
    add_key, keyctl = _CALLS.get(platform.machine(), (0, 0))
    if not add_key:
        raise OSError(errno.ENOSYS, "key rings of this architecture are not known: %s" % platform.machine())
    payload = (ctypes.c_char * len(secret)).from_buffer(secret)
    serial = _call(add_key, b"logon", description.encode("ascii"), payload, ctypes.c_size_t(len(secret)), ctypes.c_int(_THREAD_KEYRING))
    try:
        yield ":%d:logon:%s" % (len(secret), description)
    finally:
        _call(keyctl, ctypes.c_int(_REVOKE), ctypes.c_int(serial))


@contextmanager
def loop(descriptor: int) -> Iterator[Tuple[int, int]]:
    """A read-only loop device on an open file. It lasts as long as somebody uses it, and at least as long as the block."""
    control = os.open(_LOOP_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _attempt in range(16):
            number = fcntl.ioctl(control, _LOOP_GET_FREE)
            device = os.open("/dev/loop%d" % number, os.O_RDONLY | os.O_CLOEXEC)
            # fd, block size, loop_info64: numbers, flags, names, key.
            request = struct.pack("=II40x12xI160x16x64x", descriptor, 4096, _LOOP_FLAGS)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, request)
                break
            except OSError as error:
                os.close(device)
                # Another was faster.
                if error.errno != errno.EBUSY:
                    raise
        else:
            raise OSError(errno.EBUSY, "no loop device stays free", _LOOP_CONTROL)
    finally:
        os.close(control)
    try:
        status = os.fstat(device)
        yield os.major(status.st_rdev), os.minor(status.st_rdev)
    finally:
        os.close(device)


def device_size(descriptor: int) -> int:
    """Bytes of an open block device."""
    return int(struct.unpack("=Q", fcntl.ioctl(descriptor, _BLKGETSIZE64, bytes(8)))[0])


def mount(source: str, place: str, kind: str) -> None:
    """Mount read-only, without devices, set-uid and programs."""
    _libc("mount", os.fsencode(source), os.fsencode(place), kind.encode("ascii"), ctypes.c_ulong(_MOUNT_FLAGS), None)


def unmount(place: str) -> bool:
    """Take a mount away, from those who still use it when they are done. Returns whether there was one."""
    try:
        _libc("umount2", os.fsencode(place), ctypes.c_int(_MNT_DETACH | _UMOUNT_NOFOLLOW))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return False
        raise
    return True


def _ask(command: int, name: str, flags: int = 0, data: bytes = b"", count: int = 0) -> Tuple[int, int, bytes]:
    """One call of the device mapper: the device, the number of targets, and what came back."""
    size = max(16384, _DM.size + len(data))
    buffer = bytearray(size)
    _DM.pack_into(buffer, 0, 4, 0, 0, size, _DM.size, count, 0, flags, 0, 0, 0, name.encode("ascii"), b"")
    buffer[_DM.size : _DM.size + len(data)] = data
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(control, (3 << 30) | (_DM.size << 16) | (0xFD << 8) | command, buffer, True)
    finally:
        os.close(control)
    fields = _DM.unpack_from(buffer)
    return fields[10], fields[5], bytes(buffer[fields[4] :])


def _call(number: int, *arguments: Any) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "key ring")
    return result


def _libc(name: str, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(arguments[0]))
