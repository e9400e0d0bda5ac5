# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The release ledger: who got which key, for which evidence, under which policy, when; and who was refused.

``ledger.jsonl`` holds one signed entry (flattened JWS) per line; each names the digest of the line before it. ``ledger.head.json`` is a
signed pointer to the last line, so that a cut tail shows. ``counters.json`` holds, signed, the lowest release of each model that may
still be released. Restoring an older copy of the whole directory cannot be seen from inside it: compare the head with one noted
elsewhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, LedgerError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jws
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk

ENTRY_SCHEMA, HEAD_SCHEMA, COUNTERS_SCHEMA = "attested.ai/ledger-entry/1", "attested.ai/ledger-head/1", "attested.ai/release-counters/1"
RELEASED, REFUSED = "released", "refused"
GENESIS = "0" * 64
LINE_MAX = 64 * 1024
_LEDGER, _HEAD, _COUNTERS, _LOCK, _PUBLIC = "ledger.jsonl", "ledger.head.json", "counters.json", "ledger.lock", "ledger.pub.jwk"
_ENTRY = ("schema", "seq", "prev", "at", "who", "host", "decision", "model_id", "release", "key_id", "evidence_digest", "policy", "guest_key", "anchor", "reasons")


@dataclass(frozen=True)
class Head:
    """The last entry: its number (0 = none yet), the SHA-256 of its line, and the size of the ledger in bytes after it."""

    seq: int = 0
    digest: str = GENESIS
    size: int = 0


@dataclass(frozen=True)
class LedgerReport:
    """A ledger that was verified from its first line to its head."""

    entries: Tuple[Mapping[str, Any], ...]
    head: Head


class Ledger:
    """A ledger in a directory of the controller, written with ``key`` (EC private key on P-256 or P-384)."""

    def __init__(self, directory: str, key: Any) -> None:
        self._directory = directory
        self._key = key
        self._jwk = public_jwk(key)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
        except OSError as error:
            raise LedgerError("it cannot be made: %s" % (error.strerror or error), where=directory) from None
        self._publish_key()

    def append(self, entry: Mapping[str, Any]) -> Head:
        """Sign and append ``entry`` (members as in _ENTRY less schema, seq and prev), durably, before anything is handed over."""
        with self._locked():
            head = self._trusted_head()
            full = dict(entry, schema=ENTRY_SCHEMA, seq=head.seq + 1, prev=head.digest)
            strict.members(full, _ENTRY, where="ledger entry")
            line = _line(jws.sign(jcs.canonicalize(full), self._key))
            if len(line) > LINE_MAX:
                raise LedgerError("the entry is longer than %d bytes" % LINE_MAX, where=self._directory)
            self._append_line(line, head)
            following = Head(head.seq + 1, hashlib.sha256(line[:-1]).hexdigest(), head.size + len(line))
            self._write_head(following)
        return following

    def minimum_release(self, model_id: str) -> int:
        """The lowest release of ``model_id`` that may still be released; 1 if nothing is known of it."""
        return self._counters().get(model_id, 1)

    def raise_minimum_release(self, model_id: str, release: int) -> None:
        """Remember ``release`` as the lowest one, unless a higher one is known. Call it before the entry of a release is appended."""
        with self._locked():
            counters = self._counters()
            if counters.get(model_id, 0) < release:
                counters[model_id] = release
                payload = jcs.canonicalize({"schema": COUNTERS_SCHEMA, "minimum_releases": counters})
                _replace(os.path.join(self._directory, _COUNTERS), _line(jws.sign(payload, self._key)))

    def _counters(self) -> Dict[str, int]:
        path = os.path.join(self._directory, _COUNTERS)
        if not os.path.exists(path):
            if self._trusted_head().seq and _released_before(self._directory):
                raise LedgerError("the counters of minimum releases are gone, but keys were released before", where=path, fix="Restore the file from a backup")
            return {}
        payload = _signed(path, self._jwk, ("schema", "minimum_releases"), COUNTERS_SCHEMA)
        return {str(name): int(value) for name, value in payload["minimum_releases"].items()}

    def _trusted_head(self) -> Head:
        head = read_head(self._directory, self._jwk)
        path = os.path.join(self._directory, _LEDGER)
        size = os.path.getsize(path) if os.path.exists(path) else 0
        if size == head.size:
            return head
        if size < head.size:
            raise LedgerError("it is %d bytes long, its signed head says %d: entries were cut off" % (size, head.size), where=path, fix="Restore it from a backup")
        return self._adopt_tail(path, head)

    def _adopt_tail(self, path: str, head: Head) -> Head:
        """After a crash between the entry and the head, the entry is whole and signed: keep it. Anything else is for a person."""
        with open(path, "rb") as stream:
            stream.seek(head.size)
            tail = stream.read(LINE_MAX + 1)
        if not tail.endswith(b"\n") or tail.count(b"\n") != 1:
            raise LedgerError(
                "its last %d bytes are no whole entry: writing was interrupted" % len(tail), where=path,
                fix="Nothing was handed over for it. Keep a copy, then cut the file to %d bytes (truncate -s %d)" % (head.size, head.size), code="ledger-torn",
            )
        _entry, following = _check_line(tail[:-1], head, self._jwk, path)
        self._write_head(following)
        return following

    def _append_line(self, line: bytes, head: Head) -> None:
        path = os.path.join(self._directory, _LEDGER)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            try:
                written = os.write(descriptor, line)
                if written != len(line):
                    os.ftruncate(descriptor, head.size)
                    raise LedgerError("the disk is full", where=path)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise LedgerError("it cannot be written: %s" % (error.strerror or error), where=path) from None

    def _write_head(self, head: Head) -> None:
        payload = jcs.canonicalize({"schema": HEAD_SCHEMA, "seq": head.seq, "digest": head.digest, "size": head.size})
        _replace(os.path.join(self._directory, _HEAD), _line(jws.sign(payload, self._key)))

    def _publish_key(self) -> None:
        path = os.path.join(self._directory, _PUBLIC)
        if not os.path.exists(path):
            _replace(path, jcs.canonicalize(self._jwk) + b"\n")
        elif strict.loads(_read(path), path) != self._jwk:
            raise LedgerError("the ledger was begun with another key", where=path, fix="Use that key, or begin a new ledger directory", code="ledger-key")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, over all forks and processes of this controller."""
        path = os.path.join(self._directory, _LOCK)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise LedgerError("it cannot be opened: %s" % (error.strerror or error), where=path) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def read_head(directory: str, trusted_jwk: Mapping[str, Any]) -> Head:
    """The signed head; a fresh ledger has none. Raises LedgerError if it is missing beside entries, or does not verify."""
    path = os.path.join(directory, _HEAD)
    ledger = os.path.join(directory, _LEDGER)
    if not os.path.exists(path):
        # The very first entry is written before there is any head; _trusted_head looks at what follows.
        if os.path.exists(ledger) and _count_lines(ledger) > 1:
            raise LedgerError("the signed head is gone", where=path, fix="Restore it from a backup", code="ledger-head")
        return Head()
    payload = _signed(path, trusted_jwk, ("schema", "seq", "digest", "size"), HEAD_SCHEMA)
    return Head(int(payload["seq"]), str(payload["digest"]), int(payload["size"]))


def verify(directory: str, trusted_jwk: Mapping[str, Any], expected_head: Optional[str] = None) -> LedgerReport:
    """Verify every entry, the chain, and the head. ``expected_head`` is a digest noted elsewhere: it must be that of some entry."""
    path = os.path.join(directory, _LEDGER)
    if not os.path.isfile(path):
        raise LedgerError("there is no ledger", where=path, code="ledger-missing")
    signed_head = read_head(directory, trusted_jwk)
    head, entries, digests = Head(), [], set()  # type: Head, List[Mapping[str, Any]], set
    with open(path, "rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                raise LedgerError("entry %d is torn: writing was interrupted, or the file was cut" % (head.seq + 1), where=path, code="ledger-torn")
            entry, head = _check_line(line[:-1], head, trusted_jwk, path)
            entries.append(entry)
            digests.add(head.digest)
    if head != signed_head:
        raise LedgerError("it ends at entry %d, its signed head says %d" % (head.seq, signed_head.seq), where=path, fix="Restore it from a backup", code="ledger-head")
    if expected_head is not None and expected_head not in digests:
        raise LedgerError("the entry with digest %s is not in it: an older copy was put in its place" % strict.quoted(expected_head), where=path, code="ledger-rollback")
    return LedgerReport(tuple(entries), head)


def _check_line(line: bytes, head: Head, trusted_jwk: Mapping[str, Any], path: str) -> Tuple[Mapping[str, Any], Head]:
    where = "%s entry %d" % (path, head.seq + 1)
    if len(line) > LINE_MAX:
        raise LedgerError("the line is longer than %d bytes" % LINE_MAX, where=where)
    try:
        entry = strict.members(strict.loads(jws.verify(strict.loads(line, where), trusted_jwk, where), where), _ENTRY, where=where)
    except LedgerError:
        raise
    except AttestedError as error:
        raise LedgerError(error.what, where=error.where or where, fix="Restore the ledger from a backup", code="ledger-entry") from None
    if entry["schema"] != ENTRY_SCHEMA or entry["seq"] != head.seq + 1:
        raise LedgerError("its number is %s: an entry was removed, repeated or moved" % strict.quoted(entry["seq"]), where=where, code="ledger-order")
    if entry["prev"] != head.digest:
        raise LedgerError("it does not follow the entry before it", where=where, code="ledger-chain")
    return entry, Head(head.seq + 1, hashlib.sha256(line).hexdigest(), head.size + len(line) + 1)


def _signed(path: str, trusted_jwk: Mapping[str, Any], names: Tuple[str, ...], schema: str) -> Mapping[str, Any]:
    try:
        payload = strict.members(strict.loads(jws.verify(strict.loads(_read(path), path), trusted_jwk, path), path), names, where=path)
    except AttestedError as error:
        raise LedgerError(error.what, where=error.where or path, fix="Restore it from a backup", code="ledger-head") from None
    if payload["schema"] != schema:
        raise LedgerError("the schema is not %s" % schema, where=path, code="ledger-head")
    return payload


def _released_before(directory: str) -> bool:
    """Whether any entry says released. Read unverified, only to refuse: verified or not, it means that counters must be there."""
    with open(os.path.join(directory, _LEDGER), "rb") as stream:
        for line in stream:
            try:
                payload = json.loads(strict.decode_base64url(json.loads(line)["payload"], "entry", 0, LINE_MAX))
            except (AttestedError, ValueError, KeyError, TypeError):
                return True
            if payload.get("decision") == RELEASED:
                return True
    return False


def _line(obj: Mapping[str, Any]) -> bytes:
    return jcs.canonicalize(dict(obj)) + b"\n"


def _count_lines(path: str) -> int:
    with open(path, "rb") as stream:
        return sum(1 for _line_read in zip(stream, range(3)))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(16 << 20)
    except OSError as error:
        raise LedgerError("it cannot be read: %s" % (error.strerror or error), where=path) from None


def _replace(path: str, data: bytes) -> None:
    partial = "%s.%d.partial" % (path, os.getpid())
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise LedgerError("it cannot be written: %s" % (error.strerror or error), where=path) from None
