# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an encryption has finished so far, beside the ciphertext on the controller, never published with it.

One JSON line per step, each with an HMAC over the line and the one before, under a key derived from the key-encryption key: nobody
without it can make us go on with a data key or a file of their choice. The first line is the head, the others are finished files.
The file is also the lock: two runs never write the same model.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
from typing import Any, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict

_DOMAIN = b"attested.ai/encrypt-state/1"
_MAX_SIZE = 256 << 20


def mac_key(kek: bytes) -> bytes:
    """The key of the line MACs."""
    return hmac.new(bytes(kek), _DOMAIN, hashlib.sha256).digest()


def read(path: str, key: bytes) -> Tuple[Optional[Mapping[str, Any]], List[Mapping[str, Any]]]:
    """Head and records of a state file, as far as their MACs hold. (None, []) if there is nothing usable."""
    try:
        with open(path, "rb") as stream:
            bodies, _length = _bodies(stream.read(_MAX_SIZE), key)
    except OSError:
        return None, []
    return (bodies[0], bodies[1:]) if bodies else (None, [])


class StateFile:
    """An open, locked state file. Use it as a context manager. Raises ModelError(code=model-busy) if another run holds it."""

    def __init__(self, path: str, key: bytes) -> None:
        self.path = path
        self._key = key
        self._last = b""
        self._descriptor = -1

    def __enter__(self) -> StateFile:
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.__exit__()
            raise ModelError("another run is encrypting to this place", where=self.path, fix="Wait until it is done", code="model-busy") from None
        except OSError as error:
            raise ModelError("the state file cannot be opened (%s)" % error.strerror, where=self.path, code="model-dest") from None
        return self

    def __exit__(self, *_ignored: Any) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def resume(self) -> Tuple[Optional[Mapping[str, Any]], List[Mapping[str, Any]]]:
        """Head and records; a torn end is cut off, so that append() goes on behind the last good line."""
        bodies, length = _bodies(os.pread(self._descriptor, _MAX_SIZE, 0), self._key, self)
        os.ftruncate(self._descriptor, length)
        return (bodies[0], bodies[1:]) if bodies else (None, [])

    def begin(self, head: Mapping[str, Any]) -> None:
        """Forget everything and write a new head."""
        os.ftruncate(self._descriptor, 0)
        self._last = b""
        self.append(head)

    def append(self, body: Mapping[str, Any]) -> None:
        raw = jcs.canonicalize(dict(body))
        self._last = _mac(self._key, self._last, raw)
        line = jcs.canonicalize({"body": dict(body), "mac": self._last.hex()}) + b"\n"
        os.pwrite(self._descriptor, line, os.fstat(self._descriptor).st_size)
        os.fsync(self._descriptor)

    def move(self, path: str) -> None:
        """Give the file its final name, and keep the lock."""
        os.replace(self.path, path)
        self.path = path


def _mac(key: bytes, last: bytes, raw: bytes) -> bytes:
    return hmac.new(key, last + raw, hashlib.sha256).digest()


def _bodies(raw: bytes, key: bytes, file: Optional[StateFile] = None) -> Tuple[List[Mapping[str, Any]], int]:
    bodies: List[Mapping[str, Any]] = []
    last, length = b"", 0
    for line in raw.split(b"\n")[:-1]:
        try:
            obj = strict.members(strict.loads(line), ("body", "mac"))
            mac = _mac(key, last, jcs.canonicalize(obj["body"]))
            if not isinstance(obj["body"], dict) or not hmac.compare_digest(mac, strict.decode_hex(obj["mac"], "mac", 32)):
                break
        except FormatError:
            break
        bodies.append(obj["body"])
        last, length = mac, length + len(line) + 1
    if file is not None:
        file._last = last
    return bodies, length
