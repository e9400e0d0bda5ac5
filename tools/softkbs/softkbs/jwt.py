# SPDX-License-Identifier: GPL-3.0-or-later
"""JWTs as the KBS reads and writes them (jsonwebtoken): admin tokens and attestation tokens (EAR)."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

LEEWAY = 60


class JwtError(Exception):
    """The token does not verify."""


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def verify(token: str, key: Any, now: float) -> dict[str, Any]:
    """Claims of a token by this public key. As in jsonwebtoken ``exp`` must be there, with a minute forgiven, and ``nbf`` and ``iat`` are not looked at."""
    try:
        head, body, signature = token.split(".")
        header, claims, raw = json.loads(decode(head)), json.loads(decode(body)), decode(signature)
    except ValueError as error:
        raise JwtError("no JWT") from error
    signed, alg = f"{head}.{body}".encode("ascii"), header.get("alg")
    try:
        if alg == "EdDSA" and isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(raw, signed)
        elif alg == "ES256" and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")), signed, ec.ECDSA(hashes.SHA256()))
        elif alg == "RS256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(raw, signed, padding.PKCS1v15(), hashes.SHA256())
        else:
            raise JwtError("the algorithm is not the key's")
    except InvalidSignature as error:
        raise JwtError("signature") from error
    if not isinstance(claims.get("exp"), int) or claims["exp"] < now - LEEWAY:
        raise JwtError("expired")
    return claims


def sign_es256(header: dict[str, Any], claims: dict[str, Any], key: ec.EllipticCurvePrivateKey) -> str:
    text = ".".join(encode(json.dumps(part).encode("utf-8")) for part in (header, claims))
    r, s = decode_dss_signature(key.sign(text.encode("ascii"), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
