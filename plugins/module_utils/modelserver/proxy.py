# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The front: TLS 1.3 with the attested key, evidence for whoever asks with a nonce, and everything else to the model server behind it.

Each request is read whole, understood, and written anew for the model server, so that the two never disagree where one ends and the next begins. Answers
pass as they come: a stream of tokens reaches the client token by token. Nothing of a request or an answer is logged.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import ssl
import threading
import time
import urllib.parse
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.modelserver import envelope, upstream
from ansible_collections.attested.ai.plugins.module_utils.modelserver.desk import Desk, TooMany, read_nonce
from ansible_collections.attested.ai.plugins.module_utils.modelserver.envelope import Answer, Request
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError
from ansible_collections.attested.ai.plugins.module_utils.modelserver.guard import Guard
from ansible_collections.attested.ai.plugins.module_utils.modelserver.identity import Identity
from ansible_collections.attested.ai.plugins.module_utils.modelserver.metrics import Metrics
from ansible_collections.attested.ai.plugins.module_utils.modelserver.seen import Seen
from ansible_collections.attested.ai.plugins.module_utils.modelserver.settings import Settings

WELL_KNOWN = "/.well-known/attested-ai/"
SERVED = "attested.ai/served/1"
_CHUNK = 64 << 10
_SERVED_MAX = 1 << 16
_METHODS = ("GET", "POST")
_DONE = (ConnectionError, TimeoutError, socket.timeout, ssl.SSLError)


class Refused(ServingError):
    """A request that is not passed on, with the status that says why."""

    def __init__(self, status: int, what: str, fix: str = "", code: str = "refused") -> None:
        super().__init__(what, fix=fix, code=code)
        self.status = status


class Front(ThreadingHTTPServer):
    """One thread for each connection, up to a limit. The handshake happens in that thread: who says nothing keeps nobody else waiting."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, listener: socket.socket, settings: Settings, identity: Identity, desk: Desk, metrics: Metrics) -> None:
        super().__init__(listener.getsockname()[:2], Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.settings, self.identity, self.desk, self.metrics = settings, identity, desk, metrics
        self.seen = Seen()
        self.guard = Guard(time.monotonic)
        self._room = threading.BoundedSemaphore(settings.connections)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.metrics.add("requests_total", kind="connection", outcome="no-room")
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self.metrics.add("connections", 1)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.metrics.add("connections", -1)
            self._room.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(self.settings.header_seconds)
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with self.guard.within(request, self.settings.header_seconds):
                channel = self.identity.context.wrap_socket(request, server_side=True)
        except (OSError, ValueError):
            self.metrics.add("requests_total", kind="handshake", outcome="failed")
            return
        try:
            Handler(channel, client_address, self)
        finally:
            self.shutdown_request(channel)

    def service_actions(self) -> None:
        self.guard.look()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to tell of, and what else went wrong must not tell of its request."""
        self.metrics.add("requests_total", kind="connection", outcome="broken")

    def served(self) -> Optional[Dict[str, Any]]:
        """Which model answers now, as the instance wrote it; None if none does."""
        try:
            with open(self.settings.served, "rb") as stream:
                found = strict.members(strict.loads(stream.read(_SERVED_MAX)), ("model_id", "release", "manifest_sha256"))
            return dict(found)
        except (OSError, AttestedError):
            return None


class Handler(BaseHTTPRequestHandler):
    server: Front
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "attested-ai", ""

    def handle_expect_100(self) -> bool:
        # Said only when the request is one that we take.
        return True

    def handle_one_request(self) -> None:
        # A request has to begin, and its headers to be whole, within one time, not within one for each byte.
        self._begun = False
        self._waiting = self.server.guard.begin(self.connection, self.server.settings.header_seconds)
        try:
            super().handle_one_request()
        except _DONE:
            self.close_connection = True
        finally:
            self.server.guard.end(self._waiting)

    def do_GET(self) -> None:
        self._do("GET")

    def do_POST(self) -> None:
        self._do("POST")

    def _do(self, method: str) -> None:
        self.server.guard.end(self._waiting)
        kind = "model"
        try:
            own = self.path.split("?", 1)[0]
            if own.startswith(WELL_KNOWN):
                kind = own[len(WELL_KNOWN):]
                kind = kind if kind in ("evidence", "health", "encrypted") else "unknown"
            outcome = self._route(method, kind)
        except TooMany as error:
            outcome = self._refuse(429, error, {"Retry-After": str(error.seconds)})
        except Refused as error:
            outcome = self._refuse(error.status, error)
        except AttestedError as error:
            outcome = self._refuse(503 if kind == "evidence" and error.code != "nonce" else 400, error)
        except _DONE:
            outcome, self.close_connection = "client-gone", True
        self.server.metrics.add("requests_total", kind=kind, outcome=outcome)

    def _route(self, method: str, kind: str) -> str:
        if self.request_version == "HTTP/0.9":
            self.request_version = "HTTP/1.1"
            raise Refused(400, "it names no version of HTTP", code="http")
        if any("\r" in text or "\n" in text for pair in self.headers.items() for text in pair):
            raise Refused(400, "one of its headers goes on in the next line", code="http")
        if kind in ("evidence", "health"):
            if method != "GET":
                raise Refused(405, "it can only be read", code="method")
            return self._evidence() if kind == "evidence" else self._health()
        if kind == "unknown":
            raise Refused(404, "below %s there are evidence, health and encrypted" % WELL_KNOWN, code="path")
        if kind == "encrypted":
            if method != "POST":
                raise Refused(405, "encrypted requests are posted", code="method")
            return self._encrypted()
        self._admit(self.path)
        return self._forward(method)

    # What clients ask the front itself.

    def _evidence(self) -> str:
        query = urllib.parse.parse_qs(self.path.partition("?")[2], keep_blank_values=True, max_num_fields=4)
        if set(query) - {"nonce"} or len(query.get("nonce", [])) > 1:
            raise Refused(400, "nonce is all that can be asked", code="nonce")
        nonce = read_nonce(query["nonce"][0]) if "nonce" in query else None
        began = time.monotonic()
        given = self.server.desk.answer(nonce, self.client_address[0])
        self.server.metrics.add("evidence_seconds_total", time.monotonic() - began)
        # Made again by whoever needs it later: a document is good for one nonce, and no cache on the way may keep it.
        headers = {"Cache-Control": "no-store", "Age": str(int(given.age))}
        body = {"schema": SERVED, "evidence": given.document, "served": self.server.served(), "lifetime": int(self.server.settings.lifetime)}
        self._json(200, body, headers)
        return "ok"

    def _health(self) -> str:
        served = self.server.served()
        reachable = served is not None and _connects(self.server.settings.socket)
        self._json(200 if reachable else 503, {"status": "ok" if reachable else "no-model", "served": served})
        return "ok" if reachable else "no-model"

    def _encrypted(self) -> str:
        body = self._body(envelope.ENCODED_MAX)
        now = datetime.now(timezone.utc)
        request = Request.open(strict.loads(body, "encrypted request"), self.server.identity.recipient, now)
        # The token, if one is needed, is the header's: it is for the front, and nothing of the request.
        self._admit(request.target)
        if not self.server.seen.first(request.identifier, request.not_after, now):
            raise Refused(409, "this request was answered before, or too many wait", fix="Make a new one", code="request-replayed")
        headers = {"Content-Type": request.content_type} if request.content_type else {}
        settings = self.server.settings
        try:
            status, found, data = upstream.fetch(settings.socket, settings.answer_seconds, request.method, request.target, headers,
                                                 request.body if request.method == "POST" else None, envelope.BODY_MAX)  # fmt: skip
        except (OSError, http.client.HTTPException):
            raise _no_model() from None
        answer = Answer(request.identifier, status, found.get("content-type", "")[:200], data)
        payload = json.dumps(answer.seal(request.reply_to)).encode("ascii")
        self._whole(200, "application/jose+json", payload, {"Cache-Control": "no-store"})
        return "ok"

    # What goes to the model.

    def _admit(self, target: str) -> None:
        settings = self.server.settings
        if not settings.allows(envelope.check_target(target)):
            raise Refused(404, "it is none of the paths that are served: %s" % ", ".join(settings.paths), code="path")
        if settings.tokens:
            scheme, _blank, token = self.headers.get("Authorization", "").partition(" ")
            digest = hashlib.sha256(token.strip().encode("utf-8", "replace")).hexdigest()
            # All are compared, in the same time whichever it is.
            known = sum(hmac.compare_digest(digest, one) for one in settings.tokens)
            if scheme.lower() != "bearer" or not known:
                raise Refused(401, "a bearer token that is known here is needed", code="token")

    def _body(self, most: int) -> bytes:
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
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        body = self._read(length)
        if len(body) != length:
            self.close_connection = True
            raise ConnectionAbortedError("the request broke off")
        return body

    def _read(self, length: int) -> bytes:
        """The body, within one time: a client that sends a byte now and then keeps its connection no longer than another."""
        parts: List[bytes] = []
        deadline = time.monotonic() + self.server.settings.header_seconds + length / 16384.0
        while length > 0:
            if time.monotonic() > deadline:
                raise TimeoutError("the request came too slowly")
            part = self.rfile.read1(min(length, _CHUNK))
            if not part:
                break
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def _forward(self, method: str) -> str:
        settings, metrics = self.server.settings, self.server.metrics
        body = self._body(settings.body_max)
        drop = ("Authorization",) if settings.tokens else ()
        headers = upstream.forwarded(self.headers.items(), drop)
        metrics.add("in_flight", 1)
        began = time.monotonic()
        try:
            try:
                connection, answer = upstream.ask(settings.socket, settings.answer_seconds, method, self.path, headers, body if method == "POST" else None)
            except ValueError:
                raise Refused(400, "one of its headers cannot be passed on", code="http") from None
            except (OSError, http.client.HTTPException):
                raise _no_model() from None
            try:
                self._pass_on(answer)
            finally:
                # A client that went away ends the work on its answer, too.
                connection.close()
        finally:
            metrics.add("in_flight", -1)
            metrics.add("seconds_total", time.monotonic() - began)
        return "ok" if answer.status < 500 else "model-failed"

    def _pass_on(self, answer: http.client.HTTPResponse) -> None:
        self.send_response(answer.status)
        for name, value in upstream.forwarded(answer.getheaders()):
            self.send_header(name, value)
        length = answer.length
        bodiless = answer.status in (204, 304) or self.command == "HEAD"
        chunked = length is None and not bodiless and self.request_version >= "HTTP/1.1"
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif length is not None:
            self.send_header("Content-Length", str(length))
        elif not bodiless:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self._begun = True
        left = length
        # Counted here: not every version of the library ends an answer of a known length by itself.
        while not bodiless and left != 0:
            try:
                part = answer.read1(_CHUNK if left is None else min(_CHUNK, left))
            except (OSError, http.client.HTTPException, ValueError):
                # The client must not take half an answer for a whole one.
                self.close_connection = True
                raise ConnectionAbortedError("the model server broke off") from None
            if not part:
                break
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            left = None if left is None else left - len(part)
        if left:
            self.close_connection = True
            raise ConnectionAbortedError("the model server broke off")
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    # How answers of the front look.

    def _refuse(self, status: int, error: AttestedError, headers: Optional[Mapping[str, str]] = None) -> str:
        if self._begun:
            self.close_connection = True
            return error.code
        # What of the request was not read would be taken for the next one.
        self.close_connection = True
        try:
            self._json(status, {"error": {"message": str(error), "code": error.code}}, headers)
        except _DONE:
            return "client-gone"
        return error.code

    def _json(self, status: int, body: Mapping[str, Any], headers: Optional[Mapping[str, str]] = None) -> None:
        self._whole(status, "application/json", json.dumps(body).encode("ascii"), headers)

    def _whole(self, status: int, kind: str, payload: bytes, headers: Optional[Mapping[str, str]] = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(payload)), **(headers or {})}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self._begun = True
        self.wfile.write(payload)

    def send_error(self, code: int, message: Optional[str] = None, explain: Optional[str] = None) -> None:
        """The library's own refusals, of what is no HTTP: without quoting it."""
        # Until it has read a version the library takes one for granted that has no headers.
        self.request_version = "HTTP/1.1"
        self._refuse(int(code), Refused(int(code), "this is no request that is understood here", code="http"))

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing: nobody else is to learn what is asked."""


def _no_model() -> Refused:
    return Refused(503, "no model answers", fix="Ask again later; if it stays so, see the state of the units on the server", code="no-model")


def _connects(path: str) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(upstream.CONNECT_SECONDS)
            probe.connect(path)
        return True
    except OSError:
        return False


class MetricsServer(ThreadingHTTPServer):
    """Numbers on an address of their own, for loopback: clients do not learn how busy the server is."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, metrics: Metrics, front: Front, path: str) -> None:
        super().__init__(listener.getsockname()[:2], MetricsHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.metrics, self.front, self.path = metrics, front, path


class MetricsHandler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = 10

    def do_GET(self) -> None:
        if self.path != "/metrics":
            self.send_error(404)
            return
        front = self.server.front
        self.server.metrics.put("up", float(front.served() is not None and _connects(front.settings.socket)))
        text = self.server.metrics.text().encode("ascii")
        if self.server.path:
            text += self._of_the_model()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _of_the_model(self) -> bytes:
        try:
            status, _headers, data = upstream.fetch(self.server.front.settings.socket, 10.0, "GET", self.server.path, {}, None, 4 << 20)
        except (OSError, http.client.HTTPException):
            return b""
        return data if status == 200 else b""

    def log_message(self, *_arguments: Any) -> None:
        """Nothing."""
