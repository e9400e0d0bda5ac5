# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A folder that holds exactly these files: what is there, what shall be, and the digest that tells one tree from another."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError

FILE_MAX = 16 * 1024 * 1024
_MODE = re.compile(r"0?[0-7]{3}\Z")


@dataclass(frozen=True)
class Entry:
    """One file: its permissions and its content. Of a link or another kind of file only the fact that it is none."""

    mode: int
    content: bytes
    regular: bool = True


@dataclass(frozen=True)
class TreeChange:
    """What is to be written (path and entry) and what removed, so that the tree is as wanted."""

    write: Tuple[Tuple[str, Entry], ...]
    remove: Tuple[str, ...]

    @property
    def needed(self) -> bool:
        return bool(self.write or self.remove)


def wanted_tree(given: Mapping[str, Any]) -> Dict[str, Entry]:
    """From {path: {content, mode}}. Raises HostError for a path that leaves the folder, or a mode that is none."""
    tree = {}
    for path, member in given.items():
        if not path or path != os.path.normpath(path) or path.startswith(("/", "..")) or "\0" in path:
            raise HostError("%s is no path inside of the folder" % ascii(path)[:80], where="files")
        unknown = set(member if isinstance(member, Mapping) else {"": 0}) - {"content", "mode"}
        if unknown or "content" not in member or not isinstance(member["content"], str):
            raise HostError("it needs content, a text, and can have mode", where="files[%s]" % path)
        mode = str(member.get("mode", "0644"))
        if not _MODE.match(mode):
            raise HostError("%s is no mode such as 0644" % ascii(mode)[:20], where="files[%s]" % path, fix="Put it in quotes")
        tree[path] = Entry(int(mode, 8), member["content"].encode("utf-8", "surrogateescape"))
    for path in tree:
        if any(other.startswith(path + "/") for other in tree):
            raise HostError("it is a file and a folder at once", where="files[%s]" % path)
    return tree


def present_tree(root: str, leave: Tuple[str, ...] = ()) -> Dict[str, Entry]:
    """The files below a folder, without those below the paths of ``leave``."""
    tree = {}
    for folder, names, files in os.walk(root):
        inner = os.path.relpath(folder, root)
        names[:] = [name for name in names if os.path.normpath(os.path.join(inner, name)) not in leave]
        # A link to a folder is one of the names, and is not followed.
        for name in files + [name for name in names if os.path.islink(os.path.join(folder, name))]:
            path = os.path.normpath(os.path.join(inner, name))
            tree[path] = _entry(os.path.join(folder, name))
    return tree


def _entry(path: str) -> Entry:
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode) or status.st_size > FILE_MAX:
        return Entry(stat.S_IMODE(status.st_mode), b"", regular=False)
    with open(path, "rb") as stream:
        return Entry(stat.S_IMODE(status.st_mode), stream.read())


def change_of(present: Mapping[str, Entry], wanted: Mapping[str, Entry]) -> TreeChange:
    """Only what differs."""
    write = tuple((path, entry) for path, entry in sorted(wanted.items()) if present.get(path) != entry)
    return TreeChange(write, tuple(sorted(set(present) - set(wanted))))


def digest_of(tree: Mapping[str, Entry]) -> str:
    """SHA-256 over paths, modes and contents, each with its length."""
    digest = hashlib.sha256()
    for path, entry in sorted(tree.items()):
        for part in (path.encode("utf-8", "surrogateescape"), b"%o" % entry.mode, entry.content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def listing(tree: Mapping[str, Entry]) -> str:
    """Each file with its mode and content, for a diff."""
    parts = []
    for path, entry in sorted(tree.items()):
        text = entry.content.decode("utf-8", "replace") if entry.regular else "(no regular file)"
        parts.append("==> %s (%04o)\n%s" % (path, entry.mode, text if text.endswith("\n") else text + "\n"))
    return "".join(parts)
