# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What OCSP responses, given as files, say of certificates at a time. RFC 6960, sections 2.4, 3.2 and 4.2.2.

A response counts if the issuer of the certificate signed it, or a responder that this issuer itself certified for that. A nonce
that answers a request is a separate question: offline there is no request, and a cache in between breaks it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Dict, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.ocsp import CERTIFICATE_HOLD, GOOD, REVOKED, UNKNOWN, OcspEntry, OcspResponse, parse_ocsp
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_x509 import ECDSA_SHA384, has_extended_usage, issued_by, signed_with
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import p384_key

HOLD = "hold"
OCSP_SIGNING = bytes.fromhex("2b06010505070309")
_OID_ECDSA_SHA384 = "1.2.840.10045.4.3.3"
_HASHES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
_RESPONDER_CRITICAL = frozenset((der.OID_BASIC_CONSTRAINTS, der.OID_KEY_USAGE, bytes.fromhex("551d25")))
_DIGITAL_SIGNATURE = 0
_UNREADABLE_TOLD = 64


@dataclass(frozen=True)
class Status:
    """What is known of one certificate: "good", "revoked", "hold" (revoked for now), or "unknown" (nothing current that counts).
    ``certificate`` is the SHA-256 of it. ``until`` is when a good answer ends, ``nonce`` the one in it."""

    kind: str
    name: str
    certificate: str
    detail: str
    until: Optional[datetime] = None
    nonce: Optional[bytes] = None


@dataclass(frozen=True)
class _Signed:
    """A response whose signature holds under this issuer: directly, or by the responder certificate."""

    response: OcspResponse
    responder: Optional[Certificate]


def statuses(path: Sequence[Certificate], places: Sequence[int], responses: Sequence[bytes], at: datetime, cache: Optional[VerificationCache]) -> List[Status]:
    """The status of the certificates at these places of a proven path, whose next is always the issuer."""
    return [certificate_status(path[place], path[place + 1], responses, at, cache) for place in places]


def certificate_status(
    certificate: Certificate, issuer: Certificate, responses: Sequence[bytes], at: datetime, cache: Optional[VerificationCache] = None
) -> Status:
    """The status of one certificate. A final revocation counts however old it is; else the newest current answer does."""
    name, digest = ascii(certificate.common_name), hashlib.sha256(certificate.der).hexdigest()
    reasons: List[str] = []
    current: List[Tuple[OcspEntry, OcspResponse]] = []
    for data in _holding(certificate.serial, responses, cache):
        try:
            signed = _signed(data, issuer, cache)
        except FormatError as error:
            reasons.append(error.what)
            continue
        for entry in signed.response.entries:
            if not _concerns(entry, certificate, issuer):
                continue
            if entry.status == REVOKED and entry.reason != CERTIFICATE_HOLD:
                return Status("revoked", name, digest, "%s is revoked (%s)" % (name, entry.reason or "no reason given"))
            offence = _time_offence(entry, signed.responder, at)
            if offence:
                reasons.append(offence)
            else:
                current.append((entry, signed.response))
    if not current:
        return Status(UNKNOWN, name, digest, "%s: %s" % (name, reasons[0] if reasons else "no response is about it"))
    entry, response = max(current, key=lambda found: (found[0].this_update, found[0].status != GOOD))
    if entry.status == REVOKED:
        return Status(HOLD, name, digest, "%s (SHA-256 %s) is on hold" % (name, digest))
    if entry.status != GOOD:
        return Status(UNKNOWN, name, digest, "%s: the responder does not know it" % name)
    until = entry.next_update.isoformat() if entry.next_update else "?"
    return Status(GOOD, name, digest, "%s is good until %s" % (name, until), entry.next_update, response.nonce)


def _holding(serial: int, responses: Sequence[bytes], cache: Optional[VerificationCache]) -> Sequence[bytes]:
    """The responses that may be about this serial number. A fleet brings one for each device: with a cache they are read once and found by
    number, for a search through all of them for each device would grow with its square."""
    written = _serial_bytes(serial)
    if cache is None:
        return [data for data in responses if written in data]
    key = ("nvidia-ocsp-serials", tuple(responses))
    found: Optional[Tuple[Dict[int, List[bytes]], List[bytes]]] = cache.get(key)
    if found is None:
        found = _by_serial(responses)
        cache.put(key, found)
    by_serial, unreadable = found
    # Those that cannot be read prove nothing, but tell why nothing is known.
    return by_serial.get(serial, []) + [data for data in unreadable[:_UNREADABLE_TOLD] if written in data]


def _by_serial(responses: Sequence[bytes]) -> Tuple[Dict[int, List[bytes]], List[bytes]]:
    by_serial: Dict[int, List[bytes]] = {}
    unreadable: List[bytes] = []
    for data in responses:
        try:
            serials = dict.fromkeys(entry.serial for entry in parse_ocsp(data).entries)
        except FormatError:
            unreadable.append(data)
            continue
        for serial in serials:
            by_serial.setdefault(serial, []).append(data)
    return by_serial, unreadable


def _serial_bytes(serial: int) -> bytes:
    return serial.to_bytes(max(1, (serial.bit_length() + 7) // 8), "big")


def _concerns(entry: OcspEntry, certificate: Certificate, issuer: Certificate) -> bool:
    if entry.serial != certificate.serial or entry.hash_name not in _HASHES:
        return False
    return entry.issuer_name_hash == hashlib.new(entry.hash_name, issuer.subject).digest() and entry.issuer_key_hash == _key_hash(issuer, entry.hash_name)


def _key_hash(certificate: Certificate, hash_name: str) -> bytes:
    """Hash of the public key's bits, without the number of unused ones (RFC 6960, 4.1.1). Raises FormatError."""
    position, end = der.whole(certificate.spki, der.SEQUENCE)
    position = der.expect(certificate.spki, position, end, der.SEQUENCE)[1]
    start, stop = der.expect(certificate.spki, position, end, der.BIT_STRING)
    return hashlib.new(hash_name, certificate.spki[start + 1:stop]).digest()


def _time_offence(entry: OcspEntry, responder: Optional[Certificate], at: datetime) -> str:
    if entry.next_update is None:
        return "the response does not say until when it holds"
    if not entry.this_update <= at <= entry.next_update:
        return "the response holds from %s to %s" % (entry.this_update.isoformat(), entry.next_update.isoformat())
    if responder is not None and not responder.not_before <= at <= responder.not_after:
        return "the responder's certificate is valid from %s to %s" % (responder.not_before.isoformat(), responder.not_after.isoformat())
    return ""


def _signed(data: bytes, issuer: Certificate, cache: Optional[VerificationCache]) -> _Signed:
    """The response if its signature counts for this issuer. Raises FormatError if not; only success is remembered."""
    key = ("nvidia-ocsp", data, issuer.der)
    found = None if cache is None else cache.get(key)
    if found is None:
        found = _check_signature(parse_ocsp(data), issuer)
        if cache is not None:
            cache.put(key, found)
    return found


def _check_signature(response: OcspResponse, issuer: Certificate) -> _Signed:
    if response.algorithm != _OID_ECDSA_SHA384:
        raise FormatError("the response is not signed with ECDSA and SHA-384")
    if _names(response, issuer) and signed_with(p384_key(issuer.spki), ECDSA_SHA384, response.signature, response.signed):
        return _Signed(response, None)
    for data in response.certificates:
        try:
            responder = der.parse_certificate(data)
            offence = _responder_offence(responder, issuer)
        except FormatError:
            continue
        if not offence and _names(response, responder) and signed_with(p384_key(responder.spki), ECDSA_SHA384, response.signature, response.signed):
            return _Signed(response, responder)
    raise FormatError("neither the issuer %s nor a responder of its own signed the response" % ascii(issuer.common_name))


def _names(response: OcspResponse, signer: Certificate) -> bool:
    if response.responder_name is not None:
        return response.responder_name == signer.subject
    return response.responder_key_hash == _key_hash(signer, "sha1")


def _responder_offence(responder: Certificate, issuer: Certificate) -> str:
    if not has_extended_usage(responder, OCSP_SIGNING) or responder.is_ca:
        return "it may not sign responses"
    if der.OID_KEY_USAGE in responder.extensions and not responder.may(_DIGITAL_SIGNATURE):
        return "its key may not sign data"
    if not _RESPONDER_CRITICAL.issuperset(responder.critical):
        return "a critical extension that is not known here"
    return "" if issued_by(responder, issuer, shared=True) else "it was not issued by %s" % ascii(issuer.common_name)


def nonce_matches(data: bytes, nonce: bytes) -> bool:
    """True if a response repeats the nonce of its request. A result of its own: a caching proxy breaks it, and offline there is no
    request. Raises FormatError for a response that cannot be read."""
    return parse_ocsp(data).nonce == nonce
