# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""OCSP responses (RFC 6960), read with cryptography.x509.ocsp into plain values. Nothing here decides about trust."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

RESPONSE_MAX = 64 * 1024
ENTRIES_MAX = 64
CERTIFICATES_MAX = 8
GOOD, REVOKED, UNKNOWN = "good", "revoked", "unknown"
CERTIFICATE_HOLD = "certificateHold"


@dataclass(frozen=True)
class OcspEntry:
    """The status of one certificate: GOOD, REVOKED (with ``reason`` if one is given) or UNKNOWN. ``hash_name`` is that of the
    hashes in the certificate id, for example "sha1". Times are UTC; ``next_update`` is None if it is not stated."""

    status: str
    reason: Optional[str]
    serial: int
    hash_name: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    this_update: datetime
    next_update: Optional[datetime]


@dataclass(frozen=True)
class OcspResponse:
    """A successful response. ``signed`` is what ``signature`` (DER) covers, ``algorithm`` the dotted OID of its algorithm;
    ``certificates`` (DER) may hold the responder's. ``responder_name`` is a DER name, ``responder_key_hash`` SHA-1; one of them is None."""

    entries: Tuple[OcspEntry, ...]
    signed: bytes
    signature: bytes
    algorithm: str
    responder_name: Optional[bytes]
    responder_key_hash: Optional[bytes]
    certificates: Tuple[bytes, ...]
    nonce: Optional[bytes]


def _bad(what: str) -> FormatError:
    return FormatError(what, where="OCSP response")


@functools.lru_cache(maxsize=1)
def _library() -> SimpleNamespace:
    require_cryptography()
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import ocsp

    return SimpleNamespace(
        ocsp=ocsp, x509=x509, der=Encoding.DER, errors=(ValueError, TypeError, KeyError, OverflowError, UnsupportedAlgorithm, x509.DuplicateExtension)
    )


def parse_ocsp(data: bytes) -> OcspResponse:
    """Parse one DER response of at most 64 KiB. Raises FormatError, also for responses that are errors ("unauthorized", ...)."""
    data = bytes(data)
    if len(data) > RESPONSE_MAX:
        raise _bad("it is %d bytes, at most %d are read" % (len(data), RESPONSE_MAX))
    library = _library()
    try:
        return _read(library, library.ocsp.load_der_ocsp_response(data))
    except library.errors as error:
        raise _bad("it cannot be read (%s)" % ascii(str(error))[:100]) from None


def _read(library: SimpleNamespace, response: Any) -> OcspResponse:
    if response.response_status != library.ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise _bad("the responder answered %s" % response.response_status.name.lower())
    singles, certificates = list(response.responses), list(response.certificates)
    if not 1 <= len(singles) <= ENTRIES_MAX or len(certificates) > CERTIFICATES_MAX:
        raise _bad("%d answers with %d certificates" % (len(singles), len(certificates)))
    nonce = None
    for extension in response.extensions:
        if isinstance(extension.value, library.x509.OCSPNonce):
            nonce = bytes(extension.value.nonce)
        elif extension.critical:
            raise _bad("it has a critical extension that is not known here")
    name = response.responder_name
    return OcspResponse(
        entries=tuple([_entry(library, single) for single in singles]),
        signed=bytes(response.tbs_response_bytes),
        signature=bytes(response.signature),
        algorithm=response.signature_algorithm_oid.dotted_string,
        responder_name=None if name is None else bytes(name.public_bytes()),
        responder_key_hash=response.responder_key_hash,
        certificates=tuple([bytes(certificate.public_bytes(library.der)) for certificate in certificates]),
        nonce=nonce,
    )


def _entry(library: SimpleNamespace, single: Any) -> OcspEntry:
    statuses = library.ocsp.OCSPCertStatus
    status = {statuses.GOOD: GOOD, statuses.REVOKED: REVOKED}.get(single.certificate_status, UNKNOWN)
    reason = single.revocation_reason if status == REVOKED else None
    return OcspEntry(
        status=status,
        reason=None if reason is None else str(reason.value),
        serial=int(single.serial_number),
        hash_name=str(single.hash_algorithm.name),
        issuer_name_hash=bytes(single.issuer_name_hash),
        issuer_key_hash=bytes(single.issuer_key_hash),
        this_update=_moment(single, "this_update"),
        next_update=None if _raw(single, "next_update") is None else _moment(single, "next_update"),
    )


def _raw(single: Any, name: str) -> Any:
    """Newer versions of the library warn about the attribute without a time zone, older ones have no other."""
    return getattr(single, name + "_utc") if hasattr(type(single), name + "_utc") else getattr(single, name)


def _moment(single: Any, name: str) -> datetime:
    found: datetime = _raw(single, name)
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)
