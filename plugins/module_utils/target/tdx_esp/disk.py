# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The disk of the machine, for what places a TDX module: files are replaced whole and durably, as the next thing that reads them may be firmware."""

from __future__ import annotations

import os
import time
from typing import Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.tdx_esp.placing import Disk

FILE_MAX = 32 * 1024 * 1024


def read(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb") as stream:
            data = stream.read(FILE_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError("it cannot be read: %s" % error.strerror, where=path, fix="Run the task as root (become: true)") from None
    if len(data) > FILE_MAX:
        raise HostError("it is larger than %d bytes" % FILE_MAX, where=path, code="tdx-module-form")
    return data


def write(path: str, data: bytes) -> None:
    scratch = path + ".new"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(scratch, path)
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise HostError("it cannot be written: %s" % error.strerror, where=path, fix="Run the task as root, with room and a writable EFI partition") from None


def remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise HostError("it cannot be removed: %s" % error.strerror, where=path) from None


def remove_empty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        pass  # something of somebody else's lies there


def free(path: str) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def must_read(path: str) -> bytes:
    data = read(path)
    if data is None:
        raise HostError("it does not exist", where=path)
    return data


def real_disk() -> Disk:
    return Disk(read, write, remove, remove_empty, free, lambda: int(time.time()))
