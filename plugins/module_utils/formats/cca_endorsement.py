# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documents with the public attestation keys of CCA platforms (CPAKs). See docs/cca-evidence.md for the schema.

Arm runs no service that hands them out: a silicon vendor or an operator does. Read are, as JSON: our own document (schema
attested.ai/cca-endorsements/1), a bare list of its entries, a trust anchor store as Trustee and rust-ccatoken keep it, and one bare JWK, which
names no platform. Keys are not checked to lie on their curve here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.cose import COORDINATE_SIZE, EcPoint
from ansible_collections.attested.ai.plugins.module_utils.formats.jwk import thumbprint

SCHEMA = "attested.ai/cca-endorsements/1"
SILICON_VENDOR, OPERATOR = "silicon-vendor", "operator"
SIZE_MAX = 64 * 1024 * 1024
ENTRIES_MAX = 100_000

_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_PRIVATE = ("d", "k", "p", "q", "dp", "dq", "qi", "oth")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", re.ASCII)
_TRUSTEE_NAMES = {"implementation-id": "implementation_id", "instance-id": "instance_id", "pkey": "key"}


@dataclass(frozen=True)
class Cpak:
    """One platform's key. The ids (32 and 33 bytes) are None for a bare JWK. ``thumbprint`` is that of RFC 7638."""

    point: EcPoint
    thumbprint: str
    implementation_id: Optional[bytes] = None
    instance_id: Optional[bytes] = None


@dataclass(frozen=True)
class EndorsementDocument:
    """The keys of one document. ``sha256`` is the digest (hexadecimal) of its bytes, by which a policy can name it.

    ``endorser`` is what the document says of itself, "silicon-vendor" or "operator"; nothing in it proves that. ``not_after`` is aware.
    """

    sha256: str
    endorser: str
    source: str
    not_after: Optional[datetime]
    cpaks: Tuple[Cpak, ...]


def parse_endorsement(data: bytes, where: str = "CCA endorsement") -> EndorsementDocument:
    """Read one document from its JSON bytes. Raises FormatError."""
    if len(data) > SIZE_MAX:
        raise FormatError("it holds %d bytes, at most %d are allowed" % (len(data), SIZE_MAX), where=where)
    content = strict.loads(bytes(data), where)
    digest = hashlib.sha256(data).hexdigest()
    if isinstance(content, Mapping) and "kty" in content:
        return EndorsementDocument(digest, OPERATOR, "a bare JWK", None, (_cpak(content, None, None, where),))
    if isinstance(content, list):
        return EndorsementDocument(digest, OPERATOR, "a list of keys", None, _entries(content, where))
    document = strict.members(content, ("schema", "endorser", "source", "endorsements"), ("not_after",), where=where)
    if document["schema"] != SCHEMA:
        raise FormatError("the schema %s is not %s" % (strict.quoted(document["schema"]), SCHEMA), where=where)
    if document["endorser"] not in (SILICON_VENDOR, OPERATOR):
        raise FormatError("the endorser %s is neither %s nor %s" % (strict.quoted(document["endorser"]), SILICON_VENDOR, OPERATOR), where=where)
    return EndorsementDocument(
        sha256=digest,
        endorser=str(document["endorser"]),
        source=strict.text_of(document["source"], where + " source"),
        not_after=_time(document["not_after"], where + " not_after") if "not_after" in document else None,
        cpaks=_entries(document["endorsements"], where),
    )


def _entries(content: Any, where: str) -> Tuple[Cpak, ...]:
    if not isinstance(content, list) or not 1 <= len(content) <= ENTRIES_MAX:
        raise FormatError("a list of 1 to %d entries was expected" % ENTRIES_MAX, where=where)
    cpaks: List[Cpak] = []
    for index, value in enumerate(content):
        place = "%s entry %d" % (where, index)
        if isinstance(value, Mapping) and "pkey" in value:
            entry = strict.members(value, tuple(_TRUSTEE_NAMES), where=place)
            entry = {ours: entry[theirs] for theirs, ours in _TRUSTEE_NAMES.items()}
        else:
            entry = strict.members(value, ("implementation_id", "instance_id", "key"), where=place)
        implementation_id = strict.decode_hex(entry["implementation_id"], place + " implementation_id", 32)
        instance_id = strict.decode_hex(entry["instance_id"], place + " instance_id", 33)
        if instance_id[0] != 1:
            raise FormatError("the first byte is not 1", where=place + " instance_id")
        cpaks.append(_cpak(entry["key"], implementation_id, instance_id, place + " key"))
    return tuple(cpaks)


def _cpak(jwk: Any, implementation_id: Optional[bytes], instance_id: Optional[bytes], where: str) -> Cpak:
    return Cpak(read_jwk(jwk, where), thumbprint(jwk), implementation_id, instance_id)


def read_jwk(jwk: Any, where: str) -> EcPoint:
    """The point of a public EC JWK on P-256, P-384 or P-521. Raises FormatError (code "private-key" where a private half is there)."""
    if isinstance(jwk, Mapping) and any(name in jwk for name in _PRIVATE):
        raise FormatError("it holds private members", where=where, fix="Give the public key only", code="private-key")
    key = strict.members(jwk, ("kty", "crv", "x", "y"), ("alg", "kid", "use", "key_ops"), where=where)
    size = COORDINATE_SIZE.get(key["crv"]) if isinstance(key["crv"], str) else None
    if key["kty"] != "EC" or size is None:
        raise FormatError("it is no EC key on %s" % ", ".join(COORDINATE_SIZE), where=where)
    if "alg" in key and key["alg"] != _ALGORITHMS[key["crv"]]:
        raise FormatError("the algorithm %s does not fit %s" % (strict.quoted(key["alg"]), key["crv"]), where=where)
    if key.get("use", "sig") != "sig" or key.get("key_ops", ["verify"]) != ["verify"]:
        raise FormatError("the key is not meant to verify signatures (use, key_ops)", where=where)
    x, y = (strict.decode_base64url(key[name], "%s %s" % (where, name), size, size) for name in ("x", "y"))
    return EcPoint(str(key["crv"]), x, y)


def _time(value: Any, where: str) -> datetime:
    text = strict.text_of(value, where, limit=20)
    try:
        if _TIME.match(text):
            return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        pass
    raise FormatError("%s is not a time of the form 2027-01-31T00:00:00Z" % strict.quoted(text), where=where)
