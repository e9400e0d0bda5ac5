# SPDX-License-Identifier: GPL-3.0-or-later
"""Real runs with full verbosity: neither the data key nor the guest's key shows up in any output or file."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import load_kek
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import KeyRelease, seal
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.session import create_session, prepare_directory
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import unwrap_dek
from ansible_collections.attested.ai.plugins.module_utils.target.memory import memory_filesystem

PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
pytestmark = [
    pytest.mark.costly,
    pytest.mark.skipif(not memory_filesystem("/dev/shm").safe, reason="needs memory without swap at /dev/shm"),
    pytest.mark.skipif(not PLAYBOOK.exists(), reason="needs ansible-playbook"),
]
MARKER = b"plaintext-marker-0123456789"


def play(place: Path, name: str, tasks: list, fails: bool = False) -> str:
    """Run tasks on this machine with -vvv; the output and everything that was left in the temporary directories."""
    path = place / (name + ".json")
    path.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "connection": "local", "tasks": tasks}]))
    kept = place / "ansible-tmp"
    environment = dict(os.environ, ANSIBLE_KEEP_REMOTE_FILES="1", ANSIBLE_REMOTE_TMP=str(kept), ANSIBLE_LOCAL_TEMP=str(kept), ANSIBLE_NOCOLOR="1")
    environment.pop("PYTEST_CURRENT_TEST", None)
    environment["ANSIBLE_LOG_PATH"] = str(place / "ansible.log")
    variables = json.dumps({"ansible_python_interpreter": sys.executable})
    command = [str(PLAYBOOK), "-i", "localhost,", "-vvv", "--diff", "-e", variables, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def forms(secret: bytes) -> list:
    """How a secret may be written down; base64 at each of its three alignments, without the ends that depend on neighbours."""
    found = [secret, secret.hex().encode(), secret.hex().upper().encode(), repr(secret).encode()[2:-1]]
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + secret)[4 if shift else 0 : -4]
        found += [text, text.replace(b"+", b"-").replace(b"/", b"_")]
    return found


def leaks(secrets: list, place: Path, output: str, besides: set) -> list:
    found = []
    texts = [("output", output.encode())] + [(str(path), path.read_bytes()) for path in place.rglob("*") if path.is_file() and path not in besides]
    for where, data in texts:
        found += [where for secret in secrets for form in forms(secret) if form in data]
    return found


def test_forms_find_what_is_written_down():
    secret = bytes(range(100, 132))
    for data in (secret, base64.b64encode(b"x" + secret + b"y"), base64.urlsafe_b64encode(b"xy" + secret), secret.hex().encode(), repr(secret).encode()):
        assert any(form in data for form in forms(secret))


def test_no_secret_in_output_or_files():
    place = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="model-secrets-test-"))
    try:
        os.makedirs(place / "plain")
        (place / "plain" / "config.json").write_bytes(MARKER)
        encrypt = {
            "src": str(place / "plain"), "dest": str(place / "sealed"), "model_id": "test-model", "release": 1,
            "kek": str(place / "kek.jwk"), "create_kek": True, "signing_key": str(place / "signer.pem"), "create_signing_key": True,
        }
        task = {"attested.ai.model_encrypt": encrypt}
        output = play(place, "encrypt", [
            dict(task, check_mode=True, register="promised"),
            dict(task, register="first"),
            dict(task, register="second"),
            {"ansible.builtin.assert": {"that": ["promised is changed", "first is changed", "second is not changed"]}},
        ])
        manifest = Manifest.parse((place / "sealed" / "model-manifest.json").read_bytes())
        kek = load_kek(str(place / "kek.jwk"))
        dek = bytes(unwrap_dek(manifest.dek, kek))
        signer = json.loads(output[output.index('"signer": ') + 10 :].split("}")[0] + "}")
        prepare_directory(str(place / "sessions"))
        session = create_session(str(place / "sessions"), "first-session", 60)
        scalar = session.private_key().private_numbers().private_value.to_bytes(32, "big")
        not_after = (datetime.now(timezone.utc) + timedelta(minutes=1)).replace(microsecond=0)
        values = {"model_id": "test-model", "release": 1, "minimum_release": 1, "key_id": manifest.key_id, "manifest_signer": signer}
        session.store_release(seal(KeyRelease(key=dek, evidence_digest="00" * 32, not_after=not_after, **values), session.jwk()))
        opening = {"src": str(place / "sealed"), "dest": str(place / "model"), "session": "first-session", "session_directory": str(place / "sessions")}
        output += play(place, "open", [
            {"attested.ai.model_open": opening, "register": "first"},
            {"attested.ai.model_open": opening, "register": "second"},
            {"ansible.builtin.assert": {"that": ["first is changed", "second is not changed"]}},
        ])
        assert (place / "model" / "config.json").read_bytes() == MARKER and not list((place / "sessions").iterdir())
        output += play(place, "gone", [{"attested.ai.model_open": dict(opening, dest=str(place / "other"))}], fails=True)
        assert "there is no session first-session" in output and "Traceback" not in output
        assert list((place / "ansible-tmp").rglob("AnsiballZ_*")), "the temporary files were kept for this test to read"
        assert not leaks([dek, scalar, kek.key], place, output, {place / "kek.jwk"})
        assert not leaks([MARKER], place, output, {place / "plain" / "config.json", place / "model" / "config.json"})
        play(place, "absent", [{"attested.ai.model_open": {"dest": str(place / "model"), "state": "absent"}}])
        assert not (place / "model").exists() and not (place / "model.complete").exists()
    finally:
        shutil.rmtree(place)


@pytest.mark.parametrize("where", ["plain", "sealed"])
def test_keys_that_lie_in_the_model_are_refused(tmp_path, where):
    """In the source they would go to every guest, in the destination to the host, until the next release removes them."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "config.json").write_bytes(MARKER)
    task = {"src": str(tmp_path / "plain"), "dest": str(tmp_path / "sealed"), "model_id": "demo", "release": 1, "create_kek": True}
    task.update(kek=str(tmp_path / where / "kek.jwk"), create_signing_key=True, signing_key=str(tmp_path / "signer.pem"))
    output = play(tmp_path, "keys", [{"attested.ai.model_encrypt": task}], fails=True)
    assert "the key lies in the model" in output and "Traceback" not in output
    assert not (tmp_path / "sealed").exists() and not (tmp_path / where / "kek.jwk").exists()
