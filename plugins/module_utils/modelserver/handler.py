# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What clients may ask the front: evidence for a nonce, whether there is a model, and everything that the model server is there for.

Each request is read whole, understood, and written anew for the model server, so that the two never disagree where one ends and the next begins. Answers
pass as they come: a stream of tokens reaches the client token by token. Nothing of a request or an answer is logged.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import time
import urllib.parse
from datetime import datetime, timezone

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.modelserver import envelope, upstream
from ansible_collections.attested.ai.plugins.module_utils.modelserver.desk import TooMany, read_nonce
from ansible_collections.attested.ai.plugins.module_utils.modelserver.envelope import Answer, Request
from ansible_collections.attested.ai.plugins.module_utils.modelserver.messages import CHUNK, GONE, Conversation, Refused

WELL_KNOWN = "/.well-known/attested-ai/"
SERVED = "attested.ai/served/1"


class Handler(Conversation):
    def do_GET(self) -> None:
        self._do("GET")

    def do_POST(self) -> None:
        self._do("POST")

    def _do(self, method: str) -> None:
        self.server.guard.end(self.waiting)
        kind = "model"
        try:
            own = self.path.split("?", 1)[0]
            if own.startswith(WELL_KNOWN):
                kind = own[len(WELL_KNOWN):]
                kind = kind if kind in ("evidence", "health", "encrypted") else "unknown"
            outcome = self._route(method, kind)
        except TooMany as error:
            outcome = self.refuse(429, error, {"Retry-After": str(error.seconds)})
        except Refused as error:
            outcome = self.refuse(error.status, error)
        except AttestedError as error:
            outcome = self.refuse(503 if kind == "evidence" and error.code != "nonce" else 400, error)
        except GONE:
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
            # A body would be taken for the next request.
            self.read_body(0)
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
        self.write_json(200, body, headers)
        return "ok"

    def _health(self) -> str:
        served = self.server.served()
        reachable = served is not None and upstream.connects(self.server.settings.socket)
        self.write_json(200 if reachable else 503, {"status": "ok" if reachable else "no-model", "served": served})
        return "ok" if reachable else "no-model"

    def _encrypted(self) -> str:
        body = self.read_body(envelope.ENCODED_MAX)
        now = datetime.now(timezone.utc)
        request = Request.open(strict.loads(bytes(body), "encrypted request"), self.server.identity.recipient, now)
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
        self.write_whole(200, "application/jose+json", payload, {"Cache-Control": "no-store"})
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

    def _forward(self, method: str) -> str:
        settings, metrics = self.server.settings, self.server.metrics
        body = self.read_body(settings.body_max)
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
        self.begun = True
        left = length
        # Counted here: not every version of the library ends an answer of a known length by itself.
        while not bodiless and left != 0:
            try:
                part = answer.read1(CHUNK if left is None else min(CHUNK, left))
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


def _no_model() -> Refused:
    return Refused(503, "no model answers", fix="Ask again later; if it stays so, see the state of the units on the server", code="no-model")
