# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/attest.yml before the Soft TEE: who is accepted, who is refused, what is kept and signed, and what the inventory makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOST = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9, "ansible_ssh_common_args": "-F none -o ConnectTimeout=3"}
# No file can be named so.
GOOD = "rack1/good"


class Fleet:
    def __init__(self, directory, guest):
        self.directory, key = directory, ec.generate_private_key(ec.SECP256R1())
        private = directory / "attest.pem"
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        private.chmod(0o600)
        public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (directory / "attest.pub.pem").write_bytes(public)
        strict = {**yaml.safe_load(guest.policy.read_text()), "machines": {"allow": ["ab" * 32]}}
        (directory / "strict.json").write_text(json.dumps(strict))
        variables = {
            "ansible_python_interpreter": sys.executable, "attest_policy": str(guest.policy), "attest_tsm_path": str(guest.tsm_path),
            "attest_reference_values": str(guest.reference_values), "attest_results": "results", "attest_report": "report",
        }  # fmt: skip
        here = {"ansible_connection": "local"}
        hosts = {GOOD: here, "bad": {**here, "attest_policy": str(directory / "strict.json")}, "lost": LOST}
        (directory / "inventory").mkdir()
        inventory = json.dumps({"all": {"children": {"guests": {"hosts": hosts}}, "vars": variables}})
        (directory / "inventory" / "10-hosts.json").write_text(inventory)
        config = {"plugin": "attested.ai.attested", "results": [str(directory / "results")], "public_keys": ["../attest.pub.pem"], "expect": ["guests"]}
        (directory / "inventory" / "20-fleet.attested.yml").write_text(yaml.safe_dump(config))

    def ansible(self, *command):
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"}
        whole = [sys.executable, "-m", "ansible", *command]
        done = subprocess.run(whole, cwd=self.directory, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    def attest(self, *arguments):
        return self.ansible("playbook", "-i", "inventory/10-hosts.json", "attested.ai.attest", *arguments)

    def states(self, source="inventory"):
        """As an update of AWX reads a source: a file, or a folder, whose files are read by name."""
        status, said = self.ansible("inventory", "--list", "--export", "-i", source, "--playbook-dir", "inventory")
        assert status == 0, said
        return {host: found["attested_state"]["__ansible_unsafe"] for host, found in json.loads(said)["_meta"]["hostvars"].items()}

    def kept(self):
        return sorted(path.name for path in (self.directory / "results").iterdir())


@pytest.fixture
def fleet(tmp_path, soft_guest):
    return Fleet(tmp_path, soft_guest)


def test_who_was_accepted_is_affirming_by_a_signed_result(fleet):
    directory = fleet.directory
    status, said = fleet.attest("-e", "awx_job_id=7")
    assert status == 2 and "2 of 3 were refused or gave no answer: bad, lost" in said and "machine-not-allowed" in said, said
    assert fleet.kept() == ["bad.json", "rack1%2Fgood.json"]
    # Jobs of AWX do not overwrite each other's pages.
    assert [path.name for path in (directory / "report").iterdir()] == ["job-7"]
    document = json.loads((directory / "report" / "job-7" / "report.json").read_text())
    assert len(document["runs"]) == 3 and "nonvendor" in (directory / "report" / "job-7" / "report.html").read_text()
    # Bad news counts from anybody, good news does not.
    assert fleet.states() == {GOOD: "unproven", "bad": "contraindicated", "lost": "missing"}
    # By itself it knows of no other source, so that nobody is missing.
    assert fleet.states("inventory/20-fleet.attested.yml") == {GOOD: "unproven", "bad": "contraindicated"}

    # Signed: of the same guests nothing stays that is not. Without those that are refused all is well.
    status, said = fleet.attest("-e", "attest_key=attest.pem", "-e", "attest_report=", "-e", "target=guests:!lost")
    assert status == 2 and fleet.kept() == ["bad.jws", "rack1%2Fgood.jws"] and "BEGIN" not in said, said
    assert fleet.states() == {GOOD: "affirming", "bad": "contraindicated", "lost": "missing"}
    before = (directory / "results" / "rack1%2Fgood.jws").read_bytes()
    status, said = fleet.attest("-e", "attest_report=", "-e", f"target={GOOD}", "--check")
    assert status == 0 and (directory / "results" / "rack1%2Fgood.jws").read_bytes() == before and len(fleet.kept()) == 2, said


def test_what_cannot_be_signed_or_kept_is_no_success(fleet):
    results = fleet.directory / "results"
    (fleet.directory / "attest.pem").chmod(0o644)
    given = ("-e", "attest_key=attest.pem", "-e", "attest_report=", "-e", f"target={GOOD}")
    status, said = fleet.attest(*given)
    assert status == 2 and "group or others may read it" in said and "1 of 1 were refused or gave no answer" in said and fleet.kept() == [], said
    (fleet.directory / "attest.pem").chmod(0o600)
    (results / "rack1%2Fgood.jws").mkdir()
    status, said = fleet.attest(*given)
    assert status == 2 and f"Not kept, though there was an answer: {GOOD} (" in said and "it cannot be written" in said, said
