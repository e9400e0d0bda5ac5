# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The signers of NVIDIA's Remote Attestation Service: keys of two days, each with the certificate whose issuer is pinned.

Nothing here depends on time, so that a proven signer can be cached.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Container, Dict, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der
from ansible_collections.attested.ai.plugins.module_utils.formats.der import P384_SPKI_PREFIX, Certificate, parse_certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.nras_token import ServiceKey, parse_jwks
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import p384_key, rsa_key

_DIGITAL_SIGNATURE, _KEY_CERT_SIGN = 0, 5
# PKCS #1 v1.5, whole AlgorithmIdentifiers (RFC 4055): with SHA-256 as the service has it, and with SHA-384.
_RSA = {bytes.fromhex("300d06092a864886f70d01010b0500"): "SHA256", bytes.fromhex("300d06092a864886f70d01010c0500"): "SHA384"}
_KNOWN_CRITICAL = frozenset((der.OID_BASIC_CONSTRAINTS, der.OID_KEY_USAGE))


@dataclass(frozen=True)
class Signer:
    """A key of the service with its certificates, and what speaks against the path to the pin, whatever the time is."""

    leaf: Certificate
    issuer: Certificate
    key: Any
    pin: str
    offence: str


def find_keys(wanted: Container[str], jwks: Sequence[bytes], cache: Optional[VerificationCache]) -> Tuple[Dict[str, ServiceKey], List[str]]:
    """The keys that are named; of two with one name neither is guessed at: the first counts, as for every reader of such sets."""
    known: Dict[str, ServiceKey] = {}
    offences: List[str] = []
    for data in jwks:
        try:
            keys = None if cache is None else cache.get(("nras-jwks", data))
            if keys is None:
                keys = parse_jwks(data)
                if cache is not None:
                    cache.put(("nras-jwks", data), keys)
        except FormatError as error:
            offences.append(str(error))
            continue
        for key in keys:
            if key.kid in wanted and key.kid not in known:
                if len(key.certificates) < 2:
                    offences.append("the key %s comes without the certificate of its issuer" % ascii(key.kid))
                    continue
                try:
                    for one in key.certificates[:2]:
                        parse_certificate(one)
                except FormatError as error:
                    offences.append(str(error))
                    continue
                known[key.kid] = key
    return known, offences


def make_signer(key: ServiceKey, cache: Optional[VerificationCache]) -> Signer:
    """The signer that a key from ``find_keys`` is. Only one that nothing speaks against is remembered."""
    cached = ("nras-signer",) + key.certificates[:2] + (key.x, key.y)
    found = None if cache is None else cache.get(cached)
    if found is None:
        leaf, issuer = parse_certificate(key.certificates[0]), parse_certificate(key.certificates[1])
        found = Signer(leaf, issuer, p384_key(leaf.spki), hashlib.sha256(issuer.der).hexdigest(), _offence(leaf, issuer, key))
        if cache is not None and not found.offence:
            cache.put(cached, found)
    return found


def _offence(leaf: Certificate, issuer: Certificate, key: ServiceKey) -> str:
    """What speaks against a signer; empty if nothing does."""
    name = ascii(leaf.common_name)
    if leaf.spki != P384_SPKI_PREFIX + key.x + key.y or p384_key(leaf.spki) is None:
        return "%s has another key than the key set says" % name
    try:
        if leaf.is_ca or not leaf.may(_DIGITAL_SIGNATURE):
            return "%s may not sign data" % name
        if not issuer.is_ca or not issuer.may(_KEY_CERT_SIGN):
            return "%s may not issue certificates" % ascii(issuer.common_name)
    except FormatError as error:
        return "%s: %s" % (name, error.what)
    if not (_KNOWN_CRITICAL.issuperset(leaf.critical) and _KNOWN_CRITICAL.issuperset(issuer.critical)):
        return "%s or its issuer has a critical extension that is not known here" % name
    if leaf.issuer != issuer.subject or not _rsa_signed(leaf, issuer):
        return "%s was not issued by %s" % (name, ascii(issuer.common_name))
    return ""


def _rsa_signed(certificate: Certificate, issuer: Certificate) -> bool:
    hash_name, key = _RSA.get(certificate.signature_algorithm), rsa_key(issuer.spki)
    if hash_name is None or key is None:
        return False
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    try:
        key.verify(certificate.signature, certificate.tbs, padding.PKCS1v15(), getattr(hashes, hash_name)())
    except InvalidSignature:
        return False
    return True
