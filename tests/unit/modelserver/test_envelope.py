# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that are encrypted from the client into the TEE, and what becomes of those that were tampered with."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys
from ansible_collections.attested.ai.plugins.module_utils.modelserver import envelope
from ansible_collections.attested.ai.plugins.module_utils.modelserver.client import Sealed
from ansible_collections.attested.ai.plugins.module_utils.modelserver.envelope import Answer, Request
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError
from ansible_collections.attested.ai.plugins.module_utils.modelserver.seen import Seen

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=timezone.utc)
SERVER, CLIENT, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _key in range(3))
PUBLIC = keys.public_jwk(SERVER, jwe.ECDH)


def request(**more):
    return Request(**{"method": "POST", "target": "/v1/x", "content_type": "text/plain", "body": b"secret", "reply_to": keys.public_jwk(CLIENT),
                      "not_after": NOW + timedelta(minutes=5), **more})  # fmt: skip


def sealed(**changes):
    """What somebody with the server's public key can make, in any form."""
    made = {"schema": envelope.REQUEST, "id": "i" * 24, "method": "POST", "target": "/v1/x", "content_type": "", "body": "",
            "reply_to": keys.public_jwk(CLIENT), "not_after": "2026-01-31T12:05:00Z", **changes}  # fmt: skip
    return jwe.wrap_flattened(jcs.canonicalize({name: value for name, value in made.items() if value is not None}), PUBLIC)


def test_there_and_back():
    asked = request()
    wire = asked.seal(PUBLIC)
    assert "secret" not in json.dumps(wire) and "/v1/x" not in json.dumps(wire)
    assert Request.open(wire, SERVER, NOW) == asked
    answer = Answer(asked.identifier, 200, "application/json", b"{}")
    assert Answer.open(answer.seal(asked.reply_to), CLIENT, asked.identifier) == answer


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"not_after": "2026-01-31T11:59:59Z"}, "request-expired"),
        ({"not_after": "2026-03-31T11:59:59Z"}, "request-lifetime"),
        ({"method": "DELETE"}, "request-form"),
        ({"target": "v1/x"}, "request-form"),
        ({"target": "/v1/x\r\nHost: b"}, "request-form"),
        ({"target": "/v1/x y"}, "request-form"),
        ({"id": "short"}, "request-form"),
        ({"content_type": "a\r\nX: b"}, "request-form"),
        ({"schema": envelope.ANSWER}, "request-form"),
        ({"more": 1}, "request-form"),
        ({"body": None}, "request-form"),
        ({"body": "=="}, "format"),
        ({"reply_to": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}}, "format"),
    ],
)
def test_request_that_is_not_one_is_refused(changes, code):
    with pytest.raises(AttestedError) as caught:
        Request.open(sealed(**changes), SERVER, NOW)
    assert caught.value.code == code


def test_words_of_a_request_are_in_no_message():
    wire = jwe.wrap_flattened(b'{"schema": "patient has a secret', PUBLIC)
    with pytest.raises(AttestedError) as caught:
        Request.open(wire, SERVER, NOW)
    assert "patient" not in str(caught.value)


@pytest.mark.parametrize("change", ["ciphertext", "tag", "encrypted_key", "iv", "protected"])
def test_changed_on_the_way(change):
    wire = request().seal(PUBLIC)
    text = wire[change]
    wire[change] = ("B" if text[0] == "A" else "A") + text[1:]
    with pytest.raises(AttestedError):
        Request.open(wire, SERVER, NOW)


def test_other_keys_open_nothing():
    asked = request()
    with pytest.raises(AttestedError) as caught:
        Request.open(asked.seal(keys.public_jwk(OTHER, jwe.ECDH)), SERVER, NOW)
    assert caught.value.code == "jwe-wrong-key"
    answer = Answer("a" * 24, 200, "", b"")
    with pytest.raises(AttestedError) as caught:
        Answer.open(answer.seal(keys.public_jwk(OTHER)), CLIENT, "a" * 24)
    assert caught.value.code == "jwe-wrong-key"


def test_answer_to_another_request_is_refused():
    with pytest.raises(ServingError) as caught:
        Answer.open(Answer("a" * 24, 200, "", b"").seal(keys.public_jwk(CLIENT)), CLIENT, "b" * 24)
    assert caught.value.code == "answer-other"


def test_what_is_too_long_is_refused_before_it_is_sent():
    request(body=bytes(envelope.BODY_MAX)).seal(PUBLIC)
    with pytest.raises(ServingError) as caught:
        request(body=bytes(envelope.BODY_MAX + 1)).seal(PUBLIC)
    assert caught.value.code == "request-size"


def test_seen_remembers_until_the_end_and_never_forgets_early():
    seen = Seen(most=2)
    until = NOW + timedelta(minutes=1)
    assert seen.first("a", until, NOW) and not seen.first("a", until, NOW)
    assert seen.first("b", until, NOW) and not seen.first("c", until, NOW)
    assert not seen.first("a", until, until) and seen.first("c", until + timedelta(minutes=1), until + timedelta(seconds=1))


def test_through_the_front(lab):
    server = lab.verified()
    answer = server.request_encrypted("POST", "/v1/x", b"secret", "text/plain")
    assert answer.status == 200 and json.loads(answer.body)["path"] == "/v1/x"
    method, path, headers, body = lab.model.got[-1]
    assert (method, path, headers["content-type"], body) == ("POST", "/v1/x", "text/plain", b"secret")
    # A copy of it, by whoever saw it pass, is not answered again; and a path that is not served is refused inside as outside.
    one = Sealed.make(server.verified.jwk, "POST", "/v1/x", b"again", "text/plain")
    assert one.open(server.carry(one.jwe)).status == 200
    with pytest.raises(ServingError, match="answered before"):
        server.carry(one.jwe)
    with pytest.raises(ServingError, match="none of the paths"):
        server.request_encrypted("POST", "/admin", b"")
    assert len(lab.model.got) == 2


def test_refusals_of_the_model_come_back_encrypted(lab):
    lab.model.script = [b"HTTP/1.1 422 Unprocessable\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno"]
    answer = lab.verified().request_encrypted("POST", "/v1/x", b"{}")
    assert (answer.status, answer.body) == (422, b"no")


def test_oversize_encrypted_request_ends_here(lab):
    answer = lab.raw(b"POST /.well-known/attested-ai/encrypted HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (envelope.ENCODED_MAX + 1))
    assert b" 413 " in answer.partition(b"\r\n")[0] and lab.model.got == []
