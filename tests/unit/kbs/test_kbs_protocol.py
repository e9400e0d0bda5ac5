# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol, before our soft KBS and, where TRUSTEE_KBS names one, before the real one: one file, the same verdicts."""

from __future__ import annotations

import base64
import json
import secrets
import time

import kbs_lab
import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kbs.admin import look
from ansible_collections.attested.ai.plugins.module_utils.kbs.guest import Collected
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

KEY = Resource.parse("default/key/model-1")
TRUST = {"launch_digest": ["abcde"], "svn": ["1"], "major_version": 1, "minimum_minor_version": 1}
INIT_DATA = 'version = "0.1.0"\nalgorithm = "sha256"\n\n[data]\n"aa.toml" = "x = 1"\n'


def claims(token: str) -> dict:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def refused(code: str):
    return pytest.raises(AttestedError, check=lambda error: error.code == code)


def test_a_guest_gets_what_an_admin_stored(peer):
    admin, guest = peer.admin(), peer.guest()
    data = secrets.token_bytes(4000)
    admin.set_resource(KEY, data)
    admin.set_resource_policy(kbs_lab.ALLOW)
    token = guest.attest("sample", kbs_lab.sample)
    assert guest.resource(KEY.uri) == data == guest.resource(KEY.path)
    assert claims(token)["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["sample"]["launch_digest"] == "abcde"
    admin.set_resource(KEY, b"second")
    assert guest.resource(KEY.path) == b"second"


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP521R1()), rsa.generate_private_key(65537, 2048)], ids=["P-521", "RSA"])
def test_other_guest_keys_open_their_answer(peer, key):
    peer.admin().set_resource(KEY, b"for another kind of key")
    peer.admin().set_resource_policy(kbs_lab.ALLOW)
    guest = peer.guest(key)
    guest.attest("sample", kbs_lab.sample)
    assert guest.resource(KEY.path) == b"for another kind of key"


def test_what_the_policy_denies_is_told_apart_from_what_is_not_there(peer):
    admin, guest = peer.admin(), peer.guest()
    admin.set_resource(KEY, b"x")
    admin.set_resource_policy(kbs_lab.DENY)
    guest.attest("sample", kbs_lab.sample)
    with refused("kbs-policy-denied"):
        guest.resource(KEY.path)
    admin.set_resource_policy(kbs_lab.ALLOW)
    with refused("kbs-plugin-failed"):
        guest.resource("default/key/nothing-there")


def test_a_broken_policy_is_taken_and_then_nobody_gets_anything(peer):
    admin, guest = peer.admin(), peer.guest()
    admin.set_resource(KEY, b"x")
    guest.attest("sample", kbs_lab.sample)
    admin.set_resource_policy(kbs_lab.BROKEN)
    try:
        with refused("kbs-policy-engine"):
            guest.resource(KEY.path)
    finally:
        admin.set_resource_policy(kbs_lab.ALLOW)
    assert guest.resource(KEY.path) == b"x"


def test_deleted_is_gone_and_deleting_again_finds_nothing(peer):
    admin, guest = peer.admin(), peer.guest()
    place = Resource.parse("default/key/to-delete")
    admin.set_resource(place, b"x")
    assert admin.delete_resource(place) is True
    assert admin.delete_resource(place) is False
    admin.set_resource_policy(kbs_lab.ALLOW)
    guest.attest("sample", kbs_lab.sample)
    with refused("kbs-plugin-failed"):
        guest.resource(place.path)


def test_evidence_that_binds_another_key_is_refused(peer):
    def other(challenge):
        return Collected({"svn": "1", "report_data": base64.b64encode(bytes(48)).decode("ascii")})

    with refused("kbs-evidence"):
        peer.guest().attest("sample", other)


def test_a_session_is_needed(peer):
    with refused("kbs-token-missing"):
        peer.guest().resource(KEY.path)
    guest = peer.guest()
    guest.attest("sample", kbs_lab.sample)
    guest._session = "0" * 32
    with refused("kbs-token-missing"):
        guest.resource(KEY.path)


def test_another_version_is_refused_with_the_reason(peer):
    answer = peer.transport()("POST", "/kbs/v0/auth", json.dumps({"version": "0.3.0", "tee": "sample", "extra-params": ""}).encode(), {})
    assert answer.status == 401
    assert "Version Mismatch" in json.loads(answer.body)["detail"]


def test_reference_values_are_read_back_and_judge_the_sample(peer):
    admin = peer.admin()
    assert admin.reference_value("never-set") is None
    admin.set_reference_values({"launch_digest": ["other"], "svn": ["1"], "major_version": 1, "minimum_minor_version": 1})
    before = claims(peer.guest().attest("sample", kbs_lab.sample))["submods"]["cpu0"]["ear.status"]
    admin.set_reference_values(TRUST)
    after = claims(peer.guest().attest("sample", kbs_lab.sample))["submods"]["cpu0"]["ear.status"]
    assert (before, after) == ("warning", "affirming")
    assert admin.reference_value("launch_digest") == ["abcde"]
    assert admin.reference_value("major_version") == 1


def test_the_digest_of_init_data_is_in_the_token(peer):
    token = claims(peer.guest().attest("sample", kbs_lab.with_init_data(INIT_DATA)))
    found = token["submods"]["cpu0"]["ear.veraison.annotated-evidence"]
    import hashlib

    assert found["init_data"] == base64.b64encode(hashlib.sha256(INIT_DATA.encode()).digest()).decode("ascii")
    assert found["init_data_claims"]["aa.toml"] in ({"x": 1}, "x = 1")


@pytest.mark.parametrize("changes", [
    {"key": ed25519.Ed25519PrivateKey.generate()}, {"issuer": "somebody.else"}, {"audience": "other"}, {"clock": lambda: time.time() - 7200},
], ids=["key", "issuer", "audience", "expired"])  # fmt: skip
def test_admin_tokens_that_are_wrong_are_refused_alike(peer, changes):
    for admin in (peer.admin(**changes),):
        for act in (lambda: admin.set_resource(KEY, b"x"), lambda: admin.set_resource_policy(kbs_lab.ALLOW), admin.policies):
            with refused("kbs-admin-denied") as caught:
                act()
            assert "key" in str(caught.value) and "clock" in str(caught.value)


def test_a_role_without_the_right_is_told(peer):
    reader = peer.admin(role="reader")
    assert reader.policies() == ["resource-policy"]
    with refused("kbs-admin-denied") as caught:
        reader.set_resource(KEY, b"x")
    assert "role" in str(caught.value)
    assert reader.transport


def test_a_guest_that_is_no_admin_stores_nothing(peer):
    answer = peer.transport()("POST", "/kbs/v0/resource/default/key/a", b"x", {})
    assert answer.status == 401
    assert look(peer.transport(), peer.url).open_admin is False


def test_an_attestation_policy_judges_from_the_next_attestation_on(peer):
    admin = peer.admin()
    policy = "package policy\n\nimport rego.v1\n\ntrust_claims := {\"executables\": 3, \"hardware\": %d, \"configuration\": 2}\n"
    try:
        for value, status in ((97, "contraindicated"), (2, "affirming")):
            admin.set_attestation_policy("default_cpu", policy % value)
            assert claims(peer.guest().attest("sample", kbs_lab.sample))["submods"]["cpu0"]["ear.status"] == status
        admin.set_attestation_policy("default_cpu", kbs_lab.BROKEN)
        with refused("kbs-evidence"):
            peer.guest().attest("sample", kbs_lab.sample)
    finally:
        admin.set_attestation_policy("default_cpu", policy % 2)


def test_health_from_outside(peer):
    seen = look(peer.transport(), peer.url)
    assert seen.healthy and seen.clock_skew is not None and abs(seen.clock_skew) <= 2


def test_a_path_of_another_form_never_leaves(peer):
    for path in ("a/b", "a/b/c/d", "/a/b/c", "a/b/..", ".a/b/c", "kbs://host/a/b/c", "a/b/c?x=1", "a/b/c\n", ""):
        with pytest.raises(KbsError) as caught:
            Resource.parse(path)
        assert caught.value.code == "kbs-resource-path"
