# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The machine that this runs on, for switching modes: the tool as a process with a time limit, VFIO's own lock, and a record that survives a power cut."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import sys
import tempfile
import time
from dataclasses import replace
from typing import ContextManager, Dict, Iterator, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import holders, inventory, tool
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import marker as markers
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.holders import Holder
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import Device
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.marker import Marker
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.switch import Bench

TEXT_MAX = 1024 * 1024
GRACE = 5.0


class LocalBench(Bench):
    """``folder`` is that of the tool. ``root`` is put before paths of the machine, for tests."""

    def __init__(self, folder: str, limit: int, root: str = "") -> None:
        if limit < 1:
            raise HostError("%d s is no time limit" % limit, where="timeout", fix="The tool needs up to a minute for a device", code="gpu-tool-hung")
        self.folder, self.limit, self._root = folder, limit, root
        self._lock: Optional[int] = None

    def ask(self, args: Sequence[str]) -> tool.Run:
        # No user's packages, no variables of Python, no byte code beside the pinned files.
        argv = [sys.executable or "/usr/bin/python3", "-sEB", os.path.join(self.folder, tool.PROGRAM)] + list(args)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C", "LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            with tempfile.TemporaryFile() as kept:
                rc = _wait(_start(argv, environment, kept.fileno()), self.limit)
                kept.seek(0)
                return tool.Run(-1 if rc is None else rc, kept.read(TEXT_MAX).decode("utf-8", "replace"), rc is None)
        except OSError as error:
            return tool.Run(-1, "%s cannot be run: %s" % (argv[0], error.strerror))

    def holders(self, devices: Sequence[Device]) -> Tuple[Holder, ...]:
        return holders.scan(devices, self._root, os.getpid())

    def present(self, bdf: str) -> bool:
        try:
            with open("%s%s/%s/config" % (self._root, inventory.DEVICES, bdf), "rb") as stream:
                return stream.read(4) != b"\xff\xff\xff\xff"
        except OSError:
            return False

    def claim(self, devices: Sequence[Device]) -> ContextManager[None]:
        return self._claimed(devices)

    @contextlib.contextmanager
    def _claimed(self, devices: Sequence[Device]) -> Iterator[None]:
        """VFIO lets a group be opened once, and opens no device of it by another way meanwhile (drivers/vfio/group.c)."""
        opened: List[int] = []
        try:
            for group in sorted({device.group for device in devices if device.group and device.driver}):
                path = "%s/dev/vfio/%s" % (self._root, group)
                try:
                    opened.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
                except OSError as error:
                    if error.errno == errno.EBUSY:
                        raise HostError("a virtual machine has it open", where=path, code="gpu-busy",
                                        fix="Stop what uses the GPUs (drain the machine), and run the task again") from None  # fmt: skip
                    # A kernel without groups has no such file; then only the look at who holds what remains.
                    if error.errno not in (errno.ENOENT, errno.ENODEV):
                        raise HostError(error.strerror or "error", where=path, code="gpu-denied", fix="Run the task as root (become: true)") from None
            yield
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def load(self) -> Marker:
        try:
            with open(self._root + markers.PATH, encoding="utf-8", errors="replace") as stream:
                return markers.parse(stream.read(TEXT_MAX))
        except FileNotFoundError:
            return markers.parse(None)
        except OSError as error:
            raise HostError(error.strerror or "error", where=markers.PATH, code="gpu-denied", fix="Run the task as root (become: true)") from None

    def save(self, marker: Marker) -> None:
        if replace(self.load(), since="") == replace(marker, since=""):
            return
        path = self._root + markers.PATH
        scratch = path + ".new"
        try:
            self._make_folder()
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(marker.dump())
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(scratch, path)
            _sync(os.path.dirname(path))
        except OSError as error:
            raise HostError("it cannot be written: %s" % error.strerror, where=path, code="gpu-state-file", fix="Make room, and run the task again") from None

    def _make_folder(self) -> None:
        place = self._root + markers.FOLDER
        if not os.path.isdir(place):
            os.makedirs(place, 0o755)
            _sync(os.path.dirname(os.path.dirname(place)))
            _sync(os.path.dirname(place))

    @contextlib.contextmanager
    def alone(self, create: bool = True) -> Iterator[None]:
        """One at a time talks to the devices of a machine. Without ``create`` nothing is made on disk: where no lock is, nobody ever held one."""
        path = self._root + markers.LOCK
        if not create and not os.path.exists(path):
            yield
            return
        try:
            if create:
                self._make_folder()
            self._lock = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0) | os.O_CLOEXEC, 0o600)
            os.set_inheritable(self._lock, True)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError("another run, or a tool that outlived its run, is at work on the GPUs", where=markers.LOCK, code="gpu-locked",
                            fix="Wait until it has ended (`fuser %s` names it), and run the task again" % markers.LOCK) from None  # fmt: skip
        except OSError as error:
            raise HostError(error.strerror or "error", where=markers.LOCK, code="gpu-denied", fix="Run the task as root (become: true)") from None
        try:
            yield
        finally:
            os.close(self._lock)
            self._lock = None

    def now(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _start(argv: List[str], environment: Dict[str, str], output: int) -> int:
    """The number of the process. It has our lock, leads a session of its own and writes to a file: if we are killed, it ends what it began, and until then no
    other run gets in. run_command can do none of that, and has no time limit."""
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            for source, target in ((nothing, 0), (output, 1), (output, 2)):
                os.dup2(source, target)
            os.execve(argv[0], argv, environment)
        except OSError as error:
            os.write(output, ("%s cannot be run: %s\n" % (argv[0], error.strerror)).encode())
        finally:
            os._exit(127)
    os.close(nothing)
    return pid


def _wait(pid: int, limit: float) -> Optional[int]:
    """The exit status, negative for a signal. None if it took too long and was ended, with all that it started; one that sits in the kernel cannot be ended,
    and is not waited for."""
    found = _poll(pid, limit)
    if found is None:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        _poll(pid, GRACE)
    return found


def _poll(pid: int, limit: float) -> Optional[int]:
    end = time.monotonic() + limit
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.02)
