# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``<dest>.complete``: says which manifest was opened at ``dest``. It lies beside, so that a model server finds only its model.

It names the inode of the directory, and is written just before the directory gets its name: a kill in between leaves a marker that
does not match, never a complete model without one.
"""

from __future__ import annotations

import os
import stat
from typing import Any, Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import Manifest

_MAX_SIZE = 1 << 16


def path(dest: str) -> str:
    return dest + ".complete"


def write(dest: str, digest: str, manifest: Manifest, inode: int) -> None:
    """Write the marker in one step. Raises OSError."""
    replace(
        path(dest),
        jcs.canonicalize({"manifest_sha256": digest, "model_id": manifest.model_id, "release": manifest.release, "inode": str(inode)}),
    )


def replace(name: str, data: bytes) -> None:
    """Write a small file of mode 0644 under a new name, then give it its own. Raises OSError."""
    temporary = "%s.%s" % (name, os.urandom(4).hex())
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        os.replace(temporary, name)
    except OSError:
        os.unlink(temporary)
        raise


def exists(dest: str) -> bool:
    return _read(dest) is not None


def matches(dest: str, digest: str) -> bool:
    """Whether the marker is ours, names this manifest, and means the directory that is there now."""
    found = _read(dest)
    try:
        status = os.lstat(dest)
    except OSError:
        return False
    return found is not None and stat.S_ISDIR(status.st_mode) and found.get("manifest_sha256") == digest and found.get("inode") == str(status.st_ino)


def names(dest: str, digest: str, inode: int) -> bool:
    """Whether the marker is ours and names this manifest and the directory with this inode."""
    found = _read(dest)
    return found is not None and found.get("manifest_sha256") == digest and found.get("inode") == str(inode)


def _read(dest: str) -> Optional[Mapping[str, Any]]:
    try:
        descriptor = os.open(path(dest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        # In a directory like /dev/shm anybody may have put it there.
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return None
        try:
            return strict.members(strict.loads(stream.read(_MAX_SIZE)), ("manifest_sha256", "model_id", "release", "inode"))
        except FormatError:
            return None
