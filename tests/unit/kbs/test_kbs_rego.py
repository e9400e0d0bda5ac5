# SPDX-License-Identifier: GPL-3.0-or-later
"""Made policies say what attest says: on genuine and synthetic reports and quotes, and on each bit that they look at, by a real Rego engine too."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
import rego_lab
from ansible_collections.attested.ai.plugins.module_utils.appraisal import snp, snp_checks, tdx_checks, tdx_references
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import UNCHECKED, Endorsements, ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import STAGES, Policy, load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.appraisal.snp_policy import SnpPolicy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.tdx_policy import STATUSES, TdxPolicy
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import parse_report
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_tcb import GuestPolicy, PlatformInfo
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_quote import parse_quote
from ansible_collections.attested.ai.plugins.module_utils.kbs import rego, rego_resource, rego_snp, rego_tdx, regotext
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx_claims import TdxClaims
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx_tcb import TcbEvaluation
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime.now(timezone.utc)
AFFIRMING = {"executables": 3, "hardware": 2, "configuration": 2}
# What Trustee cannot see is not asked for: then both must agree, to the last report.
CLOSED = {"products": ["milan", "genoa", "turin"], "require_platform_info": [], "min_launch_tcb": {}, "min_tcb": {}, "allow_provisional_firmware": True,
          "allow_masked_chip_id": True, "allow_unknown_policy_bits": True}  # fmt: skip
SNP_POLICIES = [
    {}, {"min_tcb": {"snp": 20, "microcode": 200}}, {"min_tcb": {"bootloader": 4, "tee": 1}}, {"allow_debug": True}, {"allow_migration_agent": True},
    {"allow_smt": False}, {"require_guest_policy": ["single_socket", "smt_disabled"]}, {"require_platform_info": ["tsme"]}, {"host_data": ["00" * 32]},
    {"host_data": ["11" * 32, "22" * 32]},
]  # fmt: skip
MRSEAM = "5b38e33a6487958b72c3c12a938eaa5e3fd4510c51aeeab58c7d5ecee41d7c436489d6c8e4f92f160b7cad34207b00c1"
TDX_POLICIES = [
    {}, {"statuses": list(STATUSES)}, {"statuses": ["UpToDate", "SWHardeningNeeded"], "allow_advisories": ["INTEL-SA-00001"]},
    {"statuses": ["UpToDate", "OutOfDate"], "deny_advisories": ["INTEL-SA-00002"]}, {"allow_debug": True, "require_sept_ve_disable": False},
    {"allow_migratable": True}, {"allow_perfmon": True, "allow_icssd": True}, {"allow_service_td": ["55" * 48]}, {"min_module_svn": 5},
    {"min_tcb_date": "2024-06-01T00:00:00Z"}, {"min_tcb_evaluation_data_number": 17}, {"xfam_mask": "0x602e7"}, {"mrconfigid": ["00" * 48]},
    {"mrowner": ["00" * 48, "77" * 48], "mrownerconfig": ["00" * 48]}, {"mrseam": [MRSEAM]},
]  # fmt: skip


@pytest.fixture(params=["soft", "real"])
def engine(request):
    if request.param == "real" and not rego_lab.REAL:
        pytest.skip("no real Rego engine: ATTESTED_REGO names none")
    return request.param


def policy(section: str, changes: dict, **more):
    body = {**CLOSED, **changes} if section == "sev_snp" else changes
    return load_policy({"schema": "attested.ai/policy/1", "id": "p", "sev_snp": CLOSED, section: body, **more})


def references(*values: dict):
    common = {"covers": "service", "image": "i", "source": "s", "not_after": "2046-01-01T00:00:00Z"}
    return load_reference_values({"schema": "attested.ai/reference-values/1", "values": [{**common, **value} for value in values]})


def context(asked, known) -> ItemContext:
    return ItemContext(asked, known, Endorsements(), None, UNCHECKED, NOW)


def reaches(asked, matched) -> bool:
    if not asked.measurements_required:
        return True
    return matched is not None and (bool(asked.chain_of_trust.waiver) or STAGES.index(matched.covers) >= STAGES.index(asked.chain_of_trust.must_reach))


def snp_verdict(report, asked, known) -> bool:
    facts = snp_checks.SnpFacts(report, report.product, report.tcb(report.product))
    checks = snp_checks.check_policy(facts, asked.sev_snp, asked.machines, snp.shipped_floor)
    more, matched = snp._measurement(facts, None, context(asked, known))
    return not any(check.outcome == FAIL for check in [*checks, *more]) and reaches(asked, matched)


def tdx_verdict(claims, asked, known) -> bool:
    outcome = tdx_references.check_measurement(claims.body, context(asked, known))
    checks = [*tdx_checks.check_policy(claims, asked.tdx, asked.machines), *outcome.checks]
    return not any(check.outcome == FAIL for check in checks) and reaches(asked, outcome.matched)


def reports(vectors) -> list:
    """Genuine and synthetic ones that Trustee looks at, and of one of them a variant for each bit and number that a policy may speak of."""
    found = []
    for path in sorted((vectors / "snp").glob("*.report.bin")) + sorted((vectors / "coco/trustee/snp").glob("*.bin")):
        try:
            report = parse_report(path.read_bytes())
        except AttestedError:
            continue
        if report.product is not None and report.vmpl == 0:
            found.append(report)
    assert len(found) >= 15 and {"milan", "turin"} <= {report.product for report in found}
    base = found[0]
    for bit in range(0, 26):
        found.append(replace(base, policy=GuestPolicy(base.policy.raw ^ 1 << bit)))
    for bits in range(16):
        asked = sum(1 << place for number, place in enumerate((16, 18, 19, 20)) if bits >> number & 1)
        found.append(replace(base, policy=GuestPolicy(base.policy.raw & ~0x1D0000 | asked)))
    for bit in range(0, 6):
        found.append(replace(base, platform_info=PlatformInfo(base.platform_info.raw ^ 1 << bit)))
    for place in (0, 1, 6, 7):
        for value in (0, 1, 3, 4, 5, 19, 20, 21, 199, 200, 255):
            tcb = bytearray(base.reported_tcb)
            tcb[place] = value
            found.append(replace(base, reported_tcb=bytes(tcb), committed_tcb=b"\xff\xff" + bytes(4) + b"\xff\xff"))
    found += [replace(base, host_data=bytes([value]) * 32) for value in (0x11, 0x22, 0x33)]
    return [replace(report, committed_tcb=max_tcb(report)) for report in found]


def max_tcb(report) -> bytes:
    """Firmware keeps reported at or below committed, in each part; published reports hold that, variants must, too."""
    return bytes(max(pair) for pair in zip(report.reported_tcb, report.committed_tcb))


@pytest.mark.parametrize("changes", SNP_POLICIES, ids=lambda value: json.dumps(value)[:40])
def test_a_made_policy_judges_reports_as_attest_does(engine, vectors, tmp_path, changes):
    found = reports(vectors)
    known = references(*[{"tee": "sev-snp", "measurement": value} for value in sorted({report.measurement.hex() for report in found})])
    asked = policy("sev_snp", changes)
    made = rego.attestation_policy(asked, known)
    expected = [snp_verdict(report, asked, known) for report in found]
    seen = rego_lab.results(engine, made.rego, "trust_claims", [{"input": rego_lab.snp_input(report)} for report in found], tmp_path)
    assert [{name: value[name] for name in AFFIRMING} == AFFIRMING for value in seen] == expected
    assert True in expected and False in expected


def tdx_claims(vectors) -> list:
    found = []
    bodies = []
    for path in sorted((vectors / "tdx").glob("*.quote.bin")) + sorted((vectors / "coco/trustee/tdx").glob("tdx_quote_*.dat")):
        try:
            bodies.append(parse_quote(path.read_bytes()))
        except AttestedError:
            continue
    assert len(bodies) >= 15
    day = datetime(2025, 1, 1, tzinfo=timezone.utc)

    def claims(quote, status="UpToDate", advisories=(), date=day, number=17):
        tcb = TcbEvaluation(status, status, None, "UpToDate", None, tuple(advisories), date, date, None, date)
        return TdxClaims(quote, tcb=tcb, tcb_evaluation_data_number=number, qe_evaluation_data_number=number)

    found += [claims(quote) for quote in bodies]
    base = found[0]
    found += [rego_lab.with_body(base, tdattributes=base.body.tdattributes ^ 1 << bit) for bit in range(64)]
    found += [rego_lab.with_body(base, xfam=base.body.xfam ^ 1 << bit) for bit in range(64)]
    found += [claims(base.quote, status, advisories) for status in STATUSES for advisories in (
        (), ("INTEL-SA-00001",), ("INTEL-SA-00002",), ("INTEL-SA-00001", "INTEL-SA-00002"))]  # fmt: skip
    found += [claims(base.quote, date=datetime(2024, 6, number, tzinfo=timezone.utc)) for number in (1, 2)]
    found += [claims(base.quote, date=datetime(2024, 5, 31, tzinfo=timezone.utc)), claims(base.quote, number=16), claims(base.quote, number=18)]
    found += [rego_lab.with_body(base, tee_tcb_svn=bytes([svn]) + base.body.tee_tcb_svn[1:]) for svn in (0, 4, 5, 6, 255)]
    found += [rego_lab.with_body(base, mrservicetd=bytes([value]) * 48, tee_tcb_svn_2=bytes(16)) for value in (0, 0x55, 0x66)]
    for name in ("mrconfigid", "mrowner", "mrownerconfig", "mrseam"):
        found += [rego_lab.with_body(base, **{name: bytes([value]) * 48}) for value in (0, 0x77, 0x88)]
    return found


@pytest.mark.parametrize("changes", TDX_POLICIES, ids=lambda value: json.dumps(value)[:40])
def test_a_made_policy_judges_quotes_as_attest_does(engine, vectors, tmp_path, changes):
    found = tdx_claims(vectors)
    known = references(*[
        {"tee": "tdx", "measurement": mrtd, "rtmr": {"1": rtmr1, "2": rtmr2}}
        for mrtd, rtmr1, rtmr2 in sorted({(one.body.mrtd.hex(), one.body.rtmr1.hex(), one.body.rtmr2.hex()) for one in found})
    ])  # fmt: skip
    asked = policy("tdx", changes)
    made = rego.attestation_policy(asked, known)
    expected = [tdx_verdict(one, asked, known) for one in found]
    seen = rego_lab.results(engine, made.rego, "trust_claims", [{"input": rego_lab.tdx_input(one)} for one in found], tmp_path)
    assert [{name: value[name] for name in AFFIRMING} == AFFIRMING for value in seen] == expected
    assert True in expected and False in expected


def test_reference_values_count_with_all_that_they_name_and_until_their_end(engine, vectors, tmp_path):
    report, claims = reports(vectors)[0], tdx_claims(vectors)[0]
    mine, td = {"tee": "sev-snp", "measurement": report.measurement.hex()}, {"tee": "tdx", "measurement": claims.body.mrtd.hex()}
    rtmr = {"1": claims.body.rtmr1.hex(), "2": claims.body.rtmr2.hex()}
    sets = [
        ([mine], "service"), ([], "service"), ([{**mine, "measurement": "00" * 48}], "service"),
        ([{**mine, "not_after": "2020-01-01T00:00:00Z"}], "service"), ([{**mine, "host_data": report.host_data.hex()}], "service"),
        ([{**mine, "host_data": "99" * 32}], "service"), ([{**mine, "covers": "kernel"}], "service"),
        ([{**mine, "covers": "kernel"}], "kernel"), ([{**td, "covers": "launch"}], "launch"), ([{**td, "rtmr": rtmr}], "service"),
        ([{**td, "rtmr": {**rtmr, "2": "12" * 48}}], "service"), ([{**td, "rtmr": {**rtmr, "0": claims.body.rtmr0.hex()}}], "service"),
        ([{**td, "rtmr": {**rtmr, "2": ["12" * 48, rtmr["2"]]}}, mine], "service"), ([{**td, "rtmr": rtmr, "mrconfigid": "13" * 48}], "service"),
        ([{**td, "rtmr": rtmr, "mrseam": claims.body.mrseam.hex()}], "service"),
    ]  # fmt: skip
    told = []
    for number, (values, reach) in enumerate(sets):
        asked, known = policy("sev_snp", {}, chain_of_trust={"must_reach": reach}), references(*values)
        folder = tmp_path / str(number)
        folder.mkdir()
        made = rego.attestation_policy(asked, known)
        seen = rego_lab.results(engine, made.rego, "trust_claims", [{"input": rego_lab.snp_input(report)}, {"input": rego_lab.tdx_input(claims)}], folder)
        expected = [snp_verdict(report, asked, known), tdx_verdict(claims, asked, known)]
        assert [value["executables"] == 3 for value in seen] == expected, values
        told += expected
    assert True in told and False in told
    waived = policy("sev_snp", {}, measurements_required=False, chain_of_trust={"waiver": "trial"})
    seen = rego_lab.results(engine, rego.attestation_policy(waived, references()).rego, "trust_claims", [{"input": rego_lab.snp_input(report)}], tmp_path)
    assert seen[0]["executables"] == 3


def test_what_trustee_cannot_check_is_refused_until_it_is_named():
    with pytest.raises(AttestedError) as caught:
        rego.attestation_policy(load_policy({"schema": "attested.ai/policy/1", "id": "p"}), references())
    assert caught.value.code == "kbs-policy-gap" and "sev_snp.require_platform_info.alias_check_complete" in str(caught.value)
    gaps = [
        ("sev_snp", {"signing_keys": ["vcek"]}, "sev_snp.signing_keys"), ("sev_snp", {"min_guest_svn": 1}, "sev_snp.min_guest_svn"),
        ("sev_snp", {"family_id": ["00" * 16]}, "sev_snp.family_id"), ("sev_snp", {"min_abi": {"major": 1}}, "sev_snp.min_abi"),
        ("sev_snp", {"require_guest_policy": ["rapl_dis"]}, "sev_snp.require_guest_policy.rapl_dis"),
        ("sev_snp", {"min_tcb": {"fmc": 1}}, "sev_snp.min_tcb.fmc"),
        ("sev_snp", {"min_tcb": "default"}, "sev_snp.min_tcb"), ("sev_snp", {"min_tcb": {"0x19-0x00..0x0f": {"snp": 5}}}, "sev_snp.min_tcb"),
        ("tdx", {"fmspcs": ["00" * 6]}, "tdx.fmspcs"), ("tdx", {"smt": "refused"}, "tdx.smt"),
        ("tdx", {"pck_cas": ["platform"]}, "tdx.pck_cas"),
    ]  # fmt: skip
    for section, changes, name in gaps:
        with pytest.raises(AttestedError, match=name.replace(".", r"\.")):
            rego.attestation_policy(policy(section, changes), references())
        made = rego.attestation_policy(policy(section, changes), references(), [name])
        assert [gap.name for gap in made.gaps] == [name] and f"# Not asked here: {name}" in made.rego
    for more, name in (
        ({"machines": {"deny": ["00" * 32]}}, "machines"), ({"revocation": "required"}, "revocation"), ({"require": {"gpu": 1}}, "nvidia"),
        ({"gcp": {"launch_endorsement": "required"}}, "gcp.launch_endorsement"),
    ):  # fmt: skip
        with pytest.raises(AttestedError, match=name):
            rego.attestation_policy(policy("sev_snp", {}, **more), references())
    with pytest.raises(AttestedError, match="has no gap machines"):
        rego.attestation_policy(policy("sev_snp", {}), references(), ["machines"])


def test_no_wish_of_a_policy_is_forgotten():
    """Who adds a key to the policy decides here whether a made one asks for it, or it is a gap."""
    text = "".join(Path(module.__file__).read_text() for module in (rego, rego_snp, rego_tdx))
    # Looser than Trustee, of kinds of guests that are refused, or told as a gap as a whole.
    without = {"id", "provider", "allow_nonvendor_roots", "cca", "azure", "nvidia"}
    keys = {field.name for kind in (Policy, SnpPolicy, TdxPolicy) for field in fields(kind)} - without
    assert {key for key in keys if not re.search(rf"\b{key}\b", text)} == set()


def test_one_product_has_one_floor(engine, vectors, tmp_path):
    asked = load_policy({"schema": "attested.ai/policy/1", "id": "p", "sev_snp": {**CLOSED, "products": ["milan"], "min_tcb": "default"}})
    made = rego.attestation_policy(asked, references(), ["sev_snp.products"])
    found = [report for report in reports(vectors) if report.product == "milan"]
    seen = rego_lab.results(engine, made.rego, "hardware", [{"input": rego_lab.snp_input(report)} for report in found], tmp_path)
    expected = [
        not any(check.id == "policy-tcb-floor" and check.outcome == FAIL for check in snp_checks.check_policy(
            snp_checks.SnpFacts(report, report.product, report.tcb(report.product)), asked.sev_snp, asked.machines, snp.shipped_floor)) for report in found
    ]  # fmt: skip
    assert [value == 2 for value in seen] == expected and True in expected and False in expected


# -- the resource policy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "floor"), [
    ({"0x19-0x00..0x0f": {"snp": 5}}, "reported_tcb_snp >= 5"), ({"0x19-0x00..0x07": {"snp": 5}}, None), ({"0x1a-0x00..0x1f": {"snp": 5}}, None),
    ({"0x19-0x00..0x07": {"snp": 5}, "0x19-0x08..0x0f": {"snp": 5}}, "reported_tcb_snp >= 5"),
    ({"0x19-0x00..0x07": {"snp": 5}, "0x19-0x08..0x0f": {"snp": 6}}, None),
])  # fmt: skip
def test_a_floor_by_silicon_counts_only_where_it_is_the_only_one(rows, floor):
    asked = load_policy({"schema": "attested.ai/policy/1", "id": "p", "sev_snp": {**CLOSED, "products": ["milan"], "min_tcb": rows}})
    gaps = ["sev_snp.products"] + ([] if floor else ["sev_snp.min_tcb"])
    made = rego.attestation_policy(asked, references(), gaps)
    assert ("reported_tcb" in made.rego) is bool(floor) and (floor or "") in made.rego


def token(**submods) -> dict:
    evidence = {"snp": {"measurement": "x"}, "init_data": "ab" * 32}
    cpu = {"ear.status": "affirming", "ear.veraison.annotated-evidence": evidence}
    return {"submods": {name: value for name, value in {"cpu0": cpu, **submods}.items() if value is not None}}


def asks(path: str, claims: dict, plugin: str = "resource") -> dict:
    return {"input": claims, "data": {"plugin": plugin, "resource-path": path.split("/"), "query": {}}}


def test_many_values_still_are_lines_that_the_engine_reads(engine, vectors, tmp_path):
    report = reports(vectors)[0]
    many = [{"tee": "sev-snp", "measurement": "%096x" % number} for number in range(150)] + [{"tee": "sev-snp", "measurement": report.measurement.hex()}]
    asked = policy("sev_snp", {"host_data": ["%064x" % number for number in range(200)] + [report.host_data.hex()] * (int(report.host_data.hex(), 16) > 199)})
    made = rego.attestation_policy(asked, references(*many))
    seen = rego_lab.results(engine, made.rego, "trust_claims", [{"input": rego_lab.snp_input(report)}], tmp_path)
    assert {name: seen[0][name] for name in AFFIRMING} == AFFIRMING
    grant = rego_resource.Grant("n" * 500, tuple(f"a/b/{number}" for number in range(100)), tuple("%064x" % number for number in range(100)))
    text, _notes = rego_resource.resource_policy([grant])
    claims = token()
    claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["init_data"] = "%064x" % 99
    assert rego_lab.results(engine, text, "allow", [asks("a/b/99", claims), asks("a/b/100", claims)], tmp_path) == [True, False]


def test_grants_give_exactly_what_they_name(engine, tmp_path):
    good = {"ear.status": "affirming", "ear.veraison.annotated-evidence": {}}
    cpu = token()["submods"]["cpu0"]

    def cpu_with(**changes) -> dict:
        return {**cpu, "ear.veraison.annotated-evidence": {**cpu["ear.veraison.annotated-evidence"], **changes}}

    made, _notes = rego_resource.resource_policy([
        rego_resource.Grant("one", ("default/key/model", "default/policy/*"), ("ab" * 32,), gpu=2),
        rego_resource.Grant("two", ("open/key/x",), init_data_waiver="trial", tees=("tdx",)),
    ])  # fmt: skip
    both = {"gpu0": good, "gpu1": good}
    model = "default/key/model"
    sample = {"ear.status": "affirming", "ear.veraison.annotated-evidence": {"sample": {}, "init_data": "ab" * 32}}
    nameless = {name: value for name, value in cpu.items() if name != "ear.status"}
    cases = [
        (True, asks(model, token(**both))), (True, asks("default/policy/anything", token(**both))), (False, asks("default/key/other", token(**both))),
        (False, asks(model, token(**both), "pkcs11")), (False, asks(model + "/more", token(**both))), (False, asks("default/policy", token(**both))),
        (False, asks(model, token(gpu0=good))), (False, asks(model, token(**both, gpu2={**good, "ear.status": "warning"}))),
        (False, asks(model, token(**both, switch0={}))), (False, asks(model, token(cpu0={**cpu, "ear.status": "contraindicated"}, **both))),
        (False, asks(model, token(cpu0=nameless, **both))), (False, asks(model, token(cpu0=cpu_with(init_data="cd" * 32), **both))),
        (False, asks(model, token(cpu0=cpu_with(init_data=None), **both))), (False, asks(model, token(cpu0=sample, **both))),
        (False, asks(model, token(cpu0=None, **both))), (False, asks(model, {})), (False, asks("open/key/x", token())),
        (True, asks("open/key/x", token(cpu0=cpu_with(tdx={}, init_data="ee" * 48)))), (False, asks("open/key/y", token(cpu0=cpu_with(tdx={})))),
        (False, asks(model, token(cpu0=cpu_with(sample={}), **both))),
    ]  # fmt: skip
    seen = rego_lab.results(engine, made, "allow", [case for _expected, case in cases], tmp_path)
    assert seen == [expected for expected, _case in cases]
    nobody, _notes = rego_resource.resource_policy([])
    assert rego_lab.results(engine, nobody, "allow", [asks("default/key/model", token(**both))], tmp_path) == [False]


@pytest.mark.parametrize("changes", [
    {"resources": ()}, {"resources": ("a/b",)}, {"resources": ("*/b/c",)}, {"resources": ('a/b/c" in x',)}, {"resources": ("a/../c",)}, {"init_data": ()},
    {"init_data": ("xyz",)}, {"init_data_waiver": "why"}, {"tees": ()}, {"tees": ("sgx",)}, {"gpu": 17}, {"gpu": -1}, {"resources": ("a/b*/c",)},
])  # fmt: skip
def test_grants_that_are_none(changes):
    with pytest.raises(AttestedError):
        rego_resource.Grant(**{"name": "n", "resources": ("a/b/c",), "init_data": ("ab" * 32,), **changes})


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_of_a_user_becomes_a_rule(name, waiver):
    made, _notes = rego_resource.resource_policy([rego_resource.Grant(name, ("a/b/c",), init_data_waiver=waiver or "x")])
    plain, _notes = rego_resource.resource_policy([rego_resource.Grant("n", ("a/b/c",), init_data_waiver="w")])
    rules = [line for line in made.splitlines() if line and not line.startswith("#")]
    assert rules == [line for line in plain.splitlines() if line and not line.startswith("#")]
    assert regotext.check(made, ["allow"], "x") == ["it does not look at the init-data: any workload on an accepted machine gets what it allows"]


@pytest.mark.parametrize(("text", "remark"), [
    ("package policy\ndefault allow := true\n", "its default is to allow"),
    ("package policy\nallow if data.plugin == \"resource\"\n", "does not look at the attestation"),
    ("package policy\ndefault allow := false\nallow if input.x\n", "does not look at the init-data"),
    ("package policy\nallow if input.x.init_data\n", "no default"),
])  # fmt: skip
def test_own_policies_are_remarked_on(text, remark):
    assert any(remark in found for found in regotext.check(text, ["allow"], "x"))


@pytest.mark.parametrize("text", [
    "", "package kbs\nallow := true", "package policy\nallowed := true", "package policy\nallow if {", "package policy\nallow if }",
    'package policy\nallow if "x', "package policy\nallow if (]", "package policy\nallow if input.init_data in {" + ", ".join(["1"] * 600) + "}",
    "package policy\nallow if input.x" + "\n" * 20001,
])  # fmt: skip
def test_own_policies_that_cannot_work_are_refused(text):
    with pytest.raises(AttestedError):
        regotext.check(text, ["allow"], "x")


@given(st.text(max_size=200))
def test_the_look_at_rego_never_breaks(text):
    try:
        regotext.check(text, ["allow"], "x")
    except AttestedError:
        pass
