# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""RSASSA-PKCS1-v1_5, RSASSA-PSS and ECDSA over SHA-256 and SHA-384, with keys given as numbers. Signatures of TPMs and of certificates.

The library cryptography is loaded on first use, so that everything imports without it.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any, Optional

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.formats.hcl_report import EcPublic, PublicKey, RsaPublic
from ansible_collections.attested.ai.plugins.module_utils.formats.tpm2 import ALG_ECDSA, ALG_RSAPSS, ALG_RSASSA, ALG_SHA256, ALG_SHA384, Signature

RSA_EXPONENT = 65537
SHA256_SIZE = 32


@functools.lru_cache(maxsize=1)
def _library() -> SimpleNamespace:
    require_cryptography()
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    return SimpleNamespace(
        InvalidSignature=InvalidSignature, load_errors=(ValueError, TypeError, UnsupportedAlgorithm), ec=ec, padding=padding, rsa=rsa, utils=utils,
        hashes={ALG_SHA256: hashes.SHA256(), ALG_SHA384: hashes.SHA384()}, curves={"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()},
        load_der_public_key=load_der_public_key,
    )  # fmt: skip


@functools.lru_cache(maxsize=256)
def public_key(key: PublicKey) -> Optional[Any]:
    """The library's form of a key, None if it is none: an RSA exponent other than 65537, a point that is not on its curve."""
    library = _library()
    try:
        if isinstance(key, RsaPublic):
            return library.rsa.RSAPublicNumbers(key.e, key.n).public_key() if key.e == RSA_EXPONENT else None
        return library.ec.EllipticCurvePublicNumbers(key.x, key.y, library.curves[key.curve]).public_key()
    except library.load_errors:
        return None


def tpm_signature_verifies(key: PublicKey, signature: Signature, message: bytes) -> bool:
    """True if ``signature`` is one of ``message`` under ``key``. Scheme and hash are the signature's; what is allowed is for policy."""
    library = _library()
    loaded, algorithm = public_key(key), library.hashes.get(signature.hash_algorithm)
    if loaded is None or algorithm is None:
        return False
    try:
        if isinstance(key, EcPublic):
            if signature.scheme != ALG_ECDSA or not signature.r or not signature.s:
                return False
            loaded.verify(library.utils.encode_dss_signature(signature.r, signature.s), message, library.ec.ECDSA(algorithm))
            return True
        if len(signature.value) != key.size:
            return False
        if signature.scheme == ALG_RSASSA:
            scheme = library.padding.PKCS1v15()
        elif signature.scheme == ALG_RSAPSS:
            # Part 1, B.7: a TPM salts with as many bytes as fit, or (FIPS) with the length of the hash. Both are found by themselves.
            scheme = library.padding.PSS(library.padding.MGF1(algorithm), library.padding.PSS.AUTO)
        else:
            return False
        loaded.verify(signature.value, message, scheme, algorithm)
        return True
    except (library.InvalidSignature, ValueError):
        return False


def pss_sha256_verifies(spki: bytes, signature: bytes, message: bytes, least_bits: int = 2048, most_bits: int = 4096) -> bool:
    """True if ``signature`` is RSASSA-PSS, SHA-256, salt 32, of ``message`` under the RSA key of a SubjectPublicKeyInfo (exponent 65537)."""
    library = _library()
    try:
        key = library.load_der_public_key(spki)
    except library.load_errors:
        return False
    if not isinstance(key, library.rsa.RSAPublicKey) or not least_bits <= key.key_size <= most_bits or key.public_numbers().e != RSA_EXPONENT:
        return False
    algorithm = library.hashes[ALG_SHA256]
    try:
        key.verify(signature, message, library.padding.PSS(library.padding.MGF1(algorithm), SHA256_SIZE), algorithm)
    except (library.InvalidSignature, ValueError):
        return False
    return True
