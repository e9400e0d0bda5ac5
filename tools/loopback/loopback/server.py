# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTPS on loopback around a service that answers."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class Answer:
    """``status`` 0: none, the connection is dropped. ``cut``: it is dropped in the middle of the data."""

    status: int
    data: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    cut: bool = False


class Service(Protocol):
    def answer(self, method: str, target: str, raw: bytes, headers: dict[str, str]) -> Answer:
        """The whole answer to one request. Header names are in lower case."""


@contextlib.contextmanager
def serving(service: Service, context: ssl.SSLContext, host: str, port: int) -> Iterator[int]:
    """The port, which is another if 0 was asked for."""
    server = _Server((host, port), _handler(service, context))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not like the certificate, or went away, is nothing to report."""


def _handler(service: Service, context: ssl.SSLContext) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def setup(self) -> None:
            # Here and not at accept: one client that does not finish its handshake must not stop the others.
            self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def handle(self) -> None:
            with contextlib.suppress(OSError, ssl.SSLError):
                super().handle()

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

        def log_message(self, *_arguments: object) -> None:
            """Nothing: headers carry tokens."""

        def act(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = service.answer(self.command, self.path, raw, {name.lower(): value for name, value in self.headers.items()})
            if not found.status:
                return self.drop()
            self.send_response(found.status)
            for name, value in {**found.headers, "Content-Length": str(len(found.data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(found.data[: len(found.data) // 2] if found.cut else found.data)
            return self.drop() if found.cut else None

        def drop(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.wfile.flush()
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = act

    return Handler
