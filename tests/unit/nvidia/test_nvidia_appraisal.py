# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy over one device: strict defaults, allowances that name one case, and what the result says."""

from __future__ import annotations

import json
import pkgutil
import re
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from nvidia_lab import AT, DRIVER, GPU_BLOCKS, NONCE, VBIOS, Device, NvidiaLab, gpu_fields

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si, schema
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements, ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.nvidia import appraise_gpu, appraise_switch
from ansible_collections.attested.ai.plugins.module_utils.appraisal.nvidia_policy import KEYS, NvidiaPolicy, load_nvidia
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Policy, load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult
from ansible_collections.attested.ai.plugins.module_utils.endorsements import nvidia, shipped
from ansible_collections.attested.ai.plugins.module_utils.endorsements.nvidia import load_nvidia_roots, nras_certificate_pins
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import load_roots
from ansible_collections.attested.ai.plugins.module_utils.errors import DependencyError, EndorsementError, PolicyError
from ansible_collections.attested.ai.plugins.module_utils.formats import rim
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceItem

DAY = timedelta(days=1)


def policy_of(lab: NvidiaLab, **section: Any) -> Policy:
    return load_policy({"schema": "attested.ai/policy/1", "id": "test", "allow_nonvendor_roots": True, "roots": lab.pem, "nvidia": section})


class Case:
    """One GPU or switch with everything that a strict policy asks for."""

    def __init__(self, lab: NvidiaLab, chip: str = "GH100", **options: Any) -> None:
        self.lab, self.switch = lab, chip == "LS_10"
        self.device: Device = lab.device(chip)
        self.report = lab.switch_report(self.device) if self.switch else lab.gpu_report(self.device, **options)
        self.rims = [lab.switch_rim()] if self.switch else lab.gpu_rims(chip)
        self.ocsp = lab.all_ocsp(self.device)
        self.nonce = NONCE
        self.at = AT
        self.seen: Any = None

    def appraise(self, **section: Any) -> ItemResult:
        policy = policy_of(self.lab, **section)
        context = ItemContext(
            policy, ReferenceValues(()), Endorsements(rims=tuple(self.rims), ocsp=tuple(self.ocsp)), load_roots(policy), bytes(64), self.at, self.seen,
            expected_device_nonce=self.nonce,
        )  # fmt: skip
        kind = "switch" if self.switch else "gpu"
        item = EvidenceItem("nvidia-" + kind, "hopper", self.report, {"certificates": self.device.pem})
        found = (appraise_switch if self.switch else appraise_gpu)(item, context)
        json.dumps(found.to_dict())
        return found


@pytest.fixture
def case(lab: NvidiaLab) -> Case:
    return Case(lab)


def codes(found: ItemResult) -> list[str]:
    return [check.id for check in found.failures]


def detail(found: ItemResult, check_id: str) -> str:
    return next(check.detail for check in found.checks if check.id == check_id)


@pytest.mark.parametrize("chip", ["GH100", "GB100", "LS_10"])
def test_a_good_device_is_accepted_under_the_defaults(lab: NvidiaLab, chip: str) -> None:
    found = Case(lab, chip).appraise()
    assert found.accepted and found.status == ar4si.AFFIRMING, codes(found)
    assert found.anchor == "nonvendor" and found.identity is not None and found.expires_at == AT + timedelta(hours=23)
    assert found.vector == {"hardware": 2, "configuration": 2, "executables": 3}
    assert found.reaches is None and len(found.claims["device"]) == 64


def test_the_vendor_policy_refuses_the_soft_authority(case: Case) -> None:
    context = ItemContext(load_policy({"schema": "attested.ai/policy/1", "id": "x"}), ReferenceValues(()), Endorsements(), load_roots(), bytes(64), AT)
    found = appraise_gpu(EvidenceItem("nvidia-gpu", "hopper", case.report, {"certificates": case.device.pem}), context)
    assert found.authentic is False and not found.accepted and found.vector == {"hardware": ar4si.UNRECOGNISED}
    assert any(check.id == "policy" and "not held" in check.detail for check in found.checks)


def test_without_certificates_nothing_is_authentic(case: Case) -> None:
    policy = policy_of(case.lab)
    context = ItemContext(policy, ReferenceValues(()), Endorsements(), load_roots(policy), bytes(64), AT)
    assert appraise_gpu(EvidenceItem("nvidia-gpu", "hopper", case.report, {}), context).authentic is False


def test_a_malformed_report_is_a_failed_check(case: Case) -> None:
    case.report = b"nothing"
    found = case.appraise()
    assert found.authentic is False and codes(found) == ["format"] and found.claims == {} and found.vector == {"hardware": ar4si.UNEXPECTED_EVIDENCE}


def test_nonce_and_replay(case: Case) -> None:
    first = case.appraise()
    case.seen = {first.identity}
    assert codes(case.appraise()) == ["replay"]
    case.seen, case.nonce = (), bytes(32)
    assert codes(case.appraise()) == ["nonce-mismatch"]


def test_every_failure_says_what_to_do(lab: NvidiaLab, case: Case) -> None:
    case.rims, case.nonce = [], bytes(32)
    case.report = lab.gpu_report(case.device, f20=bytes(48))
    for check in case.appraise().failures:
        assert "; " in check.detail, check


def test_revocation_must_be_known_by_default(case: Case) -> None:
    case.ocsp = []
    found = case.appraise()
    assert found.authentic is True and codes(found) == ["device-revocation-unknown", "driver-rim-revocation-unknown", "firmware-rim-revocation-unknown"]
    assert "nvidia.revocation: not_required" in detail(found, "device-revocation-unknown")
    assert case.appraise(revocation="not_required").accepted


def test_the_policy_for_all_can_require_revocation_too(case: Case) -> None:
    case.ocsp = []
    policy = replace(policy_of(case.lab, revocation="not_required"), revocation="required")
    context = ItemContext(policy, ReferenceValues(()), Endorsements(rims=tuple(case.rims)), load_roots(policy), bytes(64), AT, expected_device_nonce=NONCE)
    found = appraise_gpu(EvidenceItem("nvidia-gpu", "hopper", case.report, {"certificates": case.device.pem}), context)
    assert "device-revocation-unknown" in codes(found)


def test_a_revoked_device_is_contraindicated(lab: NvidiaLab, case: Case) -> None:
    case.ocsp.append(lab.ocsp(case.device.chain[1], status="revoked"))
    found = case.appraise(revocation="not_required")
    assert found.authentic is False and codes(found) == ["device-revoked"] and found.vector == {"hardware": ar4si.CONTRAINDICATED_VALUE}


def held(case: Case) -> str:
    import hashlib

    case.ocsp[0] = case.lab.ocsp(case.device.chain[1], status="revoked", reason=x509.ReasonFlags.certificate_hold)
    return hashlib.sha256(case.device.chain[1].der).hexdigest()


def test_hold_needs_an_allowance_for_that_certificate(case: Case) -> None:
    digest = held(case)
    found = case.appraise()
    assert codes(found) == ["device-on-hold"] and digest in detail(found, "device-on-hold")
    assert codes(case.appraise(allow_hold=[{"certificate": "00" * 32, "reason": "another"}])) == ["device-on-hold"]
    found = case.appraise(allow_hold=[{"certificate": digest, "reason": "RMA 1"}])
    assert found.accepted and "the policy allows it: RMA 1" in detail(found, "device-on-hold") and found.vector["hardware"] == ar4si.UNSAFE
    ended = [{"certificate": digest, "reason": "RMA 1", "until": schema.format_time(AT - DAY)}]
    assert codes(case.appraise(allow_hold=ended)) == ["device-on-hold"]


def test_expired_manifests_need_an_allowance_for_that_version(lab: NvidiaLab, case: Case) -> None:
    signer = lab.new_rim_signer(not_after=AT - DAY)
    case.rims[0] = lab.rim(signer)
    case.ocsp.append(lab.ocsp(signer))
    assert codes(case.appraise()) == ["driver-rim-expired"]
    for wrong in ({"rim": "driver", "version": "1.2"}, {"rim": "firmware", "version": VBIOS["GH100"]}):
        assert codes(case.appraise(allow_expired_rim=[{**wrong, "reason": "x"}])) == ["driver-rim-expired"]
    right = {"rim": "driver", "version": DRIVER, "reason": "no newer one is published"}
    found = case.appraise(allow_expired_rim=[right])
    assert found.accepted and found.status == ar4si.WARNING
    until = AT + timedelta(hours=1)
    found = case.appraise(allow_expired_rim=[{**right, "until": schema.format_time(until)}])
    assert found.accepted and found.expires_at == until


def test_a_missing_manifest_needs_an_allowance_and_proves_nothing(case: Case) -> None:
    del case.rims[0]
    assert codes(case.appraise()) == ["driver-rim-missing"]
    found = case.appraise(allow_missing_rim=[{"rim": "driver", "version": DRIVER, "reason": "not published"}])
    assert found.accepted and found.vector["executables"] == ar4si.UNRECOGNISED_EXECUTABLES and found.status == ar4si.WARNING
    assert found.claims["secboot"] is None and found.claims["measres"] is None


def test_a_mismatch_needs_an_allowance_for_each_index(lab: NvidiaLab, case: Case) -> None:
    case.report = lab.gpu_report(case.device, blocks={**GPU_BLOCKS, 10: bytes(48), 15: bytes(48)})
    found = case.appraise()
    assert codes(found) == ["measurement-mismatch"] and found.vector["executables"] == ar4si.CONTRAINDICATED_VALUE
    nine = {"rim": "firmware", "version": VBIOS["GH100"], "index": 9, "reason": "known to differ on this board"}
    assert codes(case.appraise(allow_mismatch=[nine])) == ["measurement-mismatch"]
    fourteen = {"rim": "driver", "version": DRIVER, "index": 14, "reason": "so does this"}
    assert codes(case.appraise(allow_mismatch=[nine, {**fourteen, "rim": "firmware", "version": VBIOS["GH100"]}])) == ["measurement-mismatch"]
    found = case.appraise(allow_mismatch=[nine, fourteen])
    assert found.accepted and found.claims["measres"] == "fail" and found.claims["secboot"] is None
    assert found.vector["executables"] == ar4si.UNRECOGNISED_EXECUTABLES


def test_records_that_are_not_read_need_a_reason(lab: NvidiaLab, case: Case) -> None:
    case.rims[0] = lab.rim(extra='<ns0:Resource type="Other" active="True"/>')
    assert codes(case.appraise()) == ["driver-rim-records"]
    assert case.appraise(allow_unread_rim_records="the floor is min_fsp_svn").accepted


@pytest.mark.parametrize(
    ("mode", "section", "failed"),
    [
        ("spt", {}, []),
        ("mpt", {}, []),
        ("ppcie", {}, []),
        ("spt", {"modes": ["ppcie"]}, ["policy-mode"]),
        ("ppcie", {"modes": ["spt", "mpt"]}, ["policy-mode"]),
        (None, {}, ["policy-mode"]),
        (None, {"allow_unstated_mode": True}, []),
    ],
)
def test_mode(lab: NvidiaLab, mode: str | None, section: dict[str, Any], failed: list[str]) -> None:
    assert codes(Case(lab, mode=mode).appraise(**section)) == failed


def test_before_the_feature_flag_protected_pcie_told_the_mode(lab: NvidiaLab, case: Case) -> None:
    for state, mode in ((b"\xaa", "ppcie"), (b"\x55", "spt")):
        case.report = lab.gpu_report(case.device, mode=None, f21=state)
        assert case.appraise().claims["mode"] == mode
    for flags in ({"f21": b"\xaa", "f36": b"\0\0"}, {"f21": b"\x55", "f36": b"\x02\0"}):
        case.report = lab.gpu_report(case.device, **flags)
        assert codes(case.appraise()) == ["policy-mode"], "a contradiction"


@pytest.mark.parametrize(
    ("section", "failed"),
    [
        ({"architectures": ["blackwell"]}, ["policy-architecture"]),
        ({"min_driver": "580.95.5"}, []),
        ({"min_driver": "580.95.06"}, ["policy-driver-floor"]),
        ({"min_driver": "590"}, None),
        ({"drivers": ["580.95.05"]}, []),
        ({"drivers": ["580.95.06"]}, ["policy-driver"]),
        ({"min_vbios": {"GH100": "96.00.9F.00.01"}}, []),
        ({"min_vbios": {"GH100": "96.00.A0.00.00"}}, ["policy-vbios-floor"]),
        ({"min_vbios": {"GB100": "97.00.00.00.00"}}, ["policy-vbios-floor"]),
        ({"vbios": ["96.00.9F.00.01"]}, []),
        ({"vbios": ["96.00.9F.00.02"]}, ["policy-vbios"]),
        ({"min_fsp_svn": 1}, ["policy-fsp-svn"]),
        ({"nvle_status": ["aa"]}, ["policy-nvle"]),
        ({"devices": {"allow": ["00" * 32]}}, ["device-not-allowed"]),
    ],
)
def test_floors_and_lists(case: Case, section: dict[str, Any], failed: list[str] | None) -> None:
    if failed is None:
        with pytest.raises(PolicyError):
            case.appraise(**section)
        return
    assert codes(case.appraise(**section)) == failed


def test_values_that_are_stated_are_held_to_the_policy(lab: NvidiaLab) -> None:
    case = Case(lab, versioned=True, f37=b"\x03\0", f38=b"\xaa")
    assert case.appraise(min_fsp_svn=3, nvle_status=["aa"]).accepted
    assert codes(case.appraise(min_fsp_svn=4, nvle_status=["55"])) == ["policy-fsp-svn", "policy-nvle"]


def test_devices_can_be_pinned_and_banned(case: Case) -> None:
    device = case.appraise().claims["device"]
    found = case.appraise(devices={"allow": [device]})
    assert found.accepted and found.vector["instance-identity"] == ar4si.APPROVED
    found = case.appraise(devices={"deny": [device]})
    assert codes(found) == ["device-not-allowed"] and found.vector["hardware"] == ar4si.CONTRAINDICATED_VALUE


@pytest.mark.parametrize(
    ("section", "failed"),
    [
        ({"min_switch_bios": "96.10.55.00.01"}, []),
        ({"min_switch_bios": "96.10.56.00.00"}, ["policy-switch-bios-floor"]),
        ({"switch_bios": ["96.10.56.00.00"]}, ["policy-switch-bios"]),
        ({"architectures": ["hopper"]}, ["policy-architecture"]),
    ],
)
def test_a_switch_has_floors_of_its_own(lab: NvidiaLab, section: dict[str, Any], failed: list[str]) -> None:
    assert codes(Case(lab, "LS_10").appraise(**section)) == failed


def test_a_switch_is_who_its_certificate_says(lab: NvidiaLab) -> None:
    case = Case(lab, "LS_10")
    case.report = lab.switch_report(case.device, f22=bytes(range(8)))
    assert codes(case.appraise()) == ["switch-identity"]


def test_debug_firmware_is_contraindicated(lab: NvidiaLab) -> None:
    case = Case(lab, "GB100")
    case.device = lab.device("GB100", flags=0x90000001)
    case.report, case.ocsp = lab.gpu_report(case.device), lab.all_ocsp(case.device)
    found = case.appraise()
    assert codes(found) == ["debug-state"] and found.vector["configuration"] == ar4si.CONTRAINDICATED_VALUE


def test_the_driver_must_be_stated_for_a_floor(lab: NvidiaLab, case: Case) -> None:
    case.report = lab.gpu_report(case.device, fields={number: value for number, value in gpu_fields(case.device).items() if number != 3})
    assert "policy-driver-floor" in codes(case.appraise(min_driver="550.127.05"))


def read(section: Any) -> NvidiaPolicy:
    return load_nvidia(schema.Section(section, KEYS, "policy", "nvidia"), "policy")


def test_defaults_refuse_and_every_key_is_there() -> None:
    policy = read({})
    assert policy == NvidiaPolicy() and tuple(policy.to_dict()) == KEYS
    assert policy.revocation == "required" and policy.topology == "required" and not policy.allow_unstated_mode
    assert not (policy.allow_hold or policy.allow_expired_rim or policy.allow_missing_rim or policy.allow_mismatch or policy.allow_unread_rim_records)


def test_the_normalised_section_reads_back() -> None:
    section = {
        "architectures": ["hopper"], "modes": ["ppcie"], "revocation": "not_required", "min_driver": "550.127.05", "min_vbios": {"GH100": "96.00.5E.00.00"},
        "allow_hold": [{"certificate": "ab" * 32, "reason": "a"}], "allow_missing_rim": [{"rim": "firmware", "version": "96.00.DA.00.0E", "reason": "b"}],
        "allow_mismatch": [{"rim": "driver", "version": "580.95.05", "index": 0, "reason": "c", "until": "2027-01-31T00:00:00Z"}],
        "topology": False, "devices": {"deny": ["00" * 32]}, "nvle_status": ["aa"], "drivers": ["1.2"],
    }  # fmt: skip
    policy = read(section)
    assert policy.topology == "off" and read(policy.to_dict()) == policy


@pytest.mark.parametrize(
    "section",
    [
        {"unknown": 1},
        {"architectures": []},
        {"modes": []},
        {"modes": ["cc"]},
        {"revocation": "maybe"},
        {"min_driver": 550},
        {"min_driver": "550"},
        {"min_vbios": ["96.00.5E.00.00"]},
        {"min_vbios": {"GH100": "96.00.5e.00.00"}},
        {"min_vbios": {"gh100": "96.00.5E.00.00"}},
        {"min_fsp_svn": -1},
        {"min_fsp_svn": 65536},
        {"drivers": []},
        {"nvle_status": ["AA"]},
        {"devices": {"allow": ["00"]}},
        {"topology": "maybe"},
        {"allow_hold": {}},
        {"allow_hold": [{"certificate": "00" * 32}]},
        {"allow_hold": [{"certificate": "00" * 32, "reason": " "}]},
        {"allow_hold": [{"certificate": "00" * 32, "reason": "a", "version": "1.2"}]},
        {"allow_hold": [{"certificate": "00" * 32, "reason": "a"}] * 2},
        {"allow_hold": [{"certificate": "00" * 32, "reason": "a", "until": "tomorrow"}]},
        {"allow_expired_rim": [{"rim": "both", "version": "1.2", "reason": "a"}]},
        {"allow_expired_rim": [{"rim": "driver", "version": "96.00.5E.00.00", "reason": "a"}]},
        {"allow_missing_rim": [{"rim": "driver", "reason": "a"}]},
        {"allow_mismatch": [{"rim": "driver", "version": "1.2", "index": 255, "reason": "a"}]},
        {"allow_unread_rim_records": ""},
    ],
)
def test_a_section_that_means_nothing_is_refused(section: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        read(section)


def test_the_pins_are_those_of_nvidia() -> None:
    roots = dict(load_nvidia_roots())
    assert set(roots) == {"device", "rim"}
    assert roots["device"].common_name == "NVIDIA Device Identity CA" and roots["rim"].common_name == "NVIDIA CoRIM signing Root CA"
    assert nras_certificate_pins() == ("2df8907cf4d6c277b855d407ec178a649930a8e73f7294e8fce66e6ee27c5175",)


def test_a_pin_with_another_digest_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    document = json.loads(pkgutil.get_data(nvidia.__name__, nvidia.WHERE) or b"")
    for member, value in (("sha256", "00" * 32), ("spki_sha256", "00" * 32), ("name", "another")):
        entry = {**document["certificates"][0], member: value}
        with pytest.raises(EndorsementError, match="digests and the name"):
            shipped.read_certificate(entry, nvidia.WHERE)
    monkeypatch.setattr(shipped.pkgutil, "get_data", lambda *_names: b'{"schema": "attested.ai/nvidia-ca/2"}')
    with pytest.raises(EndorsementError, match="unknown schema"):
        shipped.read_document(nvidia.WHERE, nvidia.SCHEMA, nvidia.WHAT)
    monkeypatch.setattr(shipped.pkgutil, "get_data", lambda *_names: None)
    with pytest.raises(EndorsementError, match="missing"):
        shipped.read_document(nvidia.WHERE, nvidia.SCHEMA, nvidia.WHAT)


def test_the_example_of_the_documentation_loads() -> None:
    load_text = pytest.importorskip("ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs").load_text
    text = (Path(__file__).resolve().parents[3] / "docs" / "gpu-evidence.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    policy = load_policy(load_text(example, "docs"))
    assert policy.nvidia.modes == ("spt",) and policy.nvidia.allow_expired_rim[0].until is not None
    for key in KEYS:
        assert "`%s`" % key in text, key


def test_without_lxml_the_error_says_what_to_install(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    rim._library.cache_clear()
    monkeypatch.setitem(sys.modules, "lxml.etree", None)
    with pytest.raises(DependencyError) as caught:
        case.appraise()
    assert caught.value.code == "lxml-missing" and "python3-lxml" in caught.value.fix
    monkeypatch.undo()
    rim._library.cache_clear()


def test_one_bare_device_can_be_judged(lab: NvidiaLab) -> None:
    """Without a CPU's evidence it is told that nothing binds it."""
    case = Case(lab, "LS_10")
    found = appraise_report(
        case.report, policy=policy_of(lab, topology="off"), reference_values=ReferenceValues(()), tee="nvidia-switch",
        endorsements=Endorsements(rims=tuple(case.rims), ocsp=tuple(case.ocsp)), expected_report_data=NONCE, at=AT, auxiliary={"certificates": case.device.pem},
    )  # fmt: skip
    assert found.accepted, found.reasons
    assert [check.outcome for check in found.checks if check.id == "device-binding"] == ["not_checked"]
