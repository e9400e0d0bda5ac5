# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run the real ansible-playbook and ansible on vectors: what users see."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.attested.ai.plugins.action.evidence_verify import ARGUMENT_SPEC
from ansible_collections.attested.ai.plugins.modules import evidence_verify as evidence_verify_doc
from ansible_collections.attested.ai.plugins.module_utils.appraisal.ear import read_ear
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import parse_time

VECTORS = Path(os.environ.get("ATTESTED_VECTORS", Path(__file__).resolve().parents[4] / "shared" / "vectors")) / "snp"
BIN = Path(sys.executable).parent
AT = "2026-11-01T00:00:00Z"
POLICY = {"schema": "attested.ai/policy/1", "id": "lab", "measurements_required": False, "sev_snp": {"products": ["milan"]}}
MILAN = "real-milan-v3-oak-release"

pytestmark = [pytest.mark.costly, pytest.mark.skipif(not VECTORS.is_dir(), reason="the vectors are not where ATTESTED_VECTORS says")]


def run(command, directory, **variables):
    """Run a command of Ansible in a directory, with nothing of the user's configuration."""
    (directory / "ansible.cfg").write_text("[defaults]\n")
    environment = dict(os.environ, ANSIBLE_CONFIG=str(directory / "ansible.cfg"), ANSIBLE_HOME=str(directory / "home"), ANSIBLE_NOCOLOR="1", **variables)
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=directory, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    return done


def play(tasks, directory, *arguments):
    """Run tasks on localhost; return the exit status and what each task returned."""
    (directory / "play.yml").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    (directory / "callback").mkdir(exist_ok=True)
    (directory / "callback" / "lines.py").write_text(CALLBACK)
    done = run(["ansible-playbook", "-i", "localhost,", "-c", "local", "play.yml", *arguments], directory,
               ANSIBLE_CALLBACK_PLUGINS=str(directory / "callback"), ANSIBLE_STDOUT_CALLBACK="lines")
    results = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("TASK")]
    assert len(results) == len(tasks), done.stdout + done.stderr
    return done.returncode, results


CALLBACK = """
from __future__ import annotations
import json
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "stdout", "lines"

    def _line(self, result, failed):
        found = result.result if hasattr(result, "result") else result._result
        self._display.display("TASK" + json.dumps(dict(found, failed=failed), default=str))

    def v2_runner_on_ok(self, result, **kwargs):
        self._line(result, False)

    def v2_runner_on_failed(self, result, **kwargs):
        self._line(result, True)
"""


def task(ignore=True, **options):
    defaults = {
        "at": AT,
        "policy": POLICY,
        "freshness": "unchecked",
        "report": str(VECTORS / (MILAN + ".report.bin")),
        "certificates": [str(VECTORS / (MILAN + ".vek.der"))],
    }
    given = {key: value for key, value in dict(defaults, **options).items() if value is not None}
    return {"attested.ai.evidence_verify": given, "ignore_errors": ignore}


def document(name=MILAN, nonce=bytes(32), **changes):
    return dict(
        {
            "schema": "attested.ai/evidence/1",
            "profile": "attested/1",
            "nonce": base64.b64encode(nonce).decode(),
            "binding": {},
            "items": [
                {
                    "type": "sev-snp",
                    "provider": "sev_guest",
                    "evidence": base64.b64encode((VECTORS / (name + ".report.bin")).read_bytes()).decode(),
                    "auxiliary": {},
                }
            ],
            "observations": {},
        },
        **changes,
    )


def test_reports_of_the_vectors_in_a_playbook(tmp_path):
    expected = next(case for case in json.loads((VECTORS / "cases.json").read_text())["cases"] if case["id"] == "pos-right-nonce")["expected_report_data"]
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "policy.yml").write_text(yaml.safe_dump(POLICY))
    (tmp_path / "typo.yml").write_text(yaml.safe_dump(dict(POLICY, sev_snp={"products": ["milan"], "min_tbc": {}})))
    tasks = [
        task(),
        task(policy="policy.yml", freshness=None, report_data=expected),
        task(freshness=None, report_data="11" * 64),
        task(report=str(VECTORS / "neg-truncated.report.bin")),
        task(certificates=[str(VECTORS / "real-turin-v5-oak.vek.der")]),
        task(policy="typo.yml"),
        task(policy=None),
        task(freshness=None),
        task(certificates=["nowhere.der"]),
        task(at="yesterday"),
        task(fail_on_refusal=False, report=str(VECTORS / "neg-measurement-flipped.report.bin")),
    ]
    _status, found = play(tasks, tmp_path)
    good, right_nonce, wrong_nonce, truncated, other_product, typo, default, no_nonce, no_file, no_time, told = found
    assert (good["accepted"], good["changed"], good["failed"]) == (True, False, False)
    assert (good["result"]["authentic"], good["result"]["anchor"], good["result"]["status"]) == (True, "vendor", "warning")
    assert good["result"]["evaluated_at"] == AT
    assert right_nonce["accepted"]
    reasons = [[reason["id"] for reason in one["result"]["reasons"]] for one in (wrong_nonce, truncated, told)]
    assert reasons == [["report-data-mismatch"], ["format"], ["report-signature"]]
    assert "product-mismatch" in [reason["id"] for reason in other_product["result"]["reasons"]]
    assert all(one["failed"] for one in (wrong_nonce, truncated, other_product, typo, default, no_nonce, no_file, no_time)) and not told["failed"]
    assert "unknown key 'min_tbc'. Did you mean 'min_tcb'?" in typo["msg"] and "typo.yml" in typo["msg"]
    assert {"policy-product", "measurement-mismatch"} <= {reason["id"] for reason in default["result"]["reasons"]}
    assert "report_data is missing" in no_nonce["msg"] and "freshness=unchecked" in no_nonce["msg"]
    assert "nowhere.der" in no_file["msg"] and "yesterday" in no_time["msg"]
    assert all("\n" not in one["msg"] for one in found)


def test_documents_a_fleet_and_their_signed_results(tmp_path):
    key = ec.generate_private_key(ec.SECP384R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "key.pem").chmod(0o600)
    (tmp_path / "open.pem").write_bytes(pem)
    (tmp_path / "open.pem").chmod(0o644)
    (tmp_path / "evidence.json").write_text(json.dumps(document()))
    (tmp_path / "broken.json").write_text('{"schema": 1, "schema": 2}')
    nonce = base64.b64encode(bytes(32)).decode()
    tasks = [
        task(report=None, evidence=document(), freshness=None, nonce=nonce, fail_on_refusal=False),
        task(report=None, evidence="evidence.json", fail_on_refusal=False),
        task(report=None, evidence=["evidence.json", document(), "broken.json"], fail_on_refusal=False),
        task(ear_key="key.pem"),
        task(ear_key="open.pem"),
        task(report=None, evidence=document(), freshness=None, nonce="short"),
        task(evidence=document()),
        task(report=None, evidence=document(surprise=1)),
        task(report=None, evidence=["evidence.json"], freshness=None, nonce=[nonce, nonce]),
        task(report=None, evidence=["evidence.json", "evidence.json"], freshness="checked", nonce=[nonce, None]),
        task(report=None, evidence=[]),
    ]
    _status, found = play(tasks, tmp_path)
    fresh, from_file, fleet, signed, open_key, short, both, unknown, lengths, hole, empty = found
    # The genuine report answers a nonce that nobody knows: authentic, but not fresh.
    for one in (fresh, from_file):
        assert one["result"]["authentic"] is True and [reason["id"] for reason in one["result"]["reasons"]] == ["report-data-mismatch"]
        assert one["result"]["evidence_digest"] == fresh["result"]["evidence_digest"]
    assert (fresh["result"]["nonce"], from_file["result"]["nonce"]) == (nonce, None)
    assert [one["accepted"] for one in fleet["results"]] == [False, False, False] and fleet["msg"].startswith("0 of 3 accepted.")
    assert "occurs twice" in fleet["results"][2]["msg"] and fleet["results"][2]["result"] is None
    assert fleet["results"][1]["result"]["submods"] == from_file["result"]["submods"]
    ear = read_ear(signed["ear"], signed["jwks"], at=parse_time(AT, "at"), expected_nonce=None)
    assert ear.submods["cpu0"].attester_claims["product"] == "milan" and ear.status == "warning"
    assert "chmod 0600" in open_key["msg"] and "PRIVATE" not in json.dumps(found)
    assert "nonce" in short["msg"] and "mutually exclusive" in both["msg"] and "'surprise'" in unknown["msg"]
    assert "2 nonces for 1" in lengths["msg"]
    # Evidence without a nonce of its own in the list must not pass as fresh.
    assert hole["failed"] and "number 2 is null" in hole["msg"] and "results" not in hole
    assert empty["failed"] and "empty" in empty["msg"]
    assert all("\n" not in one["msg"] for one in found)


def test_the_documentation_has_the_options_of_the_action():
    documented = yaml.safe_load(evidence_verify_doc.DOCUMENTATION)["options"]
    assert set(documented) == set(ARGUMENT_SPEC)
    for name, spec in ARGUMENT_SPEC.items():
        for key in ("type", "elements", "choices", "default"):
            assert documented[name].get(key) == spec.get(key), (name, key)
    returned = yaml.safe_load(evidence_verify_doc.RETURN)
    assert set(returned) == {"accepted", "msg", "result", "ear", "jwks", "results"}


def test_check_mode_judges_too(tmp_path):
    status, (found,) = play([task(ignore=False)], tmp_path, "--check", "--diff")
    assert status == 0 and found["accepted"] and not found["changed"]


def test_the_ad_hoc_command(tmp_path):
    shutil.copy(VECTORS / (MILAN + ".report.bin"), tmp_path / "report.bin")
    shutil.copy(VECTORS / (MILAN + ".vek.der"), tmp_path / "vek.der")
    (tmp_path / "policy.yml").write_text(yaml.safe_dump(POLICY))
    done = run(["ansible", "localhost", "-m", "attested.ai.evidence_verify", "-a",
                f"report=report.bin certificates=vek.der freshness=unchecked policy=policy.yml at={AT}"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"accepted": true' in done.stdout
