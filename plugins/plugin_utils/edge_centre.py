# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the centre remembers of one gateway: its card, the last number of a bundle, what each bundle granted, and a copy of the gateway's ledger."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import typing as t
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ansible_collections.attested.ai.plugins.module_utils.edge.bundle import NUMBER_MAX, check_name
from ansible_collections.attested.ai.plugins.module_utils.edge.documents import Card, Report
from ansible_collections.attested.ai.plugins.module_utils.edge.limits import mark
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, KeyReleaseError, LedgerError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import ledger
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import format_time
from ansible_collections.attested.ai.plugins.plugin_utils.edge_files import read_file, write_file

SCHEMA = "attested.ai/edge-record/1"
RECORD, LEDGER = "record.json", "ledger.jsonl"
_RECORD_MAX, _LEDGER_MAX = 16 << 20, 1 << 30


@dataclass(frozen=True)
class Record:
    """``granted`` is, by number of the bundle, how often each model could be released. ``seq``, ``size`` and ``hash`` are where the copy of the ledger ends."""

    card: Card
    sequence: int = 0
    granted: t.Mapping[str, t.Mapping[str, int]] = field(default_factory=dict)
    seq: int = 0
    size: int = 0
    hash: str = ledger.ZERO
    reported_at: str = ""

    def to_json(self) -> bytes:
        document = {"schema": SCHEMA, "card": self.card.to_dict(), "sequence": self.sequence, "reported_at": self.reported_at,
                    "granted": {number: dict(models) for number, models in self.granted.items()},
                    "ledger": {"seq": self.seq, "size": self.size, "hash": self.hash}}  # fmt: skip
        return jcs.canonicalize(document) + b"\n"

    @classmethod
    def parse(cls, data: bytes, where: str) -> Record:
        found = strict.members(strict.loads(data, where), ("schema", "card", "sequence", "granted", "ledger", "reported_at"), where=where)
        end = strict.members(found["ledger"], ("seq", "size", "hash"), where=where)
        granted = found["granted"]
        numbers = [found["sequence"], end["seq"], end["size"]]
        sound = isinstance(granted, dict) and all(isinstance(models, dict) and number.isdecimal() and number.isascii() for number, models in granted.items())
        if found["schema"] != SCHEMA or not sound:
            raise FormatError("it is no record of a gateway", where=where)
        numbers += [uses for models in granted.values() for uses in models.values()]
        if not all(strict.is_integer(number) and 0 <= number <= NUMBER_MAX for number in numbers):
            raise FormatError("a whole number was expected", where=where)
        strict.decode_hex(end["hash"], where, 32)
        return cls(Card.parse(jcs.canonicalize(found["card"]), where), found["sequence"], granted, end["seq"], end["size"], end["hash"],
                   strict.text_of(found["reported_at"], where, 20))  # fmt: skip


class Centre:
    """One gateway's folder at the centre."""

    def __init__(self, root: str, name: str) -> None:
        self.name, self.folder = check_name(name, "gateway"), os.path.join(root, name)
        self.ledger = os.path.join(self.folder, LEDGER)
        self._path = os.path.join(self.folder, RECORD)

    @contextmanager
    def locked(self, check: bool) -> t.Iterator[None]:
        """One task at a time. In check mode nothing is made."""
        if check:
            yield
            return
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            descriptor = os.open(os.path.join(self.folder, ".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise KeyReleaseError("it cannot be used (%s)" % (error.strerror or error), where=self.folder, code="edge-io") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def record(self, card: Card | None = None) -> Record:
        """What is remembered; a new one for ``card`` if there is none. Raises KeyReleaseError: edge-unknown, edge-card-changed, edge-record-damaged."""
        if not os.path.lexists(self._path):
            if os.path.lexists(self.ledger):
                raise KeyReleaseError("the gateway's ledger is here, but what was remembered is not", where=self._path, fix="Restore it from a backup",
                                      code="edge-record-damaged")  # fmt: skip
            if card is None:
                raise KeyReleaseError("nothing was ever made for %s" % self.name, where=self.folder, fix="Correct centre and gateway", code="edge-unknown")
            return Record(card)
        try:
            found = Record.parse(read_file(self._path, _RECORD_MAX, "record"), self._path)
        except FormatError as error:
            raise KeyReleaseError(error.what, where=error.where or self._path, fix="Restore it from a backup", code="edge-record-damaged") from None
        if card is not None and card != found.card:
            fix = "Ask at the gateway. If it was prepared anew on purpose, take its last report, then give it a new name"
            raise KeyReleaseError("its card %s is not %s, which was used before" % (card.fingerprint, found.card.fingerprint), where=f"gateway {self.name}",
                                  fix=fix, code="edge-card-changed")  # fmt: skip
        return found

    def remember(self, record: Record) -> None:
        write_file(self._path, record.to_json())

    def receive(self, report: Report, record: Record, check: bool) -> tuple[Record, list[dict[str, t.Any]]]:
        """Join a report to the copy of the ledger, after all of it was verified. (record, new entries). Raises KeyReleaseError, LedgerError."""
        before = self._copy(record)
        where = "report of %s" % self.name
        known = before.splitlines(keepends=True)
        if report.start > len(known):
            raise KeyReleaseError("it begins after entry %d, entries up to %d are here: %d are missing" % (report.start, len(known), report.start - len(known)),
                                  where=where, fix="Export it on the gateway with since: %d" % len(known), code="edge-report-gap")  # fmt: skip
        joined = b"".join(known[:report.start]) + report.lines
        if len(joined) > _LEDGER_MAX:
            raise KeyReleaseError("the ledger would be larger than %d bytes" % _LEDGER_MAX, where=where, code="edge-report-format")
        if not joined.startswith(before):
            older = before.startswith(joined)
            what = "it ends before entry %d, which is known here" % len(known) if older else "it differs from what the gateway reported before"
            fix = "It is an older report, or the gateway's ledger was put back" if older else "The gateway's ledger was replaced: trust no release of it"
            raise KeyReleaseError(what, where=where, fix=fix, code="edge-report-older" if older else "edge-report-forked")
        if not joined:
            return replace(record, reported_at=format_time(report.made_at)), []
        entries, head = self._verified(joined, report.head, record.card)
        after = replace(record, seq=len(entries), size=len(joined), hash=head, reported_at=format_time(report.made_at))
        if not check:
            # The record says how much of the ledger counts, and comes last.
            write_file(self.ledger, joined)
            write_file(self.ledger + ".head", report.head)
        return after, entries[len(known):]

    def _verified(self, joined: bytes, head: bytes, card: Card) -> tuple[list[dict[str, t.Any]], str]:
        """All lines, chain and head, by the ledger's own reader, which reads files."""
        try:
            with tempfile.TemporaryDirectory(prefix="edge-") as folder:
                trial = os.path.join(folder, LEDGER)
                write_file(trial, joined)
                write_file(trial + ".head", head)
                found = ledger.verify(trial, card.ledger_key)
        except LedgerError as error:
            raise LedgerError(error.what, where="ledger in the report of %s" % self.name, fix=error.fix, code=error.code) from None
        except OSError as error:
            raise KeyReleaseError("it cannot be unpacked (%s)" % (error.strerror or error), where="report of %s" % self.name, code="edge-io") from None
        return list(found.entries), found.head

    def _copy(self, record: Record) -> bytes:
        if not record.size:
            return b""
        data = read_file(self.ledger, _LEDGER_MAX, "copy of the ledger")[:record.size]
        if len(data) != record.size or hashlib.sha256(data.splitlines()[-1]).hexdigest() != record.hash:
            raise KeyReleaseError("it is not what was received", where=self.ledger, fix="Restore it from a backup", code="edge-record-damaged")
        return data


def findings(record: Record, entries: t.Sequence[t.Mapping[str, t.Any]]) -> list[dict[str, str]]:
    """What a ledger that holds tells all the same: releases beyond a grant or outside of any bundle, and a clock that went back."""
    found, used, last = [], {}, ""
    marks = {mark(record.card.name, int(number)): number for number in record.granted}
    for entry in entries:
        at = str(entry["at"])
        if at < last:
            found.append({"code": "edge-clock-back", "detail": "entry %d is of %s, the one before of %s" % (entry["seq"], at, last)})
        last = max(last, at)
        if entry["decision"] != "released":
            continue
        under = [marks[reason] for reason in entry["reasons"] if reason in marks]
        if len(under) != 1 or entry["model_id"] not in record.granted[under[0]]:
            detail = "entry %d released %s, which no bundle granted" % (entry["seq"], strict.quoted(entry["model_id"]))
            found.append({"code": "edge-ungranted", "detail": detail})
        else:
            used[under[0], entry["model_id"]] = used.get((under[0], entry["model_id"]), 0) + 1
    for (number, model_id), times in sorted(used.items()):
        granted = record.granted[number][model_id]
        if times > granted:
            found.append({"code": "edge-overused", "detail": "bundle %s: %d releases of %s, %d were granted" % (number, times, model_id, granted)})
    return found
