# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""EC keys between JWK (RFC 7517, RFC 7518 section 6.2) and cryptography's objects."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict

# JWK curve -> (cryptography's class, bytes per coordinate)
CURVES = {"P-256": ("SECP256R1", 32), "P-384": ("SECP384R1", 48), "P-521": ("SECP521R1", 66)}
_NAMES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_OPTIONAL = ("alg", "kid", "use", "key_ops")


def generate_ec(curve: str = "P-256") -> Any:
    """A fresh EC private key."""
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(getattr(ec, CURVES[curve][0])())


def curve_of(key: Any) -> str:
    """The JWK curve name of an EC key of cryptography. Raises FormatError on any other key."""
    name = _NAMES.get(getattr(getattr(key, "curve", None), "name", ""))
    if name is None:
        raise FormatError("it is not an EC key on P-256, P-384 or P-521", where="key")
    return name


def public_jwk(key: Any, **members: str) -> Dict[str, str]:
    """The public JWK of an EC private or public key, with further ``members`` such as alg."""
    curve = curve_of(key)
    size = CURVES[curve][1]
    public = key.public_key() if hasattr(key, "public_key") else key
    numbers = public.public_numbers()
    jwk = {"kty": "EC", "crv": curve}
    for name in ("x", "y"):
        jwk[name] = strict.encode_base64url(getattr(numbers, name).to_bytes(size, "big"))
    return dict(jwk, **members)


def load_public(jwk: Mapping[str, Any], where: str = "JWK") -> Any:
    """The EC public key of a JWK. Refuses private members, unknown members and points that are not on the curve."""
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric import ec

    if isinstance(jwk, Mapping) and "d" in jwk:
        raise FormatError("it holds private members", where=where, fix="Give the public key only", code="private-key")
    members = strict.members(jwk, ("kty", "crv", "x", "y"), _OPTIONAL, where=where)
    curve = strict.text_of(members["crv"], where + " crv")
    if members["kty"] != "EC" or curve not in CURVES:
        raise FormatError("it is not an EC key on %s" % ", ".join(CURVES), where=where)
    name, size = CURVES[curve]
    x, y = (int.from_bytes(strict.decode_base64url(members[part], "%s %s" % (where, part), size, size), "big") for part in ("x", "y"))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, getattr(ec, name)()).public_key()
    except ValueError:
        raise FormatError("it is not a point on %s" % curve, where=where) from None
