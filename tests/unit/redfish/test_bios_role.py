# SPDX-License-Identifier: GPL-3.0-or-later
"""The role bios through a real ansible-playbook: check mode first, converge, second run, and back."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bmc.server import Service

pytestmark = pytest.mark.costly
PASSWORD = "correct-horse-7431"


def run(tmp_path: Path, running: Service, *plays: dict, arguments: tuple[str, ...] = (), fails: bool = False) -> list[str]:
    """What each play printed; each is given as the variables of the role."""
    (tmp_path / "ca.pem").write_bytes(running.certificate)
    common = {"bios_baseuri": running.address, "bios_username": "admin", "bios_password": PASSWORD, "bios_ca_path": str(tmp_path / "ca.pem")}
    common["bios_reboot_options"] = {"reset_type": "force", "poll_interval": 0}
    told = {"ansible.builtin.debug": {"msg": "required={{ bios_reboot_required }}"}}
    listed = [{"hosts": "all", "gather_facts": False, "vars": {**common, **variables}, "roles": ["attested.ai.bios"], "tasks": [told]} for variables in plays]
    (tmp_path / "play.json").write_text(json.dumps(listed))
    environment = dict(os.environ, ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(tmp_path / "local"), ANSIBLE_INJECT_FACT_VARS="false")
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    # The host itself does not exist: only its management controller is talked to.
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "host7.invalid,", str(tmp_path / "play.json"), *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300, cwd=tmp_path)
    assert PASSWORD not in done.stdout and done.returncode == (2 if fails else 0), done.stdout
    return done.stdout.split("\nPLAY [")[1:]


@pytest.fixture
def lenovo():
    with Service("lenovo-snp", password=PASSWORD, boot_looks=0).running() as running:
        yield running


def test_check_mode_tells_all_and_changes_nothing(tmp_path, lenovo):
    untouched = dict(lenovo.machine.current)
    (output,) = run(tmp_path, lenovo, {"bios_state": "snp", "bios_reboot_ok": True}, arguments=("--check", "--diff"))
    assert '+        "Processors_SEV_SNPSupport": "Enabled"' in output
    assert lenovo.machine.current == untouched and not lenovo.machine.pending and not (tmp_path / "bios").exists()


def test_there_and_back(tmp_path, lenovo):
    record, untouched = tmp_path / "bios" / "host7.invalid.json", dict(lenovo.machine.current)
    there, back = {"bios_state": "snp", "bios_reboot_ok": True}, {"bios_state": "absent", "bios_reboot_ok": True}
    first, second = run(tmp_path, lenovo, there, there)
    assert "required=False" in first and lenovo.machine.resets == 3 and json.loads(record.read_text()) == untouched
    # The recap, which counts all, follows the last play.
    assert "changed: [" in first and "changed: [" not in second and lenovo.sessions == {}
    first, second = run(tmp_path, lenovo, back, back)
    assert "changed: [" in first and "changed: [" not in second and lenovo.machine.current == untouched and not record.exists()


def test_a_missing_reboot_is_reported_and_the_values_from_before_survive_it(tmp_path, lenovo):
    untouched = dict(lenovo.machine.current)
    (output,) = run(tmp_path, lenovo, {"bios_state": "snp"})
    assert "required=True" in output and lenovo.machine.resets == 0
    assert "must be restarted for Memory_SMEE, Memory_SEV_ESASIDSpaceLimit" in output and "3 stages are left" in output
    lenovo.machine.reset("ForceRestart")
    (output,) = run(tmp_path, lenovo, {"bios_state": "snp"})
    assert "2 stages are left" in output
    assert json.loads((tmp_path / "bios" / "host7.invalid.json").read_text()) == untouched


def test_what_was_hidden_at_first_is_recorded_and_comes_back(tmp_path):
    with Service("dell-tdx", password=PASSWORD, boot_looks=0).running() as dell:
        record, untouched = tmp_path / "bios" / "host7.invalid.json", dict(dell.machine.current)
        # As group variables have them: what only a state of a TEE knows does no harm when it is taken back.
        common = {"bios_reboot_ok": True, "bios_overrides": {"tme_bypass": "Enabled", "intel_txt": None}, "bios_names": {"sgx": "IntelSgx"}}
        common["bios_attributes"] = {"AssetTag": "rack 7"}
        (output,) = run(tmp_path, dell, {"bios_state": "tdx", **common}, arguments=("-vvvv",))
        changed = {name: value for name, value in untouched.items() if dell.machine.current[name] != value}
        assert json.loads(record.read_text()) == changed and {"GlbMemIntegrity", "AssetTag", "EnableTmeBypass"} <= set(changed)
        run(tmp_path, dell, {"bios_state": "absent", **common})
        assert dell.machine.current == untouched and not record.exists()
        run(tmp_path, dell, {"bios_state": "none", **common})
        assert dell.machine.current == {**untouched, "AssetTag": "rack 7"}


def test_what_a_run_changed_before_it_failed_is_recorded(tmp_path):
    with Service("dell-tdx", password=PASSWORD, boot_looks=0).running() as dell:
        untouched = dict(dell.machine.current)
        dell.machine.stubborn = {"EnableTdxSeamldr"}
        options = {"reset_type": "force", "poll_interval": 0, "settle_timeout": 0}
        run(tmp_path, dell, {"bios_state": "tdx", "bios_reboot_ok": True, "bios_reboot_options": options}, fails=True)
        recorded = json.loads((tmp_path / "bios" / "host7.invalid.json").read_text())
        assert {"GlbMemIntegrity": "Enabled", "EnableTdx": "Disabled"}.items() <= recorded.items()
        run(tmp_path, dell, {"bios_state": "absent", "bios_reboot_ok": True})
        assert dell.machine.current == untouched


def test_one_host_of_several_that_has_nothing_to_do_stops_nothing(tmp_path):
    with Service("hpe-snp", password=PASSWORD, boot_looks=0).running() as done, Service("hpe-snp", password=PASSWORD, boot_looks=0).running() as new:
        for name in ("AmdSecureMemoryEncryption", "AmdSecureNestedPaging"):
            done.machine.current[name] = "Enabled"
        done.machine.current["MinimumSevAsid"] = 100
        done.certificate += new.certificate
        addresses = {"host7.invalid": done.address, "host8.invalid": new.address}
        (output,) = run(
            tmp_path, done, {"bios_state": "snp", "bios_reboot_ok": True, "addresses": addresses, "bios_baseuri": "{{ addresses[inventory_hostname] }}"},
            arguments=("-i", "host8.invalid,"),
        )  # fmt: skip
        assert (done.machine.resets, new.machine.resets) == (0, 2)
        assert [path.name for path in (tmp_path / "bios").iterdir()] == ["host8.invalid.json"]


def test_what_cannot_be_reached_stops_before_anything_changes(tmp_path, lenovo):
    lenovo.machine.model = dataclasses.replace(lenovo.machine.model, attributes=lenovo.machine.model.attributes[:2])
    (output,) = run(tmp_path, lenovo, {"bios_state": "snp", "bios_reboot_ok": True}, fails=True)
    assert "setting snp: no attribute of this name (Lenovo XCC)" in output and not lenovo.machine.pending
    assert not (tmp_path / "bios").exists()
