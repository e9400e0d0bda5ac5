# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The small documents of a gateway: its card (public keys), its state (signed by itself), its report to the centre."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Dict, Mapping

from ansible_collections.attested.ai.plugins.module_utils.edge.bundle import NUMBER_MAX, check_name
from ansible_collections.attested.ai.plugins.module_utils.endorsements.bundle import join_signed, split_signed
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jws
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import format_time, parse_time

CARD, STATE, REPORT = "attested.ai/edge-card/1", "attested.ai/edge-state/1", "attested.ai/edge-report/1"
REPORT_MAX = 64 << 20
_CLAIMS, _PARTS = ("report.json", "report.jws"), ("ledger.jsonl", "ledger.jsonl.head")
_CLAIMS_MAX = 4096


@dataclass(frozen=True)
class Card:
    """Who a gateway is: the keys that the centre wraps for, and verifies its ledger by."""

    name: str
    key: Mapping[str, str]
    ledger_key: Mapping[str, str]

    def to_dict(self) -> Dict[str, Any]:
        return {"schema": CARD, "name": self.name, "key": dict(self.key), "ledger_key": dict(self.ledger_key)}

    @property
    def fingerprint(self) -> str:
        """To be compared by people, at both ends."""
        return "sha256:" + hashlib.sha256(jcs.canonicalize(self.to_dict())).hexdigest()

    @classmethod
    def parse(cls, data: bytes, where: str) -> Card:
        found = strict.members(strict.loads(data, where), ("schema", "name", "key", "ledger_key"), where=where)
        if found["schema"] != CARD:
            raise FormatError("it is no card of a gateway", where=where)
        pair = {name: keys.public_jwk(keys.load_public_ec(found[name], ("P-256",), "%s %s" % (where, name))) for name in ("key", "ledger_key")}
        return cls(check_name(found["name"], where + " name"), **pair)


@dataclass(frozen=True)
class State:
    """What a gateway must not forget. It names the ledger's entry as of then, so that neither can be put back without the other."""

    gateway: str
    sequence: int
    bundle_sha256: str
    newest: datetime
    ledger_seq: int
    ledger_hash: str

    def seal(self, signing_key: Any) -> bytes:
        payload = dict(asdict(self), newest=format_time(self.newest))
        return jcs.canonicalize(jws.sign_flattened(jcs.canonicalize(payload), signing_key, typ=STATE)) + b"\n"

    @classmethod
    def open(cls, data: bytes, public: Any, where: str) -> State:
        """Raises KeyReleaseError (edge-state-damaged)."""
        try:
            payload, _header = jws.verify_flattened(strict.loads(data, where), public, STATE, where)
            names = ("gateway", "sequence", "bundle_sha256", "newest", "ledger_seq", "ledger_hash")
            found = dict(strict.members(strict.loads(payload, where), names, where=where))
            check_name(found["gateway"], where)
            for name in ("sequence", "ledger_seq"):
                if not strict.is_integer(found[name]) or not 0 <= found[name] <= NUMBER_MAX:
                    raise FormatError("%s is no number" % name, where=where)
            for name in ("bundle_sha256", "ledger_hash"):
                strict.decode_hex(found[name], where, 32)
            return cls(**dict(found, newest=parse_time(found["newest"], where)))
        except AttestedError as error:
            fix = "It was changed, or another key signed it. Restore all of the gateway's directory, or prepare it anew"
            raise KeyReleaseError(error.what, where=where, fix=fix, code="edge-state-damaged") from None


@dataclass(frozen=True)
class Report:
    """A stretch of a gateway's ledger on its way to the centre: the lines after entry ``start`` and the signed head."""

    gateway: str
    made_at: datetime
    sequence: int
    start: int
    lines: bytes = field(repr=False)
    head: bytes = field(repr=False)

    def seal(self, signing_key: Any) -> bytes:
        payload = {"schema": REPORT, "gateway": self.gateway, "made_at": format_time(self.made_at), "sequence": self.sequence, "start": self.start,
                   "lines_sha256": hashlib.sha256(self.lines).hexdigest(), "head_sha256": hashlib.sha256(self.head).hexdigest()}  # fmt: skip
        text = jcs.canonicalize(payload) + b"\n"
        return join_signed(_CLAIMS, text, list(zip(_PARTS, (self.lines, self.head))), signing_key, REPORT)

    @classmethod
    def open(cls, data: bytes, public: Any, where: str) -> Report:
        """Raises KeyReleaseError: edge-report-signature, edge-report-format."""
        try:
            if len(data) > REPORT_MAX:
                raise FormatError("it is larger than %d bytes" % REPORT_MAX, where=where)
            refused = partial(KeyReleaseError, fix="It is of another gateway, or was changed", code="edge-report-signature")
            text, members = split_signed(data, _CLAIMS, public, REPORT, where, _CLAIMS_MAX, refused)
            if tuple(name for name, _content in members) != _PARTS:
                raise FormatError("%s were expected behind them" % " and ".join(_PARTS), where=where)
            lines, head = (content for _name, content in members)
            names = ("schema", "gateway", "made_at", "sequence", "start", "lines_sha256", "head_sha256")
            found = strict.members(strict.loads(text, where), names, where=where)
            sums = tuple(hashlib.sha256(part).hexdigest() for part in (lines, head))
            if found["schema"] != REPORT or (found["lines_sha256"], found["head_sha256"]) != sums:
                raise FormatError("its parts are not those that were signed", where=where)
            if any(not strict.is_integer(found[name]) or not 0 <= found[name] <= NUMBER_MAX for name in ("sequence", "start")):
                raise FormatError("its numbers are no numbers", where=where)
            return cls(check_name(found["gateway"], where), parse_time(found["made_at"], where), found["sequence"], found["start"], lines, head)
        except FormatError as error:
            raise KeyReleaseError(error.what, where=error.where or where, fix="Export it again on the gateway", code="edge-report-format") from None
