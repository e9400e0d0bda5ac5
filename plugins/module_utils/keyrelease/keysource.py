# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Key-encryption keys: one that is here, from whatever place, or one that a service keeps and uses for us. Both are used in the same way."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from typing import Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe import A256GCMKW, A256KW, Recipient
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe_keys import RemoteKey
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import create_secret, read_secret

_WHAT = "key-encryption key"


@dataclass(frozen=True)
class Kek:
    """A key-encryption key of 32 bytes and its id, which may be shown."""

    kid: str
    key: bytes = field(repr=False)

    def recipient(self) -> Recipient:
        """For whom a data key is wrapped by it."""
        return Recipient(self.kid, A256KW, self.key)

    @property
    def notes_secret(self) -> bytes:
        """What local notes on an encryption are authenticated with."""
        return self.key


@dataclass(frozen=True)
class RemoteKek:
    """A key-encryption key that never comes here. ``notes_secret`` is some other secret of the controller, for its local notes."""

    key: RemoteKey = field(repr=False)
    notes_secret: bytes = field(repr=False)

    @property
    def kid(self) -> str:
        return self.key.kid

    def recipient(self) -> Recipient:
        return Recipient(self.kid, A256GCMKW, self.key)


AnyKek = Union[Kek, RemoteKek]


def load_kek(path: str) -> Kek:
    """Read a JWK (kty oct), 32 raw bytes, or their standard base64. Raises KeyReleaseError; no message shows the content."""
    return parse_kek(read_secret(path, _WHAT), path)


def parse_kek(content: bytes, where: str) -> Kek:
    """The same from bytes; ``where`` names their place in errors."""
    try:
        return _from_jwk(content) if content.lstrip()[:1] == b"{" and len(content) != 32 else _from_bytes(content)
    except AttestedError as error:
        raise KeyReleaseError(error.what, where="%s %s" % (where, error.where) if error.where else where,
                              fix="Give a JWK (kty oct), 32 raw bytes or their base64", code="kek-form") from None


def create_kek(path: str) -> Kek:
    """Make a key from the system's random generator and store it as JWK, mode 0600. Raises KeyReleaseError if the path is taken."""
    kek, jwk = new_kek()
    create_secret(path, jwk + b"\n", _WHAT)
    return kek


def new_kek() -> Tuple[Kek, bytes]:
    """A new key and its JWK, canonical."""
    key = os.urandom(32)
    kek = Kek(key_id(key), key)
    return kek, jcs.canonicalize({"alg": A256KW, "k": strict.encode_base64url(key), "kid": kek.kid, "kty": "oct"})


def key_id(key: bytes) -> str:
    """A name for a key that has none: tells nothing about it, and is the same wherever the key is loaded."""
    return "kek-" + hmac.new(key, b"attested.ai/kek-id/1", hashlib.sha256).hexdigest()[:32]


def _from_jwk(content: bytes) -> Kek:
    try:
        jwk = strict.members(strict.loads(content), ("kty", "k"), ("alg", "kid", "use", "key_ops"))
    except AttestedError as error:
        # JSON errors may quote what they stumble over; a secret is not to be quoted.
        if error.what.startswith("it is not JSON"):
            raise KeyReleaseError("it is not JSON") from None
        raise
    if jwk["kty"] != "oct" or jwk.get("alg", "A256KW") != "A256KW":
        raise KeyReleaseError("it is no JWK of the type oct for A256KW")
    key = strict.decode_base64url(jwk["k"], "k", 32, 32)
    kid = strict.text_of(jwk["kid"], "kid", 256) if "kid" in jwk else key_id(key)
    if not kid:
        raise KeyReleaseError("the key id is empty")
    return Kek(kid, key)


def _from_bytes(content: bytes) -> Kek:
    if len(content) == 32:
        return Kek(key_id(content), content)
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise KeyReleaseError("it holds %d bytes, which are no key" % len(content)) from None
    key = strict.decode_base64(text, "", 32, 32)
    return Kek(key_id(key), key)
