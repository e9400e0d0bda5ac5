# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""JSON Web Signatures in flattened JSON form (RFC 7515 section 7.2.2), ES256 and ES384 only.

The algorithm follows from the trusted key, never from the signature. ``typ`` keeps signatures of different purposes apart.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys

# JWK curve -> (alg, bytes per half of the signature), RFC 7518 section 3.4.
ALGORITHMS = {"P-256": ("ES256", 32), "P-384": ("ES384", 48)}
PAYLOAD_MAX = 16 << 20


def sign_detached(payload: bytes, private_key: Any, kid: str = "", typ: str = "") -> Dict[str, str]:
    """Sign bytes that are kept elsewhere (RFC 7515 appendix F): {protected, signature}. ``kid`` defaults to the key's thumbprint."""
    alg, size, digest = _algorithm(private_key)
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    header = {"alg": alg, "kid": kid or keys.jwk_thumbprint(keys.public_jwk(private_key))}
    protected = strict.encode_base64url(jcs.canonicalize(dict(header, typ=typ) if typ else header))
    r, s = decode_dss_signature(private_key.sign(_signed(protected, payload), ec.ECDSA(digest)))
    return {"protected": protected, "signature": strict.encode_base64url(r.to_bytes(size, "big") + s.to_bytes(size, "big"))}


def verify_detached(jws: Any, payload: bytes, public_jwk: Any, typ: str = "", where: str = "JWS") -> Mapping[str, Any]:
    """Return the protected header if ``jws`` is a signature of ``payload`` by this key (JWK or key object). Raises FormatError, KeyReleaseError."""
    obj = strict.members(jws, ("protected", "signature"), where=where)
    public = keys.load_public_ec(public_jwk, keys.SIGNATURE_CURVES, where + " key") if isinstance(public_jwk, Mapping) else public_jwk
    alg, size, digest = _algorithm(public)
    place = where + " protected"
    header = strict.members(strict.loads(strict.decode_base64url(obj["protected"], place, 2, 4096), place), ("alg",), ("kid", "typ"), where=place)
    if header["alg"] != alg:
        raise KeyReleaseError("the algorithm is %s, the trusted key needs %s" % (strict.quoted(header["alg"]), alg), where=where, code="jws-algorithm")
    if header.get("typ", "") != typ:
        raise KeyReleaseError("the type is %s, %s was expected" % (strict.quoted(header.get("typ", "")), strict.quoted(typ)), where=where, code="jws-type")
    if "kid" in header:
        strict.text_of(header["kid"], place + " kid")
    signature = strict.decode_base64url(obj["signature"], where + " signature", 2 * size, 2 * size)
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    r, s = (int.from_bytes(part, "big") for part in (signature[:size], signature[size:]))
    try:
        public.verify(encode_dss_signature(r, s), _signed(obj["protected"], payload), ec.ECDSA(digest))
    except InvalidSignature:
        raise KeyReleaseError("the signature is not one of the trusted key over this content", where=where,
                              fix="It was changed after signing, or another key signed it", code="jws-signature") from None
    return header


def sign_flattened(payload: bytes, private_key: Any, kid: str = "", typ: str = "") -> Dict[str, str]:
    """Sign and enclose: {payload, protected, signature}."""
    return dict(sign_detached(payload, private_key, kid, typ), payload=strict.encode_base64url(payload))


def verify_flattened(jws: Any, public_jwk: Any, typ: str = "", where: str = "JWS") -> Tuple[bytes, Mapping[str, Any]]:
    """(payload, protected header) of an enclosing signature by this key. Raises FormatError, KeyReleaseError."""
    obj = strict.members(jws, ("payload", "protected", "signature"), where=where)
    payload = strict.decode_base64url(obj["payload"], where + " payload", 0, PAYLOAD_MAX)
    header = verify_detached({"protected": obj["protected"], "signature": obj["signature"]}, payload, public_jwk, typ, where)
    return payload, header


def _algorithm(key: Any) -> Tuple[str, int, Any]:
    require_cryptography()
    from cryptography.hazmat.primitives import hashes

    curve = keys.curve_name(key)
    if curve not in ALGORITHMS:
        raise KeyReleaseError("it is no EC key on P-256 or P-384", where="signing key", code="jws-key")
    alg, size = ALGORITHMS[curve]
    return alg, size, hashes.SHA256() if size == 32 else hashes.SHA384()


def _signed(protected: str, payload: bytes) -> bytes:
    return ("%s.%s" % (protected, strict.encode_base64url(bytes(payload)))).encode("ascii")
