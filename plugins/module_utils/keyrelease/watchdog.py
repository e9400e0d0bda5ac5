# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A detached process that sweeps a session at its deadline, even if the controller and the module are gone by then.

It is forked before the key is made, so that no copy of the key can be in its memory, and it holds no file open.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from typing import Any, NoReturn, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.target.memory import wipe_tree

_POLL_SECONDS = 1.0


def boot_clock() -> float:
    """Seconds since boot, suspension included: nobody can set it back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def identity(path: str) -> Tuple[int, int]:
    """(device, inode) of a directory: a later session of the same name is another one. Raises OSError."""
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def start(path: str, deadline: float) -> None:
    """Leave a watchdog behind that sweeps ``path`` at ``deadline`` (boot clock). Returns once it stands. Raises KeyReleaseError."""
    expected = identity(path)
    reader, writer = os.pipe()
    try:
        child = os.fork()
        if child == 0:
            _detach(path, expected, deadline, writer)
        os.close(writer)
        writer = -1
        os.waitpid(child, 0)
        ready = os.read(reader, 1) == b"1"
    except OSError as error:
        raise KeyReleaseError("the watchdog cannot be started (%s)" % error.strerror, where=path, code="watchdog") from None
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    if not ready:
        raise KeyReleaseError("the watchdog ended before it stood", where=path, code="watchdog")


def _detach(path: str, expected: Tuple[int, int], deadline: float, writer: int) -> NoReturn:
    # Whatever happens, this copy of the module must never return into the module's own code.
    try:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, frame: _sweep_and_exit(path, expected))
        os.chdir("/")
        _close_all(keep=writer)
        os.write(writer, b"1")
        os.close(writer)
        _watch(path, expected, deadline)
        _sweep_and_exit(path, expected)
    finally:
        os._exit(1)


def _watch(path: str, expected: Tuple[int, int], deadline: float) -> None:
    """Return at the deadline; end the process as soon as the session is gone or another one."""
    while True:
        remaining = deadline - boot_clock()
        if not _is(path, expected):
            os._exit(0)
        if remaining <= 0:
            return
        time.sleep(min(remaining, _POLL_SECONDS))


def _sweep_and_exit(path: str, expected: Tuple[int, int]) -> NoReturn:
    try:
        if _is(path, expected):
            wipe_tree(path)
    except AttestedError:
        os._exit(1)
    os._exit(0)


def _is(path: str, expected: Tuple[int, int]) -> bool:
    try:
        return identity(path) == expected
    except OSError:
        return False


def _close_all(keep: int) -> None:
    # The standard streams are the connection's pipes: Ansible would wait for their end until the deadline.
    try:
        numbers: Any = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        numbers = range(min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 65536))
    for number in numbers:
        if number != keep:
            try:
                os.close(number)
            except OSError:
                pass
