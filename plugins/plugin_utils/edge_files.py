# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reading and writing the files of gateways and centres."""

from __future__ import annotations

import os
import stat

from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import replace_file


def read_file(path: str, maximum: int, what: str) -> bytes:
    """The bytes of a regular file of at most ``maximum`` bytes; what is larger is not read. Raises KeyReleaseError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise KeyReleaseError("it is no regular file", where="%s %s" % (what, path), code="edge-file")
            if status.st_size > maximum:
                raise KeyReleaseError("it is %d bytes, at most %d are read" % (status.st_size, maximum), where="%s %s" % (what, path), code="edge-format")
            return stream.read(maximum + 1)
    except OSError as error:
        raise KeyReleaseError("it cannot be read (%s)" % (error.strerror or error), where="%s %s" % (what, path), code="edge-file") from None


def write_file(path: str, data: bytes) -> None:
    """In one step, mode 0600. Raises KeyReleaseError."""
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise KeyReleaseError("it cannot be written (%s)" % (error.strerror or error), where=path, code="edge-io") from None


def make_directory(path: str) -> None:
    """A directory for the owner alone. Raises OSError."""
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    os.mkdir(path, 0o700)
