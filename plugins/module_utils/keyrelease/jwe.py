# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""JSON Web Encryption (RFC 7516), the few forms that keys travel in, read strictly.

Flattened JSON, what a KBS and our controller send to one guest: ECDH-ES+A256KW (P-256, P-521) or RSA-OAEP-256, always A256GCM,
with ``alg``, ``enc`` and ``epk`` inside ``protected``. General JSON, what a manifest holds: one data key for several recipients,
``protected`` is ``{"enc":"A256GCM"}`` and each recipient's header has its own ``alg``: A256KW, ECDH-ES+A256KW, or A256GCMKW by a service that keeps the key.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe_keys
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe_keys import A256GCMKW, A256KW, ALGORITHMS, ECDH, RSA, Failed
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import jwk_thumbprint

ENC = "A256GCM"
PLAINTEXT_MAX = 1 << 20
RECIPIENTS_MAX = 64
# An object of one data key is a few hundred bytes; a resource of a KBS may be a file.
_ENCRYPTED_KEY_MAX = 1024
_HEADER_MAX = 8192

__all__ = [
    "A256GCMKW",
    "A256KW",
    "ALGORITHMS",
    "ECDH",
    "ENC",
    "RSA",
    "Recipient",
    "jwk_thumbprint",
    "parse_json",
    "recipients_of",
    "rewrap_general",
    "unwrap_flattened",
    "unwrap_general",
    "wrap_flattened",
    "wrap_general",
]


@dataclass(frozen=True)
class Recipient:
    """For whom a data key is wrapped: 32 bytes for A256KW, a public JWK (or key object) for ECDH-ES+A256KW, a RemoteKey for A256GCMKW."""

    kid: str
    alg: str
    key: Any = field(repr=False)


def parse_json(text: Union[str, bytes], where: str = "JWE") -> Dict[str, Any]:
    """Read the JSON text of a JWE; FormatError if members occur twice or it is no object."""
    value = strict.loads(text, where)
    if not isinstance(value, dict):
        raise _bad("it is no object", where)
    return value


def wrap_flattened(plaintext: bytes, recipient_jwk: Mapping[str, Any]) -> Dict[str, str]:
    """Encrypt to a guest's public JWK (EC P-256 or P-521, or RSA); the result is what a KBS answers with. Raises FormatError, KeyReleaseError."""
    _check_size(plaintext, "plaintext")
    cek = os.urandom(32)
    alg, encrypted_key, more = jwe_keys.wrap_to_jwk(cek, recipient_jwk)
    protected = strict.encode_base64url(jcs.canonicalize(dict(more, alg=alg, enc=ENC)))
    return dict(_encrypt(cek, protected, plaintext), encrypted_key=strict.encode_base64url(encrypted_key))


def unwrap_flattened(jwe: Any, private_key: Any, where: str = "JWE") -> bytes:
    """Decrypt with the EC (P-256, P-521) or RSA private key object. Raises FormatError on its form, KeyReleaseError if it does not open."""
    obj = strict.members(jwe, ("protected", "encrypted_key", "iv", "ciphertext", "tag"), where=where)
    header = _protected(obj["protected"], ("alg", "enc"), ("epk", "kid"), where)
    alg = _algorithm(header, where)
    if alg not in (ECDH, RSA):
        raise _bad("the algorithm %s is for several recipients only" % alg, where)
    encrypted_key = strict.decode_base64url(obj["encrypted_key"], where + " encrypted_key", 1, _ENCRYPTED_KEY_MAX)
    try:
        cek = jwe_keys.unwrap(alg, encrypted_key, private_key, header, where)
    except Failed as error:
        raise _does_not_open(str(error), where) from None
    return _decrypt(cek, obj, where)


def wrap_general(plaintext: bytes, recipients: Sequence[Recipient]) -> Dict[str, Any]:
    """Encrypt once for all ``recipients``. Their key ids must be there and differ. Raises FormatError, KeyReleaseError."""
    _check_size(plaintext, "plaintext")
    if not 1 <= len(recipients) <= RECIPIENTS_MAX:
        raise _bad("%d recipients were given, 1 to %d are possible" % (len(recipients), RECIPIENTS_MAX), "JWE")
    if len({recipient.kid for recipient in recipients}) != len(recipients):
        raise _bad("two recipients have the same key id", "JWE")
    cek = os.urandom(32)
    entries = [_wrapped(cek, recipient) for recipient in recipients]
    protected = strict.encode_base64url(jcs.canonicalize({"enc": ENC}))
    return dict(_encrypt(cek, protected, plaintext), recipients=entries)


def unwrap_general(jwe: Any, key: Any, kid: Optional[str] = None, where: str = "JWE") -> bytes:
    """Decrypt with 32 bytes (A256KW), an EC private key object or a RemoteKey. With ``kid`` only that recipient is tried, else all that fit the kind of key."""
    obj, parsed = _general(jwe, where)
    return _decrypt(_content_key(parsed, key, kid, where), obj, where)


def rewrap_general(jwe: Any, key: Any, add: Sequence[Recipient], remove: Sequence[str], kid: Optional[str] = None, where: str = "JWE") -> Dict[str, Any]:
    """The same secret under the same content key for other recipients. Those that are neither added nor removed stay as they are, unasked for their keys.

    Raises KeyReleaseError also where ``key`` opens the content key and that does not open the secret: then nothing is to be passed on."""
    obj, parsed = _general(jwe, where)
    cek = _content_key(parsed, key, kid, where)
    _decrypt(cek, obj, where)
    new = {recipient.kid for recipient in add}
    kept = [entry for entry, found in zip(obj["recipients"], parsed) if found["kid"] not in new and found["kid"] not in remove]
    if not 1 <= len(kept) + len(add) <= RECIPIENTS_MAX or len(new) != len(add):
        raise _bad("there would be %d recipients, 1 to %d that differ are possible" % (len(kept) + len(add), RECIPIENTS_MAX), where)
    return dict(obj, recipients=kept + [_wrapped(cek, recipient) for recipient in add])


def recipients_of(jwe: Any, where: str = "JWE") -> List[Dict[str, Any]]:
    """The headers of a general JWE's recipients, read strictly: ``alg``, ``kid``."""
    return [{"alg": entry["alg"], "kid": entry["kid"]} for entry in _general(jwe, where)[1]]


def _general(jwe: Any, where: str) -> Tuple[Mapping[str, Any], List[Dict[str, Any]]]:
    obj = strict.members(jwe, ("protected", "recipients", "iv", "ciphertext", "tag"), where=where)
    if _protected(obj["protected"], ("enc",), (), where)["enc"] != ENC:
        raise _bad("the content encryption is not %s" % ENC, where, "jwe-algorithm")
    entries = obj["recipients"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= RECIPIENTS_MAX:
        raise _bad("a list of 1 to %d recipients was expected" % RECIPIENTS_MAX, where)
    parsed = [_recipient(entry, "%s recipient %d" % (where, index)) for index, entry in enumerate(entries)]
    if len({entry["kid"] for entry in parsed}) != len(parsed):
        raise _bad("a key id occurs twice among the recipients", where)
    return obj, parsed


def _content_key(parsed: Sequence[Mapping[str, Any]], key: Any, kid: Optional[str], where: str) -> bytes:
    wanted = jwe_keys.algorithm_of(key)
    fitting = [entry for entry in parsed if entry["alg"] == wanted and (key.fits(entry["kid"]) if wanted == A256GCMKW else kid in (None, entry["kid"]))]
    if not fitting:
        names = ", ".join(strict.quoted(entry["kid"]) for entry in parsed[:4])
        raise KeyReleaseError(
            "no recipient fits this key%s; it is wrapped for %s" % ("" if kid is None else " (%s)" % strict.quoted(kid), names),
            where=where,
            fix="Give the key that it was wrapped for",
            code="jwe-recipient",
        )
    for entry in fitting:
        try:
            return jwe_keys.unwrap(wanted, entry["encrypted_key"], key, entry, where)
        except Failed:
            continue
    raise _does_not_open("it was wrapped for another key, or was changed", where)


def _wrapped(cek: bytes, recipient: Recipient) -> Dict[str, Any]:
    if not recipient.kid:
        raise _bad("a recipient has no key id", "JWE")
    encrypted_key, more = jwe_keys.wrap(recipient.alg, cek, recipient.key, "recipient %s" % strict.quoted(recipient.kid))
    return {"header": dict(more, alg=recipient.alg, kid=recipient.kid), "encrypted_key": strict.encode_base64url(encrypted_key)}


def _recipient(entry: Any, where: str) -> Dict[str, Any]:
    strict.members(entry, ("header", "encrypted_key"), where=where)
    header = strict.members(entry["header"], ("alg", "kid"), ("epk", "iv", "tag"), where=where + " header")
    alg = _allowed(header["alg"], where)
    if alg == RSA:
        raise _bad("the algorithm %s is for one recipient only" % RSA, where, "jwe-algorithm")
    for names, owner in ((("epk",), ECDH), (("iv", "tag"), A256GCMKW)):
        if any((name in header) != (alg == owner) for name in names):
            raise _bad("%s goes with %s and with nothing else" % (" and ".join(names), owner), where)
    size = 32 if alg == A256GCMKW else 40
    return {
        "alg": alg,
        "kid": strict.text_of(header["kid"], where + " kid"),
        "epk": header.get("epk"),
        "iv": strict.decode_base64url(header.get("iv", ""), where + " iv", 12, 12) if alg == A256GCMKW else b"",
        "tag": strict.decode_base64url(header.get("tag", ""), where + " tag", 16, 16) if alg == A256GCMKW else b"",
        "encrypted_key": strict.decode_base64url(entry["encrypted_key"], where + " encrypted_key", size, size),
    }


def _protected(value: Any, required: Sequence[str], optional: Sequence[str], where: str) -> Mapping[str, Any]:
    place = where + " protected"
    header = strict.loads(strict.decode_base64url(value, place, 2, _HEADER_MAX), place)
    # zip, crit, jku, p2c and whatever else could change the meaning end here: the reader knows every member it accepts.
    found = strict.members(header, required, optional, where=place)
    if "kid" in found:
        strict.text_of(found["kid"], place + " kid")
    return found


def _algorithm(header: Mapping[str, Any], where: str) -> str:
    alg = _allowed(header["alg"], where)
    if header["enc"] != ENC:
        raise _bad("the content encryption %s is not %s" % (strict.quoted(header["enc"]), ENC), where, "jwe-algorithm")
    if ("epk" in header) != (alg == ECDH):
        raise _bad("epk goes with %s and with nothing else" % ECDH, where)
    return alg


def _allowed(alg: Any, where: str) -> str:
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        raise _bad("the algorithm %s is not one of %s" % (strict.quoted(alg), ", ".join(ALGORITHMS)), where, "jwe-algorithm")
    return alg


def _encrypt(cek: bytes, protected: str, plaintext: bytes) -> Dict[str, str]:
    require_cryptography()
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(12)
    sealed = AESGCM(cek).encrypt(nonce, bytes(plaintext), protected.encode("ascii"))
    encoded = {"iv": nonce, "ciphertext": sealed[:-16], "tag": sealed[-16:]}
    return dict({name: strict.encode_base64url(value) for name, value in encoded.items()}, protected=protected)


def _decrypt(cek: bytes, obj: Mapping[str, Any], where: str) -> bytes:
    nonce = strict.decode_base64url(obj["iv"], where + " iv", 12, 12)
    tag = strict.decode_base64url(obj["tag"], where + " tag", 16, 16)
    ciphertext = strict.decode_base64url(obj["ciphertext"], where + " ciphertext", 0, PLAINTEXT_MAX)
    require_cryptography()
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        # The protected header exactly as it came is what the tag covers (RFC 7516 section 5.1 step 14).
        return AESGCM(cek).decrypt(nonce, ciphertext + tag, obj["protected"].encode("ascii"))
    except InvalidTag:
        raise _does_not_open("it was changed on the way", where) from None


def _check_size(plaintext: bytes, where: str) -> None:
    if len(plaintext) > PLAINTEXT_MAX:
        raise _bad("it is %d bytes, at most %d are possible" % (len(plaintext), PLAINTEXT_MAX), where)


def _bad(what: str, where: str, code: str = "jwe-form") -> KeyReleaseError:
    return KeyReleaseError(what, where=where, code=code)


def _does_not_open(reason: str, where: str) -> KeyReleaseError:
    return KeyReleaseError("it does not open with this key: %s" % reason, where=where, code="jwe-wrong-key")
