# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Putting a finished directory in its place in one step."""

from __future__ import annotations

import ctypes
import os
import shutil

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_file(path: str, data: bytes) -> None:
    """Write a small file and make it durable."""
    with open(path, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(partial: str, dest: str) -> None:
    """Give the directory ``partial`` the name ``dest``. What had the name before is removed, and is there until the new one is.

    Both lie in the same directory. Raises OSError.
    """
    if not os.path.lexists(dest):
        os.rename(partial, dest)
    elif _exchange(partial, dest):
        shutil.rmtree(partial)
    else:
        # A file system without RENAME_EXCHANGE: for a moment there is neither, never half of one.
        old = partial + ".old"
        os.rename(dest, old)
        os.rename(partial, dest)
        shutil.rmtree(old)
    sync_directory(os.path.dirname(dest))


def exchange_or_rename(partial: str, dest: str) -> None:
    """Like publish(), for a directory in memory: what was at ``dest`` gets the name ``partial``, for the caller to wipe. Raises OSError."""
    if not os.path.lexists(dest):
        os.rename(partial, dest)
    elif not _exchange(partial, dest):
        old = partial + ".old"
        os.rename(dest, old)
        os.rename(partial, dest)
        os.rename(old, partial)


def _exchange(one: str, two: str) -> bool:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(two), _RENAME_EXCHANGE) == 0)
    except (OSError, AttributeError):
        return False
