# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What NVIDIA's Remote Attestation Service (NRAS) answers: a detached EAT bundle of JSON Web Tokens, and its key sets.

Shape: ``[["JWT", overall], {"GPU-0": token, ...}]`` (RFC 9711 section 4.2.18.2 as NVIDIA uses it; RFC 7515, RFC 7517). Nothing here
decides about trust.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict

BUNDLE_MAX = 64 * 1024
JWKS_MAX = 1024 * 1024
DEVICES_MAX = 32
KEYS_MAX = 256
CHAIN_MAX = 8
# The last second of the year 9999.
NUMBER_MAX = 253402300800
COORDINATE_SIZE = 48
_HEADER_MAX, _SIGNATURE_MAX, _CERTIFICATE_MAX = 2048, 512, 16 * 1024
_NAME = re.compile(r"(?:GPU|SWITCH)-(?:0|[1-9][0-9]{0,2})\Z")
_NONCE = re.compile(r"[0-9a-fA-F]{64}\Z")
_HASHES = ("SHA-256", "SHA256")


@dataclass(frozen=True)
class Token:
    """One JWT: ``algorithm`` and ``kid`` of the header, the claims, what the signature covers, the signature, SHA-256 of the text."""

    algorithm: str
    kid: str
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes
    sha256: str

    def number(self, name: str) -> int:
        """A time claim in seconds. Raises FormatError."""
        value = self.claims.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < NUMBER_MAX:
            raise _bad("the claim %s is no time in seconds" % name)
        return value

    def text(self, name: str) -> str:
        """A claim that is text, at most 256 characters. Raises FormatError."""
        value = self.claims.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= 256:
            raise _bad("the claim %s is no text" % name)
        return value

    def nonce(self) -> bytes:
        """eat_nonce: 32 bytes as hexadecimal digits. Raises FormatError."""
        text = self.text("eat_nonce")
        if not _NONCE.match(text):
            raise _bad("eat_nonce is not 64 hexadecimal digits")
        return bytes.fromhex(text)


@dataclass(frozen=True)
class Bundle:
    """The overall token, and those of the devices by name; ``digests`` are what the overall token says of these (hexadecimal)."""

    overall: Token
    devices: Mapping[str, Token]
    digests: Mapping[str, str]


@dataclass(frozen=True)
class ServiceKey:
    """One key of the service: ``x`` and ``y`` (48 bytes each) on P-384, and its certificates in DER, its own first."""

    kid: str
    x: bytes
    y: bytes
    certificates: Tuple[bytes, ...]


def _bad(what: str) -> FormatError:
    return FormatError(what, where="NRAS token")


def parse_bundle(data: bytes) -> Bundle:
    """Parse the detached EAT of at most 64 KiB. Raises FormatError."""
    if len(data) > BUNDLE_MAX:
        raise _bad("it is %d bytes, at most %d are read" % (len(data), BUNDLE_MAX))
    document = strict.loads(bytes(data), "NRAS token")
    if not isinstance(document, list) or len(document) != 2 or not isinstance(document[0], list) or len(document[0]) != 2 or document[0][0] != "JWT":
        raise _bad('it is not of the shape [["JWT", token], {device: token}]')
    named = document[1]
    if not isinstance(named, dict) or not 1 <= len(named) <= DEVICES_MAX:
        raise _bad("1 to %d device tokens were expected" % DEVICES_MAX)
    for name in named:
        if not _NAME.match(name):
            raise _bad("%s names no device" % strict.quoted(name))
    overall = _token(document[0][1])
    return Bundle(overall, {name: _token(text) for name, text in named.items()}, _digests(overall.claims.get("submods")))


def _token(value: Any) -> Token:
    text = strict.text_of(value, "NRAS token", limit=BUNDLE_MAX)
    parts = text.split(".")
    if len(parts) != 3:
        raise _bad("a token has %d parts, not 3" % len(parts))
    header = strict.members(_json(parts[0], _HEADER_MAX), ("alg",), ("kid", "typ"), where="NRAS token header")
    claims = _json(parts[1], BUNDLE_MAX)
    if not isinstance(claims, dict):
        raise _bad("the claims are no object")
    signature = strict.decode_base64url(parts[2], "NRAS token signature", 0, _SIGNATURE_MAX)
    kid = strict.text_of(header.get("kid", ""), "NRAS token kid", limit=256)
    algorithm = strict.text_of(header["alg"], "NRAS token alg", limit=32)
    # Base64url, so ASCII.
    return Token(algorithm, kid, claims, ("%s.%s" % (parts[0], parts[1])).encode("ascii"), signature, hashlib.sha256(text.encode("ascii")).hexdigest())


def _json(text: str, limit: int) -> Any:
    return strict.loads(strict.decode_base64url(text, "NRAS token", 2, limit), "NRAS token")


def _digests(value: Any) -> Dict[str, str]:
    """{"GPU-0": ["DIGEST", ["SHA-256", hex]]} to {"GPU-0": hex}."""
    if not isinstance(value, dict) or not 1 <= len(value) <= DEVICES_MAX:
        raise _bad("submods are not 1 to %d devices" % DEVICES_MAX)
    found: Dict[str, str] = {}
    for name, entry in value.items():
        good = isinstance(entry, list) and len(entry) == 2 and entry[0] == "DIGEST" and isinstance(entry[1], list) and len(entry[1]) == 2
        if not good or entry[1][0] not in _HASHES:
            raise _bad("the submod %s is no SHA-256 digest" % strict.quoted(name))
        found[name] = strict.decode_hex(entry[1][1], "NRAS token submod", 32).hex()
    return found


def parse_jwks(data: bytes) -> List[ServiceKey]:
    """The P-384 keys of a JSON Web Key Set of at most 1 MiB; keys of other kinds are left out. Raises FormatError."""
    if len(data) > JWKS_MAX:
        raise FormatError("it is %d bytes, at most %d are read" % (len(data), JWKS_MAX), where="JWKS")
    document = strict.loads(bytes(data), "JWKS")
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or len(keys) > KEYS_MAX:
        raise FormatError("it is no set of at most %d keys" % KEYS_MAX, where="JWKS")
    return [_key(entry) for entry in keys if isinstance(entry, dict) and entry.get("kty") == "EC" and entry.get("crv") == "P-384"]


def _key(entry: Mapping[str, Any]) -> ServiceKey:
    chain = entry.get("x5c")
    if not isinstance(chain, list) or not 1 <= len(chain) <= CHAIN_MAX:
        raise FormatError("a key has no certificates (x5c)", where="JWKS")
    return ServiceKey(
        strict.text_of(entry.get("kid"), "JWKS kid", limit=256),
        strict.decode_base64url(entry.get("x"), "JWKS x", COORDINATE_SIZE, COORDINATE_SIZE),
        strict.decode_base64url(entry.get("y"), "JWKS y", COORDINATE_SIZE, COORDINATE_SIZE),
        tuple([strict.decode_base64(one, "JWKS x5c", 1, _CERTIFICATE_MAX) for one in chain]),
    )
