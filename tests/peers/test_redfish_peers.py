# SPDX-License-Identifier: GPL-3.0-or-later
"""The service of tools/redfish before programs that do not know us: the Redfish modules of community.general, as the ansible package ships them.

What they can do with it, a BMC can be expected to let them do; and the values that they leave pending our own module must find and finish.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tools" / "redfish"))

from bmc.server import Service  # noqa: E402

PASSWORD = "correct-horse-7431"


def play(tmp_path: Path, running: Service, *tasks: dict) -> list[dict]:
    """The results of the tasks, in order; each gets the address and the credentials in the way of its own module."""
    (tmp_path / "ca.pem").write_bytes(running.certificate)
    access = {"baseuri": running.address, "username": "admin", "password": PASSWORD, "ca_path": str(tmp_path / "ca.pem"), "validate_certs": True, "timeout": 20}
    names = []
    listed = []
    for number, task in enumerate(tasks):
        ((name, options),) = task.items()
        known = access if name.startswith("community") else {key: value for key, value in access.items() if key != "timeout"}
        names.append(f"found{number}")
        listed.append({"name": f"{number} {name}", name: {**known, **options}, "register": names[-1]})
    listed.append({"name": "keep", "ansible.builtin.copy": {"content": "{{ [%s] | to_json }}" % ", ".join(names), "dest": str(tmp_path / "found.json")}})
    (tmp_path / "play.json").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": listed}]))
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(tmp_path / "local"))
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(tmp_path / "play.json")]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stdout
    return json.loads((tmp_path / "found.json").read_text())


def info(command: str, category: str = "Systems") -> dict:
    return {"community.general.redfish_info": {"category": category, "command": command}}


def write(**attributes: object) -> dict:
    return {"community.general.redfish_config": {"category": "Systems", "command": "SetBiosAttributes", "bios_attributes": attributes}}


RESTART = {"community.general.redfish_command": {"category": "Systems", "command": "PowerForceRestart"}}


def test_read_write_and_restart(tmp_path):
    with Service("lenovo-snp", password=PASSWORD, boot_looks=0).running() as running:
        system, before, written, again, restarted, after = play(
            tmp_path,
            running,
            info("GetSystemInventory"),
            info("GetBiosAttributes"),
            write(Memory_SMEE="Enabled"),
            write(Memory_SMEE="Enabled"),
            RESTART,
            info("GetBiosAttributes"),
        )
        assert system["redfish_facts"]["system"]["entries"][0][1]["Manufacturer"] == "Lenovo"
        assert before["redfish_facts"]["bios_attribute"]["entries"][0][1]["Memory_SMEE"] == "Disabled"
        assert written["changed"] and restarted["changed"] and running.machine.resets == 1
        assert after["redfish_facts"]["bios_attribute"]["entries"][0][1]["Memory_SMEE"] == "Enabled" and again


@pytest.mark.parametrize("model", ["hpe-snp", "cisco-snp", "asrock-snp"])
def test_what_they_leave_pending_our_module_finds_and_finishes(tmp_path, model):
    first = {
        "hpe-snp": {"AmdSecureMemoryEncryption": "Enabled"},
        "cisco-snp": {"CbsCmnCpuSmee": "Enabled"},
        "asrock-snp": {"CbsCmnCpuSmee": "CbsCmnCpuSmeeEnabled"},
    }[model]
    ours = {"attested.ai.redfish_bios": {"state": "snp", "reboot_ok": True, "poll_interval": 0}}
    with Service(model, password=PASSWORD, boot_looks=0).running() as running:
        written, finished, attributes = play(tmp_path, running, write(**first), ours, info("GetBiosAttributes"))
        assert written["changed"] and finished["changed"] and finished["reboots"] == running.machine.resets
        found = attributes["redfish_facts"]["bios_attribute"]["entries"][0][1]
        assert {name: found[name] for name in finished["after"]} == finished["after"] and set(first) <= set(finished["after"])
        # They open no session; ours is closed.
        assert running.sessions == {} and running.logins == 1


def test_a_dell_job_made_by_their_modules_is_not_made_twice(tmp_path):
    job = {"community.general.idrac_redfish_command": {"category": "Systems", "command": "CreateBiosConfigJob"}}
    ours = {"attested.ai.redfish_bios": {"state": "snp", "reboot_ok": True, "poll_interval": 0}}
    # redfish_config has the controller make the job with the request; idrac_redfish_command makes one for what is pending.
    for pending, theirs in (({}, write(Sme="Enabled")), ({"Sme": "Enabled"}, job)):
        with Service("dell-snp", password=PASSWORD, boot_looks=0).running() as running:
            running.machine.pending.update(pending)
            made, finished = play(tmp_path, running, theirs, ours)
            assert made["changed"] and finished["after"]["Rmp"] == "Enabled"
            assert [event["step"] for event in finished["trace"]][0] == "reset"
            assert [entry["JobState"] for entry in running.machine.jobs] == ["Completed"] * 3
