# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the front reads requests and writes answers. A request that could mean two things, or takes too long, ends here, and is answered without quoting it."""

from __future__ import annotations

import json
import socket
import ssl
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError

if TYPE_CHECKING:
    from ansible_collections.attested.ai.plugins.module_utils.modelserver.proxy import Front

CHUNK = 64 << 10
# Bytes of a body in a second: who sends them more slowly holds memory that others need.
SLOWEST = 64 << 10
# How a client shows that it went away.
GONE = (ConnectionError, TimeoutError, socket.timeout, ssl.SSLError)


class Refused(ServingError):
    """A request that is not passed on, with the status that says why."""

    def __init__(self, status: int, what: str, fix: str = "", code: str = "refused") -> None:
        super().__init__(what, fix=fix, code=code)
        self.status = status


class Conversation(BaseHTTPRequestHandler):
    """One connection of a client. What is asked for is decided by a subclass."""

    server: Front
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "attested-ai", ""

    def handle_expect_100(self) -> bool:
        # Said only when the request is one that we take.
        return True

    def handle_one_request(self) -> None:
        # A request has to begin, and its headers to be whole, within one time, not within one for each byte.
        self.begun, self.held = False, 0
        self.waiting = self.server.guard.begin(self.connection, self.server.settings.header_seconds)
        try:
            super().handle_one_request()
        except GONE:
            self.close_connection = True
        finally:
            self.server.guard.end(self.waiting)
            self.server.budget.give(self.client_address[0], self.held)

    def read_body(self, most: int) -> bytearray:
        """The body, which must be of a known length. Its memory is given back when the request is done."""
        if self.headers.get("Transfer-Encoding") is not None:
            self.close_connection = True
            raise Refused(411, "a request must say its length", fix="Send it with Content-Length", code="length")
        lengths = self.headers.get_all("Content-Length", ["0"])
        text = lengths[0].strip()
        if len(lengths) != 1 or not (text.isascii() and text.isdigit()) or len(text) > 15:
            self.close_connection = True
            raise Refused(400, "its length is no number, or there are two", code="length")
        length = int(text)
        if length > most:
            self.close_connection = True
            raise Refused(413, "it is %d bytes, %d are possible" % (length, most), code="request-size")
        if not self.server.budget.take(self.client_address[0], length):
            self.close_connection = True
            raise Refused(503, "too much is being sent at once", fix="Ask again later", code="no-room")
        self.held += length
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        body = self._read(length)
        if len(body) != length:
            self.close_connection = True
            raise ConnectionAbortedError("the request broke off")
        return body

    def _read(self, length: int) -> bytearray:
        """The body, within one time: a client that sends a byte now and then keeps its connection no longer than another."""
        body = bytearray()
        deadline = time.monotonic() + self.server.settings.header_seconds + length / SLOWEST
        while length > 0:
            if time.monotonic() > deadline:
                raise TimeoutError("the request came too slowly")
            part = self.rfile.read1(min(length, CHUNK))
            if not part:
                break
            body += part
            length -= len(part)
        return body

    def refuse(self, status: int, error: AttestedError, headers: Optional[Mapping[str, str]] = None) -> str:
        if self.begun:
            self.close_connection = True
            return error.code
        # What of the request was not read would be taken for the next one.
        self.close_connection = True
        try:
            self.write_json(status, {"error": {"message": str(error), "code": error.code}}, headers)
        except GONE:
            return "client-gone"
        return error.code

    def write_json(self, status: int, body: Mapping[str, Any], headers: Optional[Mapping[str, str]] = None) -> None:
        self.write_whole(status, "application/json", json.dumps(body).encode("ascii"), headers)

    def write_whole(self, status: int, kind: str, payload: bytes, headers: Optional[Mapping[str, str]] = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(payload)), **(headers or {})}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.begun = True
        self.wfile.write(payload)

    def send_error(self, code: int, message: Optional[str] = None, explain: Optional[str] = None) -> None:
        """The library's own refusals, of what is no HTTP: without quoting it."""
        # Until it has read a version the library takes one for granted that has no headers.
        self.request_version = "HTTP/1.1"
        self.refuse(int(code), Refused(int(code), "this is no request that is understood here", code="http"))

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing: nobody else is to learn what is asked."""
