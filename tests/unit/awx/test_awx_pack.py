# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX shall hold: surveys from argument specifications, secrets in files only, no way to keys around the approval, and what a job makes of it."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.attested.ai.plugins.module_utils.awx import pack as packing
from ansible_collections.attested.ai.plugins.module_utils.awx.export import export
from ansible_collections.attested.ai.plugins.module_utils.awx.survey import question, survey
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError

REPO = pathlib.Path(__file__).resolve().parents[3]
DATA = yaml.safe_load((REPO / "roles/awx/files/pack.yml").read_text())
SPECIFICATIONS = {
    role: yaml.safe_load((REPO / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    for role in {role for one in DATA["templates"].values() for role in one.get("roles", [])}
}
SETTINGS = {
    "prefix": "attested.ai", "organization": "Lab", "organization_create": True, "execution_environment": "ee",
    "execution_environment_image": "registry.example.org/ee:1",
    "project": "attested.ai", "project_url": "https://git.example.org/attested.git", "project_branch": "1.0",
    "project_update_on_launch": False, "project_signature": "",
    "inventory": "fleet", "inventory_project": "attested.ai", "inventory_hosts_path": "hosts.yml", "inventory_state_path": "fleet.attested.yml",
    "inventory_cache_seconds": 60, "machine_credentials": ["ssh"], "credentials": {"bmc": "rack BMC", "pccs": "pccs key", "kbs": "broker"}, "variables": {},
    "template_variables": {
        "attest": {"attest_results": "/results"},
        "revoke": {"decommission_resources": ["default/key/model-7"], "decommission_kbs": {"url": "https://kbs.example.org:8080"}},
    },
    "questions": {}, "forks": 50, "slices": 4,
    "workflow_targets": {"attest": "guests"}, "workflow_revoke": "guests", "approval_timeout": 60,
    "monitor_rrule": "DTSTART:20260101T000500Z RRULE:FREQ=HOURLY;INTERVAL=1",
    "preflight_rrule": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def objects():
    return packing.pack(DATA, SETTINGS, SPECIFICATIONS)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"type": "bool"}, {"type": "multiplechoice", "choices": ["true", "false"]}),
        ({"type": "str", "choices": ["a", "b"]}, {"type": "multiplechoice", "choices": ["a", "b"]}),
        ({"type": "list", "choices": ["a"]}, {"type": "multiselect", "choices": ["a"]}),
        ({"type": "int"}, {"type": "integer"}),
        ({"type": "float"}, {"type": "float"}),
        ({"type": "path", "required": True}, {"type": "text", "required": True}),
        ({"type": "str", "no_log": True, "default": "never shown"}, {"type": "password", "question_description": ""}),
        ({"default": 3, "type": "int", "description": ["Use C(x).", "O(y)."]}, {"question_description": "Use x. y. Unanswered: as the inventory says, else 3"}),
        ({"default": "{{ x }}", "description": "D"}, {"question_description": "D"}),
    ],
)
def test_a_question_says_what_the_argument_specification_says(option, expected):
    made = question("some_option", option)
    assert expected.items() <= made.items()
    # A default would be handed over by AWX, and beat the inventory.
    assert "default" not in made and made["variable"] == "some_option"


@pytest.mark.parametrize("option", [{"type": "list"}, {"type": "dict"}, {"type": "raw"}])
def test_what_no_survey_can_ask_is_left_out_or_refused_by_name(option):
    assert question("x", option) is None and survey("t", {"x": option}, ["*"])["spec"] == []
    with pytest.raises(AttestedError, match="no survey can ask for x"):
        survey("t", {"x": option}, ["x"])
    with pytest.raises(AttestedError, match="y is no option"):
        survey("t", {"x": option}, ["y"])


def test_every_playbook_is_a_template_or_left_out_with_a_reason(objects):
    there = {path.stem for path in (REPO / "playbooks").glob("*.yml")}
    named = {one["playbook"].split("/")[1][:-4] for one in objects["controller_templates"]}
    assert there - named - set(DATA["left_out"]) == set(), "roles/awx/files/pack.yml: templates or left_out"
    assert named | set(DATA["left_out"]) <= there
    for one in objects["controller_templates"]:
        # AWX finds a playbook by such a line, outside of roles and tasks.
        assert "hosts:" in (REPO / one["playbook"]).read_text()


def test_what_may_reboot_or_cannot_be_undone_can_be_confirmed_in_the_survey(objects):
    for one in objects["controller_templates"]:
        questions = [each["variable"] for each in one.get("survey_spec", {}).get("spec", [])]
        assert len(set(questions)) == len(questions) <= 20
        for role in DATA["templates"].get(one["name"].removeprefix("attested.ai ").replace(" ", "_"), {}).get("roles", []):
            if "ask" not in DATA["templates"][one["name"].removeprefix("attested.ai ").replace(" ", "_")]:
                assert {name for name in SPECIFICATIONS[role] if name.endswith(("_reboot_ok", "_confirm"))} <= set(questions)


def test_secrets_travel_in_files_and_only_where_a_credential_is(objects):
    for kind in objects["controller_credential_types"]:
        assert all("tower.filename" in path for path in kind["injectors"]["env"].values()) and "extra_vars" not in kind["injectors"]
        assert not any(name.startswith("ANSIBLE_") for name in kind["injectors"]["env"])
        fields = {one["id"] for one in kind["inputs"]["fields"]}
        assert {text.strip("{} ") for text in kind["injectors"]["file"].values()} <= fields and any(one.get("secret") for one in kind["inputs"]["fields"])
        assert len(kind["injectors"]["file"]) == 1 or all(name.startswith("template.") for name in kind["injectors"]["file"])
    by = {one["name"]: one for one in objects["controller_templates"]}
    quoting = by["attested.ai quoting"]
    assert quoting["credentials"] == ["ssh", "pccs key"] and "tdx_quoting_pccs_api_key" in quoting["extra_vars"]
    # A survey answer would beat what the credential brings.
    passwords = {one["variable"] for one in quoting["survey_spec"]["spec"] if one["type"] == "password"}
    assert passwords == {"tdx_quoting_pccs_user_token", "tdx_quoting_pccs_admin_token"}
    assert by["attested.ai deploy model"]["credentials"] == ["ssh"] and not by["attested.ai deploy model"]["extra_vars"]
    assert by["attested.ai attest"]["job_slice_count"] == 4 and by["attested.ai monitor"]["job_slice_count"] == 1


@pytest.mark.parametrize(
    ("name", "given"),
    [("credentials", "ssh"), ("template_variables", "atest"), ("questions", "atest"), ("workflow_targets", "atest"), ("workflow_targets", "revoke")],
)
def test_names_that_are_none_are_not_passed_over(name, given):
    with pytest.raises(AttestedError, match=f"nothing is called {given}") as caught:
        packing.pack(DATA, {**SETTINGS, name: {given: []}}, SPECIFICATIONS)
    assert f"awx_{name}" in str(caught.value)


@pytest.mark.parametrize("resources", [None, [], "", "default/key/model-7"])
def test_a_failure_that_would_revoke_nothing_is_refused(resources):
    revoke = {**SETTINGS["template_variables"]["revoke"], "decommission_resources": resources}
    with pytest.raises(AttestedError, match="awx_template_variables: {revoke:") as caught:
        packing.pack(DATA, {**SETTINGS, "template_variables": {"revoke": revoke}}, SPECIFICATIONS)
    assert "no decommission_resources" in str(caught.value)
    del revoke["decommission_kbs"]
    # Those of all jobs count, and so does what the job looks up; without hosts to revoke for nothing is needed.
    given = {"decommission_resources": "{{ lookup('ansible.builtin.file', 'x') }}", "decommission_kbs": {"url": "https://kbs.example.org"}}
    assert packing.pack(DATA, {**SETTINGS, "template_variables": {}, "variables": given}, SPECIFICATIONS)
    assert packing.pack(DATA, {**SETTINGS, "template_variables": {}, "workflow_revoke": ""}, SPECIFICATIONS)


def test_variables_of_all_jobs_do_not_widen_what_a_failure_starts():
    found = packing.pack(DATA, {**SETTINGS, "variables": {"decommission_steps": ["keys", "models"], "x": 1}}, SPECIFICATIONS)
    by = {one["name"]: one["extra_vars"] for one in found["controller_templates"]}
    assert by["attested.ai revoke"] == {**by["attested.ai revoke"], "decommission_steps": ["keys"], "x": 1}
    assert by["attested.ai decommission"]["decommission_steps"] == ["keys", "models"]


def reached(nodes, start, kinds):
    found, wanted = set(), [start]
    while wanted:
        name = wanted.pop()
        if name not in found:
            found.add(name)
            wanted += [one["identifier"] for kind in kinds for one in nodes[name]["related"][f"{kind}_nodes"]]
    return found


def test_no_way_leads_to_keys_around_the_approval(objects):
    nodes = {one["identifier"]: one for one in objects["controller_workflows"][0]["workflow_nodes"]}
    every = ("success", "failure", "always")
    assert reached(nodes, "preflight", every) == set(nodes)
    children = {one["identifier"] for node in nodes.values() for kind in every for one in node["related"][f"{kind}_nodes"]}
    assert set(nodes) - children == {"preflight"}, "another root would run at once"
    nodes["approve"]["related"]["success_nodes"] = []
    assert "release" not in reached(nodes, "preflight", every)
    assert nodes["attest"]["related"]["failure_nodes"] == [{"identifier": "revoke"}]
    assert nodes["revoke"]["extra_data"] == {"target": "guests", "decommission_confirm": "guests"}
    asked = {one["name"]: {each["variable"] for each in one.get("survey_spec", {}).get("spec", [])} for one in objects["controller_templates"]}
    for node in nodes.values():
        # AWX drops answers that the survey of the job does not ask for.
        assert set(node.get("extra_data", {})) <= asked.get(node["unified_job_template"]["name"], set())
    bare = packing.workflow(DATA, {**SETTINGS, "workflow_revoke": ""})
    gone = next(one for one in bare["workflow_nodes"] if one["identifier"] == "revoke")
    assert gone["state"] == "absent" and "extra_data" not in gone, "left from before it would be a root, and run at once"
    assert all({"identifier": "revoke"} not in one["related"]["failure_nodes"] for one in bare["workflow_nodes"] if one is not gone)


def test_without_an_image_or_paths_nothing_is_made_for_them():
    settings = {**SETTINGS, "execution_environment_image": "", "execution_environment": "", "inventory_state_path": "", "organization_create": False}
    found = packing.pack(DATA, settings, SPECIFICATIONS)
    assert found["aap_organizations"] == found["controller_execution_environments"] == [] and len(found["controller_inventory_sources"]) == 1
    assert all("execution_environment" not in one for one in found["controller_templates"])
    # One that was there goes.
    assert [(one["name"], one.get("state"), "rrule" in one) for one in found["controller_schedules"]] == [
        ("attested.ai round", None, True), ("attested.ai look", "absent", False),
    ]  # fmt: skip


def test_the_file_keeps_braces_for_awx_and_for_jobs(tmp_path, objects):
    """As ansible-core itself reads it: nothing with braces may be evaluated when the file is used."""
    text = export(objects)
    read = DataLoader().load(text)
    assert json.loads(json.dumps(read)) == objects
    assert Templar(DataLoader()).template(read) == read
    assert export({"x": ["{{ y }}", "plain"]}).splitlines()[2:] == ["x:", '  - !unsafe "{{ y }}"', '  - "plain"']


def test_the_role_writes_its_objects_and_refuses_half_of_its_variables(tmp_path):
    """One run: first what it refuses, then what it exports."""
    (tmp_path / "try.yml").write_text(
        """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    awx_state: export
    awx_credentials: {bmc: rack BMC}
    awx_workflow_revoke: guests
    awx_template_variables:
      revoke: {decommission_kbs: {admin_key: !unsafe "{{ attested_kbs_admin_key }}"}, decommission_resources: [default/key/model-7]}
  tasks:
    - block:
        - ansible.builtin.include_role: {name: attested.ai.awx}
        - ansible.builtin.fail: {msg: it was not refused}
      rescue:
        - ansible.builtin.assert: {that: "'awx_project_url is empty' in ansible_failed_result.msg"}
    - ansible.builtin.include_role: {name: attested.ai.awx}
      vars: {awx_project_url: "https://git.example.org/x.git", awx_export_file: "{{ playbook_dir }}/controller.yml"}
"""
    )
    command = [sys.executable, "-m", "ansible", "playbook", "try.yml", "-i", "localhost,"]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(json.dumps(DataLoader().load((tmp_path / "controller.yml").read_text())))
    assert seen["controller_credential_types"][0]["injectors"]["file"]["template.bmc_password"] == "{{ bmc_password }}"
    revoke = next(one for one in seen["controller_templates"] if one["name"] == "attested.ai revoke")
    assert revoke["extra_vars"]["decommission_kbs"] == {"admin_key": "{{ attested_kbs_admin_key }}"}
    bios = next(one for one in seen["controller_templates"] if one["name"] == "attested.ai bios")
    assert bios["extra_vars"]["bios_password"].startswith("{{ lookup(") and bios["credentials"] == ["rack BMC"]
