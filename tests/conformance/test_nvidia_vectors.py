# SPDX-License-Identifier: GPL-3.0-or-later
"""Public captures of NVIDIA devices, and NVIDIA's manifests, judged as their README says. The clock is always injected."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements, ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.nvidia import appraise_gpu, appraise_switch
from ansible_collections.attested.ai.plugins.module_utils.appraisal.nvidia_topology import check_topology
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Policy, load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, PASS
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import NVIDIA_DEVICE, NVIDIA_RIM, TrustRoot, TrustRoots, load_roots, trust_roots
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError
from ansible_collections.attested.ai.plugins.module_utils.formats.der import parse_certificate, pem_to_der
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.formats.nvidia_opaque import GPU, SWITCH, parse_opaque
from ansible_collections.attested.ai.plugins.module_utils.formats.rim import parse_rim
from ansible_collections.attested.ai.plugins.module_utils.formats.spdm import parse_spdm_report
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia import UNCHECKED, NvidiaClaims, Verification, verify_nvidia
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_chain import build_chain
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_measurements import compare
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_rim import VerifiedRim, verify_rim

AT = datetime(2026, 11, 22, tzinfo=timezone.utc)
VECTORS = Path(os.environ.get("ATTESTED_VECTORS", Path(__file__).resolve().parents[3] / "shared" / "vectors")) / "nvidia"
DEVICE_ROOTS, RIM_ROOTS = trust_roots(kind=NVIDIA_DEVICE), trust_roots(kind=NVIDIA_RIM)
UNIT = "attestation-sdk/unit/"
INVALID = {UNIT + "gpu/hopperAttestationReportInvalidSignature.txt", UNIT + "switch/switchAttestationReportInvalidSignature.txt"}
SWITCH_RIM = "attestation-sdk/rims/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml"
# Reports beside their chains: (report, chain).
PAIRS = (
    (UNIT + "gpu/blackwellAttestationReport.txt", UNIT + "gpu/blackwellCertChain.txt"),
    (UNIT + "gpu/hopperAttestationReport.txt", UNIT + "gpu/hopperCertChain.txt"),
    (UNIT + "gpu/hopperAttestationReportExpired.txt", UNIT + "gpu/hopperCertChainExpired.txt"),
    (UNIT + "gpu/hopperAttestationReportInvalidSignature.txt", UNIT + "gpu/hopperCertChain.txt"),
    (UNIT + "gpu/top_hopperAttestationReport.txt", UNIT + "gpu/top_hopperCertChain.txt"),
    (UNIT + "switch/switchAttestationReport.txt", UNIT + "switch/switchCertChain.txt"),
    (UNIT + "switch/switchAttestationReportInvalidSignature.txt", UNIT + "switch/switchCertChain.txt"),
    (UNIT + "switch/top_switchAttestationReport.txt", UNIT + "switch/top_switchCertChain.txt"),
    ("nvtrust-local-verifier/hopperAttestationReport.txt", "nvtrust-local-verifier/hopperCertChain.txt"),
    ("trustee/hopperAttestationReport.txt", "trustee/hopper_cert_chain_case1.txt"),
    ("trustee/hopper_coco_report1.txt", "trustee/hopper_coco_certs1.txt"),
)


@dataclass(frozen=True)
class Capture:
    name: str
    kind: str
    report: bytes
    pem: bytes
    nonce: bytes | None = None

    def verify(self, *rims: bytes, at: datetime = AT) -> Verification[NvidiaClaims]:
        return verify_nvidia(self.kind, self.report, self.pem, rims, (), DEVICE_ROOTS, RIM_ROOTS, at, UNCHECKED if self.nonce is None else self.nonce)

    def appraise(self, policy: Policy, *rims: bytes, at: datetime = AT) -> ItemResult:
        item = EvidenceItem("nvidia-" + self.kind, "file", self.report, {"certificates": self.pem})
        nonce = UNCHECKED if self.nonce is None else self.nonce
        context = ItemContext(policy, ReferenceValues(()), Endorsements(rims=rims), load_roots(policy), bytes(64), at, expected_device_nonce=nonce)
        return (appraise_switch if self.kind == SWITCH else appraise_gpu)(item, context)


def read(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


def kind_of(name: str) -> str:
    return SWITCH if "switch" in name else GPU


def captures() -> Iterator[Capture]:
    if not VECTORS.is_dir():
        return
    for path in sorted([*VECTORS.glob("attestation-sdk/serialized/*.json"), *VECTORS.glob("nvtrust-ppcie/*.json")]):
        for number, entry in enumerate(json.loads(path.read_text())):
            report, pem = base64.b64decode(entry["evidence"]), base64.b64decode(entry["certificate"])
            yield Capture("%s#%d" % (path.relative_to(VECTORS), number), kind_of(path.name), report, pem, bytes.fromhex(entry["nonce"]))
    for report_name, chain_name in PAIRS:
        yield Capture(report_name, kind_of(report_name), bytes.fromhex(read(report_name).decode().strip()), read(chain_name))


CAPTURES = {capture.name: capture for capture in captures()}
RIMS = sorted(str(path.relative_to(VECTORS)) for path in [*VECTORS.glob("nvtrust-local-verifier/rims/*.swidtag"), *VECTORS.glob("attestation-sdk/rims/*.xml")])
pytestmark = pytest.mark.skipif(not CAPTURES, reason="no test vectors at %s; set ATTESTED_VECTORS" % VECTORS)


def policy_of(**section: object) -> Policy:
    return load_policy({"schema": "attested.ai/policy/1", "id": "conformance", "nvidia": section})


def outcome(found: Verification[NvidiaClaims], check_id: str) -> str:
    return next(check.outcome for check in found.checks if check.id == check_id)


def test_there_are_as_many_captures_as_the_readme_says() -> None:
    assert len(CAPTURES) == 35 and len(RIMS) == 35


@pytest.mark.parametrize("name", CAPTURES)
def test_captures_are_authentic_but_for_the_two_that_shall_not(name: str) -> None:
    """35 of 35 chains, 33 of 35 signatures: the README's 32 takes the last 96 bytes, one capture has a zero byte after them."""
    capture = CAPTURES[name]
    found = capture.verify()
    for check_id in ("format", "device-kind", "chain-length", "root-not-pinned", "chain", "device-profile", "device-expired"):
        assert outcome(found, check_id) == PASS
    assert found.authentic is (name not in INVALID)
    if name in INVALID:
        assert "report-signature" in found.failed and found.evidence_id is None and found.anchor == "none"
    else:
        assert found.anchor == "vendor" and "fwid-mismatch" not in found.failed
        assert capture.nonce is None or outcome(found, "nonce-mismatch") == PASS


def test_the_last_96_bytes_are_not_always_the_signature() -> None:
    capture = CAPTURES["trustee/hopper_coco_report1.txt"]
    assert capture.report.endswith(b"\0") and capture.verify().authentic is True
    shifted = Capture("", GPU, capture.report[:-1], capture.pem)
    assert shifted.verify().evidence_id == capture.verify().evidence_id
    assert Capture("", GPU, capture.report + b"\0", capture.pem).verify().failed == ("format",)


def test_the_forged_hopper_report_is_of_other_firmware_too() -> None:
    assert CAPTURES[UNIT + "gpu/hopperAttestationReportInvalidSignature.txt"].verify().failed[:2] == ("fwid-mismatch", "report-signature")


@pytest.mark.parametrize("name", CAPTURES)
def test_no_gpu_capture_is_accepted_without_its_manifests(name: str) -> None:
    found = CAPTURES[name].appraise(policy_of())
    assert not found.accepted and any(check.id.endswith(("-missing", "-signature")) for check in found.failures)


@pytest.mark.parametrize(("number", "count"), [(2, 1), (3, 4), (4, 4)])
def test_incomplete_chains_are_refused(number: int, count: int) -> None:
    chain = build_chain(read("trustee/hopper_cert_chain_case%d.txt" % number), DEVICE_ROOTS)
    assert not chain.proven and chain.checks["chain-length"].outcome == FAIL
    assert chain.checks["chain-length"].detail.startswith("%d certificates" % count)


def test_the_switch_with_its_manifest_is_accepted() -> None:
    """The one complete positive that is public: everything but revocation, for which no response is."""
    capture = CAPTURES[UNIT + "switch/switchAttestationReport.txt"]
    found = capture.appraise(policy_of(revocation="not_required"), read(SWITCH_RIM))
    assert found.accepted and found.status == ar4si.AFFIRMING and found.anchor == "vendor"
    assert found.claims["measres"] == "success" and found.claims["firmware_version"] == "96.10.55.00.01"
    assert "31 of firmware" in next(check.detail for check in found.checks if check.id == "measurement-mismatch")
    assert found.expires_at == datetime(2027, 11, 2, 23, 59, 59, tzinfo=timezone.utc), "a certificate between signer and root ends first"
    strict = capture.appraise(policy_of(), read(SWITCH_RIM))
    assert [check.id for check in strict.failures] == ["device-revocation-unknown", "firmware-rim-revocation-unknown"] and strict.authentic is True
    late = capture.appraise(policy_of(revocation="not_required"), read(SWITCH_RIM), at=AT + timedelta(days=400))
    assert [check.id for check in late.failures] == ["firmware-rim-expired"]


def test_the_hopper_vbios_is_good_by_its_manifest() -> None:
    """12 of 12 indices; the signer has expired, and no driver manifest is public."""
    capture = CAPTURES[UNIT + "gpu/hopperAttestationReport.txt"]
    rim = read("nvtrust-local-verifier/rims/1010_0200_882_96005E0001_PROD.swidtag")
    found = capture.verify(rim)
    assert found.authentic is True and found.failed == ("driver-rim-missing", "firmware-rim-expired")
    comparison = compare(parse_spdm_report(capture.report), {"firmware": parse_rim(rim)}, None)
    assert comparison.compared == {"firmware": 12} and comparison.mismatches == ()
    assert capture.verify(rim, at=datetime(2025, 6, 1, tzinfo=timezone.utc)).failed == ("driver-rim-missing",)
    allowed = policy_of(
        revocation="not_required", allow_unstated_mode=True,
        allow_expired_rim=[{"rim": "firmware", "version": "96.00.5E.00.01", "reason": "archived evidence"}],
        allow_missing_rim=[{"rim": "driver", "version": "535.86.09", "reason": "not published any more"}],
    )  # fmt: skip
    result = capture.appraise(allowed, rim)
    assert result.accepted and result.status == ar4si.WARNING


@pytest.mark.parametrize(
    ("name", "rim"),
    [
        (UNIT + "gpu/hopperAttestationReportExpired.txt", "1010_0205_862_96005E0004_PROD.swidtag"),
        (UNIT + "gpu/top_hopperAttestationReport.txt", "1010_0205_862_9600740020_PROD.swidtag"),
        ("trustee/hopper_coco_report1.txt", "1010_0200_882_960074001A_PROD.swidtag"),
    ],
)
def test_other_reports_differ_at_index_9_only(name: str, rim: str) -> None:
    found = CAPTURES[name].verify(read("nvtrust-local-verifier/rims/" + rim))
    assert "measurement-mismatch" in found.failed and found.claims is not None
    assert [(one.source, one.index) for one in found.claims.mismatches] == [("firmware", 9)]


def verified(name: str) -> VerifiedRim:
    return verify_rim(read(name), RIM_ROOTS)


@pytest.mark.parametrize("name", [name for name in RIMS if name.endswith(".swidtag")])
def test_published_manifests_are_genuine_and_expired(name: str) -> None:
    found = verified(name)
    assert found.proven and found.path is not None and found.rim is not None
    signer = found.path.certificates[0]
    assert signer.not_after < datetime(2025, 10, 1, tzinfo=timezone.utc) < AT
    assert len(found.rim.active) == (21 if name.endswith("Driver_RIM_test_no_gpu.swidtag") else 12)


def test_the_driver_manifest_in_date() -> None:
    found = verified("attestation-sdk/rims/NV_GPU_DRIVER_GH100_550.144.03.xml")
    assert found.proven and found.path is not None
    assert min(one.not_after for one in found.path.certificates).date().isoformat() == "2026-12-30"


RIM_OFFENCES = {
    "NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml": "signature",
    "NV_GPU_DRIVER_GH100_570.124.03_expired.xml": "signature expired",
    "NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml": "signature expired",
    "NV_SWITCH_BIOS_5612_0002_890_9610550001_measurement_mismatch.xml": "signature expired",
    "NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml": "expired",
    "incorrect_signature_driver_rim.xml": "signature",
    "incorrect_cert_chain_driver_rim.xml": "chain",
}


@pytest.mark.parametrize("name", RIM_OFFENCES)
def test_bad_manifests_are_refused_for_their_reason(name: str) -> None:
    found = verified("attestation-sdk/rims/" + name)
    offences = RIM_OFFENCES[name]
    assert bool(found.signature_offence) == ("signature" in offences)
    assert bool(found.chain_offence) == ("chain" in offences)
    assert found.proven is (offences == "expired") and found.path is not None and not found.format_offence
    assert any(one.not_after < AT for one in found.path.certificates) == ("expired" in offences)


def test_why_bad_manifests_are_bad() -> None:
    driver = verified("attestation-sdk/rims/NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml")
    assert "not the one that was signed" in driver.signature_offence and driver.rim is not None
    report = parse_spdm_report(CAPTURES[UNIT + "gpu/hopperAttestationReport.txt"].report)
    assert len(driver.rim.active) == 22 and len(compare(report, {"driver": driver.rim}, True).mismatches) == 15
    assert "signature is not one of" in verified("attestation-sdk/rims/incorrect_signature_driver_rim.xml").signature_offence
    assert "none of the pinned roots'" in verified("attestation-sdk/rims/incorrect_cert_chain_driver_rim.xml").chain_offence


@pytest.mark.parametrize(
    ("capture", "rim", "failed"),
    [
        (UNIT + "gpu/hopperAttestationReport.txt", "NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml", {"driver-rim-signature", "firmware-rim-missing"}),
        (
            UNIT + "gpu/hopperAttestationReport.txt", "NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml",
            {"driver-rim-missing", "firmware-rim-expired", "measurement-mismatch"},
        ),
        (
            UNIT + "gpu/hopperAttestationReportExpired.txt", "NV_GPU_DRIVER_GH100_570.124.03_expired.xml",
            {"driver-rim-signature", "driver-rim-expired", "firmware-rim-missing"},
        ),
        (
            UNIT + "switch/switchAttestationReport.txt", "NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml",
            {"firmware-rim-signature", "firmware-rim-expired"},
        ),
        (
            UNIT + "switch/switchAttestationReport.txt", "NV_SWITCH_BIOS_5612_0002_890_9610550001_measurement_mismatch.xml",
            {"firmware-rim-signature", "firmware-rim-product", "firmware-rim-expired"},
        ),
    ],
)  # fmt: skip
def test_bad_manifests_refuse_the_devices_they_are_for(capture: str, rim: str, failed: set[str]) -> None:
    found = CAPTURES[capture].verify(read("attestation-sdk/rims/" + rim))
    assert set(found.failed) == failed


def test_a_bad_manifest_beside_the_good_one_does_no_harm() -> None:
    rims = [read(name) for name in RIMS]
    assert CAPTURES[UNIT + "switch/switchAttestationReport.txt"].verify(*rims).failed == ()


def test_the_wrong_root_is_no_root() -> None:
    """It is a signer's certificate: not even a policy can make a root of it, and as one it proves nothing."""
    wrong = read("attestation-sdk/rims/incorrect_rim_root.crt").decode()
    with pytest.raises(EndorsementError, match="is no root"):
        trust_roots((wrong,), True, vendor=False, kind=NVIDIA_RIM)
    roots = TrustRoots((TrustRoot(parse_certificate(pem_to_der(wrong)[0]), "nonvendor", ""),))
    for name in RIMS:
        assert not verify_rim(read(name), roots).proven


@pytest.mark.parametrize("name", ["verifier_device_root.pem", "nvidia_device_root.trustee.pem"])
def test_the_pinned_device_root_is_the_published_one(name: str) -> None:
    assert trust_roots((read("roots/" + name).decode(),), kind=NVIDIA_DEVICE).roots == DEVICE_ROOTS.roots


@pytest.mark.parametrize("name", ["verifier_RIM_root.pem", "nvidia_rim_root.attestation-sdk.crt"])
def test_the_pinned_rim_root_is_the_published_one(name: str) -> None:
    assert trust_roots((read("roots/" + name).decode(),), kind=NVIDIA_RIM).roots == RIM_ROOTS.roots


def test_opaque_data_in_the_new_layout() -> None:
    data = bytes.fromhex(read("attestation-sdk-2.0/sample_nvdaod_opaque_only.hex").decode().strip())
    parsed = parse_opaque(data, GPU)
    assert len(data) == 0x01E3 and parsed.version == (2, 0, 0) and len(parsed.fields) == 17
    assert (parsed.vbios, parsed.driver_version, parsed.chip_sku, parsed.project, parsed.project_sku) == ("96.00.D9.00.0F", "620.12", "884", "G520", "0201")
    assert (parsed.nvdec0, parsed.protected_pcie, parsed.mode, parsed.fsp_svn) == (True, False, "spt", 0)
    assert parsed.fwid is not None and parsed.fwid.hex().startswith("0d7cde10")


def system() -> dict[str, Capture]:
    found = [capture for name, capture in CAPTURES.items() if name.startswith("nvtrust-ppcie")]
    return {"%s%d" % (capture.kind, number): capture for number, capture in enumerate(found)}


def test_the_captured_system_is_one_system() -> None:
    """8 GPUs and 4 switches under one nonce. What the switches call a GPU is what its certificate says: this capture is the proof."""
    items = {name: capture.appraise(policy_of()) for name, capture in system().items()}
    assert len(items) == 12 and all(item.authentic for item in items.values())
    assert {item.claims.get("mode") for name, item in items.items() if name.startswith("gpu")} == {"ppcie"}
    checks = check_topology(items, policy_of())
    assert [check.outcome for check in checks] == [PASS] * 7
    for missing in items:
        rest = {name: item for name, item in items.items() if name != missing}
        assert any(check.outcome == FAIL for check in check_topology(rest, policy_of()))


def test_devices_of_another_system_do_not_fit_in() -> None:
    items = {name: capture.appraise(policy_of()) for name, capture in system().items()}
    stranger = CAPTURES["attestation-sdk/serialized/switch_evidence_ls10.json#0"].appraise(policy_of())
    items["switch11"] = stranger
    failed = {check.id for check in check_topology(items, policy_of()) if check.outcome == FAIL}
    assert {"ppcie-switch-identity", "ppcie-switch-peers"} <= failed


def test_the_claims_agree_with_the_published_parse() -> None:
    published = json.loads(read("attestation-sdk/parsed/switch_spdm_parsed_output.json"))
    assert published
    claims = json.loads(read("trustee/hopperAttestationReport-claims.txt"))
    found = CAPTURES["trustee/hopperAttestationReport.txt"].verify().claims
    assert found is not None and claims["config"]["chip_sku"] == found.opaque.chip_sku
    text = json.dumps(claims).lower()
    for value in found.report.measurements.values():
        assert value.hex() in text
