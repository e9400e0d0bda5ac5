# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compact JWS with ES256 and ES384 only (RFC 7515, RFC 7518 section 3.4): sign, and read strictly.

The algorithm follows from the trusted key, never from the token: a token that names another one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.formats.jwk import thumbprint

# alg -> (JWK curve, bytes per coordinate and per half of the signature)
ALGORITHMS = {"ES256": ("P-256", 32), "ES384": ("P-384", 48)}
TOKEN_MAX = 1 << 20
# jwk and x5c are there in Trustee's tokens; they are carried by the token itself, so they are never used.
_HEADER = ("alg", "typ", "kid", "jwk", "x5c", "cty")
_TYPES = ("jwt", "eat+jwt", "application/eat+jwt")
_PRIVATE = ("d", "k", "p", "q")


@dataclass(frozen=True)
class TrustedKey:
    """A public key that a relying party trusts: its algorithm, its key id (may be None), its JWK and its thumbprint."""

    alg: str
    kid: Optional[str]
    jwk: Mapping[str, str]
    thumbprint: str


def public_jwk(key: Any) -> Dict[str, str]:
    """The public JWK, with alg, kid (RFC 7638 thumbprint) and use, of a P-256 or P-384 key of cryptography."""
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric import ec

    public = key.public_key() if hasattr(key, "public_key") else key
    curves = {"secp256r1": "ES256", "secp384r1": "ES384"}
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name not in curves:
        raise FormatError(
            "the signing key is not an EC key on P-256 or P-384", where="EAR key", fix="Make one: openssl ecparam -genkey -noout -name secp384r1"
        )
    alg = curves[public.curve.name]
    curve, size = ALGORITHMS[alg]
    numbers = public.public_numbers()
    x, y = (strict.encode_base64url(number.to_bytes(size, "big")) for number in (numbers.x, numbers.y))
    jwk = {"kty": "EC", "crv": curve, "x": x, "y": y}
    return dict(jwk, alg=alg, use="sig", kid=thumbprint(jwk))


def sign(payload: Mapping[str, Any], key: Any, typ: str) -> str:
    """Sign ``payload`` with an EC private key of cryptography; return the compact form, raw r||s signature."""
    jwk = public_jwk(key)
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    size = ALGORITHMS[jwk["alg"]][1]
    header = {"alg": jwk["alg"], "typ": typ, "kid": jwk["kid"]}
    signed = ".".join(strict.encode_base64url(jcs.canonicalize(part)) for part in (header, dict(payload)))
    digest = hashes.SHA256() if size == 32 else hashes.SHA384()
    r, s = decode_dss_signature(key.sign(signed.encode("ascii"), ec.ECDSA(digest)))
    return signed + "." + strict.encode_base64url(r.to_bytes(size, "big") + s.to_bytes(size, "big"))


def parse_jwks(obj: Any, where: str = "JWKS") -> Tuple[TrustedKey, ...]:
    """The usable keys of a JWK set. Keys of other kinds are left out; private members, bad points and doubled kids are refused."""
    if not isinstance(obj, Mapping) or not isinstance(obj.get("keys"), (list, tuple)):
        raise FormatError("an object with a list 'keys' was expected", where=where)
    found: List[TrustedKey] = []
    for index, jwk in enumerate(obj["keys"]):
        place = "%s key %d" % (where, index)
        if not isinstance(jwk, Mapping):
            raise FormatError("an object was expected", where=place)
        if any(name in jwk for name in _PRIVATE):
            raise FormatError("it holds private members", where=place, fix="Publish the public key only", code="private-key")
        alg = next((name for name, (curve, _size) in ALGORITHMS.items() if jwk.get("kty") == "EC" and jwk.get("crv") == curve), None)
        if alg is None or jwk.get("alg", alg) != alg or jwk.get("use", "sig") != "sig":
            continue
        for name in ("x", "y"):
            strict.decode_base64url(jwk.get(name), "%s %s" % (place, name), ALGORITHMS[alg][1], ALGORITHMS[alg][1])
        kid = None if jwk.get("kid") is None else strict.text_of(jwk["kid"], place + " kid")
        if kid is not None and any(other.kid == kid for other in found):
            raise FormatError("the key id %s occurs twice" % strict.quoted(kid), where=where)
        found.append(TrustedKey(alg, kid, {name: str(jwk[name]) for name in ("kty", "crv", "x", "y")}, thumbprint(jwk)))
    if not found:
        raise FormatError("it holds no EC key on P-256 or P-384 for signatures", where=where)
    return tuple(found)


def verify(token: Any, keys: Sequence[TrustedKey], where: str = "token") -> Tuple[Dict[str, Any], TrustedKey]:
    """Verify a compact JWS; return its payload and the key that signed it. Raises FormatError on anything else."""
    text = strict.text_of(token, where, limit=TOKEN_MAX)
    parts = text.split(".")
    if len(parts) != 3:
        raise FormatError("three parts joined by dots were expected, these are %d" % len(parts), where=where)
    raw_header, raw_payload, signature = (strict.decode_base64url(part, where, 1, TOKEN_MAX) for part in parts)
    header = strict.members(strict.loads(raw_header, where + " header"), ("alg",), _HEADER, where=where + " header")
    if not isinstance(header["alg"], str) or header["alg"] not in ALGORITHMS:
        raise FormatError(
            "the algorithm %s is not one of %s" % (strict.quoted(header["alg"]), ", ".join(ALGORITHMS)), where=where + " header", code="ear-algorithm"
        )
    typ = header.get("typ", "JWT")
    if not isinstance(typ, str) or typ.lower() not in _TYPES:
        raise FormatError("the type %s is not one of %s" % (strict.quoted(typ), ", ".join(_TYPES)), where=where + " header")
    candidates = _candidates(header, keys, where)
    if len(signature) != 2 * ALGORITHMS[header["alg"]][1]:
        raise FormatError("the signature is %d bytes long, %d expected" % (len(signature), 2 * ALGORITHMS[header["alg"]][1]), where=where)
    signed = (parts[0] + "." + parts[1]).encode("ascii")
    signer = next((key for key in candidates if _signature_holds(key, signature, signed)), None)
    if signer is None:
        raise FormatError("the signature does not verify with a trusted key", where=where, code="ear-signature")
    payload = strict.loads(raw_payload, where + " payload")
    if not isinstance(payload, dict):
        raise FormatError("the payload is not an object", where=where)
    return payload, signer


def _candidates(header: Mapping[str, Any], keys: Sequence[TrustedKey], where: str) -> List[TrustedKey]:
    """The trusted keys that the header may mean: by kid where both sides name one, else all of the algorithm."""
    found = [key for key in keys if key.alg == header["alg"]]
    if "kid" in header:
        kid = strict.text_of(header["kid"], where + " kid")
        found = [key for key in found if kid in (key.kid, key.thumbprint)]
    if not found:
        raise FormatError(
            "no trusted key fits algorithm %s and key id %s" % (header["alg"], strict.quoted(header.get("kid", "(none)"))),
            where=where, fix="Give the JWKS of the verifier that signed it", code="ear-key-unknown",
        )
    return found


def _signature_holds(key: TrustedKey, signature: bytes, signed: bytes) -> bool:
    require_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    size = ALGORITHMS[key.alg][1]
    curve, digest = (ec.SECP256R1(), hashes.SHA256()) if size == 32 else (ec.SECP384R1(), hashes.SHA384())
    x, y = (int.from_bytes(strict.decode_base64url(key.jwk[name], "JWKS"), "big") for name in ("x", "y"))
    try:
        public = ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError:
        raise FormatError("a trusted key is not a point on %s" % key.jwk["crv"], where="JWKS") from None
    try:
        public.verify(encode_dss_signature(int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")), signed, ec.ECDSA(digest))
    except InvalidSignature:
        return False
    return True
