# SPDX-License-Identifier: GPL-3.0-or-later
"""az-tdx-vtpm: what stands around a TD quote. The quote's own appraisal is stood in for; its tests are elsewhere."""

from __future__ import annotations

import json
import sys
import types
from datetime import datetime, timezone

import pytest
from cloud_lab import AT

from ansible_collections.attested.ai.plugins.module_utils import appraisal
from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import UNCHECKED, Endorsements, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues, load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult
from ansible_collections.attested.ai.plugins.module_utils.checks import failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.formats.azure_evidence import parse_azure_evidence

END = datetime(2026, 12, 1, tzinfo=timezone.utc)
PACKAGE = appraisal.__name__


@pytest.fixture
def quotes(monkeypatch):
    """Stands in for the appraisal of TD quotes: REPORTDATA is compared, the rest is as ``authentic`` says."""
    stub = types.ModuleType(PACKAGE + ".tdx")
    stub.TEE, stub.authentic, stub.seen, stub.more = "tdx", True, [], ()

    def appraise_item(item, context):
        stub.seen.append((item.type, context.expected_report_data, context.reference_values, context.seen))
        if len(item.evidence) < 1000:
            return ItemResult("tdx", False, (failed("format", "short"),), {"hardware": ar4si.UNEXPECTED_EVIDENCE})
        same = item.evidence[568:632] == context.expected_report_data
        unknown = failed if context.policy.measurements_required else not_checked
        checks = (passed("quote-ok", "x"), (passed if same else failed)("report-data-mismatch", "x"), unknown("measurement-mismatch", "none given"))
        vector = {"hardware": ar4si.APPROVED, "configuration": ar4si.APPROVED, "executables": ar4si.UNRECOGNISED_EXECUTABLES, "file-system": ar4si.APPROVED}
        claims = {"measurement": item.evidence[184:232].hex(), "machine": "m" * 64}
        identity = None if stub.authentic is False else "ab" * 32
        return ItemResult("tdx", stub.authentic, checks + stub.more, vector, claims, "vendor", END, None, identity)

    stub.appraise_item = appraise_item
    monkeypatch.setitem(sys.modules, PACKAGE + ".tdx", stub)
    monkeypatch.setattr(appraisal, "tdx", stub, raising=False)
    return stub


@pytest.fixture(scope="module")
def genuine(vectors):
    return (vectors / "coco" / "trustee" / "az-tdx-vtpm" / "evidence-v1.json").read_bytes()


def judge(data, values=None, expected=b"challenge", seen=None, **top):
    policy = load_policy({"schema": "attested.ai/policy/1", "id": "td", "provider": "azure", **top})
    return appraise_report(data, policy=policy, reference_values=values or ReferenceValues(), endorsements=Endorsements(), expected_report_data=expected,
                           at=AT, tee="az-tdx-vtpm", seen=seen)


def values(data, **change):
    pcrs = parse_azure_evidence(data, "az-tdx-vtpm").pcrs
    mrtd = parse_azure_evidence(data, "az-tdx-vtpm").endorsement[184:232].hex()
    value = {"tee": "az-tdx-vtpm", "measurement": mrtd, "pcrs": {str(number): pcrs[number].hex() for number in (4, 7, 11)}, "covers": "root-fs",
             "image": "td", "source": "us", "not_after": "2027-01-01T00:00:00Z"}
    value.update(change)
    return load_reference_values({"schema": "attested.ai/reference-values/1", "values": [{key: found for key, found in value.items() if found is not None}]})


def reasons(result):
    return [check.id for check in result.reasons]


def test_the_quote_is_asked_for_the_link_and_the_tpm_for_the_rest(quotes, genuine):
    result = judge(genuine, values(genuine))
    assert result.accepted, result.explain()
    item = result.items["cpu0"]
    assert (item.tee, item.reaches, item.expires_at, item.anchor) == ("az-tdx-vtpm", "root-fs", END, "vendor")
    assert item.vector["executables"] == ar4si.APPROVED_BOOT and item.vector["file-system"] == ar4si.APPROVED
    assert item.claims["machine"] == "m" * 64 and item.claims["tpm"]["pcrs"]["11"] and item.claims["hardware_report"] == "boot-time"
    ((tee, wanted, references, seen),) = quotes.seen
    assert tee == "tdx" and len(wanted) == 64 and wanted[32:] == bytes(32) and references == ReferenceValues() and seen is None
    assert {"quote-ok", "ak-binding", "hcl-report-mismatch", "report-data-mismatch"} <= {check.id for check in item.checks if check.outcome == "pass"}


def test_a_td_that_nobody_knows(quotes, genuine):
    result = judge(genuine)
    assert reasons(result) == ["measurement-mismatch", "pcr-mismatch"] and result.items["cpu0"].reaches is None
    # Nothing but its MRTD names a paravisor of TDX.
    assert reasons(judge(genuine, values(genuine, measurement=None))) == ["measurement-mismatch"]


def test_a_quote_that_fails_fails_all(quotes, genuine):
    quotes.more = (failed("policy-sept-ve", "x"),)
    assert reasons(judge(genuine, values(genuine))) == ["policy-sept-ve"]
    # What the policy asks of MRSEAM, MRCONFIGID and so on is asked here too.
    quotes.more = (failed("measurement-mismatch", "MRSEAM"),)
    assert reasons(judge(genuine, values(genuine))) == ["measurement-mismatch"]
    quotes.authentic = False
    result = judge(genuine, values(genuine))
    assert result.authentic is False and result.items["cpu0"].reaches is None
    quotes.authentic = None
    assert judge(genuine, values(genuine)).authentic is None


def test_a_stale_nonce_and_a_replay(quotes, genuine):
    assert reasons(judge(genuine, values(genuine), b"other")) == ["report-data-mismatch"]
    assert judge(genuine, values(genuine), UNCHECKED).accepted
    identity = judge(genuine, values(genuine)).items["cpu0"].identity
    assert identity != "ab" * 32 and reasons(judge(genuine, values(genuine), seen={identity})) == ["replay"]


@pytest.mark.parametrize(("part", "place", "code"), [
    ("hcl_report", 0x4E0, "hcl-format"), ("hcl_report", 0x520, "ak-binding"), ("hcl_report", 0x20 + 530, "hcl-report-mismatch"),
    ("hcl_report", 0x21, "hcl-report-mismatch"),
    ("message", 60, "quote-signature"), ("endorsement", 184, "hcl-report-mismatch"), ("endorsement", 570, "ak-binding"),
], ids=str)
def test_each_link_breaks_by_itself(quotes, genuine, part, place, code):
    from dataclasses import replace

    evidence = parse_azure_evidence(genuine, "az-tdx-vtpm")
    broken = bytearray(getattr(evidence, part))
    broken[place] ^= 1
    result = judge(replace(evidence, **{part: bytes(broken)}).to_json(), values(genuine))
    assert result.authentic is False and code in reasons(result), result.explain()


def test_what_is_no_evidence(quotes, genuine):
    shape = json.loads(genuine)
    for data in (b"", b"{}", json.dumps(dict(shape, td_quote="AAAA")).encode(), json.dumps(dict(shape, vcek="AAAA")).encode()):
        result = judge(data)
        assert result.authentic is False and not result.accepted
    snp = dict(shape, hcl_report=None)
    assert judge(json.dumps(snp).encode()).authentic is False


def test_an_hcl_report_of_the_other_kind(quotes, genuine, vectors):
    from dataclasses import replace

    evidence = parse_azure_evidence(genuine, "az-tdx-vtpm")
    other = (vectors / "coco" / "trustee" / "az-snp-vtpm" / "hcl-report.bin").read_bytes()
    assert reasons(judge(replace(evidence, hcl_report=other).to_json())) == ["hcl-format"]
