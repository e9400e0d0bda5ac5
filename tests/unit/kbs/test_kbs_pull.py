# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest fetches a model's key by itself, before our KBS and, where TRUSTEE_KBS names one, the real one."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import socket
import ssl
from datetime import datetime, timezone

import kbs_lab
import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats.der import spki_of_certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import Binding, EvidenceDocument, EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.kbs.guest import Challenge
from ansible_collections.attested.ai.plugins.module_utils.kbs.own_evidence import OwnEvidence, shape
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Server
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.guest import Wish
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.modelkey import ModelKey
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.pull import Order, pull
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.session import load_session
from ansible_collections.attested.ai.plugins.module_utils.target import collect
from ansible_collections.attested.ai.plugins.module_utils.target.memory import memory_filesystem
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.skipif(not memory_filesystem("/dev/shm").safe, reason="needs memory without swap at /dev/shm")
SIGNER, DATA_KEY = ec.generate_private_key(ec.SECP256R1()), os.urandom(32)
KEY = ModelKey("m", 3, 2, "m-3-abcd", public_jwk(SIGNER), DATA_KEY)
PLACE = Resource.parse("default/model-key/m-3")


class Sample(OwnEvidence):
    """Evidence of the sample TEE, which is what our KBS and every KBS can verify without hardware."""

    def tee(self) -> str:
        return "sample"

    def __call__(self, challenge: Challenge):
        self.digest = hashlib.sha256(challenge.nonce.encode()).hexdigest()
        return kbs_lab.sample(challenge)


@pytest.fixture
def guest(peer, memory):
    """Call it with changes of the order; a key lies in the KBS, and its policy lets everybody have it."""
    admin = peer.admin()
    admin.set_resource(PLACE, KEY.to_json())
    admin.set_resource_policy(kbs_lab.ALLOW)
    return lambda **changes: fetched(peer, memory, **changes)


def pin_of(peer) -> str:
    pem = ssl.get_server_certificate(peer.address.parts[1:3])
    return "sha256:" + hashlib.sha256(spki_of_certificate(ssl.PEM_cert_to_DER_cert(pem))).hexdigest()


def fetched(peer, memory, *, check_mode=False, server=None, **changes):
    server = server or Server(peer.url, peer.ca, pins=(pin_of(peer),), timeout=10)
    wish = Wish("s", "present", str(memory / "sessions"), 60)
    order = dataclasses.replace(Order(server, PLACE.uri, wish, anchor=str(memory / "no-anchor")), **changes)
    return pull(order, Sample(collect.Request(nonce="")), check_mode)


def code_of(act) -> str:
    with pytest.raises(AttestedError) as caught:
        act()
    assert "Traceback" not in str(caught.value) and DATA_KEY.hex() not in str(caught.value)
    return caught.value.code


def nothing_is_left(memory) -> bool:
    return not list((memory / "sessions").glob("*")) if (memory / "sessions").exists() else True


def test_a_guest_gets_the_key_with_signer_and_minimum(guest, memory):
    made = guest(minimum_release=3, signer=public_jwk(SIGNER))
    release = load_session(str(memory / "sessions"), "s").release()
    assert release.key == DATA_KEY and (release.model_id, release.release, release.minimum_release) == ("m", 3, 3)
    assert release.manifest_signer == public_jwk(SIGNER) and release.evidence_digest == made["evidence_digest"]
    assert made["changed"] and not made["anchored"] and made["key_id"] == "m-3-abcd"
    assert DATA_KEY.hex() not in repr(made) and KEY.to_json() not in repr(made).encode() and repr(DATA_KEY) not in repr(KEY)


def test_what_the_kbs_or_its_answer_refuses_leaves_no_session(guest, peer, memory):
    admin = peer.admin()
    assert code_of(lambda: guest(minimum_release=4)) == "release-too-old"
    assert code_of(lambda: guest(signer=public_jwk(ec.generate_private_key(ec.SECP256R1())))) == "model-signer"
    assert code_of(lambda: guest(resource="kbs:///default/model-key/none")) == "kbs-plugin-failed"
    assert code_of(lambda: guest(resource="kbs://other/default/model-key/m-3")) == "kbs-resource-path"
    admin.set_resource(PLACE, DATA_KEY)
    assert code_of(guest) == "model-key-form"
    admin.set_resource(PLACE, KEY.to_json())
    admin.set_resource_policy(kbs_lab.DENY)
    try:
        assert code_of(guest) == "kbs-policy-denied"
    finally:
        admin.set_resource_policy(kbs_lab.ALLOW)
    assert nothing_is_left(memory)


def test_the_key_of_the_server_is_pinned(guest, peer, memory, tmp_path):
    assert code_of(lambda: guest(server=Server(peer.url, peer.ca))) == "kbs-unpinned"
    assert code_of(lambda: guest(server=Server(peer.url, peer.ca, pins=("sha256:" + "00" * 32,)))) == "kbs-pin"
    assert code_of(lambda: guest(server=Server(peer.url, kbs_lab.Authority().pem, pins=(pin_of(peer),)))) == "kbs-tls-trust"
    anchor = tmp_path / "kbs.json"
    anchor.write_text(json.dumps({"url": peer.url + "/", "pins": [pin_of(peer)]}))
    assert guest(anchor=str(anchor))["anchored"] is True
    other = "sha256:" + "11" * 32
    for content in ({"url": "https://kbs.example.org", "pins": [pin_of(peer)]}, {"url": peer.url, "pins": [other]}, {"url": peer.url, "pins": []}):
        anchor.write_text(json.dumps(content))
        assert code_of(lambda: guest(anchor=str(anchor))) == "kbs-anchor"
    anchor.write_text("no json")
    assert code_of(lambda: guest(anchor=str(anchor))) == "format"
    anchor.unlink()
    anchor.mkdir()
    assert code_of(lambda: guest(anchor=str(anchor))) == "kbs-anchor"


def test_check_mode_asks_nobody_and_makes_nothing(guest, memory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = Server(f"https://127.0.0.1:{probe.getsockname()[1]}", pins=("sha256:" + "00" * 32,))
    assert guest(check_mode=True, server=nobody)["changed"] is True
    assert not (memory / "sessions").exists()
    assert code_of(lambda: guest(server=nobody)) == "kbs-unreachable" and nothing_is_left(memory)
    assert code_of(lambda: guest(check_mode=True, server=Server(nobody.url))) == "kbs-unpinned"


def test_a_token_that_expired_meanwhile_is_fetched_once_more(soft, memory):
    soft.admin().set_resource(PLACE, KEY.to_json())
    soft.admin().set_resource_policy(kbs_lab.ALLOW)
    kbs, times = soft.server.kbs, []
    give = kbs._give

    def expired_once(*arguments):
        if not times:
            times.append(1)
            kbs.sessions.clear()
        return give(*arguments)

    kbs._give = expired_once
    assert fetched(soft, memory, server=Server(soft.url))["key_id"] == "m-3-abcd"
    kbs._give = lambda *arguments: (kbs.sessions.clear(), give(*arguments))[1]
    assert code_of(lambda: fetched(soft, memory, server=Server(soft.url))) == "kbs-token-missing" and nothing_is_left(memory)


MEMBERS = st.sampled_from([*json.loads(KEY.to_json()), "x"])


@given(st.one_of(st.binary(max_size=300), st.dictionaries(MEMBERS, st.one_of(st.none(), st.integers(), st.text(max_size=9)))))
def test_no_resource_is_taken_for_a_key_of_a_model(value):
    data = value if isinstance(value, bytes) else json.dumps({**json.loads(KEY.to_json()), **value}).encode()
    try:
        found = ModelKey.from_json(data, "resource")
        found.key_release("00" * 32, datetime(2100, 1, 1, tzinfo=timezone.utc))
    except AttestedError as error:
        assert error.code in ("model-key-form", "format", "release-too-old", "private-key")


def test_evidence_is_shaped_by_its_type_and_bound_as_asked():
    nonce, jwk = os.urandom(32), public_jwk(ec.generate_private_key(ec.SECP256R1()), "ECDH-ES+A256KW")

    def gather(request):
        binding = Binding() if request.tee_pubkey is None else Binding(tee_pubkey=dict(request.tee_pubkey))
        return EvidenceDocument(request.profile, base64.b64decode(request.nonce), binding, (EvidenceItem("tdx", "tdx_guest", b"q", {}),))

    own = OwnEvidence(collect.Request(nonce=""), "text", gather)
    assert own.tee() == "tdx"
    challenge = Challenge(base64.b64encode(nonce).decode(), jwk)
    found = own(challenge)
    assert found.primary == {"cc_eventlog": None, "quote": "cQ=="} and found.additional == "" and found.init_data == "text" and len(own.digest) == 64
    assert code_of(lambda: own(dataclasses.replace(challenge, algorithm="sha512"))) == "kbs-hash"
    other = OwnEvidence(own.request, None, lambda request: gather(request)._replace(binding=Binding(tee_pubkey={**jwk, "x": jwk["y"]})))
    assert code_of(lambda: other(challenge)) == "kbs-binding"
    assert shape(EvidenceItem("cca", "arm", b"\1\2", {})) == {"token": [1, 2]}
    assert code_of(lambda: shape(EvidenceItem("az-tdx-vtpm", "azure", b"x", {}))) == "kbs-tee"
