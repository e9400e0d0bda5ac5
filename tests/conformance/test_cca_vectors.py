# SPDX-License-Identifier: GPL-3.0-or-later
"""The Arm CCA vectors: each must get the verdict that its author states, for the reason that its author states.

The ids of our checks are the codes of the vectors, all of them: no map is needed. The vectors call evidence authentic only if it also
answers the challenge; we keep the two apart, as for every other kind of evidence, so the test puts them together again.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import UNCHECKED, Endorsements, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues, load_reference_values

ROOT = Path(os.environ.get("ATTESTED_VECTORS", Path(__file__).resolve().parents[3] / "shared" / "vectors"))
VECTORS = ROOT / "cca"
TRUSTEE = ROOT / "coco" / "trustee" / "cca"
CASES = json.loads((VECTORS / "cases.json").read_text())["cases"] if VECTORS.is_dir() else []
AT = datetime(2026, 11, 22, tzinfo=timezone.utc)

# Every verdict, for the summary line at the end.
VERDICTS = []


def readme_policy(**cca):
    """The "default policy" of the vectors in our words: "profile pair allowlist (legacy+none, 2023+2023, 2024+2024); lifecycle 0x30xx only; CPAK
    given by the caller and not the public TF-A test key; challenge compared when given; strict CBOR". Nothing is said of measurements, of devices,
    of firmware that changes at run time, or of further claims. A CPAK "given by the caller" is no vendor's."""
    section = {
        "profiles": ["legacy", "2023", "2024"], "allow_lifecycle": ["secured"], "allow_test_keys": False, "require_platform_references": False,
        "allow_platform_extensions": True, "allow_live_firmware_activation": True, "allow_unknown_claims": True,
    }  # fmt: skip
    return load_policy({
        "schema": "attested.ai/policy/1", "id": "vectors", "measurements_required": False, "allow_nonvendor_roots": True, "cca": {**section, **cca},
    })  # fmt: skip


def judge(case, **policy):
    challenge = case.get("challenge")
    return appraise_report(
        (VECTORS / case["evidence"]).read_bytes(),
        tee="cca",
        policy=readme_policy(**policy),
        reference_values=ReferenceValues(),
        endorsements=Endorsements(cca=((VECTORS / case["cpak"]).read_bytes(),)),
        expected_report_data=UNCHECKED if challenge is None else bytes.fromhex(challenge),
        at=AT,
    )


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_verdict_and_reason(case):
    result = judge(case)
    expect = case["expect"]
    reasons = {check.id for check in result.reasons}
    wanted = expect["accept_default_policy"]
    fits = wanted is None or result.accepted is wanted
    VERDICTS.append((case["id"], result.accepted, fits))
    assert fits, result.explain()
    if expect["authentic"] is not None:
        answers = "challenge-mismatch" not in reasons
        assert (result.authentic is True and answers) is expect["authentic"], result.explain()
    if expect["code"] == "ok":
        assert reasons == set()
    else:
        assert expect["code"] in reasons, result.explain()
    # Nobody stands above a key that the caller gives.
    assert result.anchor != "vendor"


def test_claims_are_those_of_the_cross_check():
    """The vectors hold what another decoder read, some of it shortened to its first digits."""
    compared = 0
    for case in CASES:
        seen = case.get("cross_checked")
        claims = judge(case).items["cpu0"].claims if isinstance(seen, dict) else {}
        if claims:
            platform, realm = claims["platform"], claims["realm"]
            ours = {
                "tag": claims["envelope"], "realm_profile": realm["profile"], "lifecycle": "0x%04x" % platform["lifecycle"],
                "impl": platform["implementation_id"], "inst": platform["instance_id"], "config": platform["configuration"],
                "vsi": platform["verification_service"], "hash": platform["hash_algorithm"], "nsw": len(platform["components"]),
                "rhash": realm["hash_algorithm"], "rakh": realm["rak_hash_algorithm"], "extra": claims["unknown_claims"],
            }  # fmt: skip
            assert ours == {**ours, **{name: seen[name] for name in ours if name in seen}}, case["id"]
            for name, value in (("rim", realm["rim"]), ("rpv", realm["rpv"]), ("chal", realm["challenge"])):
                assert value.startswith(seen.get(name, "")), case["id"]
            assert all(rem.startswith(other) for rem, other in zip(realm["rem"], seen.get("rems", [])))
            compared += 1
    assert compared >= 9


def test_without_the_callers_word_no_key_is_accepted():
    """The same cases under a policy that trusts vendors only: nothing passes, since no vendor stands behind any of these keys."""
    for case in CASES:
        policy = load_policy({"schema": "attested.ai/policy/1", "id": "strict", "measurements_required": False})
        result = appraise_report(
            (VECTORS / case["evidence"]).read_bytes(), tee="cca", policy=policy, reference_values=ReferenceValues(), at=AT, expected_report_data=UNCHECKED,
            endorsements=Endorsements(cca=((VECTORS / case["cpak"]).read_bytes(),)),
        )  # fmt: skip
        assert not result.accepted


def trustee(endorsement, challenge, values=None, **cca):
    return appraise_report(
        (TRUSTEE / "cca-example-token.cbor").read_bytes(),
        tee="cca",
        policy=load_policy({
            "schema": "attested.ai/policy/1", "id": "trustee", "allow_nonvendor_roots": True, "measurements_required": values is not None,
            "cca": {"require_platform_references": values is not None, **cca},
        }),
        reference_values=ReferenceValues() if values is None else load_reference_values(values),
        endorsements=Endorsements(cca=((TRUSTEE / endorsement).read_bytes(),)),
        expected_report_data=challenge,
        at=AT,
    )


CHALLENGE = bytes.fromhex(
    "57e979ae2618de0c1ab73144c440d741cf9236dc9d52ed190053382a4d190252f9f0370403c35dcb155fb4362d73c66d5b0494bf939315d3dc52b8cdc8b85a96"
)


@pytest.mark.skipif(not TRUSTEE.is_dir(), reason="no test vectors")
@pytest.mark.parametrize("endorsement", ["cpak-pub.json", "tastore.json"])
def test_trustees_token_is_signed_with_a_public_key(endorsement):
    result = trustee(endorsement, CHALLENGE)
    assert result.authentic is True
    assert [check.id for check in result.reasons] == ["test-cpak"]
    result = trustee(endorsement, CHALLENGE, allow_test_keys=True)
    assert result.accepted, result.explain()
    # Accepted for tests, and still marked.
    assert (result.status, result.anchor) == ("warning", "nonvendor")
    assert [check.id for check in trustee(endorsement, bytes(64), allow_test_keys=True).reasons] == ["challenge-mismatch", "report-data-mismatch"]


def store():
    """Trustee's reference value store in our schema."""
    content = json.loads((TRUSTEE / "rvstore.json").read_text())
    common = {"source": "Trustee's example", "not_after": "2027-01-01T00:00:00Z"}
    values = []
    for platform in content["platform"]:
        components = [{"signer": part["signer-id"], "measurement": part["measurement-value"]} for part in platform["sw-components"]]
        values.append({"tee": "cca-platform", "implementation_id": platform["implementation-id"], "components": components, "image": "firmware", **common})
    for realm in content["realm"]:
        rem = {str(index): value for index, value in enumerate(realm["extensible-measurements"])}
        values.append({
            "tee": "cca", "measurement": realm["initial-measurement"], "rem": rem, "rpv": realm["personalization-value"], "covers": "kernel",
            "image": "realm", **common,
        })  # fmt: skip
    return {"schema": "attested.ai/reference-values/1", "values": values}


@pytest.mark.skipif(not TRUSTEE.is_dir(), reason="no test vectors")
def test_trustees_reference_values():
    values = store()
    result = trustee("tastore.json", CHALLENGE, values, allow_test_keys=True)
    assert result.accepted, result.explain()
    outcomes = {check.id: check.outcome for check in result.items["cpu0"].checks}
    assert outcomes["platform-reference-values"] == outcomes["measurement-mismatch"] == outcomes["rpv-mismatch"] == "pass"
    assert result.items["cpu0"].reaches == "kernel"
    values["values"][0]["components"].pop()
    assert [check.id for check in trustee("tastore.json", CHALLENGE, values, allow_test_keys=True).reasons] == ["platform-reference-values"]
    values = store()
    values["values"][1]["rem"]["3"] = "11" * 64
    assert [check.id for check in trustee("tastore.json", CHALLENGE, values, allow_test_keys=True).reasons] == ["measurement-mismatch"]
    values = store()
    values["values"][1]["rpv"] = "11" * 64
    assert [check.id for check in trustee("tastore.json", CHALLENGE, values, allow_test_keys=True).reasons] == ["rpv-mismatch"]


def test_all_cases_were_judged_as_expected(capsys):
    """The last test: the count. It also fails if the vectors are missing, so that nobody believes in a run over nothing."""
    assert len(CASES) >= 17, "the vectors are not where ATTESTED_VECTORS says"
    accepted = [name for name, was_accepted, _fits in VERDICTS if was_accepted]
    fitting = [name for name, _accepted, fits in VERDICTS if fits]
    with capsys.disabled():
        print("\nCCA vectors: %d of %d judged as expected (%d accepted, %d refused)" % (
            len(fitting), len(CASES), len(accepted), len(VERDICTS) - len(accepted)))
    if len(VERDICTS) == len(CASES):
        assert len(fitting) == len(CASES)
        assert len(accepted) == sum(case["expect"]["accept_default_policy"] is True for case in CASES)
