# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""NVIDIA's OCSP responder (RFC 6960): is a certificate of a device or of a manifest's signer still good?

A request carries a nonce. An answer that repeats another one is refused; one without (from a cache in between) is taken, because its dates
are judged anyway. Kept are answers that the certificate's issuer, or a responder of its own, signed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import List, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.client import Client
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Piece
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.ocsp import parse_ocsp
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_ocsp import certificate_status

URL = "https://ocsp.ndis.nvidia.com"
REQUEST_TYPE, RESPONSE_TYPE = "application/ocsp-request", "application/ocsp-response"
NONCE_SIZE = 32
# AlgorithmIdentifier of SHA-1 with NULL parameters, which is what responders expect of a CertID.
_SHA1 = bytes.fromhex("300906052b0e03021a0500")
# id-pkix-ocsp-nonce, 1.3.6.1.5.5.7.48.1.2.
_NONCE_OID = bytes.fromhex("06092b0601050507300102")


@dataclass(frozen=True)
class Wanted:
    """The status of ``certificate``, which ``issuer`` issued."""

    certificate: Certificate
    issuer: Certificate

    @property
    def path(self) -> str:
        return "nvidia/ocsp/%s-%x.der" % (hashlib.sha256(self.issuer.spki).hexdigest()[:16], self.certificate.serial)

    @property
    def about(self) -> str:
        return "revocation status of %s, serial %x" % (self.certificate.common_name or "a certificate", self.certificate.serial)


def wanted_of_device(path: Sequence[Certificate]) -> List[Wanted]:
    """What to ask for a device's chain: all but the leaf, which the responder does not answer for, and the root."""
    return [Wanted(path[place], path[place + 1]) for place in range(1, len(path) - 1)]


def wanted_of_rim(path: Sequence[Certificate]) -> List[Wanted]:
    """What to ask for the chain of a manifest's signer: from the leaf on."""
    return [Wanted(certificate, issuer) for certificate, issuer in zip(path, path[1:])]


def fetch(client: Client, base: str, wanted: Wanted, nonce: bytes, at: datetime) -> Tuple[Piece, str]:
    """A response and the responder's address. Raises EndorsementError. A certificate that is revoked has a response as well."""
    answer = client.post(base, request(wanted, nonce), {"Content-Type": REQUEST_TYPE}, (RESPONSE_TYPE,))
    try:
        repeated = parse_ocsp(answer.body).nonce
    except FormatError as error:
        raise EndorsementError(error.what, where=base, code="collateral-answer") from None
    if repeated not in (None, nonce):
        raise EndorsementError("the response answers another request (nonce)", where=base, code="collateral-answer")
    return ocsp_piece(answer.body, wanted, at, base), base


def ocsp_piece(data: bytes, wanted: Wanted, at: datetime, where: str) -> Piece:
    """A response about the wanted certificate, signed by its issuer and current at ``at``. Raises EndorsementError."""
    status = certificate_status(wanted.certificate, wanted.issuer, (data,), at)
    if status.kind == "unknown":
        raise EndorsementError("it does not settle the %s: %s" % (wanted.about, status.detail), where=where, code="collateral-answer")
    issued, expires = dates(data, wanted.certificate.serial)
    return Piece("ocsp", wanted.path, data, "%s: %s" % (wanted.about, status.kind), issued, expires)


def dates(data: bytes, serial: int) -> Tuple[datetime, datetime]:
    """(thisUpdate, nextUpdate) of the newest entry about a serial number. Raises EndorsementError if one is missing."""
    found = [(entry.this_update, entry.next_update) for entry in parse_ocsp(data).entries if entry.serial == serial and entry.next_update is not None]
    if not found:
        raise EndorsementError("the response does not say until when it holds", where="OCSP response", code="collateral-answer")
    issued, expires = max(found)
    return issued, expires or issued


def request(wanted: Wanted, nonce: bytes) -> bytes:
    """The DER of an OCSPRequest for one certificate, with a nonce (RFC 6960 section 4.1.1, RFC 8954)."""
    name_hash = hashlib.sha1(wanted.issuer.subject).digest()  # noqa: S324 - names the issuer, secures nothing
    key_hash = hashlib.sha1(_key_bits(wanted.issuer.spki)).digest()  # noqa: S324
    serial = wanted.certificate.serial
    content = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    certificate_id = _tlv(0x30, _SHA1 + _tlv(0x04, name_hash) + _tlv(0x04, key_hash) + _tlv(0x02, content))
    extension = _tlv(0x30, _NONCE_OID + _tlv(0x04, _tlv(0x04, nonce)))
    return _tlv(0x30, _tlv(0x30, _tlv(0x30, _tlv(0x30, certificate_id)) + _tlv(0xA2, _tlv(0x30, extension))))


def _key_bits(spki: bytes) -> bytes:
    position, end = der.whole(spki, der.SEQUENCE)
    position = der.expect(spki, position, end, der.SEQUENCE)[1]
    start, stop = der.expect(spki, position, end, der.BIT_STRING)
    return spki[start + 1:stop]


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x80 + (size.bit_length() + 7) // 8]) + size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + length + content
