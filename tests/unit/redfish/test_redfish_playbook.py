# SPDX-License-Identifier: GPL-3.0-or-later
"""redfish_bios through a real ansible-playbook: check mode, diff, second run, errors, and where the password may be seen."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.attested.ai.plugins.modules import redfish_bios
from bmc.models import Attr
from bmc.server import Service

pytestmark = pytest.mark.costly
PASSWORD = "correct-horse-7431"


def task(tmp_path: Path, running: Service, keywords: dict, **options: object) -> dict:
    (tmp_path / "ca.pem").write_bytes(running.certificate)
    given = {"baseuri": running.address, "username": "admin", "password": PASSWORD, "ca_path": "ca.pem", "poll_interval": 0, **options}
    module = {key: value for key, value in given.items() if value is not None}
    return {"name": "Set the BIOS", "attested.ai.redfish_bios": module, "ignore_errors": True, **keywords}


def play(tmp_path: Path, running: Service, *tasks: dict, arguments: tuple[str, ...] = ()) -> tuple[str, list[dict]]:
    """All that was printed, and the results of the tasks. CHECK among the options of one makes it run in check mode."""
    listed = [
        task(
            tmp_path,
            running,
            {"register": f"found{number}", "check_mode": bool(options.get("CHECK"))},
            **{key: value for key, value in options.items() if key != "CHECK"},
        )
        for number, options in enumerate(tasks)
    ]
    results = ", ".join(f"found{number}" for number in range(len(tasks)))
    listed.append({"ansible.builtin.copy": {"content": f"{{{{ [{results}] | to_json }}}}", "dest": str(tmp_path / "found.json")}, "diff": False})
    (tmp_path / "play.json").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": listed}]))
    status, output = run(tmp_path, *arguments)
    assert status == 0, output
    return output, json.loads((tmp_path / "found.json").read_text())


def run(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(tmp_path / "local"))
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(tmp_path / "play.json"), *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
    return done.returncode, done.stdout


@pytest.fixture
def hpe():
    with Service("hpe-snp", password=PASSWORD, boot_looks=1).running() as running:
        yield running


def test_check_mode_diff_run_and_second_run(tmp_path, hpe):
    wish = {"state": "snp", "reboot_ok": True}
    output, (planned, made, again, last) = play(
        tmp_path, hpe, {**wish, "CHECK": True}, wish, wish, {"state": "snp", "CHECK": True}, arguments=("--diff", "-vvv")
    )
    assert planned["changed"] and planned["needs_reboot"] and planned["reboots"] == 0 and not planned["trace"]
    assert '-        "AmdSecureNestedPaging": "Disabled"' in output and '+        "AmdSecureNestedPaging": "Enabled"' in output
    assert made["changed"] and made["reboots"] == hpe.machine.resets == 2 and not made["needs_reboot"]
    assert made["diff"] == planned["diff"] and made["after"] == {
        "AmdSecureMemoryEncryption": "Enabled",
        "AmdSecureNestedPaging": "Enabled",
        "MinimumSevAsid": 100,
    }
    assert PASSWORD not in output and "stage 2: applied AmdSecureNestedPaging=Enabled" in output
    assert "nobody has verified: AmdSecureMemoryEncryption=Enabled" in " ".join(output.split())
    assert not again["changed"] and not again["needs_reboot"] and not last["changed"] and hpe.sessions == {}


def test_without_leave_to_reboot_it_waits(tmp_path, hpe):
    _output, (first, second) = play(tmp_path, hpe, {"state": "snp"}, {"state": "snp"})
    assert first["changed"] and first["needs_reboot"] and first["pending"] == {"AmdSecureMemoryEncryption": "Enabled", "MinimumSevAsid": 100}
    assert not second["changed"] and second["needs_reboot"] and hpe.machine.resets == 0


REFUSED = (
    ({"password": "wrong-battery-1"}, "redfish-login", "does not accept this user name and password"),
    ({"ca_path": None}, "redfish-tls", "Give its authority with ca_path"),
    ({"ca_path": "missing.pem"}, "redfish-ca", "No such file"),
    ({"baseuri": "http://127.0.0.1:1"}, "redfish-address", "in the clear"),
    ({"baseuri": "https://admin:hidden-one@127.0.0.1"}, "redfish-address", "credentials have options of their own"),
    ({"attributes": {"MinimumSevAsid": 511}}, "redfish-value", "511 is not within 1 and 510"),
    ({"attributes": {"MinimumSevAsid": [1]}}, "redfish-options", "one plain value was expected"),
    ({"attributes": {"SevAsid": 5}}, "redfish-attribute", "Similar names: MinimumSevAsid"),
    ({"overrides": {"tme_bypass": "Enabled"}}, "redfish-setting", "the state snp has no such setting"),
    ({"overrides": {"smee": "Sometimes"}}, "redfish-unresolved", "it has no value 'Sometimes', it knows Disabled, Enabled"),
    ({"names": {"snp": "Elsewhere"}}, "redfish-unresolved", "candidates are AmdSecureNestedPaging"),
    ({"state": "tdx"}, "redfish-unresolved", "setting tme: no attribute of this name (HPE iLO)"),
    ({"apply_time": "immediate"}, "redfish-reboot", "Set reboot_ok"),
    ({"system_id": "2"}, "redfish-system", "Name one with system_id"),
    ({"timeout": 0}, "redfish-options", "timeout 0: it is too small"),
)


def test_errors_name_cause_and_next_step_and_change_nothing(tmp_path, hpe):
    output, results = play(tmp_path, hpe, *({"state": "snp", **options} for options, _code, _text in REFUSED), arguments=("-vvv",))
    for found, (options, code, text) in zip(results, REFUSED, strict=True):
        assert found["failed"] and found["code"] == code and text in found["msg"] and not found["changed"], (options, found)
    assert not hpe.machine.pending and hpe.machine.resets == 0 and hpe.sessions == {}
    assert not any(secret in output for secret in (PASSWORD, "wrong-battery-1", "hidden-one"))


def test_what_was_done_before_an_error_is_told(tmp_path, hpe):
    hpe.machine.stubborn = {"AmdSecureNestedPaging"}
    _output, (found,) = play(tmp_path, hpe, {"state": "snp", "reboot_ok": True, "settle_timeout": 0})
    assert found["failed"] and found["code"] == "redfish-not-taken" and found["changed"]
    assert [event["step"] for event in found["trace"]] == ["write", "reset", "applied", "write", "reset", "not taken"]


def test_platform_keys_are_changed_only_when_confirmed(tmp_path):
    with Service("lenovo-tdx", password=PASSWORD, boot_looks=0).running() as running:
        reset = Attr("Processors_SGXFactoryReset", "SGX Factory Reset", "Disabled")
        running.machine.attributes[reset.name] = reset
        running.machine.current[reset.name] = "Disabled"
        running.machine.model = dataclasses.replace(running.machine.model, attributes=(*running.machine.model.attributes, reset))
        wanted = {"attributes": {reset.name: "Enabled"}}, {"state": "tdx", "overrides": {"sgx_factory_reset": "Enabled"}}
        refused = [{**options, "CHECK": check} for options in wanted for check in (True, False)]
        _output, (*results, allowed) = play(tmp_path, running, *refused, {**wanted[0], "keys_confirm": True})
        assert all(found["code"] == "redfish-unconfirmed" and "keys_confirm" in found["msg"] for found in results)
        assert allowed["pending"] == running.machine.pending == {reset.name: "Enabled"}


def test_the_examples_of_the_documentation_run(tmp_path):
    text = Path(redfish_bios.__file__).read_text(encoding="utf-8").split('EXAMPLES = r"""')[1].split('"""')[0]
    tasks = yaml.safe_load(text)
    with Service("dell-tdx", password=PASSWORD, boot_looks=0).running() as tdx, Service("lenovo-snp", password=PASSWORD, boot_looks=0).running() as snp:
        (tmp_path / "pki").mkdir()
        (tmp_path / "pki" / "bmc-ca.pem").write_bytes(tdx.certificate + snp.certificate)
        for task in tasks:
            state = task.get("attested.ai.redfish_bios", {}).get("state", "")
            task["vars"] = {"bmc_address": (snp if state == "snp" else tdx).address, "bmc_password": PASSWORD}
        play = {"hosts": "localhost", "gather_facts": False, "module_defaults": {"attested.ai.redfish_bios": {"poll_interval": 0}}, "tasks": tasks}
        (tmp_path / "play.json").write_text(json.dumps([play]))
        status, output = run(tmp_path)
        assert status == 0 and "Restart this machine: {'Memory_SMEE': 'Enabled'" in output, output
        assert tdx.machine.resets == 3 and tdx.machine.current["EnableTmeBypass"] == "Enabled" and snp.machine.resets == 0
