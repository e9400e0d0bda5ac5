# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest answers is the attacker's to choose. Nothing but one clear line may come of it, and never a key."""

from __future__ import annotations

import types

import pytest

from ansible_collections.attested.ai.plugins.action.model_release import ActionModule, HandOver
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, CollectError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.ledger import verify
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import private_ec, public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import KeyRelease
from ansible_collections.attested.ai.plugins.plugin_utils.guest import Guest
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.release_records import ReleaseRecords, counters_of

KEYS = [public_jwk(private_ec(bytes(31) + bytes([number])), "ECDH-ES+A256KW") for number in (5, 6)]
SOON = "2126-01-01T00:00:00Z"


class Action:
    """As much of an action plugin as Guest needs; ``answers`` are module results, by module."""

    def __init__(self, delegate_to=None, **answers):
        self._answers = answers
        self._task = types.SimpleNamespace(delegate_to=delegate_to)
        self._loader = types.SimpleNamespace(get_basedir=lambda: "/playbooks")
        self.asked = []

    def _execute_module(self, module_name, module_args, task_vars):
        self.asked.append((module_name, module_args))
        answer = self._answers[module_name.rpartition(".")[2]]
        return answer(module_args) if callable(answer) else answer


def guest_of(action):
    return Guest(action, {"inventory_hostname": "guest-1"})


def offer():
    def release(minimum, digest, not_after):
        return KeyRelease("demo", 1, minimum, bytes(range(32)), "demo-1", {name: KEYS[1][name] for name in ("kty", "crv", "x", "y")}, digest, not_after)

    return types.SimpleNamespace(manifest=types.SimpleNamespace(model_id="demo", release=1, key_id="demo-1"), release=release)


def attestation_binding(thumbprint):
    result = types.SimpleNamespace(
        accepted=True, binding={"tee_pubkey_thumbprint": thumbprint}, evidence_digest="0" * 64, policy_id="p", policy_digest="1" * 64, anchor="vendor"
    )
    return types.SimpleNamespace(of=lambda guest, tee_pubkey: types.SimpleNamespace(result=result, to_dict=dict))


def hand_over_to(action, tmp_path):
    options = {"session_directory": "/run/x", "lifetime": 60, "requester": "tester", "minimum_release": None, "at": "2026-01-31T12:00:00Z"}
    return HandOver(guest_of(action), "s1", options, offer(), ReleaseRecords(str(tmp_path / "ledger")))


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"jwk": None, "expires_at": SOON},
        {"jwk": "text", "expires_at": SOON},
        {"jwk": [KEYS[0]], "expires_at": SOON},
        {"jwk": {**KEYS[0], "d": "AAAA"}, "expires_at": SOON},
        {"jwk": {**KEYS[0], "x": {"y": 1}}, "expires_at": SOON},
        {"jwk": {**KEYS[0], "x": "A" * 10_000_000}, "expires_at": SOON},
        {"jwk": {**KEYS[0], "kty": ["EC"]}, "expires_at": SOON},
        {"jwk": KEYS[0]},
        {"jwk": KEYS[0], "expires_at": 7},
    ],
)
def test_key_that_is_none_is_refused_in_one_line(tmp_path, answer):
    with pytest.raises(AttestedError) as caught:
        hand_over_to(Action(guest_key=answer), tmp_path).make_key()
    assert "guest-1" in str(caught.value) and len(str(caught.value)) < 500 and "\n" not in str(caught.value)
    assert "AAAA" not in str(caught.value)


def test_words_of_a_failing_module_are_short_and_cannot_draw():
    action = Action(tee_evidence={"failed": True, "msg": "\x1b[2J\nPLAY RECAP " + "x" * 1_000_000, "code": "\x1b[2J"})
    with pytest.raises(CollectError) as caught:
        guest_of(action).run("tee_evidence")
    assert len(str(caught.value)) < 3000 and str(caught.value).isprintable() and caught.value.code == "collect"


def test_guest_of_a_delegated_task_has_the_name_of_that_host():
    assert guest_of(Action(delegate_to="guest-2")).name == "guest-2"


def test_evidence_for_another_key_gets_nothing_and_is_written_down(tmp_path):
    action = Action(guest_key={"jwk": KEYS[0], "expires_at": SOON})
    hand_over, answer = hand_over_to(action, tmp_path), {}
    with pytest.raises(KeyReleaseError, match="does not bind") as caught:
        ActionModule._release(None, hand_over, attestation_binding("another"), answer)
    assert caught.value.code == "guest-key-unbound" and answer["ledger_entry"]["decision"] == "refused"
    assert not any("release" in arguments for _module, arguments in action.asked)
    entries = verify(str(tmp_path / "ledger" / "ledger.jsonl"), public_jwk(hand_over.records._key)).entries
    assert [(entry["decision"], entry["reasons"][0][:10]) for entry in entries] == [("refused", "guest-key:")]


def test_hand_over_that_the_guest_denies_still_reads_as_a_possible_release(tmp_path):
    from ansible_collections.attested.ai.plugins.module_utils.formats.jwk import thumbprint

    def answers(arguments):
        return {"failed": True, "msg": "no, thanks"} if "release" in arguments else {"jwk": KEYS[0], "expires_at": SOON}

    hand_over, answer = hand_over_to(Action(guest_key=answers), tmp_path), {}
    with pytest.raises(CollectError):
        ActionModule._release(None, hand_over, attestation_binding(thumbprint(KEYS[0])), answer)
    entries = verify(str(tmp_path / "ledger" / "ledger.jsonl"), public_jwk(hand_over.records._key)).entries
    assert [entry["decision"] for entry in entries] == ["released", "refused"]
    assert entries[0]["reasons"] == ["at: judged as of 2026-01-31T12:00:00Z, not of the time of release"]
    assert "may hold the key" in entries[1]["reasons"][0]


def test_lost_counters_are_missed(tmp_path):
    directory = tmp_path / "ledger"
    records = ReleaseRecords(str(directory))
    hand_over = hand_over_to(Action(guest_key={"jwk": KEYS[0], "expires_at": SOON}), tmp_path)
    with pytest.raises(KeyReleaseError):
        ActionModule._release(None, hand_over, attestation_binding("another"), {})
    assert records.counters.minimum("demo") == 1
    records.counters.raise_to("demo", 3)
    assert ReleaseRecords(str(directory)).counters.minimum("demo") == 3
    (directory / "minimum-releases.json").unlink()
    for use in (ReleaseRecords, counters_of):
        with pytest.raises(KeyReleaseError, match="minimum releases are not"):
            use(str(directory))


def test_ledger_does_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_path(Action(), "ledger") == "/playbooks/ledger"
    assert local_path(Action(), "/srv/ledger") == "/srv/ledger"


def test_signer_of_another_kind_is_refused_in_one_line(tmp_path):
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from ansible_collections.attested.ai.plugins.plugin_utils.public_key import public_key

    path = tmp_path / "signer.pem"
    path.write_bytes(ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    action = types.SimpleNamespace(_loader=types.SimpleNamespace(get_real_file=str, get_basedir=lambda: "/playbooks"), _find_needle=lambda kind, name: name)
    with pytest.raises(AttestedError, match="no EC key"):
        public_key(str(path), action)
