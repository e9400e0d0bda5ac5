# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The admin tool runs as root, so it is pinned: the digest of all its files must be the one that was named or that is known for its commit.

The digest is what `git ls-files | LC_ALL=C sort | xargs sha256sum | sha256sum` says in a checkout, so that archives that were packed anew count, too.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import List, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.models import TOOL_RELEASES
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.tool import PROGRAM

FILE_MAX, FILES_MAX = 4 * 1024 * 1024, 2000
_FIX = "Install it again with the role attested.ai.gpu_cc_host"


def digest(folder: str) -> str:
    """Of every file below ``folder``, apart from .git. A file too many counts, too: the tool loads its plugins by what it finds."""
    lines: List[str] = []
    for name in _files(folder):
        path = os.path.join(folder, name)
        try:
            with open(path, "rb") as stream:
                data = stream.read(FILE_MAX + 1)
        except OSError as error:
            raise HostError("it cannot be read: %s" % error.strerror, where=path, fix="Run the task as root (become: true)", code="gpu-tool-missing") from None
        if len(data) > FILE_MAX:
            raise HostError("it is larger than anything in the tool", where=path, fix=_FIX, code="gpu-tool-checksum")
        lines.append("%s  %s\n" % (hashlib.sha256(data).hexdigest(), name))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _files(folder: str) -> List[str]:
    found: List[str] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not (place == folder and name == ".git")]
        for name in names + folders:
            path = os.path.join(place, name)
            try:
                status = os.lstat(path)
            except OSError as error:
                raise HostError("it cannot be read: %s" % error.strerror, where=path, fix=_FIX, code="gpu-tool-checksum") from None
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                raise HostError("it is neither a file nor a folder", where=path, fix=_FIX, code="gpu-tool-checksum")
            if status.st_mode & 0o022 or status.st_uid not in (0, os.geteuid()):
                raise HostError("others may write to it, and it runs as root", where=path, fix=_FIX, code="gpu-tool-checksum")
            if stat.S_ISREG(status.st_mode):
                found.append(os.path.relpath(path, folder))
        if len(found) > FILES_MAX:
            raise HostError("there are more files in it than the tool has", where=folder, fix=_FIX, code="gpu-tool-checksum")
    return sorted(found, key=lambda name: name.encode("utf-8", "surrogateescape"))


def check(folder: str, sha256: str) -> Tuple[str, str]:
    """(digest, commit) of the tool in ``folder``; the commit is '' for a digest that only the user knows. Raises HostError for anything else."""
    if not os.path.isfile(os.path.join(folder, PROGRAM)):
        raise HostError(
            "NVIDIA's gpu-admin-tools is not there", where=folder or "tool", code="gpu-tool-missing",
            fix="Install it with the role attested.ai.gpu_cc_host (gpu_cc_host_tool_source), and name its folder in the option tool",
        )  # fmt: skip
    found = digest(folder)
    known = {tree: commit for commit, tree in TOOL_RELEASES.values()}
    if sha256 and found != sha256.lower():
        raise HostError("its files have the digest %s, not %s" % (found, sha256), where=folder, fix=_FIX, code="gpu-tool-checksum")
    if not sha256 and found not in known:
        raise HostError(
            "its files have the digest %s, which is no release that is known here (%s)" % (found, ", ".join(TOOL_RELEASES)), where=folder,
            fix="Compare it with a checkout of the commit that you trust, and name the digest in tool_sha256", code="gpu-tool-checksum",
        )  # fmt: skip
    return found, known.get(found, "")
