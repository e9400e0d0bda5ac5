# SPDX-License-Identifier: GPL-3.0-or-later
"""Write CBOR (RFC 8949) and COSE_Sign1 (RFC 9052), as a CCA platform does.

Shares no code with the collection's decoder: an error in either shows when the two meet.
"""

from __future__ import annotations

import struct
from typing import Any, Dict, Mapping, NamedTuple, Optional

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

# Curve of cryptography -> (COSE algorithm, hash, bytes of a number, COSE curve, JWK curve).
CURVES: Dict[str, Any] = {
    "secp256r1": (-7, hashes.SHA256, 32, 1, "P-256"),
    "secp384r1": (-35, hashes.SHA384, 48, 2, "P-384"),
    "secp521r1": (-36, hashes.SHA512, 66, 3, "P-521"),
}


class Tag(NamedTuple):
    """A tagged value."""

    number: int
    value: Any


class Raw(bytes):
    """CBOR that is already encoded, right or wrong: written as it is."""


def encode(value: Any) -> bytes:
    """Encode int, bytes, str, bool, None, list or tuple, dict (in its own order), Tag and Raw. Numbers take their shortest form."""
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, Tag):
        return _head(6, value.number) + encode(value.value)
    if value is None or isinstance(value, bool):
        return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        text = value.encode("utf-8")
        return _head(3, len(text)) + text
    if isinstance(value, (list, tuple)):
        return _head(4, len(value)) + b"".join(encode(item) for item in value)
    if isinstance(value, Mapping):
        return _head(5, len(value)) + b"".join(encode(key) + encode(item) for key, item in value.items())
    raise TypeError("a %s has no CBOR form here" % type(value).__name__)


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    for info, code, limit in ((24, ">B", 1 << 8), (25, ">H", 1 << 16), (26, ">I", 1 << 32), (27, ">Q", 1 << 64)):
        if number < limit:
            return bytes([major << 5 | info]) + struct.pack(code, number)
    raise ValueError("%d does not fit into 64 bits" % number)


def sign1(
    payload: bytes,
    key: ec.EllipticCurvePrivateKey,
    *,
    protected: Optional[Mapping[Any, Any]] = None,
    unprotected: Optional[Mapping[Any, Any]] = None,
    aad: bytes = b"",
    tag: Optional[int] = 18,
) -> bytes:
    """A COSE_Sign1 over ``payload``. The protected header names the algorithm of the key's curve unless it is given. With ``tag`` None
    the message is untagged; ``aad`` is external data that a verifier must not expect."""
    algorithm, digest, size, _curve, _name = CURVES[key.curve.name]
    header = encode({1: algorithm} if protected is None else dict(protected))
    covered = encode(["Signature1", header, aad, payload])
    r, s = decode_dss_signature(key.sign(covered, ec.ECDSA(digest())))
    message = [header, dict(unprotected or {}), payload, r.to_bytes(size, "big") + s.to_bytes(size, "big")]
    return encode(message if tag is None else Tag(tag, message))


def cose_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half as an encoded COSE_Key of type EC2, as the realm management monitor writes it: no algorithm, no key id."""
    size, curve = CURVES[key.curve.name][2:4]
    numbers = key.public_key().public_numbers()
    return encode({1: 2, -1: curve, -2: numbers.x.to_bytes(size, "big"), -3: numbers.y.to_bytes(size, "big")})


def raw_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half as an uncompressed point: how the legacy profile writes it."""
    size = CURVES[key.curve.name][2]
    numbers = key.public_key().public_numbers()
    return b"\x04" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")
