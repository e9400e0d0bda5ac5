# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""EC and RSA keys between JWK form and the objects of cryptography. The one place of this layer that builds key objects."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.jwk import thumbprint

# JWK curve -> (name in cryptography, bytes per coordinate), RFC 7518 section 6.2.1.
CURVES = {"P-256": ("secp256r1", 32), "P-384": ("secp384r1", 48), "P-521": ("secp521r1", 66)}
SIGNATURE_CURVES = ("P-256", "P-384")
AGREEMENT_CURVES = ("P-256", "P-521")
_PRIVATE = ("d", "k", "p", "q", "dp", "dq", "qi", "oth")
_OPTIONAL = ("alg", "kid", "use")


def jwk_thumbprint(jwk: Mapping[str, Any]) -> str:
    """RFC 7638 SHA-256 thumbprint, base64url. Raises FormatError on what is no EC or RSA key."""
    if not isinstance(jwk, Mapping):
        raise FormatError("it is a %s, an object was expected" % type(jwk).__name__, where="JWK")
    return thumbprint(jwk)


def curve_object(name: str) -> Any:
    """The curve of cryptography for a JWK curve name of CURVES."""
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric import ec

    curves: Dict[str, Any] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
    return curves[name]()


def curve_name(key: Any) -> str:
    """The JWK curve name of an EC key of cryptography; empty for every other object."""
    found = getattr(getattr(key, "curve", None), "name", "")
    return next((name for name, (other, _size) in CURVES.items() if other == found), "")


def public_jwk(key: Any, alg: str = "") -> Dict[str, str]:
    """The public JWK (kty, crv, x, y or kty, n, e, and alg if given) of a private or public key of cryptography."""
    public = key.public_key() if hasattr(key, "public_key") else key
    numbers = public.public_numbers()
    crv = curve_name(public)
    if crv:
        size = CURVES[crv][1]
        jwk = {"kty": "EC", "crv": crv, "x": _encode(numbers.x, size), "y": _encode(numbers.y, size)}
    elif hasattr(numbers, "n"):
        jwk = {"kty": "RSA", "n": _encode(numbers.n), "e": _encode(numbers.e)}
    else:
        raise FormatError("it is no EC key on %s and no RSA key" % ", ".join(CURVES), where="key")
    return dict(jwk, alg=alg) if alg else jwk


def check_public_jwk(jwk: Any, curves: Sequence[str], where: str = "JWK") -> Dict[str, str]:
    """Return the members of a public EC key on one of ``curves``. Raises FormatError; private members are refused, their value is not shown."""
    if isinstance(jwk, Mapping) and any(name in jwk for name in _PRIVATE):
        raise FormatError("it holds private members", where=where, fix="Give the public key only", code="private-key")
    key = strict.members(jwk, ("kty", "crv", "x", "y"), _OPTIONAL, where=where)
    if key["kty"] != "EC" or key["crv"] not in curves:
        raise FormatError("an EC key on %s was expected, this is %s on %s"
                          % (" or ".join(curves), strict.quoted(key["kty"]), strict.quoted(key["crv"])), where=where)
    size = CURVES[key["crv"]][1]
    for name in ("x", "y"):
        strict.decode_base64url(key[name], "%s %s" % (where, name), size, size)
    return {name: strict.text_of(value, "%s %s" % (where, name)) for name, value in key.items()}


def load_public_ec(jwk: Any, curves: Sequence[str] = AGREEMENT_CURVES, where: str = "JWK") -> Any:
    """The public key object of a JWK. Raises FormatError, also for a point that is not on its curve."""
    key = check_public_jwk(jwk, curves, where)
    curve = curve_object(key["crv"])
    from cryptography.hazmat.primitives.asymmetric import ec

    x, y = (int.from_bytes(strict.decode_base64url(key[name], where), "big") for name in ("x", "y"))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError:
        raise FormatError("the point is not on the curve %s" % key["crv"], where=where) from None


def load_public_rsa(jwk: Any, where: str = "JWK") -> Any:
    """The RSA public key object of a JWK of 2048 to 8192 bits."""
    if isinstance(jwk, Mapping) and any(name in jwk for name in _PRIVATE):
        raise FormatError("it holds private members", where=where, fix="Give the public key only", code="private-key")
    key = strict.members(jwk, ("kty", "n", "e"), _OPTIONAL, where=where)
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric import rsa

    n, e = (int.from_bytes(strict.decode_base64url(key[name], where, 1, limit), "big") for name, limit in (("n", 1024), ("e", 8)))
    if key["kty"] != "RSA" or n.bit_length() < 2048:
        raise FormatError("an RSA key of at least 2048 bits was expected", where=where)
    try:
        return rsa.RSAPublicNumbers(e, n).public_key()
    except ValueError as error:
        raise FormatError("it is no RSA key (%s)" % error, where=where) from None


def private_ec(scalar: bytes, curve: str = "P-256") -> Any:
    """The private key object of a big-endian scalar of exactly the curve's size. Raises FormatError; no message shows the value."""
    size = CURVES[curve][1]
    if len(scalar) != size:
        raise FormatError("it holds %d bytes, %d expected" % (len(scalar), size), where="private key")
    group = curve_object(curve)
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        return ec.derive_private_key(int.from_bytes(scalar, "big"), group)
    except ValueError:
        raise FormatError("it is no private key on %s" % curve, where="private key") from None


def pair(jwk: Mapping[str, Any]) -> Tuple[str, str]:
    """(kty, crv or empty) of a JWK, for choosing an algorithm."""
    return str(jwk.get("kty")), str(jwk.get("crv", ""))


def _encode(number: int, size: int = 0) -> str:
    return strict.encode_base64url(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))
