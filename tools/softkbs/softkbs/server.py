# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of the soft KBS: HTTP or HTTPS on loopback, with faults on request."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .service import Kbs, Reply


@dataclass
class Fault:
    """One misbehaviour: ``kind`` is drop, drip, garbage, huge, status or redirect. It holds for ``times`` requests whose target contains ``path``, after
    ``skip`` of them."""

    kind: str
    path: str = ""
    method: str = ""
    skip: int = 0
    times: int = 1 << 30
    value: int = 503


class Server:
    def __init__(self, kbs: Kbs, certificate: tuple[Path, Path] | None = None) -> None:
        self.kbs = kbs
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.clock_ahead = 0.0
        handler = type("Handler", (_Handler,), {"outer": self})
        self._http = _Listening(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._http.tls = context
            self.scheme = "https"

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Server]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()

    def fault_for(self, method: str, target: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.path in target and fault.method in ("", method):
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None


class _Listening(ThreadingHTTPServer):
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        # The handshake belongs into the thread of the connection: a client that stops in the middle of it must not stop the others.
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(5)
        with self.tls.wrap_socket(request, server_side=True) as channel:
            super().finish_request(channel, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    outer: Server
    protocol_version = "HTTP/1.1"
    timeout = 10

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.outer.requests.append((self.command, self.path))
        fault = self.outer.fault_for(self.command, self.path)
        self.close_connection = True
        if fault is not None and fault.kind == "drop":
            return
        reply = Reply(200) if fault else self.outer.kbs.answer(self.command, self.path, body, {name.lower(): value for name, value in self.headers.items()})
        if fault is not None:
            reply = self._faulty(fault)
        head = {"Content-Length": str(len(reply.body)), "Date": formatdate(time.time() + self.outer.clock_ahead, usegmt=True), **reply.headers}
        lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in head.items()), "Connection: close", "", ""]
        data = "\r\n".join(lines).encode("latin-1") + reply.body
        if fault is None or fault.kind != "drip":
            self.wfile.write(data)
            return
        with contextlib.suppress(OSError):
            for byte in data:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)

    @staticmethod
    def _faulty(fault: Fault) -> Reply:
        if fault.kind == "garbage":
            return Reply(200, b"<html>it works</html>", {"Content-Type": "text/html"})
        if fault.kind == "huge":
            return Reply(200, b"x" * (9 << 20))
        if fault.kind == "redirect":
            return Reply(302, b"", {"Location": "https://elsewhere.example.org/"})
        if fault.kind == "drip":
            return Reply(200, b"x" * 1000)
        return Reply(fault.value, b"no")

    do_GET = do_POST = do_DELETE = do_PUT = _do  # noqa: N815

    def log_message(self, *_arguments: object) -> None:
        """Paths of requests name resources."""
