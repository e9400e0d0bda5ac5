# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reading a file of ours, and a model of yours, from the disk. The page cache is asked to forget them before each round."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Callable, List

from ansible_collections.attested.ai.plugins.module_utils.benchmark.failure import BenchmarkError
from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.measure import Found, Measure, label

CHUNK = 1 << 20


def scratch(found: Found, directory: str, size: int) -> None:
    """A file of ``size`` random bytes, so that no disk compresses it away. It has no name any more once it is open."""
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".attested-overhead-", delete=False) as named:
            path = named.name
            try:
                for _number in range(0, size, CHUNK):
                    named.write(os.urandom(min(CHUNK, size - _number)))
                named.flush()
                os.fsync(named.fileno())
                handle = os.open(path, os.O_RDONLY)
            finally:
                os.unlink(path)
    except OSError as error:
        found.absent["file.read"] = "no file of %s could be written into %s: %s" % (label(size), directory, error.strerror)
        return
    name = "file.read.%s" % label(size)
    found.measures.append(Measure(name, lambda: {name: _timed(lambda: read(handle))}, size, lambda: os.close(handle)))


def model(found: Found, path: str) -> None:
    """All files of a model's directory (or the one file) as one measurement."""
    files = _files(path)
    try:
        size = sum(os.path.getsize(one) for one in files)
    except OSError as error:
        raise BenchmarkError("it cannot be read (%s)" % error.strerror, where=path, code="model-path") from None
    if not size:
        raise BenchmarkError("it holds no bytes to read", where=path, fix="Name a model's file or directory", code="model-path")
    found.measures.append(Measure("file.model", lambda: {"file.model": _timed(lambda: _all(files))}, size))


def _files(path: str) -> List[str]:
    if os.path.isfile(path):
        return [path]
    if not os.path.isdir(path):
        raise BenchmarkError("there is no such file or directory", where=path, fix="Name a model's file or directory", code="model-path")
    return sorted(os.path.join(folder, name) for folder, _folders, names in os.walk(path) for name in names if os.path.isfile(os.path.join(folder, name)))


def _all(files: List[str]) -> None:
    for one in files:
        handle = os.open(one, os.O_RDONLY)
        try:
            read(handle)
        finally:
            os.close(handle)


def read(handle: int) -> None:
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.lseek(handle, 0, os.SEEK_SET)
    while os.read(handle, CHUNK):
        pass


def _timed(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
