# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One record of a dossier: what a deployment showed at one time, and all that it was judged by.

A record is the payload of one line of a signed chain (keyrelease.chain). What is large lies beside it in files named by their SHA-256, and the record names
them: so the signature covers all of it, and equal files (policies, collateral) are kept once.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import parse_time
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import NONCE_MAX, NONCE_MIN
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import chain
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import check_model_id, check_release

ENTRY_TYPE, HEAD_TYPE = "attested.ai/dossier-record/1", "attested.ai/dossier-head/1"
# How the evidence came: asked of a model server over TLS, or brought as a document.
SERVER, DOCUMENT = "server", "document"
ENDORSEMENTS = tuple(Endorsements().pieces())
PROTOCOL = "TLS 1.3"
LIST_MAX = 256
_SPKI = re.compile(r"sha256:[0-9a-f]{64}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_BLOBS = ("evidence", "policy", "reference_values", "result")
_OPTIONAL_BLOBS = ("ear", "manifest", "signature", "guest")


@dataclass(frozen=True)
class Record:
    """``at`` is RFC 3339 UTC, blobs are SHA-256 in hex (empty: there is none), ``nonce`` is the verifier's own in base64.

    ``endorsements`` are blobs by kind, ``configuration`` blobs by the user's names, ``releases`` lines of a ledger of key releases. ``channel`` is what the
    verifier saw of the connection, ``served`` what the server said of its model, ``problem`` why there is no such connection to the attested key.
    ``signer`` and ``ledger_key`` are public JWKs. ``accepted`` says that no check of it failed.
    """

    at: str
    deployment: str
    source: str
    version: str
    accepted: bool
    nonce: str
    evidence: str
    policy: str
    reference_values: str
    result: str
    endorsements: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    ear: str = ""
    channel: Optional[Mapping[str, str]] = None
    served: Optional[Mapping[str, Any]] = None
    problem: str = ""
    manifest: str = ""
    signature: str = ""
    signer: Optional[Mapping[str, str]] = None
    releases: Tuple[str, ...] = ()
    ledger_key: Optional[Mapping[str, str]] = None
    configuration: Mapping[str, str] = field(default_factory=dict)
    guest: str = ""

    def to_dict(self) -> Dict[str, Any]:
        return dict(asdict(self), endorsements={kind: list(blobs) for kind, blobs in self.endorsements.items()}, releases=list(self.releases))

    @classmethod
    def parse(cls, obj: Any, where: str = "dossier record") -> Record:
        """Read a payload. Raises FormatError."""
        members = dict(strict.members(obj, tuple(cls.__dataclass_fields__), where=where))
        if not isinstance(members["accepted"], bool):
            raise FormatError("accepted is neither true nor false", where=where)
        for name, limit in (("version", 64), ("problem", 2048)):
            # It is shown on terminals, and a dossier may be somebody else's.
            if not strict.text_of(members[name], "%s %s" % (where, name), limit).isprintable():
                raise FormatError("%s holds control characters" % name, where=where)
        parse_time(strict.text_of(members["at"], where + " at", 32), where + " at")
        check_name(members["deployment"], where + " deployment")
        if members["source"] not in (SERVER, DOCUMENT):
            raise FormatError("source is neither %s nor %s" % (SERVER, DOCUMENT), where=where)
        strict.decode_base64(members["nonce"], where + " nonce", NONCE_MIN, NONCE_MAX)
        for name in _BLOBS + _OPTIONAL_BLOBS:
            if name in _BLOBS or members[name] != "":
                strict.decode_hex(members[name], "%s %s" % (where, name), 32)
        members["endorsements"] = _endorsements(members["endorsements"], where)
        members["releases"] = _digests(members["releases"], where + " releases")
        members["configuration"] = _configuration(members["configuration"], where)
        for name in ("channel", "served", "signer", "ledger_key"):
            if members[name] is not None and not isinstance(members[name], dict):
                raise FormatError("%s is no object" % name, where=where)
        if members["channel"] is not None:
            _check_channel(members["channel"], where + " channel")
        if members["served"] is not None:
            check_served(members["served"], where + " served")
        _check_whole(members, where)
        return cls(**members)

    def blobs(self) -> Iterator[str]:
        """All files that it names."""
        for name in _BLOBS + _OPTIONAL_BLOBS:
            if getattr(self, name):
                yield getattr(self, name)
        for found in self.endorsements.values():
            yield from found
        yield from self.releases
        yield from self.configuration.values()


def check_name(value: Any, where: str) -> str:
    """A name of a deployment or of a file in its configuration. Raises FormatError."""
    text = strict.text_of(value, where, 128)
    if not _NAME.match(text):
        raise FormatError("%s is not 1 to 128 letters, digits, '.', '_' or '-', beginning with a letter or digit" % strict.quoted(text), where=where)
    return text


def check_served(value: Mapping[str, Any], where: str) -> Dict[str, Any]:
    """What a server says of its model. Raises FormatError."""
    found = dict(strict.members(value, ("model_id", "release", "manifest_sha256"), where=where))
    check_model_id(found["model_id"], where + " model_id")
    check_release(found["release"], where + " release")
    strict.decode_hex(found["manifest_sha256"], where + " manifest_sha256", 32)
    return found


def _check_channel(value: Mapping[str, Any], where: str) -> None:
    found = strict.members(value, ("protocol", "tls_spki"), where=where)
    if found["protocol"] != PROTOCOL or not _SPKI.match(strict.text_of(found["tls_spki"], where + " tls_spki", 71)):
        raise FormatError("it is not %s to a key of the form sha256:<hexadecimal>" % PROTOCOL, where=where)


def _check_whole(members: Mapping[str, Any], where: str) -> None:
    """Members that only mean something together."""
    asked = members["source"] == SERVER
    if (members["channel"] is not None) + bool(members["problem"]) != asked:
        raise FormatError("a server's record has either channel or problem, a document's has neither", where=where)
    if members["served"] is not None and members["channel"] is None:
        raise FormatError("served is nobody's word without channel", where=where)
    if len({bool(members[name]) for name in ("manifest", "signature", "signer")}) > 1:
        raise FormatError("manifest, signature and signer belong together", where=where)
    if (members["releases"] and not members["ledger_key"]) or (members["ledger_key"] and not members["manifest"]):
        raise FormatError("releases need ledger_key, and that needs manifest", where=where)


def endorsements_of(record: Record, blobs: Mapping[str, bytes]) -> Endorsements:
    """What the verdict was reached with. ``blobs`` has the content of every file that the record names."""
    return Endorsements(**{kind: tuple(blobs[digest] for digest in found) for kind, found in record.endorsements.items()})


def _endorsements(value: Any, where: str) -> Dict[str, Tuple[str, ...]]:
    found = strict.members(value, (), ENDORSEMENTS, where=where + " endorsements")
    return {kind: _digests(digests, "%s %s" % (where, kind)) for kind, digests in found.items()}


def _digests(value: Any, where: str) -> Tuple[str, ...]:
    if not isinstance(value, list) or len(value) > LIST_MAX:
        raise FormatError("a list of at most %d digests was expected" % LIST_MAX, where=where)
    for digest in value:
        strict.decode_hex(digest, where, 32)
    return tuple(value)


def _configuration(value: Any, where: str) -> Dict[str, str]:
    if not isinstance(value, dict) or len(value) > LIST_MAX:
        raise FormatError("an object of at most %d digests was expected" % LIST_MAX, where=where + " configuration")
    for name, digest in value.items():
        check_name(name, where + " configuration")
        strict.decode_hex(digest, "%s configuration %s" % (where, name), 32)
    return dict(value)


KIND = chain.Kind(ENTRY_TYPE, HEAD_TYPE, tuple(Record.__dataclass_fields__), Record.parse, "told nobody of that record")
