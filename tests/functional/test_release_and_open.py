# SPDX-License-Identifier: GPL-3.0-or-later
"""The five tasks of a user's playbook, run by the real ansible-playbook against the Soft TEE: the key moves only to what passed."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import shutil
import time
import uuid

import pytest

from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe import unwrap_general
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import load_kek


class Workspace:
    def __init__(self, tmp_path, soft_guest):
        self.guest = soft_guest
        self.model, self.encrypted = tmp_path / "model", tmp_path / "encrypted"
        self.kek, self.signer, self.ledger = tmp_path / "secrets" / "kek.jwk", tmp_path / "secrets" / "signer.pem", tmp_path / "ledger"
        self.memory = pathlib.Path("/dev/shm") / f"attested-test-{uuid.uuid4().hex}"
        self.memory.mkdir(mode=0o700)
        self.opened = self.memory / "opened"
        self.model.mkdir()
        (self.model / "config.json").write_text('{"layers": 6}')
        (self.model / "weights.bin").write_bytes(os.urandom(3_000_000))

    def encrypt(self, **options):
        return {
            "name": "Encrypt",
            "attested.ai.model_encrypt": {
                "src": str(self.model), "dest": str(self.encrypted), "model_id": "demo", "release": 1,
                "kek": str(self.kek), "create_kek": True, "signing_key": str(self.signer), "create_signing_key": True, **options,
            },
            "register": "encrypted",
        }

    def release(self, **options):
        return {
            "name": "Release",
            "attested.ai.model_release": {
                "model": str(self.encrypted), "kek": str(self.kek), "signer": "{{ encrypted.signer }}", "ledger": str(self.ledger),
                "policy": str(self.guest.policy), "reference_values": str(self.guest.reference_values), "tsm_path": str(self.guest.tsm_path),
                "session_directory": str(self.memory / "sessions"), "lifetime": 60, **options,
            },
            "register": "release",
        }

    def open(self):
        return {
            "name": "Open",
            "attested.ai.model_open": {
                "src": str(self.encrypted), "dest": str(self.opened), "session": "{{ release.session }}", "session_directory": str(self.memory / "sessions"),
            },
            "register": "opened",
        }

    def sessions(self):
        return list((self.memory / "sessions").glob("*")) if (self.memory / "sessions").exists() else []

    def data_key(self) -> bytes:
        manifest = json.loads((self.encrypted / "model-manifest.json").read_text())
        return unwrap_general(manifest["dek"], load_kek(str(self.kek)).key)


@pytest.fixture
def workspace(tmp_path, soft_guest):
    made = Workspace(tmp_path, soft_guest)
    yield made
    shutil.rmtree(made.memory, ignore_errors=True)


def test_key_reaches_the_guest_and_nothing_else(play, workspace, tmp_path):
    done = play([workspace.encrypt(), workspace.release(), workspace.open()], arguments=["-vvv", "--diff"])
    assert done.status == 0, done.output
    assert (workspace.opened / "weights.bin").read_bytes() == (workspace.model / "weights.bin").read_bytes()
    assert workspace.sessions() == []
    assert done["release"]["ledger_entry"]["decision"] == "released"

    key = workspace.data_key()
    spellings = [key, key.hex().encode(), base64.b64encode(key), base64.urlsafe_b64encode(key).rstrip(b"=")]
    haystacks = {"output": done.output.encode(), "results": json.dumps(done.results).encode()}
    for folder in (tmp_path, workspace.memory):
        haystacks.update({str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    found = [name for name, text in haystacks.items() if any(spelling in text for spelling in spellings)]
    assert found == []


def test_key_reaches_a_guest_over_ssh(play, workspace, sshd, client_key, tmp_path):
    server = sshd("guest")
    known = tmp_path / "known_hosts"
    known.write_text(server.known_host_line())
    release = workspace.release(ssh_dir=str(server.directory))
    done = play([workspace.encrypt(), release, workspace.open()], host=server.host(client_key, known))
    assert done.status == 0, done.output
    checks = {check["id"]: check["outcome"] for check in done["release"]["result"]["checks"]}
    assert checks["ssh-host-key"] == "pass"
    assert (workspace.opened / "weights.bin").read_bytes() == (workspace.model / "weights.bin").read_bytes()
    assert workspace.sessions() == []


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("debug", "policy-debug"),
        ("wrong-measurement", "measurement-mismatch"),
        ("old-tcb", "policy-tcb-floor"),
        ("replay", "report-data-mismatch"),
        ("bad-signature", "report-signature"),
        ("vmpl1", "policy-vmpl"),
    ],
)
def test_guest_that_misbehaves_gets_nothing(play, workspace, behaviour, code):
    workspace.guest.misbehave(behaviour)
    done = play([workspace.encrypt(), workspace.release(), workspace.open()])
    assert done.status != 0
    assert code in [reason["id"] for reason in done["release"]["result"]["reasons"]], done.output
    assert code in done["release"]["msg"]
    assert done["release"]["ledger_entry"]["decision"] == "refused"
    assert workspace.sessions() == []
    assert not workspace.opened.exists()
    assert "Traceback" not in done.output


def test_check_mode_attests_and_releases_nothing(play, workspace):
    assert play([workspace.encrypt()]).status == 0
    release = workspace.release(signer="{{ encrypted.signer }}")
    done = play([workspace.encrypt(), release], check_mode=True)
    assert done.status == 0, done.output
    assert done["release"]["changed"] is True
    assert done["release"]["result"]["accepted"] is True
    assert workspace.sessions() == [] and not workspace.ledger.exists()


def test_chain_that_ends_early_is_refused_without_a_waiver(play, workspace, tmp_path):
    policy = workspace.guest.policy.read_text()
    assert "chain_of_trust" in policy
    strict = tmp_path / "strict.yml"
    lines = policy.splitlines(keepends=True)
    start = next(index for index, line in enumerate(lines) if line.startswith("chain_of_trust"))
    end = next((index for index in range(start + 1, len(lines)) if not lines[index].startswith((" ", "#", "\n"))), len(lines))
    strict.write_text("".join(lines[:start] + lines[end:]))
    done = play([workspace.encrypt(), workspace.release(policy=str(strict))])
    assert done.status != 0
    assert [reason["id"] for reason in done["release"]["result"]["reasons"]] == ["chain-of-trust"]


def test_older_release_is_refused_after_a_newer_one(play, workspace, tmp_path):
    assert play([workspace.encrypt(), workspace.release(), workspace.open()]).status == 0
    kept, signer = tmp_path / "release-1", tmp_path / "signer.jwk"
    shutil.copytree(workspace.encrypted, kept)
    done = play([workspace.encrypt(release=2), workspace.release()])
    assert done.status == 0
    signer.write_text(json.dumps(done["encrypted"]["signer"]))
    done = play([workspace.encrypt(release=2), workspace.release(model=str(kept))])
    assert done.status != 0
    assert "release 2" in done["release"]["msg"]
    # Check mode says so, too, and a counter that is lost is not a counter at 1.
    done = play([workspace.release(model=str(kept), signer=str(signer))], check_mode=True)
    assert done.status != 0 and "release 2" in done["release"]["msg"]
    (workspace.ledger / "minimum-releases.json").unlink()
    done = play([workspace.release(model=str(kept), signer=str(signer))])
    assert done.status != 0 and "minimum-releases.json" in done["release"]["msg"]


def test_foreign_signer_is_refused(play, workspace):
    other = {"kty": "EC", "crv": "P-256", "x": "QT3_slJmispaOwnAo6hxebXGLRuiveFuRCLpS4j4S4k", "y": "jcDn4N4nRBQ-a7_D3qjqtb6hwOAXh_ve1wvibPSi1G0"}
    done = play([workspace.encrypt(), workspace.release(signer=other)])
    assert done.status != 0
    assert "signature" in done["release"]["msg"]
    assert not workspace.ledger.exists() or not (workspace.ledger / "ledger.jsonl").exists()


def test_session_is_swept_when_nobody_opens_it(play, workspace):
    # Long enough that a busy machine comes to the release within it.
    done = play([workspace.encrypt(), workspace.release(lifetime=20)])
    assert done.status == 0, done.output
    for _second in range(60):
        if workspace.sessions() == []:
            break
        time.sleep(1)
    assert workspace.sessions() == []


def test_ledger_verifies_and_shows_tampering(play, workspace):
    verify = {
        "name": "Verify",
        "attested.ai.key_ledger": {"path": str(workspace.ledger / "ledger.jsonl"), "public_key": str(workspace.ledger / "ledger.pub.jwk")},
        "register": "ledger",
    }
    done = play([workspace.encrypt(), workspace.release(), workspace.release(), verify])
    assert done.status == 0, done.output
    assert [entry["decision"] for entry in done["ledger"]["entries"]] == ["released", "released"]
    path = workspace.ledger / "ledger.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    done = play([verify])
    assert done.status != 0
    assert "ledger" in done["ledger"]["msg"] and "Traceback" not in done.output
