# SPDX-License-Identifier: GPL-3.0-or-later
"""The front, over real TLS on loopback: what passes, what does not, and what a hostile client can make it do."""

from __future__ import annotations

import hashlib
import json
import ssl

import pytest
from modelserver_lab import SERVED, wait_for

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.modelserver import settings as settings_module
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError
from ansible_collections.attested.ai.plugins.module_utils.modelserver.identity import client_context, make_identity

EVIDENCE = "/.well-known/attested-ai/evidence"


def get(path, *more):
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: lab", "Connection: close", *more, "", "")).encode()


def status_of(answer):
    return int(answer.split(b" ", 2)[1]) if answer else 0


def code_of(answer):
    return json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"]


def test_verified_client_asks_the_model(lab):
    server = lab.server()
    found = server.verify()
    assert (found.spki, found.served, found.verdict) == (lab.identity.spki, SERVED, "accepted")
    answer = server.request("POST", "/v1/embed?x=1", b"{}")
    assert answer.status == 200 and json.loads(answer.body) == {"path": "/v1/embed?x=1", "sha256": hashlib.sha256(b"{}").hexdigest()}
    # What belongs to the hop between front and model stays there.
    assert "keep-alive" not in answer.headers
    _method, _path, headers, _body = lab.model.got[-1]
    assert headers["content-type"] == "application/json" and headers["host"] == "localhost"
    wait_for(lambda: 'attested_model_requests_total{kind="model",outcome="ok"} 1' in lab.outcomes())
    assert "embed" not in lab.outcomes()


def test_nothing_is_sent_before_the_server_is_verified(lab):
    for ask in (lambda: lab.server().request("POST", "/v1/embed", b"secret"), lambda: lab.server().request_encrypted("POST", "/v1/embed", b"secret")):
        with pytest.raises(ServingError) as caught:
            ask()
        assert caught.value.code == "not-verified"
    assert lab.model.got == []


def test_relay_with_a_key_of_its_own_is_found_out(lab):
    # It passes genuine evidence on, but must show a key that it holds.
    lab.front.identity = make_identity("relay")
    with pytest.raises(ServingError) as caught:
        lab.server().verify()
    assert caught.value.code == "key-unattested" and "Nothing was sent" in str(caught.value)


def test_relay_that_comes_later_gets_no_byte(lab):
    server = lab.verified()
    lab.front.identity = make_identity("relay")
    for ask in (lambda: server.request("POST", "/v1/embed", b"secret"), lambda: server.request_encrypted("POST", "/v1/embed", b"secret")):
        with pytest.raises(ServingError) as caught:
            ask()
        assert caught.value.code == "key-other"
    assert lab.model.got == []


def test_evidence_with_a_binding_that_was_changed_is_refused(lab):
    other = make_identity("relay")
    lab.front.identity = other
    real = lab.collect
    # The relay puts its own key into the document; the report covers the genuine one.
    lab.desk._collect = lambda nonce: dict(real(nonce), binding={"tls-spki": other.spki, "tee-pubkey": other.jwk})
    with pytest.raises(ServingError) as caught:
        lab.server().verify()
    assert caught.value.code == "refused"


def test_evidence_for_another_nonce_is_refused(lab):
    old = lab.collect(b"o" * 32)
    lab.desk._collect = lambda nonce: old
    with pytest.raises(ServingError) as caught:
        lab.server().verify()
    assert caught.value.code == "refused"


def test_older_tls_is_refused(lab):
    context = client_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        lab.connect(context)
    with lab.connect() as channel:
        assert channel.version() == "TLSv1.3"


def test_cached_evidence_expires_and_is_never_given_out_too_old(lab):
    first = json.loads(lab.raw(get(EVIDENCE)).partition(b"\r\n\r\n")[2])
    lab.clock.now += 200
    again = lab.raw(get(EVIDENCE))
    assert b"Age: 200" in again and json.loads(again.partition(b"\r\n\r\n")[2]) == first and len(lab.collected) == 1
    lab.clock.now += 100
    lab.fail = "the TEE does not answer"
    late = lab.raw(get(EVIDENCE))
    assert status_of(late) == 503 and b"the TEE does not answer" in late and len(lab.collected) == 2


@pytest.mark.parametrize("query", ["?nonce=", "?nonce=AAAA", "?nonce=" + "A" * 200, "?nonce=====", "?other=1", "?nonce=%41%41&nonce=BB", "?nonce=a&b=c"])
def test_nonce_that_is_none_reaches_no_tee(lab, query):
    answer = lab.raw(get(EVIDENCE + query))
    assert status_of(answer) == 400 and code_of(answer) == "nonce" and lab.collected == []


def test_evidence_is_limited_in_rate_and_the_model_is_not(lab):
    statuses = [status_of(lab.raw(get(f"{EVIDENCE}?nonce={strict.encode_base64url(bytes([number]) * 32)}"))) for number in range(6)]
    assert statuses == [200, 200, 200, 200, 429, 429]
    answer = lab.raw(get(f"{EVIDENCE}?nonce={strict.encode_base64url(b'x' * 32)}"))
    assert b"Retry-After: 2" in answer and code_of(answer) == "rate-limit" and len(lab.collected) == 4
    # The same question again costs the TEE nothing; and time gives new ones.
    assert status_of(lab.raw(get(f"{EVIDENCE}?nonce={strict.encode_base64url(bytes([1]) * 32)}"))) == 200
    lab.clock.now += 2
    assert status_of(lab.raw(get(f"{EVIDENCE}?nonce={strict.encode_base64url(b'x' * 32)}"))) == 200
    assert status_of(lab.raw(get("/v1/models"))) == 200


@pytest.mark.parametrize(
    "path", ["/", "/v2/repository/models/x/unload", "/v1", "/v1x/", "/metrics", "/v1/../admin", "/v1/%2e%2e/admin", "/v1/a%2f..%2fadmin", "/v1//admin",
             "/v1/\\..\\admin", "https://other/v1/x", "/healthz"],
)  # fmt: skip
def test_only_listed_paths_reach_the_model(lab, path):
    answer = lab.raw(get(path))
    # "/v1" without a slash is not below "/v1/".
    assert status_of(answer) in (400, 404) and lab.model.got == [], answer


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n", 413),
        ("POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        ("POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", 411),
        ("POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        ("POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
        ("POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST /v1/x HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", 400),
        ("GET /.well-known/attested-ai/health HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n", 413),
        ("DELETE /v1/x HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("GET /v1/x HTTP/9.9\r\n\r\n", 505),
        ("nonsense\r\n\r\n", 400),
        ("GET /v1/x\r\n\r\n", 400),
        ("GET /" + "x" * 70000 + " HTTP/1.1\r\n\r\n", 414),
        ("GET /v1/x HTTP/1.1\r\n" + "A: b\r\n" * 200 + "\r\n", 431),
    ],
)
def test_requests_that_could_mean_two_things_or_too_much_end_here(lab, request_text, status):
    answer = lab.raw(request_text.encode())
    assert status_of(answer) == status and lab.model.got == [] and b"Traceback" not in answer, answer
    assert answer.count(b"HTTP/1.1 ") == 1


def test_bodies_of_one_peer_do_not_take_all_memory(lab):
    lab.restart(body_max=50_000, bodies_max=200_000)
    with lab.connect() as slow:
        slow.sendall(b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + b"x" * 10)
        wait_for(lambda: lab.front.budget._lent == 50_000)
        assert code_of(lab.raw(b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\ny")) == "no-room"
    wait_for(lambda: lab.front.budget._lent == 0)
    assert lab.verified().request("POST", "/v1/x", b"y" * 50_000).status == 200
    # It is given back after the answer was sent.
    wait_for(lambda: lab.front.budget._peers == {})


def test_stream_passes_event_by_event(lab):
    lab.model.script = [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", b"9\r\ndata: 1\n\n\r\n", None,
                        b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"]  # fmt: skip
    with lab.connect() as channel:
        channel.sendall(get("/v1/stream"))
        seen = b""
        while b"data: 1\n\n" not in seen:
            seen += channel.recv(65536)
        # The second event does not exist yet: what came, came at once.
        assert b"data: 2" not in seen
        lab.model.hold.set()
        while not seen.endswith(b"0\r\n\r\n"):
            seen += channel.recv(65536)
    assert b"data: 2\n\n" in seen and b"text/event-stream" in seen


def test_client_that_goes_away_ends_the_work_on_its_answer(lab):
    event = b"9\r\ndata: 1\n\n\r\n"
    lab.model.script = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", event, None, *[event] * 2000]
    channel = lab.connect()
    channel.sendall(get("/v1/stream"))
    while b"data" not in channel.recv(65536):
        pass
    channel.close()
    lab.model.hold.set()
    assert lab.model.gone.wait(10)


@pytest.mark.parametrize(
    "script",
    [
        [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"],
    ],
)
def test_half_an_answer_is_not_taken_for_a_whole_one(lab, script):
    lab.model.script = script
    server = lab.verified()
    # The scripted model server ends the connection without more, once the request has been read.
    lab.model.RequestHandlerClass = _hang_up_after(lab.model.RequestHandlerClass)
    with pytest.raises(ServingError) as caught:
        server.request("POST", "/v1/x", b"{}")
    assert caught.value.code == "unreachable"


def _hang_up_after(handler):
    class Ending(handler):
        def _do(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            for part in self.server.script:
                self.wfile.write(part)
            self.close_connection = True

    return Ending


@pytest.mark.parametrize("script", [[b"no http at all\r\n\r\n"], [b""]])
def test_model_server_that_talks_nonsense_or_is_gone_gives_503(lab, script):
    lab.model.script = script
    lab.model.RequestHandlerClass = _hang_up_after(lab.model.RequestHandlerClass)
    assert status_of(lab.raw(get("/v1/x"))) == 503
    lab.model.shutdown()
    lab.model.server_close()
    (lab.folder / "a" / "model.sock").unlink()
    answer = lab.raw(get("/v1/x"))
    assert status_of(answer) == 503 and code_of(answer) == "no-model"
    health = lab.raw(get("/.well-known/attested-ai/health"))
    assert status_of(health) == 503 and b"no-model" in health


def test_health_names_the_model(lab):
    answer = lab.raw(get("/.well-known/attested-ai/health"))
    assert status_of(answer) == 200 and json.loads(answer.partition(b"\r\n\r\n")[2]) == {"status": "ok", "served": SERVED}


def test_slow_clients_keep_nobody_else_waiting(lab):
    lab.restart(header_seconds=1.0, connections=2)
    # Drips a byte within each timeout of the socket: only a time for the whole ends it.
    slow = [lab.connect() for _number in range(2)]
    for channel in slow:
        channel.sendall(b"GET /v1/x HTTP/1.1\r\nHo")
    for channel in slow:
        try:
            assert channel.recv(10) == b""
        except (ssl.SSLError, ConnectionError):
            pass
    wait_for(lambda: status_of(_try(lab)) == 200)


def _try(lab):
    try:
        return lab.raw(get("/v1/x"))
    except (OSError, ssl.SSLError):
        return b""


def test_tokens_are_needed_where_there_are_any_and_stay_here(lab):
    lab.restart(tokens=[hashlib.sha256(b"good").hexdigest()])
    assert status_of(lab.raw(get("/v1/x"))) == 401
    assert status_of(lab.raw(get("/v1/x", "Authorization: Bearer bad"))) == 401
    assert lab.model.got == []
    assert lab.verified(token="good").request("GET", "/v1/x").status == 200
    assert "authorization" not in lab.model.got[-1][2]
    with pytest.raises(ServingError, match="bearer token"):
        lab.verified().request_encrypted("POST", "/v1/x", b"{}")
    assert lab.verified(token="good").request_encrypted("POST", "/v1/x", b"{}").status == 200


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"paths": []}, "paths"), ({"paths": ["v1"]}, "paths"), ({"port": 0}, "port"), ({"unknown": 1}, "unknown"), ({"lifetime": -1}, "lifetime"),
        ({"body_max": 1 << 30}, "quarter"),
        ({"body_max": True}, "body_max"), ({"tokens": ["abc"]}, "tokens"), ({"evidence": {"nonce": "x"}}, "nonce"),
        ({"for_all": {"per_second": 0, "burst": 1}}, "for_all"),
    ],
)  # fmt: skip
def test_configuration_is_read_strictly(change, what):
    with pytest.raises(AttestedError, match=what):
        settings_module.parse({"name": "a", "address": "127.0.0.1", "port": 1, "user": "", "runtime": "/run/x", "paths": ["/v1/"], **change})
