# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The 26 SEV-SNP vectors: each must get the verdict that its author states, for the reason that its author states.

The ids of our checks are the codes of the vectors, all of them: no map is needed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import UNCHECKED, Endorsements, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import parse_time
from ansible_collections.attested.ai.plugins.module_utils.formats.der import pem_to_der

VECTORS = Path(os.environ.get("ATTESTED_VECTORS", Path(__file__).resolve().parents[3] / "shared" / "vectors")) / "snp"
CASES = json.loads((VECTORS / "cases.json").read_text())["cases"] if VECTORS.is_dir() else []

# Every verdict, for the summary line at the end.
VERDICTS = []


def readme_policy(case):
    """The "default policy" of the vectors' README in our words: "debug=0, migrate_ma=0, vmpl=0, committed==current (tcb, build, version),
    CHIP_ID not zero under VCEK, VLEK allowed, no TCB floor unless given, report_data compared when expected_report_data is given"."""
    overlay = case.get("policy", {})
    assert set(overlay) <= {"min_tcb"}, "a policy overlay that this test does not know"
    synthetic = case["roots"] == "synthetic"
    return load_policy({
        "schema": "attested.ai/policy/1",
        "id": "vectors",
        "measurements_required": False,
        "allow_nonvendor_roots": synthetic,
        "roots": [path.read_text() for path in sorted(VECTORS.glob("synth-ark-*.pem"))] if synthetic else [],
        "sev_snp": {
            "products": ["milan", "genoa", "turin"],
            "vmpl": [0],
            "allow_debug": False,
            "allow_migration_agent": False,
            "allow_provisional_firmware": False,
            "allow_masked_chip_id": False,
            "signing_keys": ["vcek", "vlek"],
            "min_tcb": overlay.get("min_tcb", {}),
            "min_launch_tcb": {},
            "require_platform_info": [],
        },
    })


def judge(case):
    certificates = [(VECTORS / case["vek"]).read_bytes()]
    for name in ("intermediate", "ark"):
        certificates += pem_to_der((VECTORS / case["chain"][name]).read_text())
    expected = case.get("expected_report_data")
    return appraise_report(
        (VECTORS / case["evidence"]).read_bytes(),
        policy=readme_policy(case),
        reference_values=ReferenceValues(),
        endorsements=Endorsements(tuple(certificates), tuple([(VECTORS / case["crl"]).read_bytes()] if case["crl"] else [])),
        expected_report_data=UNCHECKED if expected is None else bytes.fromhex(expected),
        at=parse_time(case["at"], case["id"]),
    )


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_verdict_and_reason(case):
    result = judge(case)
    expect = case["expect"]
    reasons = {check.id for check in result.reasons}
    fits = result.accepted is expect["accept_default_policy"]
    VERDICTS.append((case["id"], result.accepted, fits))
    assert fits, result.explain()
    if expect["authentic"] is not None:
        assert result.authentic is expect["authentic"], result.explain()
    if expect["code"] == "ok":
        assert reasons == set()
    else:
        assert expect["code"] in reasons, result.explain()
    assert result.anchor != "vendor" or case["roots"] == "amd"
    if result.accepted:
        assert result.anchor == ("vendor" if case["roots"] == "amd" else "nonvendor")
        assert result.expires_at > result.evaluated_at


def test_the_aws_profile_accepts_what_the_default_refuses():
    """The note of the case says so: VLEK, VMPL 1 and provisional firmware are how guests run there."""
    (case,) = [case for case in CASES if case["id"] == "real-milan-v3-vlek-aws-in-window"]
    certificates = [(VECTORS / case["vek"]).read_bytes()]
    at = parse_time(case["at"], "at")

    def reasons(**keys):
        policy = load_policy(dict({
            "schema": "attested.ai/policy/1", "id": "aws", "measurements_required": False, "sev_snp": {"products": ["milan"]}}, **keys))
        result = appraise_report(
            (VECTORS / case["evidence"]).read_bytes(), policy=policy, reference_values=ReferenceValues(), endorsements=Endorsements(tuple(certificates)),
            expected_report_data=UNCHECKED, at=at)
        return [check.id for check in result.reasons]

    assert reasons() == ["policy-vmpl", "policy-provisional-firmware"]
    assert reasons(provider="aws") == []
    assert reasons(provider="aws", machines={"csp_ids": ["CN=cc-us-east-2.amazonaws.com"]}) == []
    assert reasons(provider="aws", machines={"csp_ids": ["CN=cc-eu-west-1.amazonaws.com"]}) == ["machine-not-allowed"]


def test_fields_of_the_report_are_those_of_the_vectors():
    compared = 0
    for case in CASES:
        claims = judge(case).items["cpu0"].claims
        if claims:
            report = claims["report"]
            fields = case["fields"]
            ours = {"version": report["version"], "vmpl": report["vmpl"], "policy": report["policy"]["raw"]}
            ours.update({name: report[name] for name in ("report_data", "measurement", "chip_id")})
            assert {name: ours[name] for name in fields if name in ours} == {name: value for name, value in fields.items() if name in ours}, case["id"]
            compared += 1
    assert compared == 25


def test_all_cases_were_judged_as_expected(capsys):
    """The last test: the count. It also fails if the vectors are missing, so that nobody believes in a run over nothing."""
    assert len(CASES) == 26, "the vectors are not where ATTESTED_VECTORS says"
    accepted = [name for name, was_accepted, _fits in VERDICTS if was_accepted]
    fitting = [name for name, _accepted, fits in VERDICTS if fits]
    with capsys.disabled():
        print("\nSEV-SNP vectors: %d of %d judged as expected (%d accepted, %d refused)" % (
            len(fitting), len(CASES), len(accepted), len(VERDICTS) - len(accepted)))
    if len(VERDICTS) == len(CASES):
        assert len(fitting) == 26
        assert len(accepted) == sum(case["expect"]["accept_default_policy"] for case in CASES) == 7
