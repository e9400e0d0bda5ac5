# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/site.yml run, as far as a machine that is no TEE and must stay as it is allows: what looks, attests and watches, over the Soft TEE.

The steps that change a machine (bios, hosts, quoting, gpu, trustee, runtimes, confidential_vm, guests, deploy) run in virtual machines by their own playbooks,
or not at all; here they run with their groups empty.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
RECORDING = REPO / "tests" / "unit" / "tee_info" / "recorded" / "snp-good.json"


@pytest.fixture
def site(tmp_path, soft_guest):
    def run(*arguments, **groups):
        kept = str(tmp_path / "kept")
        variables = {
            "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "preflight_become": False,
            "preflight_directory": str(tmp_path / "report"), "preflight_recording": json.loads(RECORDING.read_text()), "attestation_monitor_directory": kept,
        }  # fmt: skip
        for prefix in ("attest", "attestation_monitor"):
            variables |= {f"{prefix}_policy": str(soft_guest.policy), f"{prefix}_tsm_path": str(soft_guest.tsm_path)}
            variables |= {f"{prefix}_reference_values": str(soft_guest.reference_values)}
        children = {name: {"hosts": {host: {} for host in hosts}} for name, hosts in groups.items()}
        (tmp_path / "hosts.json").write_text(json.dumps({"all": {"children": children, "vars": variables}}))
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.json", "attested.ai.site", *arguments]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        said = done.stdout + done.stderr
        assert "Traceback" not in said
        return done.returncode, said, re.findall(r"^PLAY \[(.*?)\]", done.stdout, re.MULTILINE)

    return run


def test_who_is_in_no_group_is_let_be(site, tmp_path):
    status, said, plays = site("-e", "site_confirm=true", others=["bystander"])
    assert status == 0 and {"Set the BIOS", "Attest the guests", "Judge the round"} <= set(plays), said
    # Only that the controller takes part is asked of it.
    touched = re.findall(r"^(?:ok|changed|fatal): \[bystander", said, re.MULTILINE)
    assert len(touched) <= said.count("TASK [Stop where --limit leaves it out]") and not re.search(r"changed=[1-9]", said), said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hosts.json"]


def test_what_looks_attests_and_watches_runs_in_order_and_a_refusal_ends_it(site, soft_guest, tmp_path):
    machines = {"snp_hosts": ["metal"], "guests": ["guest1", "guest2"]}
    steps = ("--tags", "preflight,attest,monitor")
    status, said, plays = site(*steps, **machines)
    assert status == 2 and "(steps monitor)" in said and "Look at the machines" not in plays and not (tmp_path / "report").exists(), said
    status, said, plays = site(*steps, "-e", "site_confirm=true", **machines)
    order = [plays.index(name) for name in ("Look at the machines", "Tell how it went", "Judge the round")]
    assert status == 0 and order == sorted(order) and "2 good, 0 bad, 0 without an answer" in said, said
    assert json.loads((tmp_path / "report" / "preflight.json").read_text())["ready"] is True and len(list((tmp_path / "kept" / "results").iterdir())) == 2
    # Nothing is deployed after a refusal.
    soft_guest.misbehave("debug")
    status, said, plays = site("--tags", "attest,deploy,monitor", "-e", "site_confirm=true", model_servers=["guest1"], **machines)
    assert status == 2 and "2 of 2 were refused or gave no answer" in said and plays[-1] == "Tell how it went" and "Serve the model" not in plays, said
