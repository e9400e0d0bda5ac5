# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/decommission.yml and site.yml: nothing without a confirmation, a proof of each step, and a failure where there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import ledger
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


@pytest.fixture
def run(tmp_path):
    def run(playbook, *arguments, inventory=None, **variables):
        (tmp_path / "hosts.json").write_text(json.dumps(inventory or {"all": {"hosts": {}}}))
        (tmp_path / "vars.json").write_text(json.dumps(variables))
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.json", f"attested.ai.{playbook}", "-e", "@vars.json", *arguments]
        environment = {**os.environ, "PWD": str(tmp_path), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return run


@pytest.fixture
def rack(tmp_path):
    """Two machines: one whose model is wiped, and one on which something holds it; a ledger in which the first got a key; what the monitor kept."""
    private = ec.generate_private_key(ec.SECP256R1())
    entry = {name: "x" for name in ("who", "key_id", "model_id", "evidence_digest", "policy_id", "policy_digest", "guest_key_thumbprint")}
    given = ledger.Entry(**{**entry, "key_id": "kek-7"}, at="2026-01-31T12:00:00Z", release=1, decision="released", host="clean")
    ledger.append(str(tmp_path / "ledger"), private, given)
    spki = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "ledger.pub.pem").write_bytes(spki)
    results = tmp_path / "kept" / "results"
    results.mkdir(parents=True)
    (results / "clean.jws").write_text("x")
    (results / "other.jws").write_text("x")
    common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    for name in ("clean", "dirty"):
        (tmp_path / name).mkdir()
    (tmp_path / "clean" / "model.complete").write_text("{}")
    hosts = {name: {**common, "decommission_models": [str(tmp_path / name / "model")]} for name in ("clean", "dirty")}
    return {"all": {"children": {"rack": {"hosts": hosts}}}}


def test_each_step_is_proven_or_the_run_fails(run, rack, tmp_path):
    variables = {
        "target": "rack", "decommission_steps": ["keys", "models", "monitor"], "decommission_document": str(tmp_path / "proof.json"),
        "decommission_ledger": {"path": str(tmp_path / "ledger"), "public_key": str(tmp_path / "ledger.pub.pem")},
        "attestation_monitor_directory": str(tmp_path / "kept"),
    }  # fmt: skip
    status, said = run("decommission", inventory=rack, **variables)
    assert status == 2 and "give -e decommission_confirm=rack" in said and (tmp_path / "kept" / "results" / "clean.jws").exists(), said
    status, said = run("decommission", "--check", inventory=rack, **variables)
    assert status == 0 and "nothing was done" in said and "planned" in said, said
    assert (tmp_path / "kept" / "results" / "clean.jws").exists() and not (tmp_path / "proof.json").exists()

    # What lies in the way cannot be taken for a model, so that it is not wiped, and the run says so.
    (tmp_path / "dirty" / "model").write_text("not a directory")
    status, said = run("decommission", inventory=rack, decommission_confirm="rack", **variables)
    proof = json.loads((tmp_path / "proof.json").read_text())
    steps = {(one["host"], one["step"]): one for one in proof["steps"]}
    assert steps["clean", "models"]["outcome"] == "ok" and not (tmp_path / "clean" / "model.complete").exists()
    assert "kek-7 are still known to the guests" in steps["localhost", "keys"]["proof"]
    assert steps["localhost", "monitor"]["outcome"] == "ok" and [path.name for path in (tmp_path / "kept" / "results").iterdir()] == ["other.jws"]
    assert status == 2 and steps["dirty", "models"]["outcome"] == "failed" and proof["not_reached"] == [], said


def test_a_machine_that_is_not_reached_is_not_proven(run, tmp_path):
    gone = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9, "ansible_ssh_common_args": "-F none -o ConnectTimeout=3"}
    gone["decommission_models"] = ["/x/y"]
    status, said = run(
        "decommission", inventory={"all": {"hosts": {"gone": gone}}}, target="gone", decommission_confirm="gone", decommission_steps=["models"],
        decommission_document=str(tmp_path / "proof.json"),
    )  # fmt: skip
    assert status != 0, said
    assert json.loads((tmp_path / "proof.json").read_text())["not_reached"] == ["gone"], said


def test_site_asks_first(run):
    status, said = run("site", inventory={"all": {"children": {"tdx_hosts": {"hosts": {"one": {}}}}}})
    steps = "bios, hosts, quoting, gpu, trustee, runtimes, confidential_vm, guests, deploy, monitor"
    assert status == 2 and f"1 machines (steps {steps})" in said and "site_confirm=true" in said, said
    status, said = run("site", "-e", "target=all", "-e", "site_confirm=true")
    assert status == 2 and "each step has its own groups" in said


def test_site_orders_what_exists(run):
    status, said = run("site", "--list-tasks", "-e", "site_confirm=true")
    assert status == 0
    order = (
        "Ask before anything", "Look at the machines", "Set the BIOS", "Set up the hosts", "Set up the PCCS for others", "Set up hosts with GPUs",
        "Run the key broker", "Nodes of the cluster", "Start the guest", "Set up the guests", "Attest the guests", "Serve the model", "Judge the round",
    )  # fmt: skip
    assert [said.index(name) for name in order] == sorted(said.index(name) for name in order)
    assert run("site", "--syntax-check")[0] == 0
