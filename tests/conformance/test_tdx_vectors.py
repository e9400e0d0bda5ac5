# SPDX-License-Identifier: GPL-3.0-or-later
"""The TDX vectors: each must get the authenticity and the TCB status that its author states, for the reason that its author states.

Policy is judged elsewhere; of the codes of policy (what a genuine quote is refused for) only what they stand on is held here. One expectation is
ours: the status of the relaunch case is TDRelaunchAdvised, which the author's code names, where his status column names the one before step 7.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import trust_roots
from ansible_collections.attested.ai.plugins.module_utils.formats.pck import chain_to_der
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_collateral import extract_signed_member
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_quote import parse_quote
from ansible_collections.attested.ai.plugins.module_utils.formats.tcb_info import parse_qe_identity, parse_tcb_info
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx import UNCHECKED, verify_tdx

ROOT = Path(os.environ.get("ATTESTED_VECTORS", Path(__file__).resolve().parents[3] / "shared" / "vectors"))
VECTORS = ROOT / "tdx"
TRUSTEE = ROOT / "coco" / "trustee" / "tdx"
CASES = json.loads((VECTORS / "cases.json").read_text())["cases"] if VECTORS.is_dir() else []
CACHE = VerificationCache()
# Codes that are verdicts of policy over a claim; "parse-only" cases have no collateral.
OF_POLICY = {"policy-debug", "policy-sept-ve-disable", "policy-service-td", "tcb-out-of-date", "tcb-status-not-allowed", "td-relaunch-advised"}
IN_OUR_WORDS = {"parse-only": "collateral-missing", **{code: "ok" for code in OF_POLICY}}
FIELDS = [case for case in CASES if case.get("fields") and case["expect"]["code"] != "format"]
STATUS = {"syn-relaunch-advised": "TDRelaunchAdvised"}


def roots_of(case):
    if case["root"].startswith("intel"):
        return trust_roots(kind="intel")
    certificate = x509.load_der_x509_certificate((VECTORS / case["root"]).read_bytes())
    return trust_roots([certificate.public_bytes(Encoding.PEM).decode()], True, kind="intel")


def judge(case, cache=None):
    collateral = [(VECTORS / case["collateral"]).read_bytes()] if case.get("collateral") else []
    expected = bytes.fromhex(case["expected_report_data"]) if case.get("expected_report_data") else UNCHECKED
    at = datetime.fromisoformat(case["at"].replace("Z", "+00:00"))
    return verify_tdx((VECTORS / case["evidence"]).read_bytes(), collateral, roots_of(case), at, expected, cache)


def test_all_cases_are_here():
    if not CASES:
        pytest.skip("no test vectors at %s: set ATTESTED_VECTORS" % VECTORS)
    assert len(CASES) >= 27


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_verdict_and_reason(case):
    expect = case["expect"]
    wanted = STATUS.get(case["id"], expect["tcb_status"])
    for cache in (None, CACHE, CACHE):
        found = judge(case, cache)
        status = found.claims.tcb_status if found.claims else None
        assert (found.authentic, status, found.code) == (expect["authentic"], wanted, IN_OUR_WORDS.get(expect["code"], expect["code"]))
        assert found.anchor == ("none" if found.claims is None else "vendor" if case["root"].startswith("intel") else "nonvendor")


@pytest.mark.parametrize("case", FIELDS, ids=[case["id"] for case in FIELDS])
def test_fields(case):
    quote, fields = parse_quote((VECTORS / case["evidence"]).read_bytes()), case["fields"]
    body = quote.body.to_dict()
    assert quote.version == fields["ver"]
    names = {"tdattr": "tdattributes", "report_data": "reportdata"}
    for name, value in fields.items():
        if name.startswith("rtmr"):
            assert body["rtmr"][name[4:]] == value
        elif names.get(name, name) in body:
            assert body[names.get(name, name)] == value, name


@pytest.mark.parametrize("case", [case for case in CASES if case.get("collateral")], ids=[case["id"] for case in CASES if case.get("collateral")])
def test_second_opinion(case):
    """dcap-qvl gives a status for nothing that we call forged, and where both give one, it is the same."""
    qvl = pytest.importorskip("dcap_qvl", reason="dcap-qvl is not installed: no second opinion")
    collateral = qvl.QuoteCollateralV3.from_json((VECTORS / case["collateral"]).read_text())
    at = int(datetime.fromisoformat(case["at"].replace("Z", "+00:00")).timestamp())
    ours = judge(case)
    try:
        theirs = qvl.verify_with_root_ca((VECTORS / case["evidence"]).read_bytes(), collateral, (VECTORS / case["root"]).read_bytes(), at)
    except Exception:  # pylint: disable=broad-except
        # It refuses some attributes by itself, which we leave to policy.
        assert ours.authentic is not True or case["expect"]["code"] in OF_POLICY | {"tcb-not-supported"}
        return
    assert ours.authentic is True and ours.claims.tcb_status == theirs.status
    assert set(ours.claims.advisory_ids) == set(theirs.advisory_ids)


@pytest.mark.parametrize(("name", "fmspc", "body_type"), [
    ("tdx_quote_4.dat", "50806f000000", 2), ("tdx_quote_5.dat", "90c06f000000", 3), ("tdx_quote_6.dat", "00a06d080000", 2),
])  # fmt: skip
def test_quotes_of_trustee(name, fmspc, body_type):
    """Genuine quotes without collateral of their time: every signature up to Intel's root holds."""
    if not TRUSTEE.is_dir():
        pytest.skip("no vectors at %s" % TRUSTEE)
    data = (TRUSTEE / name).read_bytes()
    found = verify_tdx(data, [], trust_roots(kind="intel"), datetime(2026, 1, 1, tzinfo=timezone.utc), UNCHECKED)
    assert (found.failed, found.authentic, found.anchor) == (("collateral-missing",), None, "vendor")
    held = {check.id for check in found.checks if check.outcome == "pass"}
    assert held >= {"pck-chain", "pck-validity", "qe-report-signature", "ak-binding", "quote-signature"}
    assert found.claims.fmspc == fmspc and parse_quote(data).body_type == body_type
    assert len(chain_to_der(parse_quote(data).certification_data)) == 3


def test_claims_of_trustee():
    if not TRUSTEE.is_dir():
        pytest.skip("no vectors at %s" % TRUSTEE)
    wanted = json.loads((TRUSTEE / "parse_tdx_claims_expected.json").read_text())["quote"]["body"]
    body = parse_quote((TRUSTEE / "tdx_quote_4.dat").read_bytes()).body.to_dict()
    names = {
        "mr_seam": "mrseam", "mr_td": "mrtd", "mrsigner_seam": "mrsignerseam", "report_data": "reportdata", "mr_config_id": "mrconfigid",
        "mr_owner": "mrowner", "mr_owner_config": "mrownerconfig", "tcb_svn": "tee_tcb_svn", "seam_attributes": "seamattributes",
        "td_attributes": "tdattributes", "xfam": "xfam",
    }  # fmt: skip
    for theirs, ours in names.items():
        assert body[ours] == wanted[theirs], theirs
    for number in range(4):
        assert body["rtmr"][str(number)] == wanted["rtmr_%d" % number]


def test_answers_of_the_service():
    if not TRUSTEE.is_dir():
        pytest.skip("no vectors at %s" % TRUSTEE)
    text, signature = extract_signed_member((TRUSTEE / "tcbInfo.json").read_bytes(), "tcbInfo")
    assert len(signature) == 64 and parse_tcb_info(text).fmspc.hex() == "00a06d080000"
    text, signature = extract_signed_member((TRUSTEE / "enclaveIdentity.json").read_bytes(), "enclaveIdentity")
    assert len(signature) == 64 and parse_qe_identity(text).isvprodid == 2
