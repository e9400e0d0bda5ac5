# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Key-encryption keys (KEK) in files: a JWK of type oct, or 32 bytes, raw or as one line of base64."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import read_private, write_private

KEY_SIZE = 32


@dataclass(frozen=True)
class Kek:
    """``kid`` names the key in manifests; ``key`` is its 32 bytes and never shown."""

    kid: str
    key: bytes = field(repr=False)


def load_kek(path: str) -> Kek:
    """Read a KEK. A file without a JWK gets its kid from its name."""
    data = read_private(path, "key-encryption key")
    where = "key-encryption key %s" % path
    name = os.path.basename(path).split(".", 1)[0]
    if len(data) == KEY_SIZE:
        return Kek(name, data)
    if data.lstrip()[:1] == b"{":
        return _from_jwk(strict.loads(data, where), where)
    try:
        key = base64.b64decode(data.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_SIZE:
        raise KeyReleaseError(
            "it is neither a JWK of type oct nor %d bytes, raw or base64" % KEY_SIZE, where=where, fix="Make one with create_kek: true", code="kek-form"
        )
    return Kek(name, key)


def create_kek(path: str, kid: str = "") -> Kek:
    """Make a random KEK and write it as a JWK. An existing file is never replaced."""
    kek = Kek(kid or "kek-%s" % os.urandom(6).hex(), os.urandom(KEY_SIZE))
    jwk = {"kty": "oct", "alg": "A256KW", "kid": kek.kid, "k": strict.encode_base64url(kek.key)}
    write_private(path, jcs.canonicalize(jwk) + b"\n", "key-encryption key")
    return kek


def _from_jwk(obj: Any, where: str) -> Kek:
    jwk = strict.members(obj, ("kty", "k", "kid"), ("alg", "use", "key_ops"), where=where)
    if jwk["kty"] != "oct" or jwk.get("alg", "A256KW") != "A256KW":
        raise KeyReleaseError("it is not a JWK of type oct for A256KW", where=where, code="kek-form")
    return Kek(strict.text_of(jwk["kid"], where + " kid", limit=128), strict.decode_base64url(jwk["k"], where + " k", KEY_SIZE, KEY_SIZE))
