# SPDX-License-Identifier: GPL-3.0-or-later
"""The table at the end of the playbook for a fleet, over results as the roles leave them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

RESULT = {
    "verdict": "ready", "tee": "tdx", "cloud": "azure", "wrong": [], "ssh_storage": "memory",
    "told": [{"subject": "agent waagent", "who": "the cloud", "can": "run things", "fix": "Mask it"}],
}  # fmt: skip
WRONG = {"id": "gpu-guest.mode", "outcome": "fail", "observed": "off", "fix": "Set it on the host"}
HOSTS = {
    "good": {"tee_guest_result": RESULT},
    "gpus": {"tee_guest_result": RESULT, "gpu_cc_guest_result": {"ready": True, "summary": "1 x hopper, on, attested and ready", "wrong": []}},
    "waits": {"tee_guest_result": RESULT, "gpu_cc_guest_result": {"ready": False, "summary": "waits for a reboot", "wrong": []}},
    "bad": {
        "tee_guest_result": RESULT,
        "gpu_cc_guest_result": {"ready": False, "summary": "take no work", "wrong": [WRONG]},
        "guests_failure": "The GPUs take no work",
    },
    "early": {"guests_failure": "Stop before the operator is locked out: set this"},
    "gone": {},
}


def test_each_guest_has_its_row_and_failures_count(tmp_path):
    (tmp_path / "inventory.json").write_text(json.dumps({"guests": {"hosts": HOSTS}, "all": {"vars": {"ansible_connection": "local"}}}))
    command = [sys.executable, "-m", "ansible", "playbook", "attested.ai.guests", "-i", "inventory.json", "--start-at-task", "Show all guests"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "COLUMNS": "150", "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False)
    rows = [line.split(None, 2) for line in done.stdout.partition("Outcome")[2].partition("ok: [")[0].splitlines()[2:] if line.strip()]
    assert done.returncode == 2, done.stdout + done.stderr
    told = [["good", "told"], ["gpus", "told"], ["waits", "told"], ["bad", "told"]]
    assert [row[:2] for row in rows if row[1] != "told"] == [
        ["good", "ready"], ["gpus", "ready"], ["waits", "waits"], ["bad", "fail"], ["bad", "fail"], ["early", "fail"], ["gone", "fail"],
    ]  # fmt: skip
    assert [row[:2] for row in rows if row[1] == "told"] == told
    assert "tdx, SSH host keys: memory, GPUs: 1 x hopper, on, attested and ready" in done.stdout and "off. Set it on the host" in done.stdout
    assert "Stop before the operator is locked out: set this" in done.stdout and "it was not reached, or this was a check" in done.stdout
