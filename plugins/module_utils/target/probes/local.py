# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The machine that this runs on, as probes see it. Reads only; standard library only."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import grp
import os
import platform
import pwd
import struct
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import (
    ABSENT,
    DENIED,
    ERROR,
    Answer,
    Host,
    KernelLog,
    Output,
    Owner,
    Registers,
    Unreadable,
)
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import online

FILE_MAX = 256 * 1024
LOG_MAX = 16 * 1024 * 1024
RECORD_MAX = 16 * 1024
# _IOWR('S', 0, struct sev_issue_cmd), 16 packed bytes: u32 cmd, u64 data, u32 error (include/uapi/linux/psp-sev.h).
SEV_ISSUE_CMD = 0xC0105300
SEV_DEVICE = "/dev/sev"
# _IO(0xAE, 0) and _IO(0xAE, 3) of include/uapi/linux/kvm.h, both without an effect.
KVM_GET_API_VERSION, KVM_CHECK_EXTENSION = 0xAE00, 0xAE03
# _IOW(0xAE, 0xe2, struct kvm_device_attr), 24 bytes: u32 flags, u32 group, u64 attribute, u64 address.
KVM_GET_DEVICE_ATTR = 0x4018AEE2
KVM_DEVICE = "/dev/kvm"
# Numbers are of psp-sev.h. Neighbours of these change the platform for good, so only they can be named, with the sizes of their answers.
SEV_COMMANDS = {"snp-platform-status": (9, 32), "get-id": (8, 128)}

Runner = Callable[[Sequence[str]], Tuple[int, str]]


def _name(find: Callable[[int], Any], number: int) -> str:
    try:
        return str(find(number)[0])
    except KeyError:
        return str(number)


def unreadable(error: OSError, what: str) -> Unreadable:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV):
        return Unreadable(ABSENT, "%s does not exist" % what)
    if error.errno in (errno.EACCES, errno.EPERM):
        return Unreadable(DENIED, "%s may not be read (%s)" % (what, os.strerror(error.errno)))
    return Unreadable(ERROR, "%s cannot be read (%s)" % (what, error.strerror or error))


class LocalHost(Host):
    """``root`` is put before every path, for tests. ``run`` runs a program and returns its status and standard output; it may raise OSError."""

    def __init__(self, run: Optional[Runner] = None, root: str = "") -> None:
        self._run = run
        self._root = root
        self._log: Union[KernelLog, Unreadable, None] = None

    def kernel(self) -> str:
        return platform.release()

    def architecture(self) -> str:
        return platform.machine()

    def read(self, path: str) -> Union[bytes, Unreadable]:
        try:
            # Not blocking: a path may turn out to be a pipe.
            descriptor = os.open(self._root + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            return unreadable(error, path)
        try:
            data = b""
            while len(data) < FILE_MAX:
                part = os.read(descriptor, FILE_MAX - len(data))
                if not part:
                    break
                data += part
            return data
        except OSError as error:
            return unreadable(error, path)
        finally:
            os.close(descriptor)

    def listdir(self, path: str) -> Union[Tuple[str, ...], Unreadable]:
        try:
            return tuple(sorted(os.listdir(self._root + path)))
        except OSError as error:
            return unreadable(error, path)

    def exists(self, path: str) -> Union[bool, Unreadable]:
        try:
            os.stat(self._root + path)
            return True
        except OSError as error:
            found = unreadable(error, path)
            return False if found.kind == ABSENT else found

    def owner(self, path: str) -> Union[Owner, Unreadable]:
        try:
            found = os.stat(self._root + path)
        except OSError as error:
            return unreadable(error, path)
        return Owner(found.st_mode & 0o7777, _name(pwd.getpwuid, found.st_uid), _name(grp.getgrgid, found.st_gid))

    def msr(self, number: int) -> Union[int, Unreadable]:
        data = self._device("/dev/cpu/0/msr", 8, number, "MSR 0x%x" % number, "msr")
        return data if isinstance(data, Unreadable) else int.from_bytes(data, "little")

    def cpuid(self, leaf: int, subleaf: int = 0) -> Union[Registers, Unreadable]:
        data = self._device("/dev/cpu/0/cpuid", 16, subleaf << 32 | leaf, "CPUID 0x%x" % leaf, "cpuid")
        if isinstance(data, Unreadable):
            return data
        eax, ebx, ecx, edx = struct.unpack("<4I", data)
        return eax, ebx, ecx, edx

    def _device(self, path: str, size: int, offset: int, what: str, module: str) -> Union[bytes, Unreadable]:
        try:
            descriptor = os.open(self._root + path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            found = unreadable(error, path)
            return Unreadable(ABSENT, "%s does not exist: the kernel module %s is not loaded" % (path, module)) if found.kind == ABSENT else found
        try:
            data = os.pread(descriptor, size, offset)
        except OSError as error:
            # The driver answers EIO for a register that the CPU, or the hypervisor, does not have.
            reason = "this CPU has no %s" % what if error.errno == errno.EIO else unreadable(error, what).reason
            return Unreadable(DENIED if error.errno in (errno.EACCES, errno.EPERM) else ERROR, reason)
        except OverflowError:
            return Unreadable(ERROR, "%s is out of range" % what)
        finally:
            os.close(descriptor)
        return data if len(data) == size else Unreadable(ERROR, "%s gave %d bytes, not %d" % (what, len(data), size))

    def sev(self, command: str) -> Union[bytes, Unreadable]:
        number, size = SEV_COMMANDS[command]
        try:
            descriptor = os.open(self._root + SEV_DEVICE, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return unreadable(error, SEV_DEVICE)
        try:
            answer = ctypes.create_string_buffer(size)
            # GET_ID2 is given the place by way of struct sev_user_data_get_id2 (u64 address, u32 length), and writes how much it filled.
            place = ctypes.create_string_buffer(struct.pack("=QI", ctypes.addressof(answer), size), 12)
            target = place if command == "get-id" else answer
            request = bytearray(struct.pack("=IQI", number, ctypes.addressof(target), 0))
            fcntl.ioctl(descriptor, SEV_ISSUE_CMD, request)
            return answer.raw[: struct.unpack("=QI", place.raw)[1]]
        except OSError as error:
            firmware = struct.unpack("=IQI", request)[2]
            return Unreadable(ERROR, "%s was refused (%s, firmware error 0x%x)" % (command, error.strerror, firmware))
        finally:
            os.close(descriptor)

    def kvm(self, extension: Optional[int] = None) -> Union[int, Unreadable]:
        try:
            descriptor = os.open(self._root + KVM_DEVICE, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return unreadable(error, KVM_DEVICE)
        try:
            if extension is None:
                return fcntl.ioctl(descriptor, KVM_GET_API_VERSION)
            return fcntl.ioctl(descriptor, KVM_CHECK_EXTENSION, extension)
        except (OSError, OverflowError) as error:
            return Unreadable(ERROR, "%s does not answer (%s)" % (KVM_DEVICE, error))
        finally:
            os.close(descriptor)

    def kvm_attribute(self, group: int, attribute: int) -> Union[int, Unreadable]:
        try:
            descriptor = os.open(self._root + KVM_DEVICE, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return unreadable(error, KVM_DEVICE)
        try:
            value = ctypes.c_uint64()
            fcntl.ioctl(descriptor, KVM_GET_DEVICE_ATTR, struct.pack("=IIQQ", 0, group, attribute, ctypes.addressof(value)))
            return value.value
        except OSError as error:
            return Unreadable(ERROR, "%s does not tell attribute %d of group %d (%s)" % (KVM_DEVICE, attribute, group, error.strerror))
        finally:
            os.close(descriptor)

    def kernel_log(self) -> Union[KernelLog, Unreadable]:
        if self._log is None:
            self._log = self._read_log()
        return self._log

    def _read_log(self) -> Union[KernelLog, Unreadable]:
        ring = self._ring_buffer()
        if isinstance(ring, KernelLog) and ring.complete:
            return ring
        # The first messages were overwritten, or may not be read: the journal may have kept them.
        argv = ("journalctl", "--dmesg", "--boot", "--no-pager", "--quiet", "--output=cat")
        journal = self.command(argv)
        if isinstance(journal, Output) and journal.rc == 0 and "Linux version " in journal.out[:65536]:
            return KernelLog(tuple(journal.out.splitlines()), True, "journalctl -k -b")
        return ring

    def _ring_buffer(self) -> Union[KernelLog, Unreadable]:
        """Records of /dev/kmsg: 'priority,sequence,microseconds,flags;message', further lines are keys of the device."""
        path = "/dev/kmsg"
        try:
            descriptor = os.open(self._root + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            return unreadable(error, path)
        lines: List[str] = []
        first, size = "", 0
        try:
            while size < LOG_MAX:
                try:
                    record = os.read(descriptor, RECORD_MAX)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno == errno.EPIPE:  # overwritten while we read: the next read goes on with the oldest
                        first = "overwritten"
                        continue
                    return unreadable(error, path)
                if not record:
                    break
                size += len(record)
                head, _sign, message = record.decode("utf-8", "replace").partition(";")
                first = first or (head.split(",") + ["", ""])[1]
                lines.append(message.split("\n", 1)[0])
        finally:
            os.close(descriptor)
        return KernelLog(tuple(lines), first == "0", path)

    def command(self, argv: Sequence[str]) -> Union[Output, Unreadable]:
        if self._run is None:
            return Unreadable(ERROR, "%s cannot be run here" % argv[0])
        try:
            rc, out = self._run(argv)
        except OSError as error:
            return unreadable(error, argv[0])
        return Output(rc, out[:LOG_MAX])

    def exchange(self, address: str, data: bytes) -> Union[bytes, Unreadable]:
        return online.exchange(address, data)

    def https(self, url: str, verify: bool = True) -> Union[Answer, Unreadable]:
        return online.https(url, verify)
