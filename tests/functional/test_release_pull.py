# SPDX-License-Identifier: GPL-3.0-or-later
"""Pull mode from end to end: encrypt, store the key in a KBS, the guest (Soft TEE) proves itself there and opens the model."""

from __future__ import annotations

import base64
import hashlib
import json
import pathlib
import shutil
import ssl
import sys
import uuid

import pytest
from ansible_collections.attested.ai.plugins.module_utils.formats.der import spki_of_certificate
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe import unwrap_general
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import load_kek

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "unit" / "kbs"))

import kbs_lab  # noqa: E402


class Workspace:
    def __init__(self, folder, guest, peer) -> None:
        self.folder, self.guest, self.peer = folder, guest, peer
        self.model, self.encrypted, self.ledger = folder / "model", folder / "encrypted", folder / "ledger"
        self.kek = folder / "secrets" / "kek.jwk"
        self.model.mkdir()
        (self.model / "weights.bin").write_bytes(b"x" * 100_000)
        self.memory = pathlib.Path("/dev/shm") / f"attested-test-{uuid.uuid4().hex}"
        self.memory.mkdir(mode=0o700)
        (folder / "kbs-ca.pem").write_text(peer.ca)
        kbs_lab.secret(folder / "admin.pem", kbs_lab.private_pem(peer.admin_key))
        pem = ssl.get_server_certificate(peer.address.parts[1:3])
        self.pin = "sha256:" + hashlib.sha256(spki_of_certificate(ssl.PEM_cert_to_DER_cert(pem))).hexdigest()

    def encrypt(self, release=1):
        return {
            "attested.ai.model_encrypt": {
                "src": str(self.model), "dest": str(self.encrypted), "model_id": "demo", "release": release, "kek": str(self.kek), "create_kek": True,
                "signing_key": str(self.folder / "signer.pem"), "create_signing_key": True,
            },
            "register": "encrypted",
        }  # fmt: skip

    def store(self, path="default/model-key/demo-1", **options):
        return {
            "attested.ai.kbs_model_key": {
                "url": [self.peer.url], "ca_path": str(self.folder / "kbs-ca.pem"), "admin_key": str(self.folder / "admin.pem"), "issuer": kbs_lab.ISSUER,
                "state_path": str(self.folder / "state.json"), "path": path, "model": str(self.encrypted), "kek": str(self.kek),
                "signer": "{{ encrypted.signer }}", **options,
            },
            "register": "stored",
        }  # fmt: skip

    def release(self, **options):
        return {
            "attested.ai.model_release": {
                "mode": "pull", "kbs": {"url": self.peer.url, "ca_path": str(self.folder / "kbs-ca.pem"), "pins": [self.pin], **options.pop("kbs", {})},
                "resource": "kbs:///default/model-key/demo-1", "ledger": str(self.ledger), "tsm_path": str(self.guest.tsm_path),
                "session_directory": str(self.memory / "sessions"), "lifetime": 900, **options,
            },
            "register": "release",
        }  # fmt: skip

    def by_role(self):
        """The role's own task, with what a deployment would set: also what is for the client at the end, and must not reach the key broker's release."""
        options = self.release()["attested.ai.model_release"]
        variables = {
            "model_server_release_mode": "pull", "model_server_kbs": options["kbs"], "model_server_resource": options["resource"],
            "model_server_model": str(self.encrypted), "model_server_signer": "{{ encrypted.signer }}", "model_server_ledger": str(self.ledger),
            "model_server_policy": str(self.guest.policy), "model_server_reference_values": str(self.guest.reference_values),
            "model_server_collateral": ["collateral"], "model_server_evidence": {"tsm_path": str(self.guest.tsm_path)},
        }  # fmt: skip
        release = {"ansible.builtin.include_role": {"name": "attested.ai.model_server", "tasks_from": "release"}, "vars": variables}
        elsewhere = {"attested.ai.model_release": {"session_directory": options["session_directory"]}}
        return [{"block": [release], "module_defaults": elsewhere},
                {"ansible.builtin.set_fact": {"released": "{{ __model_server_release }}"}, "register": "by_role"}]  # fmt: skip

    def open(self):
        return {
            "attested.ai.model_open": {
                "src": str(self.encrypted), "dest": str(self.memory / "opened"), "session": "{{ release.session }}",
                "session_directory": str(self.memory / "sessions"),
            },
        }  # fmt: skip

    def data_key(self) -> bytes:
        return unwrap_general(json.loads((self.encrypted / "model-manifest.json").read_text())["dek"], load_kek(str(self.kek)).key)

    def sessions(self) -> list:
        return list((self.memory / "sessions").glob("*"))


@pytest.fixture
def workspace(tmp_path, soft_guest):
    with kbs_lab.soft_peer(tmp_path) as peer:
        kbs_lab.trust_soft_guests(peer.server.kbs)
        made = Workspace(tmp_path, soft_guest, peer)
        yield made
        shutil.rmtree(made.memory, ignore_errors=True)


def test_the_guest_fetches_the_key_and_the_controller_hands_nothing_over(play, workspace, tmp_path):
    tasks = [workspace.encrypt(), workspace.store(ledger=str(workspace.ledger)), workspace.release(signer="{{ encrypted.signer }}"), workspace.open()]
    done = play([*tasks, *workspace.by_role()], arguments=["-vvv", "--diff"])
    assert done.status == 0, done.output
    # The role model_server asks for the same, by its variables, and would open the model with it.
    by_role = done["by_role"]["ansible_facts"]["released"]
    assert by_role["release"] == 1 and by_role["ledger_entry"]["seq"] == done["release"]["ledger_entry"]["seq"] + 1
    assert [path.name for path in workspace.sessions()] == [by_role["session"]]
    shutil.rmtree(workspace.sessions()[0])
    assert (workspace.memory / "opened" / "weights.bin").read_bytes() == (workspace.model / "weights.bin").read_bytes()
    assert workspace.sessions() == [] and done["release"]["ledger_entry"]["decision"] == "released" and done["release"]["anchored"] is False
    assert done["release"]["key_id"] == done["encrypted"]["key_id"] == done["stored"]["key_id"]

    key = workspace.data_key()
    spellings = [key, key.hex().encode(), base64.b64encode(key), base64.urlsafe_b64encode(key).rstrip(b"=")]
    haystacks = {"output": done.output.encode(), "results": json.dumps(done.results).encode()}
    for folder in (tmp_path, workspace.memory):
        haystacks.update({str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert [name for name, text in haystacks.items() if any(spelling in text for spelling in spellings)] == []
    assert play([workspace.encrypt(), workspace.store()])["stored"]["changed"] is False


def test_a_guest_in_debug_mode_gets_nothing(play, workspace):
    workspace.guest.misbehave("debug")
    done = play([workspace.encrypt(), workspace.store(), workspace.release()])
    assert done.status != 0 and done["release"]["code"] == "kbs-policy-denied", done.output
    assert workspace.sessions() == [] and "Traceback" not in done.output


def test_an_older_release_that_the_kbs_still_gives_out_is_refused(play, workspace):
    assert play([workspace.encrypt(), workspace.store(), workspace.encrypt(2), workspace.store("default/model-key/demo-2")]).status == 0
    done = play([workspace.release(resource="kbs:///default/model-key/demo-2")])
    assert done.status == 0 and done["release"]["release"] == 2, done.output
    before = workspace.sessions()
    done = play([workspace.release()])
    assert done.status != 0 and done["release"]["code"] == "model-rollback" and workspace.sessions() == before and len(before) == 1, done.output


def test_options_of_the_other_mode_and_check_mode(play, workspace, tmp_path):
    done = play([workspace.release(policy="policy.yml")])
    assert done.status != 0 and done["release"]["code"] == "mode-option"
    done = play([workspace.release()], check_mode=True)
    assert done.status == 0 and done["release"]["changed"] is True and not workspace.ledger.exists() and workspace.sessions() == []
    done = play([workspace.release(kbs={"pins": []})], check_mode=True)
    assert done.status != 0 and done["release"]["code"] == "kbs-unpinned", done.output
    done = play([{"attested.ai.model_release": {"mode": "pull", "resource": "kbs:///a/b/c"}, "register": "release"}])
    assert done.status != 0 and "kbs" in done["release"]["msg"] and "Traceback" not in done.output
