# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""ECDSA as COSE uses it (RFC 9053 section 2.1): keys as points, signatures as r and s of fixed size. Needs the library cryptography."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any, Optional

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.formats.cose import Algorithm, EcPoint


@functools.lru_cache(maxsize=1)
def _library() -> SimpleNamespace:
    require_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    return SimpleNamespace(
        InvalidSignature=InvalidSignature,
        encode_dss_signature=encode_dss_signature,
        from_point=ec.EllipticCurvePublicKey.from_encoded_point,
        curves={"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()},
        ecdsa={"sha256": ec.ECDSA(hashes.SHA256()), "sha384": ec.ECDSA(hashes.SHA384()), "sha512": ec.ECDSA(hashes.SHA512())},
    )


@functools.lru_cache(maxsize=256)
def public_key(point: EcPoint) -> Optional[Any]:
    """The key object of a point, None if it does not lie on its curve."""
    library = _library()
    try:
        return library.from_point(library.curves[point.curve], b"\x04" + point.x + point.y)
    except ValueError:
        return None


def verifies(key: Any, algorithm: Algorithm, signature: bytes, signed: bytes) -> bool:
    """True if ``signature`` (r and s, big-endian, of equal size) is one of ``signed`` under a key of ``public_key`` on the algorithm's curve.

    (r, n-s) is another valid signature of the same bytes.
    """
    half = len(signature) // 2
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    if r == 0 or s == 0:
        return False
    library = _library()
    try:
        key.verify(library.encode_dss_signature(r, s), signed, library.ecdsa[algorithm.hash_name])
    except library.InvalidSignature:
        return False
    return True
