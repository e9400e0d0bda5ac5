# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine between a client and a model server, with a TLS key of its own. It passes on what it hears.

    python tls_between.py PORT OF_SERVER [--claim]      # --claim: it writes its own keys into the evidence that it passes on

Prints its port, and ends with its standard input.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import sys
import threading
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".cache" / "collections"))

from ansible_collections.attested.ai.plugins.module_utils.modelserver.identity import client_context, make_identity  # noqa: E402


class Between:
    """``port`` is where it listens on loopback, ``passed`` counts what it was asked."""

    def __init__(self, server: int, claim: bool = False) -> None:
        self._server, self._claim, self._identity, self.passed = server, claim, make_identity("between"), 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while self._listener.fileno() >= 0:
            with suppress(OSError, ssl.SSLError, ValueError):
                client, _address = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with suppress(OSError, ssl.SSLError, ValueError), client, self._identity.context.wrap_socket(client, server_side=True) as outer:
            outer.settimeout(60)
            asked = outer.recv(65536)
            self.passed += 1
            with socket.create_connection(("127.0.0.1", self._server)) as plain, client_context().wrap_socket(plain) as inner:
                inner.sendall(asked.replace(b"Connection: keep-alive", b"Connection: close"))
                if self._claim:
                    outer.sendall(self._claimed(read(inner)))
                    return
                while part := inner.recv(65536):
                    outer.sendall(part)

    def _claimed(self, answer: bytes) -> bytes:
        head, _blank, body = answer.partition(b"\r\n\r\n")
        told = json.loads(body)
        told["evidence"]["binding"].update({"tls-spki": self._identity.spki, "tee-pubkey": self._identity.jwk})
        body = json.dumps(told).encode()
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length:")]
        return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def read(channel: ssl.SSLSocket) -> bytes:
    """One answer, whole: its head says how long it is."""
    answer = b""
    while part := channel.recv(65536):
        answer += part
        head, blank, body = answer.partition(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), -1)
        if blank and 0 <= length <= len(body):
            break
    return answer


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", type=int, metavar="PORT OF_SERVER")
    parser.add_argument("--claim", action="store_true")
    options = parser.parse_args()
    print(Between(options.server, options.claim).port, flush=True)
    sys.stdin.read()
