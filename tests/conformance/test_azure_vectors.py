# SPDX-License-Identifier: GPL-3.0-or-later
"""Genuine evidence from clouds: Azure's virtual TPM as Trustee's own tests hold it, a VLEK report of AWS, a report of Google."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import UNCHECKED, Endorsements, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues, load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import trust_roots
from ansible_collections.attested.ai.plugins.module_utils.formats.azure_evidence import parse_azure_evidence
from ansible_collections.attested.ai.plugins.module_utils.formats.hcl_report import parse_hcl_report
from ansible_collections.attested.ai.plugins.module_utils.formats.tpm2 import parse_signature
from ansible_collections.attested.ai.plugins.module_utils.verify.azure_vtpm import verify_az_snp, verify_az_tdx
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx import verify_tdx
from ansible_collections.attested.ai.plugins.module_utils.verify.tpm_quote import verify_quote

VECTORS = Path(os.environ.get("ATTESTED_VECTORS", Path(__file__).resolve().parents[3] / "shared" / "vectors"))
TRUSTEE = VECTORS / "coco" / "trustee"
AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
pytestmark = pytest.mark.skipif(not TRUSTEE.is_dir(), reason="no test vectors; set ATTESTED_VECTORS")

# Report data of each sample, as Trustee's tests expect it. The Genoa sample's is not told, so it is read from its quote.
CHALLENGE = b"challenge"
V2 = bytes.fromhex("982f5c6e45df0ed3f10b6f60b02f0c8390e281300f3805e2279c16168cd6ae9aa398f647caa2338748cd0fd9f5f819ef")
GENOA = bytes.fromhex("0218488bae25d2509232bf676f1a66a30d7372add909109b36016ef136f2938ca05475f8b46094de6b64270ea35d950f")
SNP = {"evidence-v0.json": CHALLENGE, "evidence-v1.json": CHALLENGE, "evidence-v2.json": V2, "evidence-genoa.json": GENOA}


def read(*names):
    return TRUSTEE.joinpath(*names).read_bytes()


@pytest.mark.parametrize("name", SNP)
def test_azure_snp_is_authentic_under_amds_own_roots(name):
    result = verify_az_snp(read("az-snp-vtpm", name), (), trust_roots(), AT, SNP[name])
    assert result.authentic is True and result.failed == () and result.anchor == "vendor"
    unchecked = {check.id for check in result.checks if check.outcome == "not_checked"}
    revocation = {"crl-signature", "crl-expired", "ask-revoked"}
    # Only the sample of version 2 put its report data into the HCL report.
    assert unchecked == revocation | (set() if name == "evidence-v2.json" else {"hardware-freshness"})
    claims = result.claims.to_dict()
    assert claims["product"] == ("genoa" if "genoa" in name else "milan") and claims["tpm"]["algorithm"] == "rsassa-sha256"
    assert len(claims["tpm"]["pcrs"]) == 24 and claims["hcl"]["secure_boot"] is True


@pytest.mark.parametrize("name", SNP)
def test_azure_snp_with_another_nonce(name):
    result = verify_az_snp(read("az-snp-vtpm", name), (), trust_roots(), AT, b"another")
    assert result.authentic is True and "report-data-mismatch" in result.failed


@pytest.mark.parametrize(("tee", "name"), [("az-snp-vtpm", "evidence-v1.json"), ("az-snp-vtpm", "evidence-v2.json"), ("az-tdx-vtpm", "evidence-v1.json")])
def test_what_we_collect_has_trustees_shape(tee, name):
    """Read and written again, a sample is the same JSON: what the collector writes, Trustee can read."""
    assert json.loads(parse_azure_evidence(read(tee, name), tee).to_json()) == json.loads(read(tee, name))


def test_the_parts_of_one_sample_do_not_fit_another():
    """Each link is of its own machine: HCL report, quote and VCEK exchanged one by one."""
    first, second = (json.loads(read("az-snp-vtpm", name)) for name in ("evidence-v1.json", "evidence-v2.json"))
    for part, code in (("hcl_report", "quote-signature"), ("tpm_quote", "quote-signature"), ("vcek", "report-signature")):
        mixed = dict(first, **{part: second[part]})
        result = verify_az_snp(json.dumps(mixed).encode(), (), trust_roots(), AT, UNCHECKED)
        assert result.authentic is False and code in result.failed, part


@pytest.mark.parametrize("tee", ["az-snp-vtpm", "az-tdx-vtpm"])
def test_single_files(tee):
    """The HCL report and the quote that lie beside the samples."""
    hcl, quote = parse_hcl_report(read(tee, "hcl-report.bin")), json.loads(read(tee, "tpm-quote-v1.json"))
    pcrs = [bytes.fromhex(value) for value in quote["pcrs"]]
    assert verify_quote(bytes.fromhex(quote["message"]), bytes.fromhex(quote["signature"]), pcrs, hcl.ak, CHALLENGE).proven


@pytest.mark.parametrize("name", ["evidence-v0.json", "evidence-v1.json"])
def test_azure_tdx_links_to_its_quote(name):
    evidence = parse_azure_evidence(read("az-tdx-vtpm", name), "az-tdx-vtpm")
    hcl = parse_hcl_report(evidence.hcl_report)
    outcome = verify_quote(evidence.message, evidence.signature, evidence.pcrs, hcl.ak, CHALLENGE)
    assert outcome.proven and not [check for check in outcome.checks if check.outcome == "fail"]
    # REPORTDATA of a version 4 quote: header of 48 bytes, and 520 bytes of the TD report before it.
    assert evidence.endorsement[48 + 520:48 + 584] == hcl.runtime_digest + bytes(32)


def verify_td(data, expected=CHALLENGE, cache=None):
    return verify_az_tdx(data, expected, lambda quote, wanted: verify_tdx(quote, (), trust_roots(kind="intel"), AT, wanted, cache))


@pytest.mark.parametrize("name", ["evidence-v0.json", "evidence-v1.json"])
def test_azure_tdx_holds_as_far_as_it_can_without_collateral(name):
    """No collateral of Intel for this platform is among the vectors: that is all that is missing."""
    result = verify_td(read("az-tdx-vtpm", name))
    assert result.authentic is None and result.failed == ("collateral-missing",)
    good = {check.id for check in result.checks if check.outcome == "pass"}
    assert {"hcl-report-mismatch", "ak-binding", "quote-signature", "pcr-selection", "pcr-digest", "report-data-mismatch"} <= good
    assert len(result.claims.to_dict()["machine"]) == 64 and result.claims.pcrs[4]
    assert verify_td(read("az-tdx-vtpm", name), b"another").failed == ("collateral-missing", "report-data-mismatch")


# CPUSVN and MAC of the TDREPORT, by their place in the HCL report: for the machine itself to check, and judged by nobody else.
TDREPORT_FREE = list(range(0x20 + 16, 0x20 + 32)) + list(range(0x20 + 224, 0x20 + 256))


@pytest.mark.parametrize(("part", "free"), [("hcl_report", TDREPORT_FREE), ("message", []), ("signature", [])], ids=["hcl", "message", "signature"])
def test_every_byte_of_genuine_tdx_evidence_counts(part, free):
    from dataclasses import replace

    evidence, cache, kept = parse_azure_evidence(read("az-tdx-vtpm", "evidence-v1.json"), "az-tdx-vtpm"), VerificationCache(), []
    data = getattr(evidence, part)
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= 1 << (place + 2) % 8
        if verify_td(replace(evidence, **{part: bytes(broken)}).to_json(), cache=cache).authentic is not False:
            kept.append(place)
    assert kept == free


def test_a_tpm_signature_of_the_generic_shape():
    import base64

    quote = json.loads(read("tpm", "tpm_evidence.json"))["tpm_quote"]
    assert parse_signature(base64.b64decode(quote["signature"])).name == "rsassa-sha256"


# Exhaustive mutation of genuine evidence.


def positions_accepted(parts, build):
    """Where in ``parts`` one changed byte leaves the evidence authentic and without a failed check."""
    cache, roots, accepted = VerificationCache(), trust_roots(), []
    for place in range(len(parts)):
        broken = bytearray(parts)
        broken[place] ^= 1 << place % 8
        result = verify_az_snp(build(bytes(broken)), (), roots, AT, V2, cache=cache)
        if result.authentic is not False or not result.failed:
            accepted.append(place)
    return accepted


@pytest.mark.parametrize("part", ["hcl_report", "message", "signature", "pcrs", "endorsement"])
def test_every_byte_of_genuine_evidence_counts(part):
    """Not one position of HCL report (padding too), quote, signature, PCR values or VCEK is free."""
    from dataclasses import replace

    evidence = parse_azure_evidence(read("az-snp-vtpm", "evidence-v2.json"), "az-snp-vtpm")
    if part == "pcrs":
        joined = b"".join(evidence.pcrs)

        def build(data):
            return replace(evidence, pcrs=tuple(data[place:place + 32] for place in range(0, len(data), 32))).to_json()
    else:
        joined = getattr(evidence, part)

        def build(data):
            return replace(evidence, **{part: data}).to_json()

    assert positions_accepted(joined, build) == []


def test_every_byte_of_the_json_counts():
    """The envelope: a changed byte is refused, wherever it stands."""
    data = json.dumps(json.loads(read("az-snp-vtpm", "evidence-v2.json")), separators=(",", ":")).encode()
    assert positions_accepted(data, lambda broken: broken) == []


# The policy.


def judge(tee, data, policy, values=None, expected=UNCHECKED, at=AT, certificates=()):
    return appraise_report(
        data, policy=load_policy({"schema": "attested.ai/policy/1", "id": "clouds", **policy}), reference_values=values or ReferenceValues(),
        endorsements=Endorsements(certificates=tuple(certificates)), expected_report_data=expected, at=at, tee=tee,
    )  # fmt: skip


def reasons(result):
    return [check.id for check in result.reasons]


def pcr_values(claims, **more):
    value = {"tee": "az-snp-vtpm", "pcrs": {name: claims["tpm"]["pcrs"][name] for name in ("4", "7", "11")}, "covers": "kernel", "image": "sample",
             "source": "recorded", "not_after": "2027-06-01T00:00:00Z", **more}
    return load_reference_values({"schema": "attested.ai/reference-values/1", "values": [value]})


def test_azure_evidence_under_the_default_policy_and_under_its_own():
    data = read("az-snp-vtpm", "evidence-genoa.json")
    plain = judge("az-snp-vtpm", data, {}, expected=GENOA)
    assert plain.authentic is True and not plain.accepted
    assert {"measurement-mismatch", "pcr-mismatch"} <= set(reasons(plain))
    claims = plain.items["cpu0"].claims
    # The platform's alias check is not shown by these samples' firmware, and floors are another matter.
    snp = {"min_tcb": {}, "min_launch_tcb": {}, "require_platform_info": []}
    known = judge("az-snp-vtpm", data, {"provider": "azure", "sev_snp": snp}, pcr_values(claims), GENOA)
    assert known.accepted, known.explain()
    assert known.items["cpu0"].reaches == "kernel" and known.items["cpu0"].claims["hardware_report"] == "boot-time"
    # Without the paravisor's signer (provider none) PCR values say nothing: the paravisor could be anybody's.
    unnamed = judge("az-snp-vtpm", data, {"sev_snp": snp}, pcr_values(claims), GENOA)
    assert reasons(unnamed) == ["measurement-mismatch"] and unnamed.items["cpu0"].reaches is None
    measured = judge("az-snp-vtpm", data, {"sev_snp": snp}, pcr_values(claims, measurement=claims["measurement"]), GENOA)
    assert measured.accepted, measured.explain()
    stranger = judge("az-snp-vtpm", data, {"provider": "azure", "sev_snp": dict(snp, id_key_digests=["00" * 48])}, pcr_values(claims), GENOA)
    assert reasons(stranger) == ["id-block", "measurement-mismatch"]


def test_aws_is_accepted_under_its_profile_and_refused_under_none():
    (case,) = [case for case in json.loads((VECTORS / "snp" / "cases.json").read_text())["cases"] if case["id"] == "real-milan-v3-vlek-aws-in-window"]
    data, certificate = ((VECTORS / "snp" / case[name]).read_bytes() for name in ("evidence", "vek"))
    at = datetime(2025, 6, 1, tzinfo=timezone.utc)
    common = {"measurements_required": False, "sev_snp": {"products": ["milan"]}}
    assert judge("sev-snp", data, dict(common, provider="aws"), at=at, certificates=[certificate]).accepted
    assert reasons(judge("sev-snp", data, common, at=at, certificates=[certificate])) == ["policy-vmpl", "policy-provisional-firmware"]
    assert "policy-signing-key" in reasons(judge("sev-snp", data, dict(common, provider="azure"), at=at, certificates=[certificate]))


def test_google_is_judged_under_its_profile():
    """The genuine sample is a debug guest: authentic, refused for that alone."""
    (case,) = [case for case in json.loads((VECTORS / "snp" / "cases.json").read_text())["cases"] if case["id"] == "real-milan-v2-debug-google"]
    data, certificate = ((VECTORS / "snp" / case[name]).read_bytes() for name in ("evidence", "vek"))
    floorless = {"products": ["milan"], "min_tcb": {}, "min_launch_tcb": {}}
    common = {"provider": "gcp", "measurements_required": False, "sev_snp": floorless}
    result = judge("sev-snp", data, common, certificates=[certificate])
    assert result.authentic is True and reasons(result) == ["policy-debug"]
    assert judge("sev-snp", data, dict(common, sev_snp=dict(floorless, allow_debug=True)), certificates=[certificate]).authentic is True
    required = judge("sev-snp", data, dict(common, gcp={"launch_endorsement": "required"}), certificates=[certificate])
    assert "launch-endorsement" in reasons(required)
