# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files of a store on the disk: locks, bounded reading, and writing that is whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import Iterator


@contextlib.contextmanager
def locked(path: str, flags: int, operation: int) -> Iterator[int]:
    """Hold a lock on a file, which works between processes and between threads alike. Raises OSError."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, operation)
                break
            except OSError as error:
                if error.errno != errno.EINTR:
                    raise
        yield descriptor
    finally:
        os.close(descriptor)


def read_file(path: str, maximum: int) -> bytes:
    """The bytes of a regular file of at most ``maximum`` bytes. Raises OSError, also for anything else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        data = stream.read(maximum + 1)
    if len(data) > maximum:
        raise OSError(errno.EFBIG, "it is larger than %d bytes" % maximum)
    return data


def replace_file(root: str, path: str, data: bytes) -> None:
    """Write ``path`` below ``root``, whole or not at all. No directory on the way may be a link that leads elsewhere."""
    directory = root
    for part in path.split("/")[:-1]:
        directory = os.path.join(directory, part)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o755)
        if os.path.islink(directory):
            raise OSError(errno.ELOOP, "%s is a link" % directory)
    target = os.path.join(root, path)
    partial = "%s.%s.new" % (target, os.urandom(6).hex())
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, target)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
