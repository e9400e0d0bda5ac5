# SPDX-License-Identifier: GPL-3.0-or-later
"""The kbs_* modules through a real ansible-playbook: changed once, checked, rotated, half applied, and nothing secret told."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import kbs_lab
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.attested.ai.plugins.action.kbs_resource import ActionModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from softkbs.server import Fault

pytestmark = pytest.mark.costly
REFERENCES = {
    "schema": "attested.ai/reference-values/1",
    "values": [{
        "tee": "sev-snp", "measurement": "ab" * 48, "covers": "service", "image": "guest", "source": "test", "not_after": "2046-01-01T00:00:00Z",
    }],
}  # fmt: skip
SECRET = "correct horse battery staple"


class Lab:
    """A folder with keys, one or two KBS, and a way to run tasks."""

    def __init__(self, folder: Path, *peers: kbs_lab.Peer) -> None:
        self.folder, self.peers = folder, peers
        kbs_lab.secret(folder / "admin.pem", kbs_lab.private_pem(peers[0].admin_key))
        for peer in peers[1:]:
            peer.server.kbs.admin = peers[0].server.kbs.admin

    @property
    def common(self) -> dict:
        return {"url": [peer.url for peer in self.peers], "admin_key": "admin.pem", "issuer": kbs_lab.ISSUER, "attempts": 1, "timeout": 5}

    @property
    def stored(self) -> dict:
        return {**self.common, "state_path": "state/kbs.json"}

    def run(self, *tasks: tuple[str, dict], arguments: tuple[str, ...] = ()) -> tuple[int, str, list[dict]]:
        named = [{f"attested.ai.{name}": options, "register": f"task{number}", "ignore_errors": True} for number, (name, options) in enumerate(tasks)]
        # By a module of the controller: one that runs as a program takes longer than all these tasks.
        content = "RESULTS:{{ [%s] | to_json | b64encode }}:" % ", ".join(f"task{number}" for number in range(len(tasks)))
        play = [{"hosts": "localhost", "gather_facts": False, "tasks": [*named, {"ansible.builtin.debug": {"msg": content}}]}]
        (self.folder / "play.json").write_text(json.dumps(play))
        environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(self.folder / "local"))
        environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", "-vvv", "-i", "localhost,", "-c", "local", str(self.folder / "play.json"), *arguments],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120, cwd=self.folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        found = re.search(r"RESULTS:([A-Za-z0-9+/=]+):", done.stdout)
        assert found, done.stdout
        return done.returncode, done.stdout.replace(found.group(1), ""), json.loads(base64.b64decode(found.group(1)))


@pytest.fixture
def lab(tmp_path, soft):
    return Lab(tmp_path, soft)


@pytest.fixture
def pair(tmp_path, soft):
    (tmp_path / "second").mkdir()
    with kbs_lab.soft_peer(tmp_path / "second", tls=False) as second:
        yield Lab(tmp_path, soft, second)


def resources(*given: dict) -> dict:
    return {"resources": list(given)}


def kbs_of(lab: Lab, number: int = 0) -> kbs_lab.Kbs:
    return lab.peers[number].server.kbs


def test_stores_once_tells_nothing_secret_and_rotates(lab):
    first = {"path": "default/key/model", "key_file": "secrets/model.key", "create": True}
    wanted = {**lab.stored, **resources(first, {"path": "kbs:///default/tokens/registry", "content": SECRET})}
    changed = {**lab.stored, **resources(first, {"path": "default/tokens/registry", "content": SECRET + "!"})}
    _code, output, (one, two, three, four) = lab.run(*[("kbs_resource", task) for task in (wanted, wanted, changed, changed)], arguments=("--diff",))
    assert [task["changed"] for task in (one, two, three, four)] == [True, False, True, False], output
    assert [change["action"] for change in three["changes"]] == ["unchanged", "replaced"]
    assert one["created_files"] == [str(lab.folder / "secrets" / "model.key")]
    key = (lab.folder / "secrets" / "model.key").read_bytes()
    assert kbs_of(lab).resources == {"default/key/model": key, "default/tokens/registry": (SECRET + "!").encode()} and len(key) == 32
    everything = output + json.dumps([one, two, three, four]) + "".join(path.read_text(errors="replace") for path in (lab.folder / "state").iterdir())
    assert SECRET not in everything and "eyJ" not in everything and "PRIVATE" not in everything and key.hex() not in everything
    for name in ("kbs.json", "kbs.json.key"):
        assert (lab.folder / "state" / name).stat().st_mode & 0o777 == 0o600


def test_check_mode_sends_and_leaves_nothing(lab):
    wanted = {**lab.stored, **resources({"path": "a/b/c", "key_file": "secrets/k", "create": True})}
    _code, _output, (told,) = lab.run(("kbs_resource", wanted), arguments=("--check", "--diff"))
    assert told["changed"] is True and told["changes"][0]["action"] == "stored"
    assert kbs_of(lab).resources == {} and not (lab.folder / "secrets").exists() and not (lab.folder / "state").exists()
    assert {method for method, _path in lab.peers[0].server.requests} == {"GET"}


def test_a_kbs_that_lost_its_storage_is_filled_again(lab):
    wanted = ("kbs_resource", {**lab.stored, **resources({"path": "a/b/c", "content": SECRET})})
    lab.run(wanted)
    kbs_of(lab).lose_everything()
    _code, _output, (seen, told) = lab.run(("kbs_info", {**lab.stored}), wanted)
    assert seen["kbs"][0]["forgotten"] == "it has lost its storage, or is another one" and seen["kbs"][0]["known"]["resource"] == ["a/b/c"]
    assert told["changed"] is True and told["changes"][0]["reason"] == seen["kbs"][0]["forgotten"]
    assert kbs_of(lab).resources == {"a/b/c": SECRET.encode()}


def test_half_of_a_set_is_told_and_the_next_run_goes_on(pair):
    wanted = ("kbs_resource", {**pair.stored, **resources({"path": "a/b/one", "content": "1"}, {"path": "a/b/two", "content": "2"})})
    pair.peers[1].server.faults.append(Fault("status", "/a/b/two"))
    _code, _output, (told,) = pair.run(wanted)
    assert told["failed"] and told["changed"] is True and told["code"] == "kbs-unavailable"
    assert [change["name"] for change in told["changes"]] == ["a/b/one", "a/b/two", "a/b/one"]
    assert [(change["kbs"], change["name"]) for change in told["not_changed"]] == [(pair.peers[1].url, "a/b/two")]
    assert "3 of 4 changes were made" in told["msg"] and "resource a/b/two at" in told["msg"]
    pair.peers[1].server.faults.clear()
    _code, _output, (again,) = pair.run(wanted)
    assert [change["action"] for change in again["changes"]] == ["unchanged", "unchanged", "unchanged", "stored"]
    assert kbs_of(pair, 1).resources == {"a/b/one": b"1", "a/b/two": b"2"}


def test_nothing_is_sent_while_anything_is_wrong_with_the_task(lab):
    good = {"path": "a/b/c", "content": "x"}
    wrong = [
        resources(good, {"path": "a/b", "content": "x"}), resources(good, {"path": "a/b/c", "content": "y"}), resources(good, {"path": "a/b/d"}),
        resources(good, {"path": "a/b/d", "content": "x", "src": "play.json"}), resources(good, {"path": "a/b/d", "content": ""}),
        resources(good, {"path": "a/b/d", "state": "absent", "content": "x"}), resources(good, {"path": "a/b/d", "src": "missing"}),
        resources(good, {"path": "a/b/d", "content_b64": "%"}), resources(good, {"path": "a/b/d", "key_file": "play.json"}),
        {**resources(good), "ca_path": "empty.pem"},
    ]  # fmt: skip
    (lab.folder / "empty.pem").write_text("")
    _code, output, told = lab.run(*[("kbs_resource", {**lab.stored, **task}) for task in wrong])
    assert all(task["failed"] and not task.get("changed") for task in told) and told[-1]["code"] == "kbs-ca", output
    assert lab.peers[0].server.requests == [] and "Traceback" not in output


def test_what_is_vaulted_is_decrypted_in_memory(tmp_path, monkeypatch):
    secrets = [("default", VaultSecret(b"password of the vault"))]
    (tmp_path / "vaulted").write_bytes(VaultLib(secrets).encrypt(b"\x00\xff" + SECRET.encode()))
    loader = DataLoader()
    action = ActionModule.__new__(ActionModule)
    action._loader, action._find_needle = loader, lambda _folder, name: str(tmp_path / name)
    monkeypatch.setattr(loader, "_create_content_tempfile", lambda _content: pytest.fail("it would be on a disk"))
    with pytest.raises(AttestedError, match="vault"):
        action._content("a/b/c", {"src": "vaulted"}, "src")
    loader.set_vault_secrets(secrets)
    assert action._content("a/b/c", {"src": "vaulted"}, "src") == b"\x00\xff" + SECRET.encode()


def test_absent_is_absent_and_then_nothing_changes(lab):
    there, gone = {"path": "a/b/c", "content": "x"}, {"path": "a/b/c", "state": "absent"}
    tasks = [("kbs_resource", {**lab.stored, **resources(wish)}) for wish in (there, gone, gone)]
    _code, _output, (_one, two, three) = lab.run(*tasks)
    assert (two["changed"], two["changes"][0]["action"], three["changed"], three["changes"][0]["action"]) == (True, "deleted", False, "unchanged")
    assert kbs_of(lab).resources == {}


def test_a_state_that_was_tampered_with_is_not_believed(lab):
    wanted = ("kbs_resource", {**lab.stored, **resources({"path": "a/b/c", "content": "x"})})
    lab.run(wanted)
    state = lab.folder / "state" / "kbs.json"
    state.write_text(state.read_text().replace("a/b/c", "a/b/d"))
    _code, _output, (told,) = lab.run(wanted)
    assert told["failed"] and told["code"] == "kbs-state-tampered"


def test_an_open_kbs_gets_nothing(lab):
    lab.peers[0].server.kbs.admin = kbs_lab.Admin("InsecureAllowAll")
    wanted = {**lab.stored, **resources({"path": "a/b/c", "content": "x"})}
    _code, output, (told, info, allowed) = lab.run(
        ("kbs_resource", wanted), ("kbs_info", {"url": lab.peers[0].url, "fail_if_unsafe": True}), ("kbs_resource", {**wanted, "allow_open_admin": True}))
    assert told["failed"] and told["code"] == "kbs-open-admin" == info["code"]
    assert allowed["changed"] is True and "not protected" in output


def test_policies_from_the_same_policy_that_attest_uses(lab):
    section = {
        "products": ["milan", "genoa", "turin"], "require_platform_info": [], "min_launch_tcb": {}, "min_tcb": {"snp": 20},
        "allow_provisional_firmware": True, "allow_masked_chip_id": True, "allow_unknown_policy_bits": True,
    }  # fmt: skip
    (lab.folder / "policy.yml").write_text(yaml.safe_dump({"schema": "attested.ai/policy/1", "id": "trial", "sev_snp": section}))
    (lab.folder / "initdata.toml").write_text('version = "0.1.0"\nalgorithm = "sha256"\n[data]\n')
    attestation = {**lab.stored, "kind": "attestation", "policy": "policy.yml", "reference_values": REFERENCES, "dest": "default_cpu.rego"}
    grants = {**lab.stored, "kind": "resource", "grants": [{"name": "inference", "resources": ["default/key/model"], "init_data": ["initdata.toml"], "gpu": 1}]}
    strict = {**attestation, "policy": {"schema": "attested.ai/policy/1", "id": "p"}}
    _code, output, (one, two, three, four, refused) = lab.run(*[("kbs_policy", task) for task in (attestation, attestation, grants, grants, strict)])
    assert [one["changed"], two["changed"], three["changed"], four["changed"]] == [True, False, True, False], output
    assert (lab.folder / "default_cpu.rego").read_text() == one["rego"] == kbs_of(lab).attestation.policies["default_cpu"]
    assert "ab" * 48 in one["rego"] and "reported_tcb_snp >= 20" in one["rego"] and one["gaps"] == []
    assert "5f" not in three["notes"] and "init_data in" in three["rego"] and kbs_of(lab).policy == three["rego"]
    assert refused["failed"] and refused["code"] == "kbs-policy-gap" and "sev_snp.products" in refused["msg"]


def test_a_policy_that_cannot_be_kept_here_is_told_to_be_there(lab):
    wanted = {**lab.stored, "kind": "resource", "content": kbs_lab.DENY, "dest": "missing/policy.rego"}
    _code, _output, (told, again) = lab.run(("kbs_policy", wanted), ("kbs_policy", wanted))
    assert (told["failed"], told["code"], told["changed"], told["changes"][0]["action"]) == (True, "kbs-dest", True, "stored")
    assert kbs_of(lab).policy == kbs_lab.DENY and again["failed"] and again["changed"] is False


def test_rego_that_cannot_be_one_is_never_sent(lab):
    bad = [
        "package other\nallow := true", "package policy\nallowed if { true }", "package policy\nallow if { input.x == \"a }",
        "package policy\nallow if { { }",
    ]  # fmt: skip
    _code, output, told = lab.run(*[("kbs_policy", {**lab.stored, "kind": "resource", "content": text}) for text in bad])
    assert [task.get("code") for task in told] == ["kbs-policy-text"] * 4, output
    assert lab.peers[0].server.requests == []


def test_reference_values_are_compared_with_what_is_there(lab):
    wanted = {**lab.common, "reference_values": REFERENCES, "values": {"snp_bootloader": [10]}}
    none = {**lab.common, "reference_values": {**REFERENCES, "values": []}, "absent": ["snp_bootloader"]}
    _code, output, (one, two, three, four) = lab.run(*[("kbs_reference_values", task) for task in (wanted, wanted, none, none)], arguments=("--diff",))
    assert [task["changed"] for task in (one, two, three, four)] == [True, False, True, False], output
    assert one["kbs"][0]["changed"] == ["snp_bootloader", "snp_launch_measurement"] and one["kbs"][0]["before"]["snp_bootloader"] is None
    assert kbs_of(lab).attestation.references == {"snp_launch_measurement": [], "snp_bootloader": []}
    kbs_of(lab).attestation.references["snp_smt_enabled"] = 1
    typed = {**lab.common, "values": {"snp_smt_enabled": True}}
    _code, _output, (checked, other, nothing) = lab.run(
        ("kbs_reference_values", wanted), ("kbs_reference_values", typed), ("kbs_reference_values", lab.common), arguments=("--check",))
    assert checked["changed"] is True and kbs_of(lab).attestation.references["snp_bootloader"] == []
    assert other["changed"] is True, "1 is not true for a policy of Trustee"
    assert nothing["failed"] and "one of the following is required" in nothing["msg"]
