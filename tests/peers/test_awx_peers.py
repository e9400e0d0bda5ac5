# SPDX-License-Identifier: GPL-3.0-or-later
"""The role awx by the real modules of awx.awx before a double of AWX's interface: made once, nothing the second time, taken away. It proves our side only."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]
COLLECTIONS = os.environ.get("AWX_COLLECTIONS", "")
RUNNER = os.environ.get("ANSIBLE_RUNNER", "")

_spec = importlib.util.spec_from_file_location("awx_double", pathlib.Path(__file__).with_name("awx_double.py"))
awx_double = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(awx_double)


@pytest.fixture
def awx():
    double = awx_double.Double()
    double.add("credentials", name="ssh")
    double.add("credentials", name="rack BMC")
    server = awx_double.serve(double)
    yield double, server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(not COLLECTIONS, reason="set AWX_COLLECTIONS to a folder with ansible_collections/awx/awx")
def test_objects_are_made_once_changed_when_they_differ_and_taken_away(awx, tmp_path):
    double, port = awx
    variables = {
        "awx_project_url": "https://git.example.org/x.git", "awx_machine_credentials": ["ssh"], "awx_credentials": {"bmc": "rack BMC"},
        "awx_workflow_revoke": "guests",
        "awx_inventory_hosts_path": "hosts.yml", "awx_inventory_state_path": "fleet.attested.yml",
        "awx_execution_environment_image": "registry.example.org/ee:1",
        "awx_template_variables": {"revoke": {"decommission_resources": ["default/key/model-7"], "decommission_kbs": {"url": "https://kbs.example.org:8080"}}},
    }  # fmt: skip

    def play(*arguments, status=0, token="token-of-the-test", **more):
        (tmp_path / "vars.json").write_text(json.dumps({**variables, **more}))
        environment = {
            **os.environ, "ANSIBLE_NOCOLOR": "1", "CONTROLLER_HOST": f"http://127.0.0.1:{port}", "CONTROLLER_OAUTH_TOKEN": token, "HOME": str(tmp_path),
            "ANSIBLE_COLLECTIONS_PATH": f"{os.environ['ANSIBLE_COLLECTIONS_PATH']}:{COLLECTIONS}",
        }  # fmt: skip
        command = [sys.executable, "-m", "ansible", "playbook", "attested.ai.awx_setup", "-i", "localhost,", "-e", "@vars.json", *arguments]
        double.writes.clear()
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == status and "Traceback" not in done.stdout, done.stdout[-6000:] + done.stderr
        return done.stdout

    # Check mode has nothing yet that templates could belong to: it says so, and does not pretend.
    assert "organizations" in play("--check", status=2) and double.writes == []
    play()
    bios = double.named("job_templates", "attested.ai bios")
    assert double.links["job_templates", bios["id"], "credentials"] == [1, 2]
    assert json.loads(bios["extra_vars"])["bios_password"].startswith("{{ lookup(")
    types = double.named("credential_types", "attested.ai BMC")
    assert types["injectors"]["env"]["ATTESTED_BMC_PASSWORD_FILE"] == "{{ tower.filename.bmc_password }}"
    assert len(double.stored["job_templates"]) == 20 and len(double.surveys) == 19
    nodes = {one["identifier"]: one["id"] for one in double.stored["workflow_job_template_nodes"].values()}
    assert double.links["workflow_job_template_nodes", nodes["attest"], "failure_nodes"] == [nodes["revoke"]]
    assert double.links["workflow_job_template_nodes", nodes["attest"], "success_nodes"] == [nodes["approve"]]
    # The second time nothing is written and nothing said to be.
    said = play()
    assert "changed=0" in said and double.writes == [], (said, double.writes)
    assert len(double.stored["schedules"]) == 2
    # No longer to be revoked: the node must go, or it would run as a root. A schedule without a rule goes, too.
    assert "changed=2 " in play(awx_workflow_revoke="", awx_preflight_rrule="")
    assert [one["name"] for one in double.stored["schedules"].values()] == ["attested.ai round"]
    assert "revoke" not in {one["identifier"] for one in double.stored["workflow_job_template_nodes"].values()}
    assert double.links["workflow_job_template_nodes", nodes["attest"], "failure_nodes"] in ([], [nodes["revoke"]])
    play("--check", awx_state="absent")
    assert double.writes == []
    play(awx_state="absent")
    assert double.stored["job_templates"] == double.stored["workflow_job_templates"] == double.stored["schedules"] == {}
    said = play(status=2, token="of-somebody-else")
    assert "401" in said and "of-somebody-else" not in said


@pytest.mark.skipif(not RUNNER, reason="set ANSIBLE_RUNNER to the program ansible-runner")
def test_a_job_runs_as_awx_would_start_it(tmp_path):
    """This repository as the project, its collection installed from itself; extra variables of a template and a secret in a file, as AWX hands them over."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_") and name != "PYTHONPATH"}
    environment.update(HOME=str(tmp_path), PATH=f"{pathlib.Path(sys.executable).parent}:{environment['PATH']}")
    project = tmp_path / "private" / "project"
    subprocess.run([sys.executable, str(REPO / "tools/dev/tree.py"), str(project)], check=True, capture_output=True)
    install = ["ansible-galaxy", "collection", "install", "-r", "collections/requirements.yml", "-p", str(tmp_path / "collections")]
    done = subprocess.run(install, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(tmp_path / "collections")

    for part in ("env", "inventory"):
        (tmp_path / "private" / part).mkdir()
    (tmp_path / "private" / "inventory" / "hosts").write_text("localhost ansible_connection=local\n")

    def job(playbook, variables, **more):
        (tmp_path / "private" / "env" / "extravars").write_text(json.dumps(variables))
        command = [RUNNER, "run", str(tmp_path / "private"), "-p", playbook, "-i", playbook.split("/")[1], "--quiet"]
        done = subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        return done.returncode, done.stderr + (tmp_path / "private" / "artifacts" / playbook.split("/")[1] / "stdout").read_text()

    # What the survey of an export would answer; it writes nothing in AWX.
    exported = tmp_path / "controller.yml"
    status, said = job("playbooks/awx_setup.yml", {"awx_state": "export", "awx_export_file": str(exported), "awx_project_url": "https://git.example.org/x.git"})
    assert status == 0 and exported.exists(), said
    secret = tmp_path / "secret"
    secret.write_text("of the controller")
    secret.chmod(0o600)
    (project / "playbooks" / "probe.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n    - ansible.builtin.assert: {that: bios_password == 'of the controller', quiet: true}\n"
    )
    variables = {"bios_password": "{{ lookup('ansible.builtin.file', lookup('ansible.builtin.env', 'ATTESTED_BMC_PASSWORD_FILE')) }}"}
    status, said = job("playbooks/probe.yml", variables, ATTESTED_BMC_PASSWORD_FILE=str(secret))
    assert status == 0 and "of the controller" not in said, said
