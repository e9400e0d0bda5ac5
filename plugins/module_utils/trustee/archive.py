# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Save the folders of a key broker into one file, and put them back.

The file is a tar archive that begins with a list of what is in it, with the SHA-256 of each file. It holds keys and secrets as they lie in the folders, so
it is made for its owner alone, and nothing of it is restored before all of it was compared.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import tarfile
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.trustee.problem import TrusteeError

SCHEMA = "attested.ai/trustee-backup/1"
_LIST = "manifest.json"
_LIST_MAX = 64 << 20
_FILE_MAX = 256 << 20
_TOTAL_MAX = 8 << 30
_FOLDER = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")


@dataclass(frozen=True)
class Entry:
    """One file. ``path`` begins with the name of its folder."""

    path: str
    size: int
    sha256: str
    mode: int
    uid: int
    gid: int

    def to_dict(self) -> Dict[str, Any]:
        return {name: getattr(self, name) for name in ("path", "size", "sha256", "mode", "uid", "gid")}


def digest_of(entries: List[Entry]) -> str:
    """SHA-256 over all that a backup holds."""
    return hashlib.sha256(json.dumps([entry.to_dict() for entry in entries], sort_keys=True).encode("utf-8")).hexdigest()


def survey(folders: Mapping[str, str]) -> List[Entry]:
    """The files of the folders, by name. Raises TrusteeError for links and devices: Trustee makes none."""
    found = []
    for name, root in sorted(folders.items()):
        if not _FOLDER.match(name):
            raise TrusteeError("%s is no name for a folder" % strict.quoted(name), where="folders", code="trustee-backup-folder")
        if not os.path.isdir(root) or os.path.islink(root):
            raise TrusteeError("there is no such folder", where=root, fix="Set the key broker up first", code="trustee-backup-missing")
        for place, inside, files in os.walk(root, onerror=_unreadable):
            inside.sort()
            for base in sorted([*files, *(one for one in inside if os.path.islink(os.path.join(place, one)))]):
                path = os.path.join(place, base)
                told = os.lstat(path)
                if not stat.S_ISREG(told.st_mode):
                    raise TrusteeError("it is neither a file nor a folder", where=path, fix="Remove it, Trustee makes none", code="trustee-backup-kind")
                digest, size = digest_of_file(path)
                found.append(Entry("%s/%s" % (name, os.path.relpath(path, root)), size, digest, stat.S_IMODE(told.st_mode), told.st_uid, told.st_gid))
    return sorted(found, key=lambda entry: entry.path)


def save(folders: Mapping[str, str], entries: List[Entry], dest: str, about: Mapping[str, Any]) -> str:
    """Write the archive, read it again whole, give it its name. Returns its SHA-256. Raises TrusteeError."""
    temporary = "%s.%s.new" % (dest, os.urandom(6).hex())
    listing = json.dumps({"schema": SCHEMA, "about": dict(about), "files": [entry.to_dict() for entry in entries]}, sort_keys=True).encode("utf-8")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), 0o600)
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
                _add(tar, _LIST, io.BytesIO(listing), len(listing), 0o600)
                for entry in entries:
                    name, _slash, rest = entry.path.partition("/")
                    with open(os.path.join(folders[name], rest), "rb") as source:
                        _add(tar, entry.path, source, entry.size, entry.mode)
            stream.flush()
            os.fsync(stream.fileno())
        # A file that was written to meanwhile would not be what its digest says.
        verify(temporary)
        digest = digest_of_file(temporary)[0]
        os.rename(temporary, dest)
        _sync(os.path.dirname(dest))
    except (OSError, tarfile.TarError) as error:
        raise TrusteeError("the backup cannot be written (%s)" % (getattr(error, "strerror", None) or error), where=dest, code="trustee-backup-write") from None
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
    return digest


def verify(path: str, sha256: str = "") -> Tuple[Dict[str, Any], List[Entry]]:
    """(what the archive tells of itself, its files) if all in it is what the list says, and nothing else is in it. Raises TrusteeError."""
    try:
        with open(path, "rb") as stream:
            told = os.fstat(stream.fileno())
            if stat.S_IMODE(told.st_mode) & 0o077 or told.st_uid not in (0, os.geteuid()):
                raise TrusteeError("others can read or change this backup (mode %04o, uid %d)" % (stat.S_IMODE(told.st_mode), told.st_uid), where=path,
                                   fix="chown and chmod 600 it if you know that nobody did", code="trustee-backup-mode")
            if sha256 and digest_of_file(path)[0] != sha256:
                raise TrusteeError("it is not the backup with this SHA-256", where=path, fix="Take the one that was noted when it was made",
                                   code="trustee-backup-digest")
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                return _verified(tar, path)
    except FileNotFoundError:
        raise TrusteeError("there is no such backup", where=path, code="trustee-backup-missing") from None
    except (OSError, tarfile.TarError, EOFError, UnicodeError) as error:
        raise _damaged(path, str(error)) from None


def _verified(tar: tarfile.TarFile, path: str) -> Tuple[Dict[str, Any], List[Entry]]:
    first = tar.next()
    if first is None or first.name != _LIST or not first.isreg() or first.size > _LIST_MAX:
        raise _damaged(path, "it does not begin with its list")
    about, entries = _listing(_content(tar, first), path)
    wanted = {entry.path: entry for entry in entries}
    while True:
        member = tar.next()
        if member is None:
            break
        entry = wanted.pop(member.name, None)
        if entry is None or not member.isreg() or member.size != entry.size:
            raise _damaged(path, "%s is not what its list says" % strict.quoted(member.name))
        if hashlib.sha256(_content(tar, member)).hexdigest() != entry.sha256:
            raise _damaged(path, "%s was changed" % strict.quoted(member.name))
    if wanted:
        raise _damaged(path, "%s is missing" % strict.quoted(sorted(wanted)[0]))
    return about, entries


def extract(path: str, entries: List[Entry], roots: Mapping[str, str], owner: Optional[Tuple[int, int]]) -> None:
    """Write the files below ``roots``, which are new folders, for their owner alone. Raises TrusteeError."""
    places = {entry.path: entry for entry in entries}
    try:
        for root in roots.values():
            os.mkdir(root, 0o700)
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                if member.name == _LIST:
                    continue
                entry = places[member.name]
                name, _slash, rest = entry.path.partition("/")
                place = os.path.join(roots[name], rest)
                os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
                content = _content(tar, member)
                if hashlib.sha256(content).hexdigest() != entry.sha256:
                    raise _damaged(path, "%s was changed meanwhile" % strict.quoted(entry.path))
                descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as stream:
                    # Never wider than what it was, and never more than a group may read.
                    os.fchmod(stream.fileno(), entry.mode & 0o750)
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
        for root in roots.values():
            for place, inside, files in os.walk(root):
                for base in (*inside, *files, "."):
                    if owner is not None:
                        os.chown(os.path.join(place, base), *owner, follow_symlinks=False)
                _sync(place)
    except (OSError, tarfile.TarError, KeyError) as error:
        raise TrusteeError("the backup cannot be restored (%s)" % error, where=path, fix="Nothing was replaced", code="trustee-restore") from None


def _listing(raw: bytes, path: str) -> Tuple[Dict[str, Any], List[Entry]]:
    try:
        document = strict.members(strict.loads(raw, _LIST), ("schema", "about", "files"), where=_LIST)
        if document["schema"] != SCHEMA:
            raise _damaged(path, "its list has the schema %s" % strict.quoted(document["schema"]))
        names = ("path", "size", "sha256", "mode", "uid", "gid")
        entries = [Entry(**{name: row[name] for name in names}) for row in (strict.members(one, names, where=_LIST) for one in document["files"])]
    except (AttestedError, TypeError, KeyError) as error:
        raise _damaged(path, str(error)) from None
    for entry in entries:
        parts = entry.path.split("/") if isinstance(entry.path, str) else [""]
        numbers = (entry.size, entry.mode, entry.uid, entry.gid)
        if len(parts) < 2 or not _FOLDER.match(parts[0]) or any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise _damaged(path, "%s is no path in it" % strict.quoted(entry.path))
        if not all(strict.is_integer(number) and number >= 0 for number in numbers) or entry.size > _FILE_MAX or not isinstance(entry.sha256, str):
            raise _damaged(path, "its list has impossible numbers")
    if len({entry.path for entry in entries}) != len(entries) or sum(entry.size for entry in entries) > _TOTAL_MAX:
        raise _damaged(path, "its list names a file twice, or is larger than %d bytes" % _TOTAL_MAX)
    return dict(document["about"]), entries


def _add(tar: tarfile.TarFile, name: str, source: Any, size: int, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, mode
    tar.addfile(member, source)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source = tar.extractfile(member)
    return source.read() if source is not None else b""


def digest_of_file(path: str) -> Tuple[str, int]:
    found, size = hashlib.sha256(), 0
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            found.update(block)
            size += len(block)
    if size > _TOTAL_MAX:
        raise TrusteeError("it is too large for a backup", where=path, code="trustee-backup-size")
    return found.hexdigest(), size


def _sync(path: str) -> None:
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(path: str, why: str) -> TrusteeError:
    return TrusteeError("this is no whole backup of a key broker: %s" % why, where=path, fix="Take another one; nothing was replaced",
                        code="trustee-backup-damaged")


def _unreadable(error: OSError) -> None:
    raise TrusteeError("it cannot be read (%s)" % error.strerror, where=error.filename or "", code="trustee-backup-read")
