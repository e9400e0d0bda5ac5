# SPDX-License-Identifier: GPL-3.0-or-later
"""What docs/edge.md shows, played by the real ansible-playbook against the Soft TEE, in one run: centre, bundle, gateway, guest, ledger back."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import uuid
from datetime import datetime, timedelta, timezone

import pytest
import yaml

from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Piece, Store

GUIDE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "edge.md"
# What people carry is not carried here.
CARRIED = {"in/plant-1-card.json": "gateway/card.json", "in/plant-1.tar": "out/plant-1.tar", "in/plant-1-report.tar": "out/plant-1-report.tar"}


@pytest.fixture
def memory():
    made = pathlib.Path("/dev/shm") / f"attested-test-{uuid.uuid4().hex}"
    made.mkdir(mode=0o700)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_the_guide(play, soft_guest, memory, tmp_path):
    (tmp_path / "models" / "minilm").mkdir(parents=True)
    (tmp_path / "models" / "minilm" / "weights.bin").write_bytes(b"w" * 5000)
    (tmp_path / "secrets").mkdir(mode=0o700)
    key, public = tmp_path / "secrets" / "centre.pem", tmp_path / "centre.pub.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key], check=True)
    key.chmod(0o600)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    shutil.copy(soft_guest.policy, tmp_path / "policy.yml")
    shutil.copy(soft_guest.reference_values, tmp_path / "reference-values.yml")
    now = datetime.now(timezone.utc)
    until = (now + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    # As a fetch would leave it, but for what is in it: there is no service to ask.
    root = yaml.safe_load(soft_guest.policy.read_text())["roots"][0].encode()
    chain = Piece("amd-chain", "amd/chain/soft.pem", root, "a root", now, now + timedelta(days=20))
    Store(str(tmp_path / "collateral")).put([(chain, chain.entry("test", now))])
    sessions = str(memory / "sessions")
    here = {
        "edge_bundle made": {"not_after": until},
        "model_release": {"tsm_path": str(soft_guest.tsm_path), "session_directory": sessions, "lifetime": 60},
        "model_open": {"src": str(tmp_path / "encrypted" / "minilm"), "dest": str(memory / "opened"), "session_directory": sessions},
    }
    tasks = []
    for block in re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for task in yaml.safe_load(block):
            action = next(name for name in task if "." in name)
            short = action.rpartition(".")[2]
            options = {name: CARRIED.get(value, value) if isinstance(value, str) else value for name, value in task[action].items()}
            options.update(here.get(short) or here.get(f"{short} {options.get('state')}") or {})
            tasks.append({"register": f"step{len(tasks)}", **task, action: options})
    (opened,) = (number for number, task in enumerate(tasks) if "attested.ai.model_open" in task)
    release = tasks[opened - 1]["attested.ai.model_release"]
    # Beside what the guide shows: a rehearsal, a policy of one's own, and a guest after the only use but one is gone.
    tasks[opened - 1:opened - 1] = [
        {"attested.ai.model_release": release, "check_mode": True, "register": "rehearsed"},
        {"attested.ai.model_release": {**release, "policy": "policy.yml"}, "ignore_errors": True, "register": "policy"},
    ]
    tasks.append({"attested.ai.model_release": release, "ignore_errors": True, "register": "used_up"})
    # The role model_server asks for the same: by its variables, and with what is for the client at the end.
    by_role = {"ansible.builtin.include_role": {"name": "attested.ai.model_server", "tasks_from": "release"}, "vars": {
        "model_server_kek": release["kek"], "model_server_model": "encrypted/minilm", "model_server_policy": "policy.yml",
        "model_server_reference_values": "reference-values.yml", "model_server_collateral": ["collateral"],
        "model_server_evidence": {"tsm_path": str(soft_guest.tsm_path)}}}  # fmt: skip
    tell = {"ansible.builtin.set_fact": {"released": "{{ __model_server_release }}"}}
    tasks[opened - 1:opened - 1] = [{"block": [by_role], "check_mode": True}, {**tell, "register": "rehearsed_by_role"}]
    tasks += [{"block": [by_role], "ignore_errors": True}, {**tell, "register": "used_up_by_role"}]
    making = next(task["attested.ai.edge_bundle"] for task in tasks if task.get("register") == "made")
    making["models"][0]["uses"] = 1
    done = play(tasks, arguments=["--diff"])
    assert done.status == 0 and "Traceback" not in done.output, done.output
    assert done["rehearsed"]["changed"] and done["rehearsed"]["edge"]["models"][0]["uses_left"] == 1 and done["policy"]["code"] == "edge-option"
    assert done["made"]["changed"] and "model minilm release 1: 1 uses" in done.output
    assert done["made"]["edge"]["ends_by"] == "collateral" and len(list((tmp_path / "gateway").glob("collateral-*.tar"))) == 1
    released = done["release"]
    assert released["ledger_entry"]["decision"] == "released" and released["result"]["accepted"]
    assert released["edge"]["models"][0]["uses_left"] == 0 and 19 < released["edge"]["days_left"] <= 20
    assert (memory / "opened" / "weights.bin").read_bytes() == b"w" * 5000
    assert not done["left"]["edge"]["usable"] and done["left"]["edge"]["problems"] == [] and done["back"]["count"] == 1
    assert "edge-bundle: plant-1 1" in done["back"]["entries"][0]["reasons"] and done["back"]["findings"] == []
    rehearsed, used_up = (done[name]["ansible_facts"]["released"] for name in ("rehearsed_by_role", "used_up_by_role"))
    assert rehearsed["changed"] and rehearsed["result"]["accepted"] and rehearsed["edge"]["models"][0]["uses_left"] == 1
    assert used_up["code"] == "edge-used-up"
    assert done["used_up"]["code"] == "edge-used-up" and done["used_up"]["edge"]["usable"] is False
    assert not list((memory / "sessions").glob("*"))
    kek = json.loads((tmp_path / "secrets" / "kek.jwk").read_text())["k"]
    assert kek not in done.output and kek.encode() not in (tmp_path / "out" / "plant-1.tar").read_bytes()
