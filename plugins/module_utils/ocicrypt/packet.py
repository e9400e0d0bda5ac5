# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The annotation packet of Confidential Containers: what a layer was encrypted with, under a key that the KBS holds.

ocicrypt makes a key for each layer and writes it, with the digest of the plain layer, into private options. The packet holds these by AES-256-GCM. Guests
read ``{kid, wrapped_data, iv, wrap_type}``. Sources: guest-components v0.21, confidential-data-hub/hub/src/image; ocicrypt 1.3, spec and blockcipher.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.problem import ImageError

# Guests look for their key under this provider's name, and under no other.
PROVIDER = "attestation-agent"
ANNOTATION = "org.opencontainers.image.enc.keys.provider." + PROVIDER
KEY_SIZE, IV_SIZE = 32, 12
WRAP_TYPE = "A256GCM"
PACKET_MAX = 64 << 10
DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class LayerKey:
    """What opens one layer. ``digest`` is that of the plain layer, as the one who encrypted it saw it."""

    digest: str
    symkey: bytes = field(repr=False)
    nonce: bytes = field(repr=False)


@dataclass(frozen=True)
class Packet:
    """A packet as it stands in the annotation; ``kid`` is the resource of the KBS that opens it."""

    kid: str
    wrapped: bytes = field(repr=False)
    iv: bytes

    @classmethod
    def parse(cls, data: bytes, where: str = "annotation packet") -> Packet:
        """Both forms that guests read. Raises FormatError, KbsError, ImageError."""
        if len(data) > PACKET_MAX:
            raise ImageError("it is %d bytes long" % len(data), where=where, code="image-packet")
        document = strict.members(
            strict.loads(data, where), ("kid", "wrapped_data", "iv", "wrap_type"), ("version", "provider", "provider_settings", "annotations"), where
        )
        if document.get("version", "0.1.0") != "0.1.0" or document.get("provider", "kbs") != "kbs" or document["wrap_type"] != WRAP_TYPE:
            raise ImageError("it is not of a KBS, version 0.1.0, by %s" % WRAP_TYPE, where=where, code="image-packet")
        iv = strict.decode_base64(document["iv"], where + " iv", IV_SIZE, IV_SIZE)
        return cls(check_kid(document["kid"], where), strict.decode_base64(document["wrapped_data"], where + " wrapped_data", 17, PACKET_MAX), iv)

    def to_bytes(self) -> bytes:
        """The form that every guest reads."""
        document = {"kid": self.kid, "wrapped_data": strict.encode_base64(self.wrapped), "iv": strict.encode_base64(self.iv), "wrap_type": WRAP_TYPE}
        return json.dumps(document, separators=(",", ":")).encode("ascii")

    def open(self, key: bytes) -> bytes:
        """The private options. Raises ImageError if this key does not open it."""
        require_cryptography()
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            return AESGCM(check_key(key)).decrypt(self.iv, self.wrapped, None)
        except InvalidTag:
            raise ImageError("this is not the key of %s that the layer was encrypted under, or the packet was changed" % self.kid,
                             where="annotation packet", code="image-wrong-key") from None  # fmt: skip


def seal(key: bytes, kid: str, options: bytes) -> Packet:
    """Private options under a key of the KBS, with an iv of their own."""
    require_cryptography()
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    parse_options(options)
    iv = os.urandom(IV_SIZE)
    return Packet(check_kid(kid, "keyid"), AESGCM(check_key(key)).encrypt(iv, options, None), iv)


def parse_options(data: bytes) -> LayerKey:
    """The private options of ocicrypt. No message shows them."""
    where = "private options of the layer"
    try:
        document = strict.members(strict.loads(data), ("symkey", "digest", "cipheroptions"))
        nonce = strict.members(document["cipheroptions"], ("nonce",))["nonce"]
        found = LayerKey(document["digest"], strict.decode_base64(document["symkey"], "", 32, 32), strict.decode_base64(nonce, "", 16, 16))
    except AttestedError:
        raise ImageError("they are not those of AES-256-CTR", where=where, code="image-options") from None
    if not isinstance(found.digest, str) or not DIGEST.match(found.digest):
        raise ImageError("they name no sha256 digest", where=where, code="image-options")
    return found


def check_kid(kid: object, where: str) -> str:
    """A kid names the resource whole, as guests ask for it."""
    if not isinstance(kid, str) or not kid.startswith("kbs:///"):
        raise ImageError("%s is no kbs:///repository/type/tag" % strict.quoted(kid), where=where, code="image-kid")
    return Resource.parse(kid, where).uri


def check_key(key: bytes) -> bytes:
    if len(key) != KEY_SIZE:
        raise ImageError("the key is %d bytes long, guests take %d raw bytes" % (len(key), KEY_SIZE), where="key",
                         fix="Have one made: kbs_resource with key_file and create", code="image-key")  # fmt: skip
    return bytes(key)
