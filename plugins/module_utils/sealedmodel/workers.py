# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sharing work among forked processes, where threads would wait for each other: XTS takes a Python call for every 4096 bytes."""

from __future__ import annotations

import mmap
import os
import signal
import struct
from typing import Callable, Dict, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict

_COUNTER = struct.Struct("<Q")
# One write to a pipe of at most this is whole.
_MESSAGE = 4096

# Called with what was finished since the last call; the caller's process reports it on.
Advance = Callable[[int], None]
Work = Callable[[int, Advance], None]


def share(count: int, work: Work, progress: Optional[Advance] = None) -> None:
    """Call work(0) here and work(1) ... work(count - 1) in processes of their own. Raises what the first that failed raised, as ModelError."""
    counters = mmap.mmap(-1, _COUNTER.size * count)
    children: Dict[int, int] = {}
    told = [0]

    def report() -> None:
        total = sum(value for (value,) in _COUNTER.iter_unpack(counters[:]))
        if progress is not None and total > told[0]:
            progress(total - told[0])
        told[0] = total

    try:
        for number in range(1, count):
            reading, writing = os.pipe()
            process = os.fork()
            if process == 0:
                os.close(reading)
                _child(number, work, counters, writing)
            os.close(writing)
            children[process] = reading
        work(0, _counter(counters, 0, report))
        while children:
            # Out of the list first: once it is waited for, its number may be another's.
            process, reading = children.popitem()
            try:
                _collect(process, reading)
            finally:
                os.close(reading)
            report()
        report()
    finally:
        for process, reading in children.items():
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.close(reading)
        counters.close()


def _counter(counters: mmap.mmap, number: int, then: Optional[Callable[[], None]] = None) -> Advance:
    done = [0]

    def advance(amount: int) -> None:
        done[0] += amount
        _COUNTER.pack_into(counters, number * _COUNTER.size, done[0])
        if then is not None:
            then()

    return advance


def _child(number: int, work: Work, counters: mmap.mmap, writing: int) -> None:
    """Never returns: whatever the parent had begun is the parent's to end."""
    code = 1
    try:
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(name, signal.SIG_DFL)
        work(number, _counter(counters, number))
        code = 0
    except AttestedError as error:
        os.write(writing, jcs.canonicalize({"what": error.what[:900], "where": error.where[:900], "fix": error.fix[:900], "code": error.code})[:_MESSAGE])
    except OSError as error:
        os.write(writing, jcs.canonicalize({"what": str(error.strerror), "where": str(error.filename or ""), "fix": "", "code": "model-dest"})[:_MESSAGE])
    finally:
        os._exit(code)  # pylint: disable=disallowed-name


def _collect(process: int, reading: int) -> None:
    said = os.read(reading, _MESSAGE)
    _process, status = os.waitpid(process, 0)
    if status == 0:
        return
    try:
        error = strict.members(strict.loads(said), ("what", "where", "fix", "code"))
    except AttestedError:
        error = {"what": "a helping process ended early (status %d)" % status, "where": "", "fix": "Is there enough memory? Run this again", "code": "model"}
    raise ModelError(str(error["what"]), where=str(error["where"]), fix=str(error["fix"]), code=str(error["code"]))
