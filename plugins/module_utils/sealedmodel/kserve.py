# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What KServe 0.20 and later decrypts by itself: each file one compact JWE (RFC 7516), A256KW and A256GCM, named <path>.jwe.

The key that wraps is the release's data key: the 32 bytes that a KBS hands to KServe. The format is one GCM message per file, without name or
release in it, so that whoever serves the files can swap them: the signed manifest (sizes) and a signature over the ciphertext belong to it.
Written as a stream: memory does not grow with the file. KServe itself reads a file whole.
"""

from __future__ import annotations

import base64
import os
from typing import Any, Callable, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.target.memory import wipe

_HEADER = strict.encode_base64url(b'{"alg":"A256KW","enc":"A256GCM"}')
_KEY, _WRAPPED, _IV, _TAG = 32, 40, 12, 16
# Readers hold a whole file several times in memory; a GCM message ends at 64 GiB anyway.
MAX_SIZE = 4 << 30
# Divisible by 3, so that no padding comes between.
_CHUNK = 3 << 20


def jwe_size(size: int) -> int:
    """Length of the JWE of ``size`` bytes. Raises ModelError over 4 GiB."""
    if size > MAX_SIZE:
        raise ModelError("%d bytes are more than the 4 GiB that one JWE may have" % size, fix="Use profile files, or smaller shards", code="model-jwe-size")
    return len(_HEADER) + 4 + sum(_encoded(length) for length in (_WRAPPED, _IV, size, _TAG))


def encrypt(
    source: int, dest: int, size: int, dek: Any, read: Callable[[int, memoryview, int], None], progress: Optional[Callable[[int], None]] = None
) -> None:
    """Encrypt ``size`` bytes of ``source`` to the empty file ``dest``. ``read(source, buffer, offset)`` fills the buffer or raises."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import GCM
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap

    key, iv = bytearray(os.urandom(_KEY)), os.urandom(_IV)
    try:
        wrapped = aes_key_wrap(bytes(dek), bytes(key))
        sealing = Cipher(AES(bytes(key)), GCM(iv)).encryptor()
    finally:
        wipe(key)
    sealing.authenticate_additional_data(_HEADER.encode("ascii"))
    with os.fdopen(os.dup(dest), "wb", buffering=0) as out:
        _write(out, ".".join([_HEADER, strict.encode_base64url(wrapped), strict.encode_base64url(iv), ""]).encode("ascii"))
        plain, sealed = memoryview(bytearray(min(_CHUNK, max(size, 1)))), bytearray(min(_CHUNK, max(size, 1)) + 15)
        for offset in range(0, size, _CHUNK):
            part = plain[: min(_CHUNK, size - offset)]
            read(source, part, offset)
            sealing.update_into(part, sealed)
            _write(out, base64.urlsafe_b64encode(memoryview(sealed)[: len(part)]).rstrip(b"="))
            if progress is not None:
                progress(len(part))
        sealing.finalize()
        _write(out, b"." + strict.encode_base64url(sealing.tag).encode("ascii"))
        wipe(plain)


def decrypt(raw: bytes, dek: Any) -> Optional[bytes]:
    """The content of one JWE that encrypt() wrote, None if it is none or its tag does not hold. Whole in memory: to compare, not to serve."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    parts = raw.split(b".")
    if len(parts) != 5 or parts[0] != _HEADER.encode("ascii"):
        return None
    try:
        wrapped, iv, sealed, tag = (base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)) for part in parts[1:])
        return AESGCM(aes_key_unwrap(bytes(dek), wrapped)).decrypt(iv, sealed + tag, parts[0])
    except (ValueError, InvalidTag, InvalidUnwrap):
        return None


def _encoded(length: int) -> int:
    return -(-length * 4 // 3)


def _write(out: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]
