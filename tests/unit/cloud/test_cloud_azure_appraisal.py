# SPDX-License-Identifier: GPL-3.0-or-later
"""What policy and reference values ask of Azure evidence: each check once from both sides."""

from __future__ import annotations

import hashlib

import pytest
from cloud_lab import AT, NONCE, PCRS, VM_ID, AzureLab, build_quote, runtime_json, sign_quote

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import Endorsements, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues, load_reference_values

MEASUREMENT = b"\x33" * 48


def value(**change):
    base = {"tee": "az-snp-vtpm", "measurement": MEASUREMENT.hex(), "pcrs": {str(number): PCRS[number].hex() for number in (4, 7, 11)}, "covers": "service",
            "image": "guest", "source": "us", "not_after": "2027-01-01T00:00:00Z"}
    base.update(change)
    return {name: found for name, found in base.items() if found is not None}


def references(*values):
    return load_reference_values({"schema": "attested.ai/reference-values/1", "values": list(values)})


def judge(lab: AzureLab, data=None, azure=None, snp=None, values=None, expected=NONCE, seen=None, crls=(), **top):
    policy = load_policy({
        "schema": "attested.ai/policy/1", "id": "azure", "allow_nonvendor_roots": True, "roots": lab.roots_pem,
        "sev_snp": {"min_tcb": {}, "min_launch_tcb": {}, **(snp or {})}, "azure": azure or {}, **top,
    })  # fmt: skip
    data = lab.evidence(hcl=lab.hcl(measurement=MEASUREMENT)) if data is None else data
    return appraise_report(
        data, policy=policy, reference_values=references(value()) if values is None else values, tee="az-snp-vtpm", at=AT,
        endorsements=Endorsements(certificates=lab.path, crls=crls), expected_report_data=expected, seen=seen,
    )  # fmt: skip


def reasons(result):
    return [check.id for check in result.reasons]


def detail(result, check_id):
    (found,) = [check for check in result.items["cpu0"].checks if check.id == check_id]
    return found.detail


def test_evidence_that_has_all_it_needs(azure):
    result = judge(azure)
    assert result.accepted, result.explain()
    item = result.items["cpu0"]
    assert item.reaches == "service" and item.tee == "az-snp-vtpm" and item.vector["configuration"] == ar4si.APPROVED
    assert item.expires_at.year == 2027 and item.expires_at.month == 1
    assert item.claims["measurement"] == MEASUREMENT.hex() and item.claims["machine"]


def test_bytes_that_are_nothing(azure):
    for data in (b"junk", b"{}", azure.evidence(hcl=b"HCLA")):
        result = judge(azure, data)
        assert result.authentic is False and not result.accepted and result.items["cpu0"].reaches is None


def test_evidence_that_does_not_hold_is_not_held_against_the_policy(azure):
    result = judge(azure, azure.evidence(hcl=azure.hcl(measurement=MEASUREMENT), values=(b"x" * 32,) + PCRS[1:], digest=bytes(32)))
    assert reasons(result) == ["pcr-digest"] and "policy" in {check.id for check in result.items["cpu0"].checks}
    assert result.items["cpu0"].vector == {"hardware": ar4si.CRYPTO_FAILED}


def test_a_stale_nonce_and_a_replay(azure):
    assert reasons(judge(azure, expected=NONCE[::-1])) == ["report-data-mismatch"]
    identity = judge(azure).items["cpu0"].identity
    data = azure.evidence(hcl=azure.hcl(measurement=MEASUREMENT))
    assert judge(azure, data, seen=set()).accepted
    assert reasons(judge(azure, data, seen={judge(azure, data).items["cpu0"].identity})) == ["replay"] and identity


@pytest.mark.parametrize(("fields", "reason"), [
    ({"policy": 0xB0000}, "policy-debug"), ({"platform_info": 0}, "policy-platform-info"), ({"policy": 0x70000}, "policy-migration"),
], ids=["debug", "alias-check", "migration"])
def test_the_hardware_report_is_held_against_its_own_section(azure, fields, reason):
    assert reasons(judge(azure, azure.evidence(hcl=azure.hcl(measurement=MEASUREMENT, **fields)))) == [reason]


def test_machines_host_data_and_revocation(azure):
    machine = judge(azure).items["cpu0"].claims["machine"]
    assert judge(azure, machines={"allow": [machine]}).accepted
    assert reasons(judge(azure, machines={"deny": [machine]})) == ["machine-not-allowed"]
    assert reasons(judge(azure, snp={"host_data": ["11" * 32]})) == ["host-data-mismatch"]
    assert reasons(judge(azure, revocation="required")) == ["ask-revoked"]
    assert judge(azure, revocation="required", crls=(azure.crl(),)).accepted
    assert "ask-revoked" in reasons(judge(azure, crls=(azure.crl("ask"),)))


# Reference values.


def test_no_reference_values(azure):
    result = judge(azure, values=ReferenceValues())
    assert reasons(result) == ["measurement-mismatch", "pcr-mismatch"] and PCRS[4].hex() in detail(result, "pcr-mismatch")
    assert result.items["cpu0"].vector["executables"] == ar4si.UNRECOGNISED_EXECUTABLES
    lenient = judge(azure, values=ReferenceValues(), measurements_required=False)
    assert lenient.accepted and lenient.items["cpu0"].reaches is None


@pytest.mark.parametrize(("change", "text"), [
    ({"pcrs": {"4": "00" * 32, "7": PCRS[7].hex(), "11": PCRS[11].hex()}}, "PCRs 4 are none"),
    ({"pcrs": {"4": PCRS[4].hex()}}, "does not name PCRs 7, 11"),
    ({"not_after": "2026-10-01T00:00:00Z"}, "expired"),
    ({"measurement": "44" * 48}, "for this paravisor"),
], ids=["other", "partial", "expired", "paravisor"])
def test_reference_values_that_do_not_fit(azure, change, text):
    result = judge(azure, values=references(value(**change)))
    assert "pcr-mismatch" in reasons(result) and text in detail(result, "pcr-mismatch") and result.items["cpu0"].reaches is None


def test_pcrs_vouch_for_nothing_without_a_name_for_the_paravisor(azure):
    unnamed = references(value(measurement=None))
    result = judge(azure, values=unnamed)
    assert reasons(result) == ["measurement-mismatch"] and result.items["cpu0"].reaches is None
    lenient = judge(azure, values=unnamed, measurements_required=False)
    assert lenient.accepted and lenient.items["cpu0"].reaches is None
    # Named by a value of its own, or by its signer.
    both = judge(azure, values=references(value(measurement=None), value(covers="launch", pcrs={"4": "00" * 32})))
    assert both.accepted and both.items["cpu0"].reaches == "service"
    signed = azure.evidence(hcl=azure.hcl(measurement=MEASUREMENT, id_key_digest=b"\x77" * 48))
    assert judge(azure, signed, snp={"id_key_digests": ["77" * 48]}, values=unnamed).accepted
    assert reasons(judge(azure, snp={"id_key_digests": ["77" * 48]}, values=unnamed)) == ["id-block", "measurement-mismatch"]


def test_values_that_disagree_vouch_for_the_least(azure):
    result = judge(azure, values=references(value(), value(covers="kernel", image="other")))
    assert result.accepted and result.items["cpu0"].reaches == "kernel"


# The section azure.


def quoted(lab, **change):
    message = build_quote(NONCE[:48], **change.pop("quote", {}))
    return lab.evidence(hcl=lab.hcl(measurement=MEASUREMENT), message=message, signature=sign_quote(lab.ak, message, **change))


def test_quote_algorithms(azure):
    data = quoted(azure, scheme="rsapss")
    assert reasons(judge(azure, data)) == ["policy-quote-algorithm"]
    assert judge(azure, data, {"quote_algorithms": ["rsapss-sha256"]}).accepted
    assert reasons(judge(azure, azure={"min_rsa_bits": 3072})) == ["policy-quote-algorithm"]


def test_the_quote_is_over_the_required_pcrs(azure):
    chosen = (4, 7)
    message = build_quote(NONCE[:48], [PCRS[number] for number in chosen], chosen)
    data = azure.evidence(hcl=azure.hcl(measurement=MEASUREMENT), message=message, values=[PCRS[number] for number in chosen])
    assert reasons(judge(azure, data)) == ["policy-required-pcrs", "pcr-mismatch"]
    short = references(value(pcrs={str(number): PCRS[number].hex() for number in chosen}))
    assert judge(azure, data, {"required_pcrs": [4, 7]}, values=short).accepted


@pytest.mark.parametrize("secure_boot", [False, None])
def test_secure_boot(azure, secure_boot):
    data = azure.evidence(hcl=azure.hcl(runtime_json(azure.ak, secure_boot=secure_boot), measurement=MEASUREMENT))
    result = judge(azure, data)
    assert reasons(result) == ["policy-secure-boot"] and result.items["cpu0"].vector["configuration"] == ar4si.UNSAFE
    assert judge(azure, data, {"require_secure_boot": False}).accepted


def test_virtual_machines(azure):
    assert judge(azure, azure={"vm_ids": [VM_ID]}).accepted
    assert reasons(judge(azure, azure={"vm_ids": [VM_ID.replace("9", "A")]})) == ["policy-vm-id"]


def test_init_data(azure):
    document = hashlib.sha256(b"init-data").digest()
    values = PCRS[:8] + (hashlib.sha256(bytes(32) + document).digest(),) + PCRS[9:]
    data = azure.evidence(hcl=azure.hcl(measurement=MEASUREMENT), values=values)
    assert judge(azure, data, {"init_data": [document.hex(), "00" * 32]}).accepted
    assert reasons(judge(azure, data, {"init_data": ["00" * 32]})) == ["init-data-mismatch"]


def test_a_fresh_hardware_report(azure):
    assert reasons(judge(azure, azure={"require_fresh_hardware_report": True})) == ["hardware-freshness"]
    fresh = azure.evidence(hcl=azure.hcl(runtime_json(azure.ak, NONCE), measurement=MEASUREMENT), version=2)
    assert judge(azure, fresh, {"require_fresh_hardware_report": True}).accepted
