# SPDX-License-Identifier: GPL-3.0-or-later
"""The README's playbook does what the README says. Only paths that a test cannot write, and the service, are exchanged."""

from __future__ import annotations

import pathlib
import re
import shutil
import uuid

import pytest
import yaml

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"


def yaml_block(beginning: str) -> str:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if block.startswith(beginning))


@pytest.fixture
def memory():
    made = pathlib.Path("/dev/shm") / f"attested-test-{uuid.uuid4().hex}"
    made.mkdir(mode=0o700)
    yield made
    shutil.rmtree(made)


def test_the_playbook_of_the_readme_runs(play, soft_guest, memory, tmp_path):
    (tmp_path / "models" / "minilm").mkdir(parents=True)
    (tmp_path / "models" / "minilm" / "weights.bin").write_bytes(b"weights" * 1000)
    shutil.copy(soft_guest.policy, tmp_path / "policy.yml")
    shutil.copy(soft_guest.reference_values, tmp_path / "reference-values.yml")
    text = (
        yaml_block("- name: Put a model where")
        .replace("/srv/models/minilm", str(tmp_path / "encrypted/minilm"))
        .replace("/run/model/minilm", str(memory / "minilm"))
    )
    (written,) = yaml.safe_load(text)
    *tasks, service = written["tasks"]
    assert "ansible.builtin.systemd_service" in service
    assert [next(key for key in task if key.startswith("attested.ai.")).rpartition(".")[2] for task in tasks] == [
        "model_encrypt",
        "attest",
        "model_release",
        "model_open",
    ]
    here = {"tsm_path": str(soft_guest.tsm_path)}
    sessions = {"session_directory": str(memory / "sessions")}
    defaults = {"attested.ai.attest": here, "attested.ai.model_release": {**here, **sessions}, "attested.ai.model_open": sessions}
    done = play([{"name": "The README", "module_defaults": defaults, "block": tasks}])
    assert done.status == 0, done.output
    assert (memory / "minilm" / "weights.bin").read_bytes() == b"weights" * 1000


def test_the_smallest_policy_is_one(play, soft_guest):
    task = {
        "name": "Attest",
        "attested.ai.attest": {"policy": yaml.safe_load(yaml_block("schema: attested.ai/policy/1")), "tsm_path": str(soft_guest.tsm_path)},
        "register": "answer",
    }
    done = play([task])
    assert done.status != 0
    assert "root-not-pinned" in [reason["id"] for reason in done["answer"]["result"]["reasons"]]
