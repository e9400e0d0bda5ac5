# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from softtee.snp_report import DEFAULT_TCB, POLICY_DEBUG, POLICY_MIGRATE_MA, POLICY_RESERVED_ONE, POLICY_SMT, build_report, default_chip_id, sign_report

from ansible_collections.attested.ai.plugins.module_utils.appraisal import snp as snp_module
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import UNCHECKED, ConnectionBinding, Endorsements, appraise, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.ear import sign_ear
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import (
    ReferenceValues,
    load_reference_values,
    merge_reference_values,
)
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import Binding, EvidenceDocument, EvidenceItem, report_data
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_certtable import CertificateTable, build_certtable, parse_certtable
from ansible_collections.attested.ai.plugins.module_utils.verify import snp as verify_snp_module

AT = datetime.now(timezone.utc).replace(microsecond=0)
NONCE = bytes(range(32))
MEASUREMENT = b"\xab" * 48
KEY = "SHA256:" + "A" * 43
OTHER_KEY = "SHA256:" + "B" * 42 + "A"
MACHINE = hashlib.sha256(default_chip_id("genoa")).hexdigest()
CHAIN = {"must_reach": "service"}


def references(covers="service", not_after=AT + timedelta(days=30), **more):
    value = {"tee": "sev-snp", "measurement": MEASUREMENT.hex(), "covers": covers, "image": "inference", "source": "own build",
             "not_after": not_after.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return load_reference_values({"schema": "attested.ai/reference-values/1", "values": [dict(value, **more)]})


class World:
    """A soft authority, its leaf keys by (role, product), and one policy that trusts its roots."""

    def __init__(self, soft):
        self.soft = soft
        self.leaves = {}

    def leaf(self, role, product, tcb):
        name = (role, product, tuple(sorted(tcb.items())))
        if name not in self.leaves:
            self.leaves[name] = getattr(self.soft, role)(product, tcb=tcb)
        return self.leaves[name]

    def evidence(self, product="genoa", role="vcek", binding=None, nonce=NONCE, table=True, observations=None, items=None, **fields):
        binding = binding or Binding()
        fields.setdefault("report_data", report_data("attested/1", nonce, binding))
        report = build_report(product, signing_key=role, **dict({"measurement": MEASUREMENT}, **fields))
        key, der = self.leaf(role, product, fields.get("reported_tcb") or fields.get("current_tcb") or DEFAULT_TCB[product])
        sign_report(report, key)
        entries = ((role, der), ("ask", self.soft.intermediate_der(product, role)))
        item = EvidenceItem("sev-snp", "sev_guest", bytes(report), {"certificates": build_certtable(CertificateTable(entries))} if table else {})
        return EvidenceDocument("attested/1", nonce, binding, items or (item,), observations or {})

    def policy(self, snp=None, **keys):
        products = ["milan", "genoa", "turin"]
        roots = [self.soft.ark_pem(product) for product in ("genoa",) + tuple(keys.pop("also", ()))]
        return load_policy(dict({
            "schema": "attested.ai/policy/1", "id": "t", "allow_nonvendor_roots": True, "roots": roots, "sev_snp": dict({"products": products}, **(snp or {})),
        }, **keys))

    def judge(self, evidence=None, snp=None, values=None, endorsements=Endorsements(), nonce=NONCE, connection=None, seen=None, enforce=False, at=AT, **keys):
        return appraise(
            evidence or self.evidence(), policy=self.policy(snp, **keys), reference_values=references() if values is None else values,
            endorsements=endorsements, expected_nonce=nonce, at=at, connection=connection, seen=seen, enforce_chain_of_trust=enforce,
        )


@pytest.fixture(scope="module")
def world(soft):
    return World(soft)


def failures(result):
    return [check.id for check in result.reasons]


def outcome(result, check_id):
    (found,) = [check for check in list(result.checks) + [check for item in result.items.values() for check in item.checks] if check.id == check_id]
    return found.outcome, found.detail


def test_good_evidence_is_accepted_and_everything_is_said(world):
    result = world.judge(machines={"allow": [MACHINE]})
    assert failures(result) == []
    told = result.to_dict()
    assert (told["accepted"], told["authentic"], told["status"], told["anchor"]) == (True, True, "affirming", "nonvendor")
    assert told["submods"]["cpu0"]["trustworthiness_vector"] == {
        "hardware": 2, "configuration": 2, "runtime-opaque": 2, "executables": 3, "file-system": 2, "instance-identity": 2,
    }
    assert told["submods"]["cpu0"]["claims"]["machine"] == MACHINE
    assert told["chain_of_trust"] == {"reaches": "service", "required": "service", "waived": False, "reason": "the measured chain reaches service"}
    assert told["expires_at"] == (AT + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert any("physical attack" in line for line in told["out_of_scope"])
    assert told["policy"]["digest"] == world.policy(machines={"allow": [MACHINE]}).digest
    assert outcome(result, "ask-revoked")[0] == "not_checked"


SMT = POLICY_SMT | POLICY_RESERVED_ONE
OLD = {"bootloader": 10, "tee": 0, "snp": 22, "microcode": 84}

# (report fields, sev_snp keys under which it fails, code, sev_snp keys under which the same report passes)
ITEM_CASES = {
    "debug": ({"policy": SMT | POLICY_DEBUG}, {}, "policy-debug", {"allow_debug": True}),
    "migration": ({"policy": SMT | POLICY_MIGRATE_MA}, {}, "policy-migration", {"allow_migration_agent": True}),
    "vmpl": ({"vmpl": 1}, {}, "policy-vmpl", {"vmpl": [0, 1]}),
    "product": ({}, {"products": ["turin"]}, "policy-product", {"products": ["genoa"]}),
    "signing key": ({}, {"signing_keys": ["vlek"]}, "policy-signing-key", {}),
    "masked chip": ({"chip_id": b""}, {}, "chip-id-masked", {"allow_masked_chip_id": True}),
    "shipped floor": ({"current_tcb": OLD}, {"min_launch_tcb": {}}, "policy-tcb-floor", {"min_tcb": {}, "min_launch_tcb": {}}),
    "flat floor": ({}, {"min_tcb": {"microcode": 85}}, "policy-tcb-floor", {"min_tcb": {"microcode": 84}}),
    "floor by silicon": ({}, {"min_tcb": {"0x19-0x10..0x1f": {"snp": 28}}}, "policy-tcb-floor", {"min_tcb": {"0x19-0x10..0x1f": {"snp": 27}}}),
    "no row": ({}, {"min_tcb": {"0x19-0x12": {"snp": 1}}}, "policy-tcb-floor", {"min_tcb": {"0x19-0x11": {"snp": 1}}}),
    "fmc where there is none": ({}, {"min_tcb": {"fmc": 1}}, "policy-tcb-floor", {"min_tcb": {"tee": 0}}),
    "launch floor": ({"launch_tcb": OLD}, {}, "policy-launch-tcb-floor", {"min_launch_tcb": {"snp": 22}}),
    "provisional tcb": (
        {"committed_tcb": dict(DEFAULT_TCB["genoa"], microcode=83), "reported_tcb": dict(DEFAULT_TCB["genoa"], microcode=83)},
        {},
        "policy-provisional-firmware",
        {"allow_provisional_firmware": True},
    ),
    "provisional build": ({"committed_version": (1, 55, 42)}, {}, "policy-provisional-firmware", {"allow_provisional_firmware": True}),
    "abi": ({}, {"min_abi": {"major": 1, "minor": 55, "build": 44}}, "policy-abi", {"min_abi": {"major": 1, "minor": 55, "build": 43}}),
    "smt": ({}, {"allow_smt": False}, "policy-smt", {}),
    "smt by name": ({}, {"require_guest_policy": ["smt_disabled"]}, "policy-smt", {}),
    "guest policy": ({}, {"require_guest_policy": ["ciphertext_hiding"]}, "policy-guest-policy", {}),
    "unknown policy bits": ({"policy": SMT | 1 << 26}, {}, "policy-guest-policy", {"allow_unknown_policy_bits": True}),
    "alias check": ({"platform_info": 0x05}, {}, "policy-platform-info", {"require_platform_info": []}),
    "tsme": ({}, {"require_platform_info": ["tsme"]}, "policy-platform-info", {"require_platform_info": ["ecc"]}),
    "launch mitigation": ({}, {"required_mitigations": {"launch": 4}}, "policy-mitigation-vector", {"required_mitigations": {"launch": 3}}),
    "current mitigation": ({}, {"required_mitigations": {"current": "0x10"}}, "policy-mitigation-vector", {"required_mitigations": {"current": "0x8"}}),
    "mitigation in v3": ({"version": 3}, {"required_mitigations": {"current": 1}}, "policy-mitigation-vector", {}),
    "host data": ({"host_data": b"\1" * 32}, {"host_data": ["02" * 32]}, "host-data-mismatch", {"host_data": ["01" * 32, "02" * 32]}),
    "family": ({"family_id": b"\1" * 16}, {"family_id": ["02" * 16]}, "id-block", {"family_id": ["01" * 16]}),
    "image": ({"image_id": b"\1" * 16}, {"image_id": ["02" * 16]}, "id-block", {"image_id": ["01" * 16]}),
    "guest svn": ({"guest_svn": 3}, {"min_guest_svn": 4}, "id-block", {"min_guest_svn": 3}),
    "id key": ({"id_key_digest": b"\1" * 48}, {"id_key_digests": ["02" * 48]}, "id-block", {"id_key_digests": ["01" * 48]}),
    "author key": (
        {"author_key_digest": b"\1" * 48, "author_key_en": True},
        {"author_key_digests": ["02" * 48]},
        "id-block",
        {"author_key_digests": ["01" * 48]},
    ),
    "author key unused": ({"author_key_digest": b"\1" * 48}, {"author_key_digests": ["01" * 48]}, "id-block", {}),
}


@pytest.mark.parametrize("name", sorted(ITEM_CASES))
def test_each_policy_check_refuses_alone_and_says_what_to_do(world, name):
    fields, strict, code, lenient = ITEM_CASES[name]
    evidence = world.evidence(**fields)
    refused = world.judge(evidence, strict)
    assert failures(refused) == [code]
    assert (refused.authentic, refused.accepted, refused.status) == (True, False, "contraindicated")
    assert ";" in outcome(refused, code)[1], "the detail names no next step"
    assert failures(world.judge(evidence, lenient)) == []


def test_a_version_2_report_cannot_tell_about_aliases(world):
    milan = world.evidence("milan", version=2, current_tcb=DEFAULT_TCB["milan"], platform_info=0x05)
    result = world.judge(milan, also=["milan"])
    assert outcome(result, "policy-platform-info")[0] == "not_checked"
    assert result.accepted and result.status == "warning", "Milan is a tier of its own"
    assert "forge its chip keys" in outcome(result, "machine-not-allowed")[1]
    assert "forge" not in outcome(world.judge(), "machine-not-allowed")[1]
    assert failures(world.judge(milan, {"require_platform_info": ["ecc", "tsme"]}, also=["milan"])) == ["policy-platform-info"]
    # The shipped floors and a table of one's own find the silicon by the product.
    assert failures(world.judge(milan, {"min_tcb": {"0x19-0x00..0x0f": {"snp": 28}}}, also=["milan"])) == ["policy-tcb-floor"]


def test_milan_is_refused_unless_named(world):
    milan = world.evidence("milan")
    refused = world.judge(milan, {"products": ["genoa", "turin"]}, also=["milan"])
    assert failures(refused) == ["policy-product"]
    assert "2605.12990" in refused.explain()


def test_turin_has_no_shipped_floor_and_says_so(world):
    result = world.judge(world.evidence("turin"), also=["turin"])
    assert result.accepted
    assert outcome(result, "policy-tcb-floor") == ("not_checked", outcome(result, "policy-tcb-floor")[1])
    assert "family 0x1a" in outcome(result, "policy-tcb-floor")[1]
    assert failures(world.judge(world.evidence("turin"), {"min_tcb": {"fmc": 2}}, also=["turin"])) == ["policy-tcb-floor"]


@pytest.mark.parametrize(
    ("fields", "machines", "code"),
    [
        ({}, {"allow": [MACHINE]}, None),
        ({}, {"allow": ["00" * 32]}, "machine-not-allowed"),
        ({}, {"deny": [MACHINE]}, "machine-not-allowed"),
        ({}, {"allow": [MACHINE], "deny": [MACHINE]}, "machine-not-allowed"),
        ({}, {"csp_ids": ["CN=x"]}, "machine-not-allowed"),
        ({}, {"deny": ["00" * 32]}, None),
        ({"chip_id": b""}, {"deny": ["00" * 32]}, "machine-not-allowed"),
        ({"chip_id": b""}, {"allow": [MACHINE]}, "machine-not-allowed"),
    ],
)
def test_machines(world, fields, machines, code):
    result = world.judge(world.evidence(**fields), {"allow_masked_chip_id": True}, machines=machines)
    assert failures(result) == ([code] if code else [])
    assert result.items["cpu0"].vector["hardware"] == (96 if code else 2)
    assert result.items["cpu0"].vector.get("instance-identity") == (None if not machines.get("allow") else 97 if code else 2)


def test_a_vlek_stands_for_its_provider(world):
    evidence = world.evidence(role="vlek")
    csp = world.judge(evidence).items["cpu0"].claims["csp_id"]
    assert failures(world.judge(evidence, machines={"csp_ids": [csp]})) == []
    assert failures(world.judge(evidence, machines={"csp_ids": ["CN=other"]})) == ["machine-not-allowed"]
    assert failures(world.judge(evidence, machines={"csp_ids": [csp], "allow": [MACHINE]})) == ["machine-not-allowed"]


def test_measurements(world):
    other = world.evidence(measurement=b"\1" * 48)
    assert failures(world.judge(other)) == ["measurement-mismatch"]
    assert failures(world.judge(values=ReferenceValues())) == ["measurement-mismatch"]
    expired = world.judge(values=references(not_after=AT))
    assert failures(expired) == ["measurement-mismatch"] and "expired" in expired.explain()
    lax = world.judge(other, measurements_required=False)
    assert lax.accepted and lax.status == "warning" and lax.chain_of_trust.reaches is None
    assert outcome(lax, "measurement-mismatch")[0] == "not_checked" and lax.items["cpu0"].vector["executables"] == 33


def test_host_data_of_a_reference_value(world):
    values = references(host_data="01" * 32)
    assert failures(world.judge(world.evidence(host_data=b"\1" * 32), values=values)) == []
    result = world.judge(world.evidence(host_data=b"\2" * 32), values=values)
    assert failures(result) == ["host-data-mismatch"] and result.chain_of_trust.reaches is None


@pytest.mark.parametrize(
    ("covers", "enforce", "waiver", "fails"),
    [
        ("launch", False, None, False),
        ("launch", True, None, True),
        ("root-fs", True, None, True),
        ("service", True, None, False),
        ("launch", True, "a lab", False),
    ],
)
def test_the_chain_of_trust_is_reported_and_enforced_where_asked(world, covers, enforce, waiver, fails):
    result = world.judge(values=references(covers), enforce=enforce, chain_of_trust={"must_reach": "service", "waiver": waiver})
    assert failures(result) == (["chain-of-trust"] if fails else [])
    assert result.chain_of_trust.reaches == covers
    assert result.chain_of_trust.waived is (waiver is not None)
    assert ("file-system" in result.items["cpu0"].vector) is (covers in ("root-fs", "service"))


def test_a_waiver_is_not_used_where_it_is_not_needed(world):
    assert world.judge(chain_of_trust={"waiver": "a lab"}).chain_of_trust.waived is False


def test_the_nonce_is_ours_never_the_documents(world):
    old = world.evidence(nonce=b"\7" * 32)
    result = world.judge(old)
    assert failures(result) == ["report-data-mismatch", "freshness"]
    assert (result.authentic, result.to_dict()["binding"]) == (True, {})
    forged = EvidenceDocument(old.profile, NONCE, old.binding, old.items, {})
    assert failures(world.judge(forged)) == ["report-data-mismatch"]


def test_freshness_left_unchecked_shows_and_still_proves_the_binding(world):
    document = world.evidence(nonce=b"\7" * 32, binding=Binding(ssh_host_keys=(KEY,)))
    result = world.judge(document, nonce=UNCHECKED)
    assert result.accepted and result.nonce is None
    assert outcome(result, "freshness")[0] == "not_checked"
    assert result.to_dict()["binding"] == {"ssh_host_keys": [KEY]}
    swapped = EvidenceDocument(document.profile, document.nonce, Binding(ssh_host_keys=(OTHER_KEY,)), document.items, {})
    assert failures(world.judge(swapped, nonce=UNCHECKED)) == ["report-data-mismatch"]


def test_replay_is_seen_whatever_the_signature_bytes_are(world):
    document = world.evidence()
    first = world.judge(document, seen=set())
    assert outcome(first, "replay")[0] == "pass"
    seen = {first.items["cpu0"].identity}
    assert failures(world.judge(document, seen=seen)) == ["replay"]
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
    raw = bytearray(document.items[0].evidence)
    raw[0x2E8:0x330] = (order - int.from_bytes(raw[0x2E8:0x330], "little")).to_bytes(72, "little")
    item = EvidenceItem("sev-snp", "sev_guest", bytes(raw), document.items[0].auxiliary)
    assert failures(world.judge(EvidenceDocument("attested/1", NONCE, Binding(), (item,), {}), seen=seen)) == ["replay"]
    assert outcome(world.judge(document), "replay")[0] == "not_checked"


def test_revocation_can_be_required(world):
    assert failures(world.judge(revocation="required")) == ["ask-revoked"]
    good = Endorsements(crls=(world.soft.crl("genoa"),))
    assert failures(world.judge(revocation="required", endorsements=good)) == []
    assert (
        failures(world.judge(revocation="required", endorsements=Endorsements(crls=(world.soft.crl("milan"), world.soft.crl("genoa"))), also=["milan"])) == []
    )
    revoked = Endorsements(crls=(world.soft.crl("genoa", revoked=[world.soft.ca_serial("genoa", "ask")]),))
    result = world.judge(endorsements=revoked)
    assert result.authentic is False and "ask-revoked" in failures(result) and result.items["cpu0"].vector == {"hardware": 96}


def test_evidence_that_does_not_hold_is_not_held_against_the_policy(world):
    document = world.evidence(policy=SMT | POLICY_DEBUG)
    raw = bytearray(document.items[0].evidence)
    raw[0x90] ^= 1
    result = world.judge(EvidenceDocument("attested/1", NONCE, Binding(), (EvidenceItem("sev-snp", "x", bytes(raw), document.items[0].auxiliary),), {}))
    assert result.authentic is False and failures(result) == ["report-signature"]
    assert outcome(result, "policy")[0] == "not_checked" and result.items["cpu0"].vector == {"hardware": 99}


def test_every_failure_of_the_verifier_has_a_next_step():
    """The verifier lists its ids in its documentation; an id without advice would leave the user alone."""
    listed = verify_snp_module.__doc__.split("Ids, in the order of telling:")[1].replace("(validity of all certificates, too early included)", "")
    assert {name.strip(" .\n") for name in listed.split(",")} == set(snp_module._NEXT_STEPS)


def test_certificates_come_from_the_caller_too_and_the_fitting_one_is_found(world):
    bare = world.evidence(table=False)
    missing = world.judge(bare, {"products": ["turin"]})
    assert failures(missing) == ["vek-missing"] and missing.authentic is None and missing.status == "none"
    assert outcome(missing, "policy")[0] == "not_checked" and missing.items["cpu0"].vector == {"hardware": 0}
    _key, der = world.leaf("vcek", "genoa", DEFAULT_TCB["genoa"])
    ask = world.soft.intermediate_der("genoa", "vcek")
    _other, stranger = world.soft.vcek("genoa", chip_id=b"\5" * 64)
    _older, older = world.soft.vcek("genoa", tcb=OLD)
    _vlek, vlek = world.soft.vlek("genoa")
    assert failures(world.judge(bare, endorsements=Endorsements((ask, vlek, stranger, older, der)))) == []
    assert "report-signature" in failures(world.judge(bare, endorsements=Endorsements((ask, stranger))))


def test_a_broken_certificate_table_is_a_failed_check(world):
    good = world.evidence().items[0]
    item = EvidenceItem("sev-snp", "x", good.evidence, {"certificates": b"\1" * 30})
    result = world.judge(EvidenceDocument("attested/1", NONCE, Binding(), (item,), {}))
    assert "certificate-table" in failures(result) and not result.accepted


@pytest.mark.parametrize(("change", "code", "hardware"), [
    (lambda raw: raw[:1183], "format", 1), (lambda raw: b"\6" + raw[1:], "version-unsupported", 1),
    (lambda raw: raw[:0x188] + b"\x17" + raw[0x189:], "product-unknown", 97),
])
def test_what_cannot_be_read_or_named(world, change, code, hardware):
    good = world.evidence().items[0]
    item = EvidenceItem("sev-snp", "x", change(good.evidence), good.auxiliary)
    result = world.judge(EvidenceDocument("attested/1", NONCE, Binding(), (item,), {}))
    assert code in failures(result) and result.authentic is False
    assert result.items["cpu0"].vector == {"hardware": hardware}
    assert result.to_dict()["expires_at"] is None or code == "product-unknown"


def test_unknown_items_are_refused_never_skipped(world):
    good = world.evidence().items[0]
    document = world.evidence(items=(good, EvidenceItem("sgx", "sgx", b"\0" * 100, {})))
    result = world.judge(document)
    assert failures(result) == ["item-type"] and result.authentic is None and not result.accepted
    assert list(result.items) == ["cpu0", "unknown0"]
    assert (result.items["cpu0"].accepted, result.chain_of_trust.reaches) == (True, None)


def test_every_item_counts(world):
    good, bad = world.evidence().items[0], world.evidence(vmpl=2).items[0]
    result = world.judge(world.evidence(items=(good, bad)))
    assert list(result.items) == ["cpu0", "cpu1"] and failures(result) == ["policy-vmpl"] and result.status == "contraindicated"


SSH = Binding(ssh_host_keys=(KEY, OTHER_KEY))


def ssh(*known, strict=True, transport="ssh"):
    return ConnectionBinding(transport, known, strict, "as told")


@pytest.mark.parametrize(
    ("mode", "connection", "binding", "expected"),
    [
        ("auto", ssh(KEY), SSH, "pass"),
        ("auto", ssh(KEY, OTHER_KEY), SSH, "pass"),
        ("required", ssh(KEY), SSH, "pass"),
        ("auto", ssh(KEY, "SHA256:x"), SSH, "fail"),
        ("auto", ssh("SHA256:x"), SSH, "fail"),
        ("auto", ssh(), SSH, "fail"),
        ("auto", ssh(KEY, strict=False), SSH, "fail"),
        ("auto", ssh(KEY), Binding(), "fail"),
        ("off", ssh("SHA256:x"), SSH, "not_checked"),
        ("auto", None, SSH, "not_checked"),
        ("required", None, SSH, "fail"),
        ("auto", ssh(transport="local", strict=False), SSH, "not_checked"),
        ("required", ssh(KEY, transport="docker"), SSH, "fail"),
    ],
)
def test_ssh_host_keys(world, mode, connection, binding, expected):
    result = world.judge(world.evidence(binding=binding), connection=connection, ssh_binding=mode)
    assert outcome(result, "ssh-host-key")[0] == expected
    assert result.accepted is (expected != "fail")


def test_bound_keys_of_evidence_that_does_not_hold_prove_nothing(world):
    document = world.evidence(binding=Binding(ssh_host_keys=(OTHER_KEY,)))
    swapped = EvidenceDocument(document.profile, NONCE, SSH, document.items, {})
    result = world.judge(swapped, connection=ssh(KEY))
    assert failures(result) == ["report-data-mismatch", "ssh-host-key"]


@pytest.mark.parametrize(("storage", "measured", "wanted", "expected"), [
    ("memory", True, True, "pass"), ("disk", True, True, "fail"), ("unknown", True, True, "fail"), (None, True, True, "fail"), ("memory", False, True, "fail"),
    ("memory", True, False, "not_checked"), ("disk", True, False, "not_checked"),
])
def test_where_the_host_keys_lie_counts_only_if_the_image_is_measured(world, storage, measured, wanted, expected):
    document = world.evidence(binding=SSH, observations={} if storage is None else {"ssh_host_key_storage": storage})
    result = world.judge(document, ssh_keys_in_memory=wanted, values=references() if measured else ReferenceValues(), measurements_required=measured)
    assert outcome(result, "ssh-host-key-storage")[0] == expected
    assert result.accepted is (expected != "fail")


def test_the_call_itself_must_be_right(world):
    with pytest.raises(AttestedError, match="time zone"):
        world.judge(at=datetime(2026, 11, 1))
    with pytest.raises(FormatError, match="nonce"):
        world.judge(nonce=b"short")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=1300), patch=st.dictionaries(st.integers(0, 1183), st.integers(0, 255), max_size=3))
def test_any_bytes_give_a_result_and_never_an_acceptance_by_accident(world, data, patch):
    good = world.evidence(table=False).items[0].evidence
    leaves = Endorsements((world.leaf("vcek", "genoa", DEFAULT_TCB["genoa"])[1], world.soft.intermediate_der("genoa", "vcek")))
    raw = bytearray(good)
    for offset, value in patch.items():
        raw[offset] = value
    for report in (data, bytes(raw)):
        result = appraise_report(report, policy=world.policy(), reference_values=references(), endorsements=leaves, expected_report_data=UNCHECKED, at=AT)
        assert result.accepted is (report == good), result.explain()
        assert result.to_dict()["accepted"] is result.accepted


# Requirements that a policy may drop, and what dropping each looks like.
STRICT_SNP = {name: strict for name, (_fields, strict, _code, _lenient) in ITEM_CASES.items()}
LOOSE = {
    "allow_debug": True, "allow_migration_agent": True, "allow_smt": True, "allow_provisional_firmware": True, "allow_masked_chip_id": True,
    "allow_unknown_policy_bits": True, "vmpl": [0, 1, 2, 3], "min_tcb": {}, "min_launch_tcb": {}, "min_abi": None, "min_guest_svn": 0,
    "require_guest_policy": [], "require_platform_info": [], "required_mitigations": {}, "host_data": None, "family_id": None, "image_id": None,
    "id_key_digests": None, "author_key_digests": None, "products": ["milan", "genoa", "turin"], "signing_keys": ["vcek", "vlek"],
}
LOOSE_TOP = {"revocation": "not_required", "ssh_binding": False, "ssh_keys_in_memory": False, "machines": {}, "measurements_required": False}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.sampled_from(sorted(ITEM_CASES)),
    strict=st.sets(st.sampled_from(sorted(ITEM_CASES)), max_size=2),
    dropped=st.sets(st.sampled_from(sorted(LOOSE)), min_size=1),
    top=st.sets(st.sampled_from(sorted(LOOSE_TOP))),
    connection=st.sampled_from([None, ssh(KEY), ssh("SHA256:x")]),
    lenient=st.booleans(),
)
def test_dropping_a_requirement_never_turns_acceptance_into_refusal(world, fields, strict, dropped, top, connection, lenient):
    case = ITEM_CASES[fields]
    before = dict(case[3] if lenient else {})
    for name in strict:
        before.update(STRICT_SNP[name] if not lenient else {})
    document = world.evidence(binding=SSH, **case[0])
    keys = {"machines": {"allow": [MACHINE]}}
    first = world.judge(document, before, connection=connection, **keys)
    after = dict(before, **{name: LOOSE[name] for name in dropped})
    second = world.judge(document, after, connection=connection, **dict(keys, **{name: LOOSE_TOP[name] for name in top}))
    if first.accepted:
        assert second.accepted, failures(second)
    assert set(failures(second)) <= set(failures(first))


# --- what an attacker may choose -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoy", ["milan", "turin"])
def test_the_host_cannot_choose_the_revocation_list(world, decoy):
    lists = Endorsements(crls=(world.soft.crl("milan"), world.soft.crl("genoa", revoked=["ask"])))
    document = world.evidence()
    item = document.items[0]
    # The host hands over a certificate of another product that names this chip, ahead of the right one.
    _key, other = world.soft.vcek(decoy, default_chip_id("genoa"))
    names = {"vcek": "vlek", "ask": "ask"}
    entries = (("vcek", other), *((names[name], der) for name, der in parse_certtable(item.auxiliary["certificates"]).entries))
    shuffled = EvidenceItem(item.type, item.provider, item.evidence, {"certificates": build_certtable(CertificateTable(entries))})
    assert world.judge(EvidenceDocument("attested/1", NONCE, Binding(), (shuffled,), {})).accepted
    result = world.judge(EvidenceDocument("attested/1", NONCE, Binding(), (shuffled,), {}), endorsements=lists, also=["milan"])
    assert result.authentic is False and not result.accepted
    assert "ask-revoked" in failures(world.judge(document, endorsements=lists, also=["milan"]))


@pytest.mark.parametrize("order", [1, -1])
def test_one_of_several_lists_that_names_the_authority_is_enough(world, order):
    lists = [world.soft.crl("genoa"), world.soft.crl("genoa", revoked=["ask"], number=2)][::order]
    result = world.judge(endorsements=Endorsements(crls=tuple(lists)))
    assert result.authentic is False and "ask-revoked" in failures(result)
    old = world.soft.crl("genoa", this_update=AT - timedelta(days=9), next_update=AT - timedelta(days=1))
    assert world.judge(endorsements=Endorsements(crls=(old, world.soft.crl("genoa"))), revocation="required").accepted
    assert failures(world.judge(endorsements=Endorsements(crls=(old, old)))) == ["crl-expired"]


def test_lists_of_other_products_leave_revocation_open(world):
    lists = Endorsements(crls=(world.soft.crl("milan"), world.soft.crl("turin")))
    assert outcome(world.judge(endorsements=lists), "ask-revoked")[0] == "not_checked"
    assert failures(world.judge(endorsements=lists, revocation="required")) == ["ask-revoked"]


def test_reference_values_that_disagree_never_claim_the_more(world):
    def reaches(*values):
        return world.judge(values=merge_reference_values(values), evidence=world.evidence(host_data=b"\1" * 32)).chain_of_trust.reaches

    assert reaches(references("service"), references("launch")) == "launch"
    assert reaches(references("launch"), references("service")) == "launch"
    # Who names HOST_DATA too speaks of more than the launch measurement alone.
    assert reaches(references("launch"), references("service", host_data="01" * 32)) == "service"
    assert reaches(references("service"), references("kernel", host_data="01" * 32)) == "kernel"
    assert reaches(references("launch"), references("service", host_data="02" * 32)) == "launch"
    expired = AT - timedelta(seconds=1)
    assert reaches(references("launch", not_after=expired), references("service")) == "service"


def test_hardware_without_a_floor_is_not_affirmed(world):
    turin = world.evidence("turin")
    result = world.judge(turin, also=["turin"])
    assert (result.accepted, result.status, result.items["cpu0"].vector["hardware"]) == (True, "warning", 32)
    result = world.judge(turin, {"min_tcb": {"snp": 1}}, also=["turin"])
    assert (result.accepted, result.status, result.items["cpu0"].vector["hardware"]) == (True, "affirming", 2)


def test_a_version_2_report_meets_every_floor_that_may_be_its_own(world):
    milan = world.evidence("milan", version=2, current_tcb=DEFAULT_TCB["milan"], platform_info=0x05)
    floors = {"0x19-0x00": {"snp": 1}, "0x19-0x01..0x0f": {"snp": 28}}
    assert failures(world.judge(milan, {"min_tcb": floors}, also=["milan"])) == ["policy-tcb-floor"]
    assert failures(world.judge(milan, {"min_tcb": {"0x19-0x01": {"snp": 27}}}, also=["milan"])) == []
    assert failures(world.judge(milan, {"min_tcb": {"0x19-0x10..0x1f": {"snp": 1}}}, also=["milan"])) == ["policy-tcb-floor"]


def test_a_hidden_machine_may_be_a_denied_one_under_a_vlek_too(world):
    hidden = world.evidence(role="vlek", chip_id=b"")
    csp = world.judge(hidden).items["cpu0"].claims["csp_id"]
    assert failures(world.judge(hidden, machines={"deny": [MACHINE]})) == ["machine-not-allowed"]
    # A provider that the policy names vouches for its machines.
    assert failures(world.judge(hidden, machines={"deny": [MACHINE], "csp_ids": [csp]})) == []
    shown = world.evidence(role="vlek", chip_id=default_chip_id("genoa"))
    assert failures(world.judge(shown, machines={"deny": [MACHINE], "csp_ids": [csp]})) == ["machine-not-allowed"]


def test_nothing_is_authentic_where_there_is_nothing(world):
    result = world.judge(EvidenceDocument("attested/1", NONCE, Binding(ssh_host_keys=(KEY,)), (), {}))
    assert (result.authentic, result.accepted, result.status, result.anchor) == (None, False, "none", "none")
    assert result.to_dict()["binding"] == {}


def test_every_value_of_a_report_can_be_signed(world):
    evidence = world.evidence(launch_mit_vector=2**64 - 1, current_mit_vector=2**64 - 1)
    result = world.judge(evidence, {"required_mitigations": {"launch": "0xffffffffffffffff"}})
    assert result.accepted and result.items["cpu0"].claims["report"]["launch_mit_vector"] == "0xffffffffffffffff"
    assert sign_ear(result, ec.generate_private_key(ec.SECP384R1()), issued_at=AT).count(".") == 2
