# SPDX-License-Identifier: GPL-3.0-or-later
"""A KBS that is down, slow, somebody else's, or out of time: each is told apart, and no token goes where it should not."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import threading
import time

import kbs_lab
import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.exchange import hang_up
from ansible_collections.attested.ai.plugins.module_utils.kbs import plan
from ansible_collections.attested.ai.plugins.module_utils.kbs.explain import clock_skew, explain
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.kbs.state import State
from ansible_collections.attested.ai.plugins.module_utils.kbs.token import AdminKey, load_admin_key, load_token
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Answer, Patience, make_transport, patient
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Server as Address
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from softkbs.server import Fault

PLACE = Resource.parse("a/b/c")


def code_of(act) -> str:
    with pytest.raises(AttestedError) as caught:
        act()
    assert "Traceback" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize(("fault", "code"), [
    (Fault("drop"), "kbs-broken-off"), (Fault("garbage"), "kbs-answer"), (Fault("huge"), "kbs-answer"), (Fault("redirect"), "kbs-redirect"),
    (Fault("status", value=503), "kbs-unavailable"), (Fault("status", value=500), "kbs-foreign"), (Fault("drip"), "kbs-slow"),
], ids=lambda value: value if isinstance(value, str) else value.kind + str(value.value))  # fmt: skip
def test_every_way_to_answer_badly_has_a_name(soft, fault, code):
    soft.server.faults.append(fault)
    admin = soft.admin()
    admin = type(admin)(make_transport(Address(soft.url, timeout=0.6)), admin.token, soft.url)
    assert code_of(admin.policies) == code


def test_an_answer_that_drips_through_tls_ends_in_time(tmp_path):
    with kbs_lab.soft_peer(tmp_path) as peer:
        peer.server.faults.append(Fault("drip"))
        before = time.monotonic()
        assert code_of(lambda: make_transport(Address(peer.url, ca=peer.ca, timeout=0.6))("GET", "/healthz", None, {})) == "kbs-slow"
        assert time.monotonic() - before < 10


def test_down_unknown_and_silent():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert code_of(lambda: make_transport(Address(f"https://127.0.0.1:{port}"))("GET", "/healthz", None, {})) == "kbs-unreachable"
    assert code_of(lambda: make_transport(Address("https://kbs.invalid"))("GET", "/healthz", None, {})) in ("kbs-name", "kbs-unreachable")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"https://127.0.0.1:{silent.getsockname()[1]}"
        before = time.monotonic()
        assert code_of(lambda: make_transport(Address(address, timeout=0.4))("GET", "/healthz", None, {})) == "kbs-slow"
        assert time.monotonic() - before < 30


@contextlib.contextmanager
def listening(serve):
    """A server of one connection, in a thread; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def run():
            with contextlib.suppress(OSError), listener.accept()[0] as channel:
                serve(channel)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield "127.0.0.1:%d" % listener.getsockname()[1]
        thread.join(30)


def test_an_answer_that_breaks_off_is_none():
    def cut_short(channel):
        channel.recv(4096)
        channel.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1")

    with listening(cut_short) as address:
        assert code_of(lambda: make_transport(Address("http://" + address))("GET", "/kbs/v0/reference-value/svn", None, {})) == "kbs-broken-off"


def test_what_ends_a_request_does_not_end_its_tls(tmp_path):
    with kbs_lab.soft_peer(tmp_path) as peer:
        context = ssl.create_default_context(cadata=peer.ca)
        with socket.create_connection(peer.address.parts[1:3]) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as channel:
            hang_up([channel], threading.Event())
            assert channel.version(), "what is sent from here on would go in the clear"
            with pytest.raises(OSError):
                channel.sendall(b"secret")


def test_tls_proves_the_name_the_issuer_and_the_time(tmp_path):
    with kbs_lab.soft_peer(tmp_path, names=("kbs.example.org",)) as peer:
        def reach(**changes):
            return make_transport(Address(peer.url, **{"ca": peer.ca, **changes}))("GET", "/healthz", None, {}).status

        assert code_of(reach) == "kbs-tls-name"
        assert reach(server_name="kbs.example.org") == 200
        assert code_of(lambda: reach(ca=kbs_lab.Authority().pem, server_name="kbs.example.org")) == "kbs-tls-trust"
        assert code_of(lambda: reach(ca="", server_name="kbs.example.org")) == "kbs-tls-trust"
        assert code_of(lambda: reach(ca="no certificate")) == "kbs-ca"
        assert code_of(lambda: make_transport(Address(peer.url.replace("https", "http")))("GET", "/healthz", None, {})) == "kbs-broken-off"
    (tmp_path / "old").mkdir()
    authority = kbs_lab.Authority()
    certificate, key, _object = authority.issue("127.0.0.1", days=-1)
    (tmp_path / "old" / "tls.crt").write_bytes(certificate)
    kbs_lab.secret(tmp_path / "old" / "tls.key", key)
    server = kbs_lab.Server(kbs_lab.Kbs(kbs_lab.Admin()), (tmp_path / "old" / "tls.crt", tmp_path / "old" / "tls.key"))
    with server.running():
        assert code_of(lambda: make_transport(Address(server.url, ca=authority.pem))("GET", "/healthz", None, {})) == "kbs-tls-time"


def test_a_pin_is_compared_before_anything_is_sent(tmp_path):
    with kbs_lab.soft_peer(tmp_path) as peer:
        from cryptography import x509

        key = x509.load_pem_x509_certificate((tmp_path / "tls.crt").read_bytes()).public_key()
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        right, wrong = ("sha256:" + hashlib.sha256(data).hexdigest() for data in (der, b"other"))

        def peer_with(pin):
            return make_transport(Address(peer.url, ca=peer.ca, pins=(pin,)))

        assert peer_with(right)("GET", "/healthz", None, {}).status == 200
        seen = len(peer.server.requests)
        assert code_of(lambda: peer_with(wrong)("POST", "/kbs/v0/resource/a/b/c", b"secret", {"Authorization": "Bearer x"})) == "kbs-pin"
        assert len(peer.server.requests) == seen
        assert code_of(lambda: Address(peer.url, pins=("sha256:abc",))) == "kbs-pin"


@pytest.mark.parametrize("url", [
    "http://kbs.example.org", "ftp://kbs.example.org", "https://", "kbs.example.org:8080", "https://user@kbs.example.org", "https://kbs.example.org/?a=1",
    "https://kbs.example.org:99999", "https://[::1", "https://kbs.example.org/a b",
])  # fmt: skip
def test_addresses_that_are_none(url):
    assert code_of(lambda: make_transport(Address(url))) == "kbs-url"


def test_a_password_in_an_address_is_not_repeated():
    with pytest.raises(KbsError) as caught:
        Address("https://user:hunter2@kbs.example.org")
    assert "hunter2" not in str(caught.value) and "kbs.example.org" in str(caught.value)


def test_tries_again_where_that_may_help_and_only_there(soft):
    slept: list[float] = []
    soft.server.faults.append(Fault("drop", times=2))
    transport = patient(soft.transport(), Patience(3, 0.5), slept.append)
    assert transport("GET", "/healthz", None, {}).status == 200 and slept == [0.5, 1.0]
    soft.server.faults[:] = [Fault("status", value=401)]
    assert transport("GET", "/healthz", None, {}).status == 401 and len(slept) == 2


def test_a_clock_that_is_off_is_named_first(soft):
    soft.server.kbs.clock = lambda: time.time() + 7200
    soft.server.clock_ahead = 7200
    with pytest.raises(KbsError) as caught:
        soft.admin().set_resource(PLACE, b"x")
    assert "clock is 7200 seconds ahead of ours" in str(caught.value) or "clock is 7199 seconds ahead" in str(caught.value)
    soft.server.kbs.clock, soft.server.clock_ahead = (lambda: time.time() + 30), 30
    soft.admin().set_resource(PLACE, b"x")


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)])
def test_each_kind_of_admin_key_is_accepted(tmp_path, key):
    with kbs_lab.soft_peer(tmp_path, tls=False, admin={"key": key.public_key()}) as peer:
        peer.admin(key).set_resource(PLACE, b"x")


def test_admin_keys_that_are_none(tmp_path):
    pem = kbs_lab.private_pem(ec.generate_private_key(ec.SECP384R1()))
    assert code_of(lambda: load_admin_key(str(kbs_lab.secret(tmp_path / "p384", pem)))) == "kbs-admin-key"
    assert code_of(lambda: load_admin_key(str(kbs_lab.secret(tmp_path / "text", b"hello")))) == "kbs-admin-key"
    kbs_lab.secret(tmp_path / "new", kbs_lab.private_pem(ed25519.Ed25519PrivateKey.generate()))
    load_admin_key(str(tmp_path / "new"))
    (tmp_path / "new").chmod(0o644)
    assert code_of(lambda: load_admin_key(str(tmp_path / "new"))) == "secret-mode"
    assert code_of(lambda: load_admin_key(str(tmp_path / "missing"))) == "secret-missing"


def test_tokens_of_others_are_looked_at_here(tmp_path):
    key = ed25519.Ed25519PrivateKey.generate()
    good = AdminKey(key, "i").token()
    assert load_token(str(kbs_lab.secret(tmp_path / "good", good.encode() + b"\n"))) == good
    for name, minted, code in (
        ("old", AdminKey(key, "i", clock=lambda: time.time() - 3600), "kbs-admin-token-expired"), ("none", AdminKey(key, "i", role=None), "kbs-admin-token"),
    ):
        path = str(kbs_lab.secret(tmp_path / name, minted.token().encode()))
        assert code_of(lambda path=path: load_token(path)) == code
    odd = [base64.urlsafe_b64encode(b'{"exp":%s,"role":"a"}' % end).rstrip(b"=") for end in (b"1" + b"0" * 400, b"-1e999", b"1e999", b"true", b'"9"')]
    for text in (b"", b"a.b", b"a.b.c", b"not a token at all", b"e30.e30.e30", *(b"e30.%s.e30" % claims for claims in odd)):
        path = kbs_lab.secret(tmp_path / "bad", text)
        assert code_of(lambda path=path: load_token(str(path))) == "kbs-admin-token"


def test_nothing_shows_a_key_or_a_token(soft):
    minted = AdminKey(soft.admin_key, kbs_lab.ISSUER)
    assert "PRIVATE" not in repr(minted) and repr(soft.admin_key) not in repr(minted)
    guest = soft.guest()
    guest.attest("sample", kbs_lab.sample)
    assert guest._session not in repr(guest)
    with pytest.raises(KbsError) as caught:
        soft.transport()("GET", "/healthz", None, {"Authorization": "Bearer secret\nx"})
    assert "secret" not in str(caught.value)


@given(st.binary(max_size=300), st.integers(100, 599), st.text(max_size=40))
def test_no_answer_can_confuse_the_explanation(body, status, date):
    answer = Answer(status, {"date": date}, body, 0.0)
    told = explain(answer, "do it", "https://kbs.example.org")
    assert told.code.startswith("kbs-") and str(told).isprintable()
    clock_skew(answer)


@given(st.text(max_size=400), st.text(max_size=60))
def test_what_a_server_says_stays_in_one_printable_line(detail, variant):
    import json

    body = json.dumps({"type": "https://github.com/confidential-containers/kbs/errors/" + variant, "detail": detail}).encode()
    assert str(explain(Answer(401, {}, body), "do it", "https://kbs.example.org")).isprintable()


# -- the state ------------------------------------------------------------------------------------------------------------


def test_the_state_is_read_back_and_tells_nothing(tmp_path):
    path = str(tmp_path / "state.json")
    state = State.read(path, create_key=True)
    digest = state.digest("https://a", "resource", "a/b/c", b"secret")
    state.begin("https://a", "ab" * 16)
    state.note("https://a", "resource", "a/b/c", digest)
    state.save()
    again = State.read(path, create_key=False)
    assert again.known("https://a", "resource", "a/b/c") == digest and again.marker("https://a") == "ab" * 16
    assert digest != again.digest("https://b", "resource", "a/b/c", b"secret") != again.digest("https://b", "resource", "a/b/d", b"secret")
    assert hashlib.sha256(b"secret").hexdigest() not in (tmp_path / "state.json").read_text()
    (tmp_path / "state.json.key").unlink()
    assert code_of(lambda: State.read(path, create_key=True)) == "kbs-state-key"


def test_a_state_of_another_key_or_form(tmp_path):
    path = tmp_path / "state.json"
    State.read(str(path), create_key=True).save()
    good = path.read_text()
    for text in (good[:-10], "{}", good.replace("}", ',"more":1}', 1), good.replace('"kbs":{}', '"kbs":{"https://a":{}}'), "\xff", "[]"):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(AttestedError):
            State.read(str(path), create_key=True)


def test_a_kbs_that_breaks_off_leaves_what_is_not_known_unknown(tmp_path, soft):
    state = State.read(str(tmp_path / "state.json"), create_key=True)
    client = soft.admin()
    plan.begin(soft.url, client, state, True)

    def act(change):
        client.set_resource(Resource.parse(change.wanted.name), change.wanted.content)
        return True

    def run(content: bytes):
        changes = plan.planned(soft.url, [plan.Wanted("resource", "a/b/c", content)], state, plan.recognise(soft.url, client, state, True), False)
        return plan.apply(changes, act, state)

    assert run(b"one")[0].action == plan.STORE
    soft.server.faults.append(Fault("drop", "/a/b/c"))
    with pytest.raises(plan.HalfDone):
        run(b"two")
    assert State.read(str(tmp_path / "state.json"), False).known(soft.url, "resource", "a/b/c") is None
    soft.server.faults.clear()
    assert run(b"one")[0].action == plan.STORE, "what was tried and not confirmed is stored again"


def test_the_lock_lets_one_after_the_other(tmp_path):
    from ansible_collections.attested.ai.plugins.module_utils.kbs.state import locked

    path, order = str(tmp_path / "s" / "state.json"), []

    def other():
        with locked(path):
            order.append("second")

    with locked(path):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_looking_whether_deleting_works_stores_nothing_at_the_place_itself(soft):
    assert soft.admin().delete_resource(PLACE) is False
    stored = [path for method, path in soft.server.requests if method == "POST"]
    assert stored and all(path.startswith("/kbs/v0/resource/a/b/") and not path.endswith("/c") for path in stored)
    assert soft.server.kbs.resources == {}
    soft.server.faults.append(Fault("status", method="POST", value=401))
    assert code_of(lambda: soft.admin().delete_resource(PLACE)) == "kbs-foreign"


def test_wire_bodies_are_exactly_those_of_the_reference(soft):
    sent: list[tuple] = []

    def transport(method, path, body, headers):
        sent.append((method, path, body, headers))
        return Answer(200, {}, b"[]")

    client = type(soft.admin())(transport, lambda: "t.o.k", "x")
    client.set_resource_policy("package policy\n")
    client.set_attestation_policy("default_gpu", "package policy\n")
    client.set_reference_values({"svn": ["1"]})
    client.set_resource(PLACE, b"\x00raw")
    text = base64.urlsafe_b64encode(b"package policy\n").rstrip(b"=").decode()
    assert sent[0][:3] == ("POST", "/kbs/v0/resource-policy", ('{"policy": "%s"}' % text).encode())
    assert sent[1][:3] == ("POST", "/kbs/v0/attestation-policy", ('{"type": "rego", "policy_id": "default_gpu", "policy": "%s"}' % text).encode())
    payload = base64.b64encode(b'{"svn": ["1"]}').decode()
    assert sent[2][:3] == ("POST", "/kbs/v0/reference-value", ('{"version": "0.1.0", "type": "sample", "payload": "%s"}' % payload).encode())
    assert sent[3][:3] == ("POST", "/kbs/v0/resource/a/b/c", b"\x00raw")
    assert all(headers["Authorization"] == "Bearer t.o.k" for *_rest, headers in sent)
    assert code_of(lambda: client.set_attestation_policy("default", "x")) == "kbs-policy-id"
