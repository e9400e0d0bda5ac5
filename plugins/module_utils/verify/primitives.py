# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The operations that need the library cryptography: RSASSA-PSS for certificates, ECDSA P-384 and P-256, key loading.

The library is loaded on first use, so that everything imports without it.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any, Optional

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.formats.der import (
    P256_SPKI_PREFIX,
    P256_SPKI_SIZE,
    P384_SPKI_PREFIX,
    P384_SPKI_SIZE,
    RSA_PSS_SHA384,
)

# Order of the base point of P-384 (FIPS 186-4, D.1.2.4).
P384_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffff"
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)  # fmt: skip
# Order of the base point of P-256 (FIPS 186-4, D.1.2.3).
P256_ORDER = int("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
P256_SIZE = 32
RSA_BITS = 4096
RSA_BITS_MIN = 2048
RSA_EXPONENT = 65537


@functools.lru_cache(maxsize=1)
def _library() -> SimpleNamespace:
    require_cryptography()
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256, SHA384
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    return SimpleNamespace(
        InvalidSignature=InvalidSignature,
        load_errors=(ValueError, TypeError, UnsupportedAlgorithm),
        RSAPublicKey=rsa.RSAPublicKey,
        EllipticCurvePublicKey=ec.EllipticCurvePublicKey,
        SHA384=SHA384,
        pss=padding.PSS(padding.MGF1(SHA384()), 48),
        ecdsa=ec.ECDSA(SHA384()),
        ecdsa_sha256=ec.ECDSA(SHA256()),
        encode_dss_signature=encode_dss_signature,
        load_der_public_key=load_der_public_key,
    )


@functools.lru_cache(maxsize=64)
def rsa_key(spki: bytes) -> Optional[Any]:
    """The RSA public key of a SubjectPublicKeyInfo, None if it is none, or has not 2048 to 4096 bits and the exponent 65537."""
    library = _library()
    try:
        key = library.load_der_public_key(spki)
    except library.load_errors:
        return None
    if not isinstance(key, library.RSAPublicKey) or not RSA_BITS_MIN <= key.key_size <= RSA_BITS:
        return None
    return key if key.public_numbers().e == RSA_EXPONENT else None


def p384_key(spki: bytes) -> Optional[Any]:
    """The public key of a SubjectPublicKeyInfo that holds an uncompressed point of P-384, else None."""
    if len(spki) != P384_SPKI_SIZE or not spki.startswith(P384_SPKI_PREFIX):
        return None
    library = _library()
    try:
        key = library.load_der_public_key(spki)
    except library.load_errors:
        return None
    return key if isinstance(key, library.EllipticCurvePublicKey) else None


def signed_by(signed: Any, spki: bytes) -> bool:
    """True if a Certificate or RevocationList bears an RSASSA-PSS SHA-384 signature (salt 48, nothing else) of this RSA key."""
    if signed.signature_algorithm not in RSA_PSS_SHA384:
        return False
    key = rsa_key(spki)
    if key is None:
        return False
    library = _library()
    try:
        key.verify(signed.signature, signed.tbs, library.pss, library.SHA384())
    except library.InvalidSignature:
        return False
    return True


def ecdsa_p384_verifies(key: Any, r: int, s: int, message: bytes) -> bool:
    """True if (r, s) is an ECDSA SHA-384 signature of ``message`` under a key from ``p384_key``. (r, n-s) is one, too."""
    if not (0 < r < P384_ORDER and 0 < s < P384_ORDER):
        return False
    library = _library()
    try:
        key.verify(library.encode_dss_signature(r, s), message, library.ecdsa)
    except library.InvalidSignature:
        return False
    return True


def _load_p256(spki: bytes) -> Optional[Any]:
    """The public key of a SubjectPublicKeyInfo that holds an uncompressed point of P-256, else None."""
    if len(spki) != P256_SPKI_SIZE or not spki.startswith(P256_SPKI_PREFIX):
        return None
    library = _library()
    try:
        key = library.load_der_public_key(spki)
    except library.load_errors:
        return None
    return key if isinstance(key, library.EllipticCurvePublicKey) else None


# Certificates come again and again, attestation keys do not.
p256_key = functools.lru_cache(maxsize=256)(_load_p256)


def p256_point(point: bytes) -> Optional[Any]:
    """The public key of 64 bytes x and y, big-endian; None if they are no point of P-256."""
    return _load_p256(P256_SPKI_PREFIX + point)


def ecdsa_p256_verifies(key: Any, signature: bytes, message: bytes) -> bool:
    """True if ``signature`` (DER) is ECDSA SHA-256 of ``message`` under a key from ``p256_key``. The library takes strict DER only."""
    library = _library()
    try:
        key.verify(signature, message, library.ecdsa_sha256)
    except library.InvalidSignature:
        return False
    return True


def ecdsa_p256_raw_verifies(key: Any, signature: bytes, message: bytes) -> bool:
    """The same for a signature of 64 bytes r and s, big-endian."""
    if len(signature) != 2 * P256_SIZE:
        return False
    r, s = int.from_bytes(signature[:P256_SIZE], "big"), int.from_bytes(signature[P256_SIZE:], "big")
    if not (0 < r < P256_ORDER and 0 < s < P256_ORDER):
        return False
    return ecdsa_p256_verifies(key, _library().encode_dss_signature(r, s), message)
