# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""reference_values through a real ansible-playbook: computed, recorded, signed, exported, and what it refuses."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import Binding, EvidenceDocument, EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.measure import tdvf

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tdx")]

import tdx_lab  # noqa: E402
from firmware_lab import image  # noqa: E402

pytestmark = pytest.mark.costly
NONCE = bytes(range(32))
COMMON = {"path": "refs.yml", "image": "guest", "source": "test", "covers": "launch", "not_after": "2046-01-01T00:00:00Z"}
TDX = {**COMMON, "tdx": {"tdvf": "OVMF.fd"}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "OVMF.fd").write_bytes(image())
    (tmp_path / "initdata.toml").write_bytes(b'algorithm = "sha256"\n')
    return tmp_path


def run(folder, *tasks, arguments=()):
    """(return code, output, registered results)"""
    named = [{"attested.ai.reference_values": task, "register": f"task{number}"} for number, task in enumerate(tasks)]
    content = "{{ [%s] | to_json }}" % ", ".join(f"task{number}" for number in range(len(tasks)))
    keep = {"ansible.builtin.copy": {"content": content, "dest": "results.json", "mode": "0600"}}
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": [*named, {**keep, "check_mode": False}]}]
    (folder / "play.json").write_text(json.dumps(play))
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(folder / "local"))
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(folder / "play.json"), *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120, cwd=folder,
    )  # fmt: skip
    results = json.loads((folder / "results.json").read_text()) if done.returncode == 0 else []
    return done.returncode, done.stdout, results


def test_computes_signs_exports_and_then_changes_nothing(folder):
    task = {**TDX, "signing_key": "key.pem", "create_signing_key": True, "rvps": "rvps.json", "init_data": "initdata.toml"}
    code, output, (first, second) = run(folder, task, task)
    assert code == 0, output
    assert (first["changed"], second["changed"], first["count"]) == (True, False, 1)
    (value,) = load_reference_values(yaml.safe_load((folder / "refs.yml").read_text())).values
    assert value.measurement == tdvf.mrtd(image()).hex() and value.mrconfigid.endswith("00" * 16)
    assert json.loads((folder / "rvps.json").read_text()) == {"mr_td": [value.measurement]}
    assert oct((folder / "key.pem").stat().st_mode & 0o777) == "0o600"
    assert "PRIVATE" not in output and "PRIVATE" not in json.dumps(first)


def test_a_signature_holds_for_these_bytes_and_this_key_only(folder):
    signed = {**TDX, "signing_key": "key.pem", "create_signing_key": True}
    assert run(folder, signed)[0] == 0
    _code, _output, (told,) = run(folder, signed)
    code, output, (verified,) = run(folder, {"path": "refs.yml", "state": "verified", "public_key": told["signer"]})
    assert code == 0 and verified["verified"] is True and verified["reference_values"]["values"][0]["image"] == "guest", output
    other = {**told["signer"], "x": told["signer"]["y"], "y": told["signer"]["x"]}
    assert run(folder, {"path": "refs.yml", "state": "verified", "public_key": other})[0] != 0
    text = (folder / "refs.yml").read_text()
    (folder / "refs.yml").write_text(text.replace("covers: launch", "covers: launch "))
    code, output, _results = run(folder, {"path": "refs.yml", "state": "verified", "public_key": told["signer"]})
    assert code != 0 and "changed after signing" in " ".join(output.split())
    (folder / "refs.yml.jws").unlink()
    code, output, _results = run(folder, {"path": "refs.yml", "state": "verified", "public_key": told["signer"]})
    assert code != 0 and "no signature beside it" in " ".join(output.split())


def test_a_signed_document_does_not_lose_its_signature_silently(folder):
    assert run(folder, {**TDX, "signing_key": "key.pem", "create_signing_key": True})[0] == 0
    before = (folder / "refs.yml").read_bytes()
    code, output, _results = run(folder, {**TDX, "image": "other"})
    assert code != 0 and "signed and would be no more" in " ".join(output.split()) and (folder / "refs.yml").read_bytes() == before


def test_check_mode_and_diff_tell_the_truth_and_touch_nothing(folder):
    task = {**TDX, "signing_key": "key.pem", "create_signing_key": True, "rvps": "rvps.json"}
    code, output, (told,) = run(folder, task, arguments=("--check", "--diff"))
    assert code == 0 and told["changed"] and "tee: tdx" in output, output
    assert not any((folder / name).exists() for name in ("refs.yml", "refs.yml.jws", "key.pem", "rvps.json"))


def test_values_come_take_each_others_place_and_go(folder):
    written = {**COMMON, "value": {"tee": "sev-snp", "measurement": "ab" * 48}}
    code, output, results = run(
        folder, TDX, written, {**written, "source": "another"}, {**written, "value": {"tee": "sev-snp", "measurement": "cd" * 48}},
        {**written, "value": {"tee": "sev-snp", "measurement": "ef" * 48}, "replace": True},
        {"path": "refs.yml", "state": "absent", "image": "guest", "tee": "sev-snp"},
        {"path": "refs.yml", "state": "absent", "image": "guest"}, {"path": "refs.yml", "state": "absent", "image": "guest"},
    )  # fmt: skip
    assert code == 0, output
    assert [result["count"] for result in results] == [1, 2, 2, 3, 2, 1, 0, 0]
    assert [result["changed"] for result in results] == [True] * 7 + [False]
    assert results[2]["reference_values"]["values"][1]["source"] == "another"


@pytest.mark.parametrize(("task", "words"), [
    ({**COMMON, "value": {"tee": "tdx", "measurement": "ab" * 48}, "covers": "kernel"}, "must name RTMR 1 and 2"),
    ({**COMMON, "value": {"tee": "tdx", "measurement": "ab"}}, "measurement"),
    ({**COMMON, "value": {"tee": "tdx", "measurement": "ab" * 48, "unknown": 1}}, "unknown key"),
    ({**COMMON, "tdx": {"tdvf": "nothing.fd"}}, "nothing.fd"),
    ({**COMMON, "tdx": {"tdvf": "initdata.toml"}}, "TDVF image"),
    ({**COMMON, "snp": {"ovmf": "OVMF.fd", "vcpus": 1, "guest_features": "all"}}, "no number"),
    ({**TDX, "snp": {"ovmf": "OVMF.fd", "vcpus": 1}}, "mutually exclusive"),
    (COMMON, "value, snp, tdx, record"),
    ({**TDX, "not_after": "tomorrow"}, "no time|not a time"),
    ({"path": "refs.yml", "state": "verified", "public_key": {"kty": "EC"}}, "no such file|key"),
])
def test_what_cannot_be_is_refused_with_its_cause_and_leaves_nothing(folder, task, words):
    code, output, _results = run(folder, task)
    assert code != 0 and re.search(words, " ".join(output.split())) and "Traceback" not in output and not (folder / "refs.yml").exists()


def test_a_document_that_is_none_is_not_overwritten(folder):
    (folder / "refs.yml").write_text("something: else\n")
    assert run(folder, TDX)[0] != 0 and (folder / "refs.yml").read_text() == "something: else\n"


def golden_run(folder, **report):
    lab = tdx_lab.lab()
    template = EvidenceDocument("attested/1", NONCE, Binding(), (), {})
    quote = lab.quote(tdx_lab.td_report(reportdata=template.expected_report_data(NONCE), **report))
    document = EvidenceDocument("attested/1", NONCE, Binding(), (EvidenceItem("tdx", "tdx_guest", quote, {}),), {})
    (folder / "collateral.json").write_bytes(lab.collateral())
    return {
        **COMMON, "covers": "service", "record": {
            "evidence": document.to_dict(), "nonce": base64.b64encode(NONCE).decode(), "collateral": ["collateral.json"],
            "at": "2026-11-01T00:00:00Z",
            "policy": {"schema": "attested.ai/policy/1", "id": "t", "allow_nonvendor_roots": True, "roots": [tdx_lab.pem(lab.root)]},
        },
    }  # fmt: skip


def test_a_golden_run_is_recorded(folder):
    code, output, (told,) = run(folder, golden_run(folder))
    assert code == 0, output
    (value,) = told["reference_values"]["values"]
    assert (value["measurement"], value["rtmr"], value["covers"]) == ("11" * 48, {"1": "21" * 48, "2": "22" * 48}, "service")


def test_what_is_refused_is_not_recorded(folder):
    code, output, _results = run(folder, golden_run(folder, tdattributes=1))
    assert code != 0 and "only what was accepted can be recorded" in " ".join(output.split())
    assert "policy-debug" in output and not (folder / "refs.yml").exists()
    other = golden_run(folder)
    other["record"]["nonce"] = base64.b64encode(bytes(32)).decode()
    assert run(folder, other)[0] != 0 and not (folder / "refs.yml").exists()
