# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The key management algorithms of JWE that are used here (RFC 7518 sections 4.3, 4.4, 4.6 and 4.7)."""

from __future__ import annotations

import hashlib
from typing import Any, Dict, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys

ECDH = "ECDH-ES+A256KW"
RSA = "RSA-OAEP-256"
A256KW = "A256KW"
# By a service that keeps its key to itself: what it answers with has this form.
A256GCMKW = "A256GCMKW"
ALGORITHMS = (ECDH, RSA, A256KW, A256GCMKW)
_EPK = ("kty", "crv", "x", "y")


class Failed(Exception):
    """The encrypted key does not unwrap. Stays inside this layer: jwe.py says it to the user."""


class RemoteKey:
    """A key of AES-256-GCM that a service keeps and uses for us. ``kid`` names the version that wraps."""

    kid = ""

    def fits(self, kid: str) -> bool:
        """Whether a recipient of this name is one of its versions."""
        raise NotImplementedError

    def wrap(self, cek: bytes) -> Tuple[bytes, bytes, bytes]:
        """(encrypted key, 12 bytes of nonce, 16 bytes of tag)."""
        raise NotImplementedError

    def unwrap(self, kid: str, encrypted_key: bytes, nonce: bytes, tag: bytes) -> bytes:
        """Raises Failed if it is not of this key, and the service's own errors."""
        raise NotImplementedError


def algorithm_of(key: Any) -> str:
    """What a key opens among several recipients."""
    if isinstance(key, RemoteKey):
        return A256GCMKW
    return A256KW if isinstance(key, (bytes, bytearray)) else ECDH


def concat_kdf(shared: bytes, alg: str = ECDH) -> bytes:
    """The 32-byte key of RFC 7518 section 4.6.2: one round of SHA-256, empty apu and apv, 256 bits (big-endian lengths)."""
    name = alg.encode("ascii")
    other = len(name).to_bytes(4, "big") + name + bytes(4) + bytes(4) + (256).to_bytes(4, "big")
    return hashlib.sha256((1).to_bytes(4, "big") + shared + other).digest()


def wrap_to_jwk(cek: bytes, jwk: Any) -> Tuple[str, bytes, Dict[str, Any]]:
    """Wrap to a guest's public JWK: (alg, encrypted key, further header members)."""
    where = "recipient key"
    rsa = isinstance(jwk, Mapping) and jwk.get("kty") == "RSA"
    alg = RSA if rsa else ECDH
    if isinstance(jwk, Mapping) and jwk.get("alg", alg) != alg:
        raise KeyReleaseError("its algorithm is %s, %s was expected" % (strict.quoted(jwk["alg"]), alg), where=where, code="jwe-algorithm")
    if not rsa:
        return (alg,) + wrap(ECDH, cek, jwk, where)
    return alg, keys.load_public_rsa(jwk, where).encrypt(cek, _oaep()), {}


def wrap(alg: str, cek: bytes, key: Any, where: str) -> Tuple[bytes, Dict[str, Any]]:
    """Wrap the 32-byte ``cek`` by A256KW (key: 32 bytes) or ECDH-ES+A256KW (key: public JWK or key object): (encrypted key, header members)."""
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap

    if alg == A256KW:
        return aes_key_wrap(_symmetric(key, where), cek), {}
    if alg == A256GCMKW and isinstance(key, RemoteKey):
        encrypted_key, nonce, tag = key.wrap(cek)
        return encrypted_key, {"iv": strict.encode_base64url(nonce), "tag": strict.encode_base64url(tag)}
    if alg != ECDH:
        raise KeyReleaseError("the algorithm %s cannot wrap here" % strict.quoted(alg), where=where, code="jwe-algorithm")
    public = keys.load_public_ec(key, where=where) if isinstance(key, Mapping) else key
    if keys.curve_name(public) not in keys.AGREEMENT_CURVES:
        raise KeyReleaseError("it is no key on %s" % " or ".join(keys.AGREEMENT_CURVES), where=where, code="jwe-key")
    ephemeral = ec.generate_private_key(public.curve)
    return aes_key_wrap(concat_kdf(ephemeral.exchange(ec.ECDH(), public)), cek), {"epk": keys.public_jwk(ephemeral)}


def unwrap(alg: str, encrypted_key: bytes, key: Any, header: Mapping[str, Any], where: str) -> bytes:
    """The 32-byte content key; ``header`` has epk, or kid, iv and tag as bytes.

    Raises Failed if the key is another one, FormatError or KeyReleaseError if it cannot be one at all."""
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    if alg == RSA:
        if not isinstance(key, rsa.RSAPrivateKey):
            raise Failed("it was wrapped for an RSA key")
        if len(encrypted_key) != (key.key_size + 7) // 8:
            raise Failed("it was wrapped for an RSA key of another size")
        try:
            cek = key.decrypt(encrypted_key, _oaep())
        except ValueError:
            raise Failed("it was wrapped for another key, or was changed") from None
    elif alg == A256GCMKW:
        cek = key.unwrap(header["kid"], encrypted_key, header["iv"], header["tag"])
    else:
        kek = _symmetric(key, where) if alg == A256KW else _agree(key, header.get("epk"), where)
        try:
            cek = aes_key_unwrap(kek, encrypted_key)
        except (InvalidUnwrap, ValueError):
            raise Failed("it was wrapped for another key, or was changed") from None
    if len(cek) != 32:
        raise Failed("the content key is not 32 bytes long")
    return cek


def _agree(key: Any, epk: Any, where: str) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec

    place = where + " epk"
    # Exactly the four members: alg or kid have no meaning in an ephemeral key.
    strict.members(epk, _EPK, where=place)
    public = keys.load_public_ec(epk, where=place)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Failed("it was wrapped for an EC key")
    if keys.curve_name(key) != epk["crv"]:
        raise Failed("it was wrapped for a key on %s" % epk["crv"])
    return concat_kdf(key.exchange(ec.ECDH(), public))


def _symmetric(key: Any, where: str) -> bytes:
    if not isinstance(key, (bytes, bytearray)) or len(key) != 32:
        raise KeyReleaseError("A256KW takes a key of 32 bytes", where=where, code="jwe-key")
    return bytes(key)


def _oaep() -> Any:
    require_cryptography()
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    return padding.OAEP(mgf=padding.MGF1(algorithm=hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
