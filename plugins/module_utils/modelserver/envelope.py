# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Requests and answers that are encrypted from the client into the TEE and back, whatever carries them: flattened JWE around canonical JSON.

A request goes to the attested key of the server and names, inside, the key that the answer is for. Who does not hold the server's key neither reads the
request nor knows that key, and so cannot make an answer that opens. The answer repeats the request's identifier.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, Mapping

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import format_time, parse_time
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError

REQUEST, ANSWER = "attested.ai/request/1", "attested.ai/answer/1"
METHODS = ("GET", "POST")
# What is around a body of this size still fits into a JWE of jwe.PLAINTEXT_MAX bytes.
BODY_MAX = (jwe.PLAINTEXT_MAX - 8192) * 3 // 4
# A flattened JWE of the largest plaintext, in base64url and with its other members.
ENCODED_MAX = jwe.PLAINTEXT_MAX * 4 // 3 + 8192
LIFETIME = timedelta(minutes=10)
# For files that wait for their turn. The server remembers identifiers for as long.
LIFETIME_MAX = timedelta(days=7)
_TARGET = re.compile(r"/[\x21-\x7e]{0,2047}\Z")
_TYPE = re.compile(r"[\x20-\x7e]{0,200}\Z")


@dataclass(frozen=True)
class Request:
    """What is asked of the model server. ``reply_to`` is the public JWK of whoever is to read the answer."""

    method: str
    target: str
    content_type: str
    body: bytes = field(repr=False)
    reply_to: Mapping[str, str]
    not_after: datetime
    identifier: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def seal(self, server: Mapping[str, Any]) -> Dict[str, str]:
        """Encrypt to the attested key of the server. Raises ServingError where the body is too long."""
        check_target(self.target)
        if len(self.body) > BODY_MAX:
            raise ServingError("it is %d bytes, %d are possible" % (len(self.body), BODY_MAX), where="body",
                               fix="Send less at once, or send it over TLS without encrypting it a second time", code="request-size")  # fmt: skip
        return jwe.wrap_flattened(
            jcs.canonicalize({
                "schema": REQUEST, "id": self.identifier, "method": self.method, "target": self.target, "content_type": self.content_type,
                "body": strict.encode_base64url(self.body), "reply_to": dict(self.reply_to), "not_after": format_time(self.not_after),
            }),
            server,
        )  # fmt: skip

    @classmethod
    def open(cls, sealed: Any, key: Any, now: datetime) -> Request:
        """Decrypt with the server's private key and check everything. Raises AttestedError; no message shows what is inside."""
        where = "encrypted request"
        text = jwe.unwrap_flattened(sealed, key, where)
        obj = _members(text, REQUEST, ("id", "method", "target", "content_type", "body", "reply_to", "not_after"), where)
        not_after = parse_time(obj["not_after"], where + " not_after")
        if now > not_after:
            raise ServingError("it was to be answered until %s" % format_time(not_after), where=where, fix="Send a new one", code="request-expired")
        if not_after - now > LIFETIME_MAX:
            raise ServingError("it claims to be good for more than %d days" % LIFETIME_MAX.days, where=where, code="request-lifetime")
        if obj["method"] not in METHODS:
            raise ServingError("the method is none of %s" % ", ".join(METHODS), where=where, code="request-form")
        identifier = strict.text_of(obj["id"], where + " id", 64)
        if len(identifier) < 16:
            raise ServingError("the identifier is too short", where=where, code="request-form")
        return cls(
            method=obj["method"], target=check_target(obj["target"]), content_type=_content_type(obj["content_type"], where),
            body=strict.decode_base64url(obj["body"], where + " body", 0, BODY_MAX),
            reply_to=keys.check_public_jwk(obj["reply_to"], keys.AGREEMENT_CURVES, where + " reply_to"), not_after=not_after, identifier=identifier,
        )  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What the model server said to the request of this identifier."""

    identifier: str
    status: int
    content_type: str
    body: bytes = field(repr=False)

    def seal(self, reply_to: Mapping[str, Any]) -> Dict[str, str]:
        if len(self.body) > BODY_MAX:
            raise ServingError("the answer is %d bytes, %d are possible" % (len(self.body), BODY_MAX), where="answer",
                               fix="Ask for less at once", code="answer-size")  # fmt: skip
        return jwe.wrap_flattened(
            jcs.canonicalize({
                "schema": ANSWER, "id": self.identifier, "status": self.status, "content_type": self.content_type,
                "body": strict.encode_base64url(self.body),
            }),
            reply_to,
        )  # fmt: skip

    @classmethod
    def open(cls, sealed: Any, key: Any, identifier: str) -> Answer:
        """Decrypt with the private key of reply_to. Raises AttestedError, also for the answer to another request."""
        where = "encrypted answer"
        obj = _members(jwe.unwrap_flattened(sealed, key, where), ANSWER, ("id", "status", "content_type", "body"), where)
        if obj["id"] != identifier:
            raise ServingError("it answers another request", where=where, fix="Do not trust what carried it", code="answer-other")
        status = obj["status"]
        if isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599:
            raise ServingError("its status is no number from 100 to 599", where=where, code="answer-form")
        body = strict.decode_base64url(obj["body"], where + " body", 0, BODY_MAX)
        return cls(identifier, status, _content_type(obj["content_type"], where), body)


def check_target(target: Any) -> str:
    """A path with its query, of printable ASCII. Raises ServingError."""
    if not isinstance(target, str) or not _TARGET.match(target):
        raise ServingError("a path like /v1/completions was expected", where="target", code="request-form")
    return target


def expires(lifetime: timedelta = LIFETIME) -> datetime:
    """Now and so long."""
    return datetime.now(timezone.utc).replace(microsecond=0) + lifetime


def _content_type(value: Any, where: str) -> str:
    text = strict.text_of(value, where + " content_type", 200)
    if not _TYPE.match(text):
        raise ServingError("its content type is no printable text", where=where, code="request-form")
    return text


def _members(text: bytes, schema: str, names: Any, where: str) -> Mapping[str, Any]:
    try:
        obj = strict.members(strict.loads(text, where), ("schema",) + tuple(names), where=where)
    except AttestedError:
        # Errors of JSON quote what they read.
        raise ServingError("what is inside has not the form that it must have", where=where, code="request-form") from None
    if obj["schema"] != schema:
        raise ServingError("what is inside is no %s" % schema, where=where, code="request-form")
    return obj
