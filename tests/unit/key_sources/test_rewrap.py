# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotation without encrypting anew: through the real ansible-playbook, and cut at every moment."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import Kek, create_kek, load_kek
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import create_signing_key
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import rewrap
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan
from ansible_collections.attested.ai.plugins.plugin_utils.release_offer import signed_manifest
from cryptography.hazmat.primitives.asymmetric import ec


class Model:
    """An encrypted model in a folder."""

    def __init__(self, folder: Path) -> None:
        self.dest, self.keys = folder / "sealed", Keys(Kek("old", os.urandom(32)), ec.generate_private_key(ec.SECP256R1()))
        (folder / "plain").mkdir()
        (folder / "plain" / "weights.bin").write_bytes(os.urandom(5000))
        request = Request(str(folder / "plain"), str(self.dest), "m", 1, 4096)
        encrypt(make_plan(request, self.keys), self.keys, "2026-01-31T12:00:00Z")

    @property
    def manifest(self):
        return signed_manifest(str(self.dest), public_jwk(self.keys.signer))

    def data_key(self, kek: Kek) -> bytes:
        return jwe.unwrap_general(self.manifest.dek, kek.key, kek.kid)

    def plan(self, kek: Kek, *wanted: Kek, keep: bool = True):
        return rewrap.planned(self.manifest, kek.key, [one.recipient() for one in wanted], keep, "test")


@pytest.fixture
def model(tmp_path):
    return Model(tmp_path)


def code_of(act) -> str:
    with pytest.raises(AttestedError) as caught:
        act()
    return caught.value.code


def test_a_key_is_added_and_the_old_one_taken_away(model):
    old, new = model.keys.kek, Kek("new", os.urandom(32))
    before, key = model.manifest, model.data_key(old)
    rewrap.write(str(model.dest), model.plan(old, new), model.keys.signer)
    assert model.data_key(old) == model.data_key(new) == key
    assert not model.plan(old, new).changed and not model.plan(new, new, old, keep=False).changed
    rewrap.write(str(model.dest), model.plan(new, new, keep=False), model.keys.signer)
    assert model.data_key(new) == key and code_of(lambda: model.data_key(old)) == "jwe-recipient"
    assert code_of(lambda: model.plan(old, new)) == "jwe-wrong-key"
    # Nothing else moved: the same files, data key and ciphertext of it.
    after = model.manifest
    assert (after.files, after.key_id, after.release, after.dek["ciphertext"]) == (before.files, before.key_id, before.release, before.dek["ciphertext"])


def test_another_key_of_the_same_name_is_wrapped_for(model):
    old, twin = model.keys.kek, Kek("old", os.urandom(32))
    change = model.plan(old, twin)
    assert change.changed and change.before == change.after == ("old",)
    rewrap.write(str(model.dest), change, model.keys.signer)
    assert model.data_key(twin) and code_of(lambda: model.data_key(old)) == "jwe-wrong-key"
    assert code_of(lambda: model.plan(twin, twin, twin)) == "rewrap-recipients"


def test_a_manifest_that_somebody_changed_is_not_signed_anew(model):
    foreign = Kek("foreign", os.urandom(32))
    dek = jwe.rewrap_general(model.manifest.dek, model.keys.kek.key, [foreign.recipient()], [])
    path = model.dest / "model-manifest.json"
    path.write_bytes(path.read_bytes().replace(json.dumps(model.manifest.dek["recipients"][0]["encrypted_key"]).encode(),
                                               json.dumps(dek["recipients"][1]["encrypted_key"]).encode()))  # fmt: skip
    assert code_of(lambda: model.manifest) == "model-signature"


class Cut(Exception):
    pass


@pytest.mark.parametrize("moment", range(12))
def test_cut_at_any_moment_it_is_put_right(model, monkeypatch, moment):
    """Every call that writes counts; from one of them on nothing happens any more. Afterwards it is the old state or the new one, whole."""
    old, new = model.keys.kek, Kek("new", os.urandom(32))
    change, count = model.plan(old, new), [0]

    def cutting(function):
        def act(*arguments, **more):
            count[0] += 1
            if count[0] > moment:
                raise Cut
            return function(*arguments, **more)

        return act

    with monkeypatch.context() as patched:
        for place, name in ((rewrap, "write_file"), (rewrap, "sync_directory"), (rewrap.os, "replace"), (rewrap.os, "unlink")):
            patched.setattr(place, name, cutting(getattr(place, name)))
        try:
            rewrap.write(str(model.dest), change, model.keys.signer)
        except Cut:
            # Cut again while it is put right.
            count[0] = moment - 1
            try:
                rewrap.recover(str(model.dest))
            except Cut:
                pass
    rewrap.recover(str(model.dest))
    assert [entry["kid"] for entry in jwe.recipients_of(model.manifest.dek)] in (["old"], ["old", "new"])
    assert not list(model.dest.glob("*.rewrap")) and not rewrap.recover(str(model.dest))
    assert count[0] > 5 or moment <= 5


def test_the_task_rotates_and_tells_what_it_does_not_revoke(tmp_path, soft_bao):
    create_kek(str(tmp_path / "kek.jwk"))
    create_signing_key(str(tmp_path / "signer.pem"))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "weights.bin").write_bytes(os.urandom(5000))
    soft_bao.call("POST", "transit/keys/minilm", {})
    transit = {"source": "vault_transit", "key": "minilm", "server": soft_bao.server()}
    model = {"model": "sealed", "signing_key": "signer.pem"}
    tasks = [
        {"attested.ai.model_encrypt": {"src": "plain", "dest": "sealed", "model_id": "m", "release": 1, "kek": "kek.jwk", "signing_key": "signer.pem"}},
        {"attested.ai.model_rewrap": {**model, "kek": "kek.jwk", "keks": [transit]}, "check_mode": True},
        {"attested.ai.model_rewrap": {**model, "kek": "kek.jwk", "keks": [transit]}},
        {"attested.ai.model_rewrap": {**model, "kek": "kek.jwk", "keks": [transit]}},
        {"attested.ai.model_rewrap": {**model, "kek": transit, "keks": [transit], "keep_others": False}},
        {"attested.ai.model_rewrap": {**model, "kek": "kek.jwk", "keks": ["kek.jwk"]}},
        {"attested.ai.model_rewrap": {**model, "kek": transit}},
        {"attested.ai.model_encrypt": {"src": "plain", "dest": "sealed", "model_id": "m", "release": 1, "kek": transit, "signing_key": "signer.pem"}},
        {"attested.ai.model_encrypt": {"src": "plain", "dest": "sealed", "model_id": "m", "release": 2, "kek": transit, "signing_key": "signer.pem"}},
        {"attested.ai.model_encrypt": {"src": "plain", "dest": "sealed", "model_id": "m", "release": 2, "kek": transit, "signing_key": "signer.pem"}},
    ]
    output, results = play(tmp_path, tasks)
    encrypted, rehearsed, added, again, removed, refused, nobody, unchanged, second, same = results
    kid, old = "vault-transit:transit/minilm:v1", load_kek(str(tmp_path / "kek.jwk"))
    assert encrypted["changed"] and rehearsed["changed"] and added["changed"] and not again["changed"]
    assert added["added"] == [kid] == rehearsed["added"] and added["recipients"] == [old.kid, kid] and added["revocation"] == ""
    assert removed["removed"] == [old.kid] and removed["recipients"] == [kid] and "new release" in removed["revocation"]
    assert refused["failed"] and refused["code"] == "jwe-recipient" and nobody["code"] == "rewrap-recipients"
    assert not unchanged["changed"] and second["changed"] and not same["changed"]
    assert "Traceback" not in output and soft_bao.root not in output
    material = soft_bao.soft.keys["minilm"]["material"][0]
    leaks = [str(path) for path in tmp_path.rglob("*") if path.is_file() and "token" not in path.name and (soft_bao.root.encode() in path.read_bytes()
             or material in path.read_bytes())]  # fmt: skip
    assert leaks == []


def play(folder: Path, tasks: list[dict]) -> tuple[str, list[dict]]:
    """Run tasks by the real ansible-playbook, with all that it can tell; (output, results)."""
    named = [{**task, "register": f"task{number}", "ignore_errors": True} for number, task in enumerate(tasks)]
    save = "RESULTS:{{ [%s] | to_json | b64encode }}:" % ", ".join(f"task{number}" for number in range(len(tasks)))
    (folder / "play.json").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [*named, {"ansible.builtin.debug": {"msg": save}}]}]))
    environment = {**os.environ, "ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_NOCOLOR": "true", "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
                   "ANSIBLE_REMOTE_TEMP": str(folder / "remote"), "ANSIBLE_DEPRECATION_WARNINGS": "0"}  # fmt: skip
    variables = json.dumps({"ansible_python_interpreter": sys.executable})
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "ansible", "playbook", "-vvv", "--diff", "-i", "localhost,", "-c", "local", "-e", variables, str(folder / "play.json")],
        env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=folder)  # fmt: skip
    output = done.stdout + done.stderr
    assert "RESULTS:" in output, output
    return output, json.loads(base64.b64decode(output.split("RESULTS:")[1].split(":")[0]))
