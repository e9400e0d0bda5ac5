# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files that hold a secret: read only if nobody else can read them, created for the owner alone."""

from __future__ import annotations

import os
from contextlib import suppress
import stat
from typing import Union

from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError

SECRET_MAX = 64 << 10


def read_secret(path: str, what: str, maximum: int = SECRET_MAX) -> bytes:
    """The bytes of a regular file that belongs to us or root and that group and others cannot read. Raises KeyReleaseError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeyReleaseError("there is no %s" % what, where=path, fix="Give the path of one, or have one created", code="secret-missing") from None
    except (OSError, ValueError) as error:
        raise KeyReleaseError("the %s cannot be read (%s)" % (what, getattr(error, "strerror", None) or error), where=path, code="secret-unreadable") from None
    try:
        # Asked of the descriptor, so that what is checked is what is read.
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyReleaseError("the %s is not a regular file" % what, where=path, code="secret-kind")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise KeyReleaseError(
                "group or others may open the %s (mode %04o)" % (what, stat.S_IMODE(status.st_mode)),
                where=path,
                fix="Run: chmod 600 %s. If others could have read it, make a new one" % path,
                code="secret-mode",
            )
        if status.st_uid not in (0, os.geteuid()):
            raise KeyReleaseError("the %s belongs to another user (uid %d)" % (what, status.st_uid), where=path, code="secret-owner")
        if status.st_size > maximum:
            raise KeyReleaseError("the %s is %d bytes, at most %d are possible" % (what, status.st_size, maximum), where=path, code="secret-size")
        with os.fdopen(os.dup(descriptor), "rb") as stream:
            return stream.read(maximum + 1)
    finally:
        os.close(descriptor)


def create_secret(path: str, data: bytes, what: str) -> None:
    """Write a new file with mode 0600, complete or not at all; what exists is never overwritten. Raises KeyReleaseError."""
    temporary = "%s.%s.new" % (path, os.urandom(6).hex())
    with suppress(OSError):
        os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
    try:
        write_new(temporary, data)
        try:
            # link(2) fails if the name is taken, rename(2) would replace it.
            os.link(temporary, path)
        finally:
            os.unlink(temporary)
        sync_directory(os.path.dirname(path) or ".")
    except FileExistsError:
        raise KeyReleaseError(
            "the %s exists already" % what, where=path, fix="It is not overwritten. Use it, or give another path", code="secret-exists"
        ) from None
    except OSError as error:
        raise KeyReleaseError("the %s cannot be written (%s)" % (what, error.strerror), where=path, code="secret-unwritable") from None


def write_new(path: str, data: Union[bytes, bytearray]) -> None:
    """Create ``path`` with mode 0600 and write all of ``data``; OSError if it exists or is a link."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: str, data: bytes) -> None:
    """Put ``data`` at ``path`` with mode 0600 in one step, and make it durable. Raises OSError."""
    temporary = "%s.%s.new" % (path, os.urandom(6).hex())
    try:
        write_new(temporary, data)
        os.rename(temporary, path)
    except OSError:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path) or ".")


def sync_directory(path: str) -> None:
    """Make a new name in the directory survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
