# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""JSON Web Encryption (RFC 7516), the two forms that this project uses, read strictly.

Flattened JSON with ECDH-ES+A256KW is what a KBS answers with, so one reader serves push and pull. General JSON with A256KW or
ECDH-ES+A256KW wraps a model's data key for several recipients. The content is always A256GCM. ECDH-ES and A256KW do not say who
wrapped a key: what is inside must be bound to a sender by other means.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import curve_of, generate_ec, load_public, public_jwk

ECDH_ES_A256KW = "ECDH-ES+A256KW"
A256KW = "A256KW"
RSA_OAEP_256 = "RSA-OAEP-256"
A256GCM = "A256GCM"
CONTENT_MAX = 1 << 20
RECIPIENTS_MAX = 16
_KEY, _IV, _TAG = 32, 12, 16
_REFUSED = {
    "zip": "compression before encryption leaks",
    "crit": "no critical extension is known here",
    "apu": "agreement party info is not used by this protocol",
    "apv": "agreement party info is not used by this protocol",
}


@dataclass(frozen=True)
class Recipient:
    """Whom a key is wrapped for: ``key`` is 32 bytes for A256KW, or an EC public key for ECDH-ES+A256KW."""

    kid: str
    alg: str
    key: Any


def wrap_flattened(plaintext: bytes, recipient_jwk: Mapping[str, Any]) -> Dict[str, str]:
    """Encrypt to one EC public key (P-256, P-521), in the flattened JSON form of a KBS: epk lies inside ``protected``."""
    public = load_public(recipient_jwk, "recipient key")
    cek = os.urandom(_KEY)
    encrypted_key, ephemeral = _agree_and_wrap(cek, public)
    protected = _encode_header({"alg": ECDH_ES_A256KW, "enc": A256GCM, "epk": ephemeral})
    iv, ciphertext, tag = _seal(cek, plaintext, protected)
    return {
        "protected": protected,
        "encrypted_key": strict.encode_base64url(encrypted_key),
        "iv": strict.encode_base64url(iv),
        "ciphertext": strict.encode_base64url(ciphertext),
        "tag": strict.encode_base64url(tag),
    }


def unwrap_flattened(jwe: Any, private_key: Any, where: str = "JWE") -> bytes:
    """Decrypt the flattened JSON form with an EC or RSA private key of cryptography.

    Raises FormatError if it has not that form, KeyReleaseError if it does not open with this key.
    """
    require_cryptography()
    members = strict.members(jwe, ("protected", "encrypted_key", "iv", "ciphertext", "tag"), where=where)
    header = _decode_header(members["protected"], where, ("alg", "enc"), ("epk", "kid"))
    _expect_content_encryption(header, where)
    encrypted_key = strict.decode_base64url(members["encrypted_key"], where + " encrypted_key", 1, 1024)
    cek = _unwrap_key(header, encrypted_key, private_key, where)
    return _open(cek, members, members["protected"], where)


def wrap_general(plaintext: bytes, recipients: Sequence[Recipient]) -> Dict[str, Any]:
    """Encrypt once for several recipients, in the general JSON form."""
    require_cryptography()
    if not 1 <= len(recipients) <= RECIPIENTS_MAX or len({recipient.kid for recipient in recipients}) != len(recipients):
        raise KeyReleaseError("1 to %d recipients with different key ids are needed" % RECIPIENTS_MAX, where="JWE")
    cek = os.urandom(_KEY)
    protected = _encode_header({"enc": A256GCM})
    iv, ciphertext, tag = _seal(cek, plaintext, protected)
    return {
        "protected": protected,
        "recipients": [_wrap_for(recipient, cek) for recipient in recipients],
        "iv": strict.encode_base64url(iv),
        "ciphertext": strict.encode_base64url(ciphertext),
        "tag": strict.encode_base64url(tag),
    }


def unwrap_general(jwe: Any, key: Any, kid: Optional[str] = None, where: str = "JWE") -> bytes:
    """Decrypt the general JSON form with 32 bytes (A256KW) or an EC private key (ECDH-ES+A256KW).

    With ``kid`` only that recipient is tried. Raises FormatError, or KeyReleaseError if no recipient's key opens it.
    """
    require_cryptography()
    members = strict.members(jwe, ("protected", "recipients", "iv", "ciphertext", "tag"), where=where)
    shared = _decode_header(members["protected"], where, ("enc",), ())
    _expect_content_encryption(shared, where)
    wanted = A256KW if isinstance(key, (bytes, bytearray)) else ECDH_ES_A256KW
    candidates = [found for found in read_recipients(members, where) if found[0]["alg"] == wanted and kid in (None, found[0]["kid"])]
    if not candidates:
        raise KeyReleaseError(
            "it is not wrapped for key %s" % strict.quoted(kid if kid is not None else wanted), where=where,
            fix="Give the key-encryption key that wrapped it", code="no-recipient",
        )
    refusal: Optional[AttestedError] = None
    for header, encrypted_key in candidates:
        try:
            return _open(_unwrap_key(header, encrypted_key, key, where), members, members["protected"], where)
        except KeyReleaseError as error:
            refusal = error
    raise refusal or KeyReleaseError("no recipient fits", where=where)


def read_recipients(jwe: Mapping[str, Any], where: str = "JWE") -> List[Tuple[Mapping[str, Any], bytes]]:
    """The recipients of the general form: header and encrypted key of each. Refuses doubled key ids and unknown algorithms."""
    recipients = jwe["recipients"]
    if not isinstance(recipients, (list, tuple)) or not 1 <= len(recipients) <= RECIPIENTS_MAX:
        raise FormatError("a list of 1 to %d recipients was expected" % RECIPIENTS_MAX, where=where + " recipients")
    found: List[Tuple[Mapping[str, Any], bytes]] = []
    for index, recipient in enumerate(recipients):
        place = "%s recipient %d" % (where, index)
        entry = strict.members(recipient, ("header", "encrypted_key"), where=place)
        _refuse_members(entry["header"], place)
        header = strict.members(entry["header"], ("alg", "kid"), ("epk",), where=place)
        if header["alg"] not in (A256KW, ECDH_ES_A256KW):
            raise FormatError("the algorithm %s is not allowed" % strict.quoted(header["alg"]), where=place, code="jwe-algorithm")
        strict.text_of(header["kid"], place + " kid", limit=256)
        if any(header["kid"] == other["kid"] for other, _key in found):
            raise FormatError("the key id %s occurs twice" % strict.quoted(header["kid"]), where=where)
        found.append((header, strict.decode_base64url(entry["encrypted_key"], place, _KEY + 8, _KEY + 8)))
    return found


def _wrap_for(recipient: Recipient, cek: bytes) -> Dict[str, Any]:
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap

    header: Dict[str, Any] = {"alg": recipient.alg, "kid": recipient.kid}
    if recipient.alg == A256KW:
        encrypted_key = aes_key_wrap(_kek(recipient.key), cek)
    elif recipient.alg == ECDH_ES_A256KW:
        encrypted_key, header["epk"] = _agree_and_wrap(cek, recipient.key)
    else:
        raise KeyReleaseError("the algorithm %s is not one of %s, %s" % (strict.quoted(recipient.alg), A256KW, ECDH_ES_A256KW), where="JWE recipient")
    return {"header": header, "encrypted_key": strict.encode_base64url(encrypted_key)}


def _agree_and_wrap(cek: bytes, public: Any) -> Tuple[bytes, Dict[str, str]]:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap

    ephemeral = generate_ec(curve_of(public))
    shared = ephemeral.exchange(ec.ECDH(), public)
    return aes_key_wrap(_concat_kdf(shared), cek), public_jwk(ephemeral)


def _unwrap_key(header: Mapping[str, Any], encrypted_key: bytes, key: Any, where: str) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    alg = header["alg"]
    try:
        if alg == ECDH_ES_A256KW and isinstance(key, ec.EllipticCurvePrivateKey):
            if "epk" not in header:
                raise FormatError("epk is missing", where=where)
            ephemeral = load_public(header["epk"], where + " epk")
            if curve_of(ephemeral) != curve_of(key):
                raise FormatError("epk is on %s, the key on %s" % (curve_of(ephemeral), curve_of(key)), where=where)
            return aes_key_unwrap(_concat_kdf(key.exchange(ec.ECDH(), ephemeral)), encrypted_key)
        if alg == A256KW and isinstance(key, (bytes, bytearray)):
            return aes_key_unwrap(_kek(key), encrypted_key)
        if alg == RSA_OAEP_256 and isinstance(key, rsa.RSAPrivateKey):
            return key.decrypt(encrypted_key, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
    except (InvalidUnwrap, ValueError):
        raise _does_not_open(where) from None
    raise FormatError("the algorithm %s is not allowed with this key" % strict.quoted(alg), where=where, code="jwe-algorithm")


def _kek(key: Any) -> bytes:
    if len(key) != _KEY:
        raise KeyReleaseError("a key-encryption key of %d bytes is needed, this has %d" % (_KEY, len(key)), where="JWE")
    return bytes(key)


def _concat_kdf(shared: bytes) -> bytes:
    """RFC 7518 section 4.6.2 with empty PartyUInfo and PartyVInfo; every length is a big-endian 32-bit number."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

    algorithm = ECDH_ES_A256KW.encode("ascii")
    info = len(algorithm).to_bytes(4, "big") + algorithm + bytes(4) + bytes(4) + (_KEY * 8).to_bytes(4, "big")
    return ConcatKDFHash(hashes.SHA256(), _KEY, info).derive(shared)


def _seal(cek: bytes, plaintext: bytes, protected: str) -> Tuple[bytes, bytes, bytes]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    iv = os.urandom(_IV)
    sealed = AESGCM(cek).encrypt(iv, bytes(plaintext), protected.encode("ascii"))
    return iv, sealed[:-_TAG], sealed[-_TAG:]


def _open(cek: bytes, members: Mapping[str, Any], protected: str, where: str) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    iv = strict.decode_base64url(members["iv"], where + " iv", _IV, _IV)
    tag = strict.decode_base64url(members["tag"], where + " tag", _TAG, _TAG)
    ciphertext = strict.decode_base64url(members["ciphertext"], where + " ciphertext", 0, CONTENT_MAX)
    if len(cek) != _KEY:
        raise FormatError("the content key has %d bytes, A256GCM needs %d" % (len(cek), _KEY), where=where)
    try:
        return AESGCM(cek).decrypt(iv, ciphertext + tag, protected.encode("ascii"))
    except InvalidTag:
        raise _does_not_open(where) from None


def _does_not_open(where: str) -> KeyReleaseError:
    return KeyReleaseError("it does not open with this key: the key is another one, or it was changed", where=where, code="jwe-does-not-open")


def _encode_header(header: Mapping[str, Any]) -> str:
    return strict.encode_base64url(jcs.canonicalize(dict(header)))


def _decode_header(value: Any, where: str, required: Sequence[str], optional: Sequence[str]) -> Mapping[str, Any]:
    place = where + " protected header"
    header = strict.loads(strict.decode_base64url(value, place, 2, 8192), place)
    _refuse_members(header, place)
    return strict.members(header, required, optional, where=place)


def _refuse_members(header: Any, where: str) -> None:
    """Name the reason for members that other libraries act upon; the rest is refused as unknown."""
    for name, reason in _REFUSED.items():
        if isinstance(header, Mapping) and name in header:
            raise FormatError("the member %s is refused: %s" % (name, reason), where=where)


def _expect_content_encryption(header: Mapping[str, Any], where: str) -> None:
    if header["enc"] != A256GCM:
        raise FormatError("the content encryption %s is not %s" % (strict.quoted(header["enc"]), A256GCM), where=where, code="jwe-algorithm")
