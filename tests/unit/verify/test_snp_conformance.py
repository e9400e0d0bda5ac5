# SPDX-License-Identifier: GPL-3.0-or-later
"""All shipped cases at the level of verification, and every byte of genuine evidence changed."""

from __future__ import annotations

import json
import os
import random
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ansible_collections.attested.ai.plugins.module_utils.checks import NOT_CHECKED
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import trust_roots
from ansible_collections.attested.ai.plugins.module_utils.formats.der import pem_to_der
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import parse_report
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.snp import UNCHECKED, verify_snp

CASE_IDS = (
    "real-milan-v3-oak-release real-turin-v5-oak real-milan-v2-debug-google real-milan-v2-virtee real-milan-v3-vlek-aws-in-window "
    "real-milan-v3-vlek-aws-expired neg-measurement-flipped neg-signature-r-flipped neg-wrong-nonce pos-right-nonce "
    "neg-vcek-of-other-chip neg-vcek-bitflip neg-truncated syn-milan-baseline syn-turin-baseline syn-debug syn-migrate-ma "
    "syn-reported-tcb-mismatch syn-hwid-mismatch syn-masked-chip-id-vcek syn-crl-ok syn-crl-ask-revoked syn-crl-expired "
    "neg-synthetic-root-against-amd-pins syn-tcb-below-floor syn-vmpl1"
).split()
AT = datetime(2026, 11, 1, tzinfo=timezone.utc)


def der_of(path: Path) -> bytes:
    return pem_to_der(path.read_text())[0]


@pytest.fixture(scope="module")
def cases(vectors):
    return {case["id"]: case for case in json.loads((vectors / "cases.json").read_text())["cases"]}


@pytest.fixture(scope="module")
def synthetic_roots(vectors):
    texts = [(vectors / ("synth-ark-%s.pem" % product)).read_text() for product in ("milan", "genoa", "turin")]
    return trust_roots(texts, allow_nonvendor_roots=True, vendor=False)


def test_the_list_of_cases_is_complete(cases):
    assert sorted(cases) == sorted(CASE_IDS)


@pytest.mark.parametrize("with_ark", [True, False], ids=["ark-sent-along", "intermediate-only"])
@pytest.mark.parametrize("case_id", CASE_IDS)
def test_case(case_id, with_ark, cases, vectors, vendor_roots, synthetic_roots):
    case = cases[case_id]
    chain = [der_of(vectors / case["chain"]["intermediate"])]
    if with_ark:
        chain.append(der_of(vectors / case["chain"]["ark"]))
    expected = case.get("expected_report_data")
    result = verify_snp(
        (vectors / case["evidence"]).read_bytes(),
        (vectors / case["vek"]).read_bytes(),
        chain,
        vendor_roots if case["roots"] == "amd" else synthetic_roots,
        datetime.strptime(case["at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc),
        bytes.fromhex(expected) if expected else UNCHECKED,
        (vectors / case["crl"]).read_bytes() if case["crl"] else None,
    )
    assert result.authentic is case["expect"]["authentic"]
    code = case["expect"]["code"]
    # Policy is judged one layer up: here such a case has no finding.
    assert result.code == ("ok" if code.startswith("policy-") else code)
    if result.authentic:
        assert result.anchor == ("vendor" if case["roots"] == "amd" else "nonvendor")
    if result.claims:
        fields = case["fields"]
        report = result.claims.report
        assert report.version == fields["version"]
        assert report.report_data.hex() == fields["report_data"]
        assert report.measurement.hex() == fields["measurement"]
        assert report.policy.raw == int(fields["policy"], 16)
        assert report.chip_id.hex() == fields["chip_id"]
        assert report.vmpl == fields["vmpl"]


@pytest.mark.parametrize("name", ["real-milan-v3-oak-release", "real-turin-v5-oak", "real-milan-v2-virtee"])
def test_a_leaf_alone_is_enough(name, vectors, vendor_roots):
    result = verify_snp((vectors / (name + ".report.bin")).read_bytes(), (vectors / (name + ".vek.der")).read_bytes(), [], vendor_roots, AT, UNCHECKED)
    assert result.authentic is True
    assert result.code == "ok"


def test_genuine_claims(vectors, vendor_roots):
    name = "real-milan-v3-vlek-aws-in-window"
    result = verify_snp(
        (vectors / (name + ".report.bin")).read_bytes(), (vectors / (name + ".vek.der")).read_bytes(), [], vendor_roots,
        datetime(2025, 6, 1, tzinfo=timezone.utc), UNCHECKED,
    )  # fmt: skip
    claims = result.claims
    assert (claims.product, claims.key_role, claims.csp_id, claims.hwid) == ("milan", "vlek", "CN=cc-us-east-2.amazonaws.com", None)
    assert claims.tcb.reported.microcode == 217 and claims.tcb.committed.microcode == 219 and claims.tcb.current.microcode == 220
    assert claims.report.provisional_firmware
    assert claims.chip_id_sha256 is None
    assert result.not_after == datetime(2025, 12, 10, 22, 14, 21, tzinfo=timezone.utc)
    json.dumps(claims.to_dict())


def test_turin_tcb_has_its_own_layout(vectors):
    report = parse_report((vectors / "real-turin-v5-oak.report.bin").read_bytes())
    assert report.tcb("turin").reported.to_dict() == {"fmc": 0, "bootloader": 1, "tee": 0, "snp": 2, "microcode": 71}
    assert report.platform_info.unknown_bits == 0x40


@pytest.mark.parametrize("cached", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("name", ["real-milan-v3-oak-release", "real-turin-v5-oak"])
def test_no_byte_of_a_report_can_change(name, cached, vectors, vendor_roots):
    """Every position, the padding and the tail of the unsigned signature field included; one bit each, drawn anew by seed."""
    seed = os.environ.get("ATTESTED_SEED", "snp")
    draw = random.Random("%s %s %s" % (seed, name, cached))
    genuine = (vectors / (name + ".report.bin")).read_bytes()
    vek = (vectors / (name + ".vek.der")).read_bytes()
    cache = VerificationCache() if cached else None
    assert verify_snp(genuine, vek, [], vendor_roots, AT, UNCHECKED, None, cache).authentic is True
    survivors = []
    for position in range(len(genuine)):
        changed = bytearray(genuine)
        changed[position] ^= 1 << draw.randrange(8)
        result = verify_snp(bytes(changed), vek, [], vendor_roots, AT, UNCHECKED, None, cache)
        if result.authentic is not False or result.code == "ok":
            survivors.append(hex(position))
    assert survivors == []


@pytest.mark.parametrize("name", ["real-milan-v3-oak-release", "real-turin-v5-oak"])
def test_no_byte_of_a_leaf_can_change(name, vectors, vendor_roots):
    draw = random.Random("%s %s" % (os.environ.get("ATTESTED_SEED", "snp"), name))
    report = (vectors / (name + ".report.bin")).read_bytes()
    genuine = (vectors / (name + ".vek.der")).read_bytes()
    cache = VerificationCache()
    assert verify_snp(report, genuine, [], vendor_roots, AT, UNCHECKED, None, cache).authentic is True
    survivors = []
    for position in range(len(genuine)):
        changed = bytearray(genuine)
        changed[position] ^= 1 << draw.randrange(8)
        result = verify_snp(report, bytes(changed), [], vendor_roots, AT, UNCHECKED, None, cache)
        if result.authentic is not False or result.code == "ok":
            survivors.append(position)
    assert survivors == []
    assert cache.counters()["stored"] == 1


@pytest.mark.parametrize("size", [0, 1, 671, 1183, 1185, 2368])
def test_other_sizes_are_refused(size, vectors, vendor_roots):
    genuine = (vectors / "real-turin-v5-oak.report.bin").read_bytes()
    data = (genuine * 2)[:size]
    result = verify_snp(data, (vectors / "real-turin-v5-oak.vek.der").read_bytes(), [], vendor_roots, AT, UNCHECKED)
    assert result.authentic is False and result.code == "format" and result.claims is None


def test_a_byte_after_the_leaf_is_refused(vectors, vendor_roots):
    report = (vectors / "real-turin-v5-oak.report.bin").read_bytes()
    vek = (vectors / "real-turin-v5-oak.vek.der").read_bytes()
    result = verify_snp(report, vek + b"\0", [], vendor_roots, AT, UNCHECKED)
    assert result.authentic is False and "vek-profile" in result.failed


def test_what_was_not_checked_shows(vectors, vendor_roots):
    report = (vectors / "real-turin-v5-oak.report.bin").read_bytes()
    vek = (vectors / "real-turin-v5-oak.vek.der").read_bytes()
    result = verify_snp(report, vek, [], vendor_roots, AT, UNCHECKED)
    silent = {check.id for check in result.checks if check.outcome == NOT_CHECKED}
    assert silent == {"crl-signature", "crl-expired", "ask-revoked", "report-data-mismatch"}
