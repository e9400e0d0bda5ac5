# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Flattened JWS with ES256 or ES384 (RFC 7515 section 7.2.2), over an attached or a detached payload (appendix F)."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.formats.jwk import thumbprint
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import curve_of, load_public, public_jwk

# JWK curve -> (alg, hash of cryptography, bytes per half of the signature)
_ALGORITHMS = {"P-256": ("ES256", "SHA256", 32), "P-384": ("ES384", "SHA384", 48)}
PAYLOAD_MAX = 64 << 20


def sign(payload: bytes, private_key: Any) -> Dict[str, str]:
    """Sign ``payload``; the returned object carries it. The key id is the RFC 7638 thumbprint of the key."""
    return dict(sign_detached(payload, private_key), payload=strict.encode_base64url(payload))


def sign_detached(payload: bytes, private_key: Any) -> Dict[str, str]:
    """Sign ``payload``; the returned object does not carry it."""
    require_cryptography()
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    alg, digest, size = _algorithm(private_key)
    protected = strict.encode_base64url(jcs.canonicalize({"alg": alg, "kid": thumbprint(public_jwk(private_key))}))
    r, s = decode_dss_signature(private_key.sign(_signing_input(protected, payload), ec.ECDSA(getattr(hashes, digest)())))
    return {"protected": protected, "signature": strict.encode_base64url(r.to_bytes(size, "big") + s.to_bytes(size, "big"))}


def verify(jws: Any, trusted_jwk: Mapping[str, Any], where: str = "JWS") -> bytes:
    """Return the payload that ``jws`` carries if ``trusted_jwk`` signed it, else raise FormatError."""
    members = strict.members(jws, ("protected", "signature", "payload"), where=where)
    payload = strict.decode_base64url(members["payload"], where + " payload", 0, PAYLOAD_MAX)
    verify_detached({name: members[name] for name in ("protected", "signature")}, payload, trusted_jwk, where)
    return payload


def verify_detached(jws: Any, payload: bytes, trusted_jwk: Mapping[str, Any], where: str = "JWS") -> None:
    """Raise FormatError unless ``trusted_jwk`` signed ``payload``. The algorithm follows from the key, never from the object."""
    public = load_public(trusted_jwk, "trusted key")
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    alg, digest, size = _algorithm(public)
    members = strict.members(jws, ("protected", "signature"), where=where)
    place = where + " protected header"
    header = strict.members(strict.loads(strict.decode_base64url(members["protected"], place, 2, 1024), place), ("alg", "kid"), where=place)
    if header["alg"] != alg:
        raise FormatError("the algorithm is %s, the trusted key's is %s" % (strict.quoted(header["alg"]), alg), where=place, code="signature")
    if header["kid"] != thumbprint(trusted_jwk):
        raise FormatError("it was signed by key %s, trusted is %s" % (strict.quoted(header["kid"]), thumbprint(trusted_jwk)), where=place, code="signer")
    raw = strict.decode_base64url(members["signature"], where + " signature", 2 * size, 2 * size)
    r, s = int.from_bytes(raw[:size], "big"), int.from_bytes(raw[size:], "big")
    try:
        public.verify(encode_dss_signature(r, s), _signing_input(members["protected"], payload), ec.ECDSA(getattr(hashes, digest)()))
    except InvalidSignature:
        raise FormatError("the signature does not hold: the content was changed", where=where, code="signature") from None


def _signing_input(protected: str, payload: bytes) -> bytes:
    return (protected + "." + strict.encode_base64url(bytes(payload))).encode("ascii")


def _algorithm(key: Any) -> Any:
    found = _ALGORITHMS.get(curve_of(key))
    if found is None:
        raise FormatError("a signing key on P-256 or P-384 is needed", where="key")
    return found
