# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/deploy_model.yml asks whether the model fits before anything is encrypted. test_model_server.py encrypts with it, molecule/model_server serves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

MODEL = {"size": "100 MB", "dtype": "bf16", "layers": 2, "kv_heads": 2, "head_dim": 8, "context": 16, "concurrency": 1}
HUGE = {**MODEL, "size": "80000 GB"}


def test_nothing_is_encrypted_for_a_server_into_which_the_model_does_not_fit(tmp_path):
    plans = {
        "fits": {"model": MODEL, "host": {"ram_gib": 64, "tee": "tdx"}, "options": {"system_gib": 0.1, "engine_gib": 0.1}},
        "small-host": {"model": HUGE, "host": {"ram_gib": 64, "tee": "tdx"}},
        # The host would do, but not the guest, which is this machine.
        "small-guest": {"model": HUGE, "host": {"ram_gib": 1000000, "tee": "tdx"}},
    }
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    hosts = {name: {"deploy_model_plan": plan, **here} for name, plan in plans.items()}
    (tmp_path / "hosts.json").write_text(json.dumps({"model_servers": {"hosts": hosts}}))
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "weights.bin").write_bytes(b"w" * 99)
    given = {
        "deploy_model_source": "source", "model_server_model": "encrypted", "model_server_kek": "kek.jwk", "deploy_model_signing_key": "signer.pem",
        "deploy_model_create_keys": True,
    }  # fmt: skip
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.json", "attested.ai.deploy_model", "-e", json.dumps(given)]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2 and "Traceback" not in said, said
    assert re.search(r"small-host\]: FAILED! => .{0,200}Add [0-9]+ GiB of memory to the host", said), said
    guest = r"small-guest has [0-9]+ GiB of memory, and the model, its engine and the system need 745[0-9.]+"
    assert re.search(r"small-guest\]: FAILED! => .{0,200}" + guest, said), said
    assert "fatal: [fits]" not in said and "PLAY [Encrypt the model]" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hosts.json", "source"]
