# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Append-only files of signed JSON lines, chained by hash, with a signed head beside them: ledgers of key releases, and dossiers.

A line is a flattened JWS (ES256) whose payload names its number and the SHA-256 of the line before it (without the line feed; zeros for the
first). ``<path>.head`` is a JWS over number, size and hash of the last line: appending reads only that, and a cut tail shows.
Whoever holds the signing key can rewrite all of it; whoever can replace ledger and head by an older pair rolls back. Against the latter, keep a
head elsewhere and ask for it (``known_head``).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, LedgerError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jws
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import replace_file, sync_directory

ZERO = "0" * 64
LINE_MAX = 256 << 10


@dataclass(frozen=True)
class Kind:
    """What a chain consists of. ``entry_type`` and ``head_type`` keep its signatures apart from others, ``members`` are those of each entry beside seq and
    prev, ``check`` raises AttestedError or TypeError for a payload that is none, and ``unfinished`` says what a torn line means."""

    entry_type: str
    head_type: str
    members: Tuple[str, ...]
    check: Callable[[Mapping[str, Any]], object]
    unfinished: str


@dataclass(frozen=True)
class Head:
    """Where a chain ends: number of entries, bytes, SHA-256 (hex) of the last line."""

    seq: int
    size: int
    hash: str


@dataclass(frozen=True)
class LedgerReport:
    """A chain that holds. ``entries`` are dictionaries: the payloads with seq, prev and hash."""

    entries: Tuple[Dict[str, Any], ...]
    count: int
    head: str


def append(path: str, signing_key: Any, payload: Mapping[str, Any], kind: Kind) -> Head:
    """Add one entry and make it durable before returning. Raises LedgerError if the ledger is damaged; it is never repaired silently."""
    kind.check(payload)
    public = keys.public_jwk(signing_key)
    with _opened(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, fcntl.LOCK_EX) as descriptor:
        size = os.fstat(descriptor).st_size
        head = _read_head(path, public, size, kind)
        if head.seq == 0 and size == 0:
            # Before the first line: from here on a missing head is damage and never a beginning.
            _write_head(path, head, signing_key, kind)
        if size > head.size:
            head = _recovered(path, descriptor, public, head, size, kind)
        numbered = dict(payload, seq=head.seq + 1, prev=head.hash)
        line = jcs.canonicalize(jws.sign_flattened(jcs.canonicalize(numbered), signing_key, typ=kind.entry_type))
        if len(line) > LINE_MAX:
            raise LedgerError("the entry is %d bytes, at most %d are possible" % (len(line), LINE_MAX), where=path, code="ledger-entry")
        _write(descriptor, line + b"\n", size)
        os.fsync(descriptor)
        if size == 0:
            sync_directory(os.path.dirname(path) or ".")
        new = Head(head.seq + 1, size + len(line) + 1, hashlib.sha256(line).hexdigest())
        _write_head(path, new, signing_key, kind)
        return new


def settle(path: str, signing_key: Any, kind: Kind) -> None:
    """Take the one entry into the head that a writer left behind who stopped between line and head. Raises LedgerError for all other damage."""
    public = keys.public_jwk(signing_key)
    with _opened(path, os.O_RDWR, fcntl.LOCK_EX) as descriptor:
        size = os.fstat(descriptor).st_size
        head = _read_head(path, public, size, kind)
        if size > head.size:
            _write_head(path, _recovered(path, descriptor, public, head, size, kind), signing_key, kind)


def verify(path: str, public_jwk: Mapping[str, Any], kind: Kind, known_head: str = "") -> LedgerReport:
    """Check every line, the chain and the head. With ``known_head`` (hash of an earlier run) that line must be there. Raises LedgerError."""
    try:
        public = keys.load_public_ec(public_jwk, ("P-256",), "ledger key")
    except AttestedError as error:
        raise LedgerError(error.what, where=error.where, fix=error.fix, code="ledger-key") from None
    with _opened(path, os.O_RDONLY, fcntl.LOCK_SH) as descriptor:
        size = os.fstat(descriptor).st_size
        head = _read_head(path, public, size, kind)
        entries, last = _read_lines(path, descriptor, public, Head(0, 0, ZERO), kind)
    if last != head:
        raise LedgerError(
            "it goes on to entry %d, its head knows %d" % (last.seq, head.seq),
            where=path,
            fix="A writer stopped between both. The next entry written with the signing key settles it",
            code="ledger-head-behind",
        )
    if known_head and known_head != ZERO and all(entry["hash"] != known_head for entry in entries):
        raise LedgerError(
            "the head %s that was known before is not in it: it was rolled back or replaced" % strict.quoted(known_head), where=path, code="ledger-rolled-back"
        )
    return LedgerReport(tuple(entries), len(entries), last.hash)


def _read_lines(path: str, descriptor: int, public: Any, start: Head, kind: Kind) -> Tuple[List[Dict[str, Any]], Head]:
    entries: List[Dict[str, Any]] = []
    head = start
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        stream.seek(start.size)
        while True:
            line = stream.readline(LINE_MAX + 2)
            if not line:
                return entries, head
            where = "%s line %d" % (path, head.seq + 1)
            if not line.endswith(b"\n"):
                raise LedgerError(
                    (
                        "the last line is torn: %d bytes without an end, from byte %d on" % (len(line), head.size)
                        if len(line) <= LINE_MAX
                        else "the line is longer than %d bytes" % LINE_MAX
                    ),
                    where=where,
                    code="ledger-torn",
                    fix="A writer was stopped in mid-write (%s). Keep a copy, then: truncate -s %d %s" % (kind.unfinished, head.size, path),
                )
            entry = _read_entry(line[:-1], public, head, where, kind)
            head = Head(entry["seq"], head.size + len(line), entry["hash"])
            entries.append(entry)


def read_line(line: bytes, public: Any, kind: Kind, where: str) -> Dict[str, Any]:
    """The payload of one line by itself, with seq and prev; what stands before and after it is not looked at. Raises LedgerError."""
    try:
        payload, _header = jws.verify_flattened(strict.loads(line, where), public, kind.entry_type, where)
        obj = dict(strict.members(strict.loads(payload, where), kind.members + ("seq", "prev"), where=where))
        kind.check({name: value for name, value in obj.items() if name not in ("seq", "prev")})
    except (AttestedError, TypeError) as error:
        what = error.what if isinstance(error, AttestedError) else "it is no entry"
        raise LedgerError(what, where=where, fix="The line was changed, or another key signed it", code="ledger-entry-damaged") from None
    return obj


def _read_entry(line: bytes, public: Any, before: Head, where: str, kind: Kind) -> Dict[str, Any]:
    obj = read_line(line, public, kind, where)
    if isinstance(obj["seq"], bool) or obj["seq"] != before.seq + 1 or obj["prev"] != before.hash:
        raise LedgerError(
            "it says it is entry %s, entry %d after %s was expected: lines were removed, doubled or moved"
            % (strict.quoted(obj["seq"]), before.seq + 1, before.hash[:16]),
            where=where,
            code="ledger-chain",
        )
    return dict(obj, hash=hashlib.sha256(line).hexdigest())


def _recovered(path: str, descriptor: int, public: Mapping[str, Any], head: Head, size: int, kind: Kind) -> Head:
    """A writer that stopped after the line and before the head left one whole entry: it counts. Everything else is raised."""
    key = keys.load_public_ec(public, ("P-256",), "ledger key")
    _check_end(path, descriptor, head)
    entries, last = _read_lines(path, descriptor, key, head, kind)
    if len(entries) != 1 or last.size != size:
        raise LedgerError(
            "%d entries follow after the one its head knows" % len(entries), where=path, fix="The head was replaced by an older one", code="ledger-head-behind"
        )
    return last


def _check_end(path: str, descriptor: int, head: Head) -> None:
    if head.size and os.pread(descriptor, 1, head.size - 1) != b"\n":
        raise LedgerError("no line ends at byte %d, where its head says so" % head.size, where=path, code="ledger-chain")


def _read_head(path: str, public: Any, size: int, kind: Kind) -> Head:
    where = path + ".head"
    try:
        with open(where, "rb") as stream:
            content = stream.read(65536)
    except FileNotFoundError:
        if size == 0:
            return Head(0, 0, ZERO)
        raise LedgerError(
            "the signed head is missing, so a cut tail could not be seen", where=where, fix="Restore it from a backup", code="ledger-head-missing"
        ) from None
    except OSError as error:
        raise LedgerError("it cannot be read (%s)" % error.strerror, where=where, code="ledger-io") from None
    try:
        payload, _header = jws.verify_flattened(strict.loads(content, where), public, kind.head_type, where)
        obj = strict.members(strict.loads(payload, where), ("seq", "size", "hash"), where=where)
        strict.decode_hex(obj["hash"], where, 32)
    except AttestedError as error:
        raise LedgerError(error.what, where=where, fix="The head was changed, or another key signed it", code="ledger-head-damaged") from None
    if any(isinstance(obj[name], bool) or not isinstance(obj[name], int) or obj[name] < 0 for name in ("seq", "size")):
        raise LedgerError("its numbers are no numbers", where=where, code="ledger-head-damaged")
    if size < obj["size"]:
        raise LedgerError(
            "it is %d bytes long, its head says %d in %d entries: the tail was cut off" % (size, obj["size"], obj["seq"]),
            where=path,
            fix="Restore it from a backup",
            code="ledger-truncated",
        )
    return Head(obj["seq"], obj["size"], obj["hash"])


def _write_head(path: str, head: Head, signing_key: Any, kind: Kind) -> None:
    replace_file(path + ".head", jcs.canonicalize(jws.sign_flattened(jcs.canonicalize(asdict(head)), signing_key, typ=kind.head_type)) + b"\n")


def _write(descriptor: int, data: bytes, size: int) -> None:
    try:
        written = os.write(descriptor, data)
        if written != len(data):
            raise OSError(28, "only %d of %d bytes fit" % (written, len(data)))
    except OSError:
        # Under the lock nobody else has written: what stands behind ``size`` is this attempt alone.
        os.ftruncate(descriptor, size)
        raise


@contextmanager
def _opened(path: str, flags: int, lock: int) -> Iterator[int]:
    descriptor: Optional[int] = None
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, lock)
        yield descriptor
    except FileNotFoundError:
        raise LedgerError("there is no ledger", where=path, code="ledger-missing") from None
    except (OSError, ValueError) as error:
        raise LedgerError("it cannot be used (%s)" % (getattr(error, "strerror", None) or error), where=path, code="ledger-io") from None
    finally:
        if descriptor is not None:
            os.close(descriptor)
