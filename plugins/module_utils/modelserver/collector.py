# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Between the two halves of the front: one is root and asks the TEE, the other is nobody and talks to clients. They share a socket and nothing else."""

from __future__ import annotations

import json
import socket
import struct
import threading
from typing import Any, Callable, Dict, Mapping

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, CollectError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict

MESSAGE_MAX = 32 << 20
_QUESTION_MAX = 4096
# GPUs are asked one after the other, each for seconds.
ANSWER_SECONDS = 120.0


class Asking:
    """The half without rights."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        channel.settimeout(ANSWER_SECONDS)

    def collect(self, nonce: bytes) -> Dict[str, Any]:
        """The evidence document for the nonce. Raises CollectError."""
        with self._lock:
            try:
                send(self._channel, {"nonce": strict.encode_base64(nonce)})
                answer = receive(self._channel, MESSAGE_MAX)
            except (OSError, ValueError):
                # Question and answer would not fit together any more.
                self._channel.close()
                raise CollectError("the part of the server that asks the TEE does not answer", fix="See its unit on the guest", code="collector") from None
        if "evidence" not in answer:
            raise CollectError(str(answer.get("error", "no evidence"))[:1000], code="evidence")
        return dict(answer["evidence"])


def answer(channel: socket.socket, collect: Callable[[str], Mapping[str, Any]]) -> None:
    """The half that is root: answer questions until the other is gone. What it may be asked is a nonce, and nothing else."""
    while True:
        try:
            question = receive(channel, _QUESTION_MAX)
        except (OSError, ValueError):
            return
        try:
            reply: Mapping[str, Any] = {"evidence": collect(strict.text_of(question.get("nonce"), "nonce", 128))}
        except AttestedError as error:
            reply = {"error": str(error)}
        except Exception as error:  # noqa: BLE001 # whatever a driver does: the server stays, and this document is missing
            reply = {"error": "%s while the TEE was asked" % type(error).__name__}
        try:
            send(channel, reply)
        except OSError:
            return


def send(channel: socket.socket, message: Mapping[str, Any]) -> None:
    raw = json.dumps(message).encode("ascii")
    channel.sendall(struct.pack(">I", len(raw)) + raw)


def receive(channel: socket.socket, most: int) -> Mapping[str, Any]:
    """One message. Raises OSError, ValueError."""
    size = struct.unpack(">I", _exactly(channel, 4))[0]
    if size > most:
        raise ValueError("a message of %d bytes" % size)
    found = json.loads(_exactly(channel, size))
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def _exactly(channel: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise ConnectionAbortedError("the other half is gone")
        parts += part
    return bytes(parts)
