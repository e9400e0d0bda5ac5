# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The collateral store: a directory of plain files and an index of where each came from and until when it holds.

Files are what the vendors serve, byte for byte where they sign it, so that other tools can read them. ``index.json`` names every file that
counts, with its digest: a file that was changed behind its back is damage and is never used. Nothing in here is trusted for being here: a
verifier proves each piece again.

Files and index change together under an exclusive lock, each by rename. Several processes and threads may use one store.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.disk import locked, read_file, replace_file
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict

SCHEMA = "attested.ai/collateral/1"
INDEX = "index.json"
LOCK = ".lock"
PIECE_MAX = 8 << 20
INDEX_MAX = 16 << 20
ENTRIES_MAX = 50000
PATH_MAX = 96
TEXT_MAX = 2048

# What a file is, by its kind: the directory that it lies in.
KINDS: Mapping[str, str] = {
    "amd-vek": "amd/vek/",
    "amd-chain": "amd/chain/",
    "amd-crl": "amd/crl/",
    "tdx": "intel/tdx/",
    "rim": "nvidia/rim/",
    "ocsp": "nvidia/ocsp/",
    "cca": "cca/",
    "launch-endorsement": "gce/",
    "jwks": "jwks/",
}
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z", re.ASCII)
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z\Z", re.ASCII)


@dataclass(frozen=True)
class Piece:
    """Something to keep: ``data`` as served, its ``path`` in the store, what it is ``about`` in words. ``issued_at`` and ``expires_at``
    (aware) are the content's own, None where it states none."""

    kind: str
    path: str
    data: bytes
    about: str
    issued_at: Optional[datetime] = None
    expires_at: Optional[datetime] = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def entry(self, source: str, fetched_at: datetime) -> Entry:
        return Entry(self.kind, self.path, self.sha256, len(self.data), printable(self.about), printable(source), fetched_at, self.issued_at, self.expires_at)


@dataclass(frozen=True)
class Entry:
    """One line of the index. ``sha256`` is hexadecimal, ``size`` in bytes, ``source`` a URL or the name of a file or bundle."""

    kind: str
    path: str
    sha256: str
    size: int
    about: str
    source: str
    fetched_at: datetime
    issued_at: Optional[datetime] = None
    expires_at: Optional[datetime] = None

    def to_dict(self) -> Dict[str, Any]:
        return {
            "kind": self.kind,
            "sha256": self.sha256,
            "size": self.size,
            "about": self.about,
            "source": self.source,
            "fetched_at": format_time(self.fetched_at),
            "issued_at": None if self.issued_at is None else format_time(self.issued_at),
            "expires_at": None if self.expires_at is None else format_time(self.expires_at),
        }

    @classmethod
    def parse(cls, path: str, obj: Any, where: str) -> Entry:
        """Read one entry. Raises FormatError."""
        place = "%s %s" % (where, strict.quoted(path))
        names = ("kind", "sha256", "size", "about", "source", "fetched_at", "issued_at", "expires_at")
        members = strict.members(obj, names, where=place)
        kind = strict.text_of(members["kind"], place + " kind", 32)
        check_path(path, kind, place)
        size = members["size"]
        if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= PIECE_MAX:
            raise FormatError("the size is not 1 to %d bytes" % PIECE_MAX, where=place)
        strict.decode_hex(members["sha256"], place + " sha256", 32)
        return cls(
            kind,
            path,
            members["sha256"],
            size,
            _line(members["about"], place + " about"),
            _line(members["source"], place + " source"),
            parse_time(members["fetched_at"], place + " fetched_at"),
            None if members["issued_at"] is None else parse_time(members["issued_at"], place + " issued_at"),
            None if members["expires_at"] is None else parse_time(members["expires_at"], place + " expires_at"),
        )


@dataclass(frozen=True)
class Index:
    """All entries by path. ``bundle_created_at`` is the date of the newest bundle that was imported, None if none was."""

    entries: Mapping[str, Entry]
    bundle_created_at: Optional[datetime] = None

    def to_json(self) -> bytes:
        document = {
            "schema": SCHEMA,
            "bundle_created_at": None if self.bundle_created_at is None else format_time(self.bundle_created_at),
            "entries": {path: self.entries[path].to_dict() for path in sorted(self.entries)},
        }
        return json.dumps(document, indent=1, ensure_ascii=True).encode("ascii") + b"\n"


def parse_index(data: bytes, where: str = INDEX) -> Index:
    """Read an index. Raises FormatError on anything that is not exactly of its schema."""
    if len(data) > INDEX_MAX:
        raise FormatError("it is larger than %d bytes" % INDEX_MAX, where=where)
    document = strict.members(strict.loads(data, where), ("schema", "bundle_created_at", "entries"), where=where)
    if document["schema"] != SCHEMA:
        raise FormatError("the schema %s is not %s" % (strict.quoted(document["schema"]), SCHEMA), where=where)
    created = document["bundle_created_at"]
    return Index(parse_entries(document["entries"], where), None if created is None else parse_time(created, where + " bundle_created_at"))


def parse_entries(obj: Any, where: str) -> Dict[str, Entry]:
    """Read the entries of an index or of a bundle's manifest. Raises FormatError."""
    if not isinstance(obj, Mapping) or len(obj) > ENTRIES_MAX:
        raise FormatError("an object with at most %d entries was expected" % ENTRIES_MAX, where=where)
    return {path: Entry.parse(path, entry, where) for path, entry in obj.items()}


def check_path(path: Any, kind: str, where: str) -> str:
    """Return ``path`` if it is a relative one that its kind may have: plain names, no way out of the directory. Raises FormatError."""
    text = strict.text_of(path, where, PATH_MAX)
    prefix = KINDS.get(kind)
    if prefix is None:
        raise FormatError("the kind %s is not one of %s" % (strict.quoted(kind), ", ".join(KINDS)), where=where)
    if not text.startswith(prefix) or not all(_SEGMENT.match(part) for part in text.split("/")) or text.endswith(".new"):
        raise FormatError("the path %s is none that %s may have" % (strict.quoted(text), kind), where=where)
    return text


def printable(text: str) -> str:
    """One line that may stand in an index, whatever a service or a certificate had to say."""
    return "".join(character if character.isprintable() else "?" for character in text)[:TEXT_MAX]


def file_name(text: str) -> str:
    """A name that may stand in a path: other characters become a dash."""
    return re.sub(r"[^A-Za-z0-9._+-]", "-", text).lstrip(".-_+")[:64] or "unnamed"


class Store:
    """A store at ``root``. Reading never creates anything."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._known: Tuple[Any, Index] = (None, Index({}))

    def index(self) -> Index:
        """The index as it stands; an empty one where there is none yet. Raises EndorsementError if it is damaged."""
        path = os.path.join(self.root, INDEX)
        try:
            # A changed index is a new file: it is read again only then.
            status = os.stat(path)
            version = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
            if self._known[0] == version:
                return self._known[1]
            data = read_file(path, INDEX_MAX)
        except FileNotFoundError:
            return Index({})
        except OSError as error:
            raise EndorsementError("it cannot be read (%s)" % (error.strerror or error), where=path, code="store-unreadable") from None
        try:
            self._known = (version, parse_index(data, path))
            return self._known[1]
        except FormatError as error:
            raise EndorsementError(
                error.what, where=error.where, fix="Remove it and fetch or import again: files that no index names are not used", code="store-damaged"
            ) from None

    def read(self, entry: Entry) -> bytes:
        """The bytes of an entry. Raises EndorsementError (code "store-damaged") if they are not those that were stored."""
        path = os.path.join(self.root, entry.path)
        try:
            data = read_file(path, PIECE_MAX)
        except OSError as error:
            raise EndorsementError("it cannot be read (%s)" % (error.strerror or error), where=path, fix=_AGAIN, code="store-damaged") from None
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise EndorsementError("its content is not what the index says", where=path, fix=_AGAIN, code="store-damaged")
        return data

    def intact(self, entry: Entry) -> bool:
        """True if the bytes of the entry are there and are those that were stored."""
        try:
            self.read(entry)
        except EndorsementError:
            return False
        return True

    @contextlib.contextmanager
    def reading(self) -> Iterator[Index]:
        """Hold off writers while several files are read. A store on read-only media needs no lock and gets none."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                stack.enter_context(locked(os.path.join(self.root, LOCK), os.O_RDONLY, fcntl.LOCK_SH))
            yield self.index()

    def put(self, pieces: Sequence[Tuple[Piece, Entry]], bundle_created_at: Optional[datetime] = None) -> None:
        """Store pieces with their entries, all in one step for readers. Raises EndorsementError if the directory cannot be written."""
        try:
            os.makedirs(self.root, exist_ok=True)
            with locked(os.path.join(self.root, LOCK), os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX):
                index = self.index()
                entries = dict(index.entries)
                for piece, entry in pieces:
                    check_path(piece.path, piece.kind, self.root)
                    replace_file(self.root, piece.path, piece.data)
                    entries[piece.path] = entry
                created = max(filter(None, (index.bundle_created_at, bundle_created_at)), default=None)
                replace_file(self.root, INDEX, replace(index, entries=entries, bundle_created_at=created).to_json())
        except OSError as error:
            raise EndorsementError(
                "it cannot be written (%s)" % (error.strerror or error), where=self.root, fix="Give a directory of your own", code="store-unwritable"
            ) from None

    def unlisted(self, index: Index) -> List[str]:
        """Files in the directories of the store that the index does not name, and that are therefore not used."""
        found: List[str] = []
        for top in sorted({prefix.split("/")[0] for prefix in KINDS.values()}):
            for directory, _names, files in os.walk(os.path.join(self.root, top)):
                paths = (os.path.relpath(os.path.join(directory, name), self.root) for name in files if not name.endswith(".new"))
                found.extend(path for path in paths if path not in index.entries)
        return sorted(found)


_AGAIN = "Fetch or import it again"


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    # Written out: strftime does not pad years below 1000 everywhere.
    utc = moment.astimezone(timezone.utc)
    return "%04d-%02d-%02dT%02d:%02d:%02dZ" % (utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second)


def parse_time(value: Any, where: str) -> datetime:
    """The time that ``format_time`` wrote. Raises FormatError."""
    match = _TIME.match(strict.text_of(value, where, 20))
    if match is None:
        raise FormatError("%s is not of the form 2026-01-31T12:00:00Z" % strict.quoted(value), where=where)
    try:
        return datetime(*(int(part) for part in match.groups()), tzinfo=timezone.utc)  # type: ignore[misc,arg-type]
    except ValueError:
        raise FormatError("%s is no time" % strict.quoted(value), where=where) from None


def _line(value: Any, where: str) -> str:
    text = strict.text_of(value, where, TEXT_MAX)
    if not text.isprintable():
        raise FormatError("it is not one printable line", where=where)
    return text
