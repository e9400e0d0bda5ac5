# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keys and names of the image profile: what EMWP (encrypted modelwrap) pins, with everything secret derived from the data key.

EMWP: dm-crypt aes-xts-plain64, 512-bit key, sectors of 4096 bytes, no header; key = HKDF-SHA256(master key, salt = <root hash>_<uuid>,
info = tinfoil/emwp/dm-crypt-key/v1); salt of the tree = SHA-256(identity of the model). There the identity is public, so that anybody can
compute the root hash of public weights again. Here it is secret: otherwise the root hash in the manifest would tell whoever guesses the weights
that the guess is right.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import KEY_SIZE, bound_name

SECTOR = 4096
KEY_BYTES = 64
# plain64 counts 512-byte sectors, also where a sector has 4096: one step is eight. Only iv_large_sectors would change that, and nobody sets it.
IV_STEP = SECTOR // 512
CIPHER = "aes-xts-plain64"
_INFO = b"tinfoil/emwp/dm-crypt-key/v1"
_MASTER = b"attested.ai/model-image/v1 master\0"
_IDENTITY = b"attested.ai/model-image/v1 identity\0"


def identity(dek: Any, model_id: str, release: int) -> str:
    """What EMWP calls the model's identity (``repo``), secret here."""
    return "%s@%s" % (model_id, bytes(_derive(dek, b"", bound_name(_IDENTITY, model_id, release), 32)).hex())


def salt(name: str) -> bytes:
    """The salt of the hash tree, 32 bytes."""
    return hashlib.sha256(name.encode("utf-8")).digest()


def master_key(dek: Any, model_id: str, release: int) -> bytearray:
    """EMWP's master key of this release, 64 bytes. The caller wipes it."""
    if len(dek) != KEY_SIZE:
        raise ModelError("the data key is %d bytes long, %d expected" % (len(dek), KEY_SIZE))
    return _derive(dek, b"", bound_name(_MASTER, model_id, release), KEY_BYTES)


def volume_key(master: Any, root_hash: str, uuid: str) -> bytearray:
    """The key of dm-crypt, 64 bytes. The caller wipes it."""
    return _derive(master, ("%s_%s" % (root_hash, uuid)).encode("ascii"), _INFO, KEY_BYTES)


def _derive(key: Any, salted: bytes, info: bytes, length: int) -> bytearray:
    """HKDF-SHA256 (RFC 5869)."""
    secret = hmac.new(salted or bytes(32), bytes(key), hashlib.sha256).digest()
    made, block = bytearray(), b""
    while len(made) < length:
        block = hmac.new(secret, block + info + bytes([len(made) // 32 + 1]), hashlib.sha256).digest()
        made += block
    return made[:length]


class SectorCipher:
    """AES-256-XTS over whole sectors, as dm-crypt does it."""

    def __init__(self, key: Any) -> None:
        from cryptography.hazmat.primitives.ciphers.algorithms import AES

        if len(key) != KEY_BYTES or key[:32] == key[32:]:
            raise ModelError("the key of the image is not two keys of 32 bytes")
        self._algorithm = AES(bytes(key))
        # update_into() of older versions wants the room of one more block.
        self._room = bytearray(SECTOR + 15)

    def encrypt(self, data: memoryview, offset: int) -> None:
        """In place. ``offset`` of the first byte in the image; it and the length are whole sectors."""
        self._apply(data, offset, "encryptor")

    def decrypt(self, data: memoryview, offset: int) -> None:
        self._apply(data, offset, "decryptor")

    def _apply(self, data: memoryview, offset: int, direction: str) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.modes import XTS

        if offset % SECTOR or len(data) % SECTOR:
            raise ModelError("%d bytes at %d are no whole sectors" % (len(data), offset))
        room, algorithm = self._room, self._algorithm
        for start in range(0, len(data), SECTOR):
            tweak = ((offset + start) // SECTOR * IV_STEP).to_bytes(16, "little")
            getattr(Cipher(algorithm, XTS(tweak)), direction)().update_into(data[start : start + SECTOR], room)
            data[start : start + SECTOR] = room[:SECTOR]
