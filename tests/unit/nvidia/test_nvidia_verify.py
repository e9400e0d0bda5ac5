# SPDX-License-Identifier: GPL-3.0-or-later
"""The verifier: every id of its checks has a case that fails, and only that."""

from __future__ import annotations

import base64
import dataclasses
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from nvidia_lab import (
    AT, DRIVER, DRIVER_INDICES, FIRMWARE_INDICES, GPU_BLOCKS, NONCE, VBIOS, Device, NvidiaLab, composite, der, golden, gpu_fields, issue, measurement,
    spki, tcb_info,
)  # fmt: skip

from ansible_collections.attested.ai.plugins.module_utils.checks import NOT_CHECKED, PASS
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia import GPU, SWITCH, UNCHECKED, NvidiaClaims, Verification, verify_nvidia
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import P384_ORDER

DAY = timedelta(days=1)
BLACKWELL_MODES = ("spt", "mpt")


class Case:
    """A device with everything that is needed to find it good. Change a member, then ask."""

    def __init__(self, lab: NvidiaLab, chip: str = "GH100", **options: object) -> None:
        self.lab = lab
        self.kind = SWITCH if chip == "LS_10" else GPU
        self.device: Device = lab.device(chip)
        self.report = lab.switch_report(self.device) if self.kind == SWITCH else lab.gpu_report(self.device, **options)  # type: ignore[arg-type]
        self.rims = [lab.switch_rim()] if self.kind == SWITCH else lab.gpu_rims(chip)
        self.ocsp = lab.all_ocsp(self.device)
        self.pem = self.device.pem
        self.nonce: object = NONCE
        self.at = AT

    def verify(self, cache: VerificationCache | None = None) -> Verification[NvidiaClaims]:
        return verify_nvidia(
            self.kind, self.report, self.pem, self.rims, self.ocsp, self.lab.roots, self.lab.rim_roots, self.at, self.nonce, cache  # type: ignore[arg-type]
        )  # fmt: skip


@pytest.fixture
def case(lab: NvidiaLab) -> Case:
    return Case(lab)


def outcome(found: Verification[NvidiaClaims], check_id: str) -> str:
    return next(check.outcome for check in found.checks if check.id == check_id)


def detail(found: Verification[NvidiaClaims], check_id: str) -> str:
    return next(check.detail for check in found.checks if check.id == check_id)


@pytest.mark.parametrize("chip", ["GH100", "GB100", "LS_10"])
@pytest.mark.parametrize("versioned", [False, True])
def test_good_devices_are_good(lab: NvidiaLab, chip: str, versioned: bool) -> None:
    found = (Case(lab, chip) if chip == "LS_10" else Case(lab, chip, versioned=versioned)).verify()
    assert found.authentic is True and found.failed == () and found.anchor == "nonvendor"
    assert {check.id for check in found.checks if check.outcome == NOT_CHECKED} <= {"fwid-mismatch"}
    assert found.not_after == AT + timedelta(hours=23), "the responses end first"
    assert found.claims is not None
    said = found.claims.to_dict()
    assert (said["measres"], said["secboot"], said["dbgstat"]) == ("success", True, "disabled")
    assert len({check.id for check in found.checks}) == len(found.checks)


def test_claims_say_what_the_report_says(lab: NvidiaLab) -> None:
    case = Case(lab, "GB100", versioned=True, mode="mpt", f35=b"GB102\0", f37=b"\x07\0", f38=b"\xaa", f33=b"\x07\x07")
    said = case.verify().claims.to_dict()  # type: ignore[union-attr]
    assert (said["architecture"], said["chip"], said["hwmodel"], said["oemid"]) == ("blackwell", "GB100", "GB100 A01 GSP BROM", 5703)
    assert (said["mode"], said["fsp_svn"], said["nvle_status"], said["sys_enable_status"]) == ("mpt", 7, "aa", "0707")
    assert said["pdi"] == case.device.pdi.hex() and said["nonce"] == NONCE.hex()
    assert said["ueid"] == str(case.device.chain[0].certificate.serial_number)
    assert said["rim_ids"] == {"driver": "NV_GPU_CC_DRIVER_GB102_580.95.05", "firmware": "NV_GPU_VBIOS_G520_0200_885_970088000F"}


def test_the_device_is_the_same_under_other_firmware(lab: NvidiaLab, case: Case) -> None:
    first = case.verify()
    other = issue("GH100 A01 GSP FMC LF", case.device.chain[1], ca=False, extensions=((composite(spki(case.device.chain[1].key), bytes(48)), False),))
    case.device = dataclasses.replace(case.device, chain=other.path(), fwid=bytes(48))
    case.pem, case.report = case.device.pem, lab.gpu_report(case.device)
    second = case.verify()
    assert second.authentic is True and first.claims is not None and second.claims is not None
    assert first.claims.device == second.claims.device and first.claims.ueid != second.claims.ueid


@pytest.mark.parametrize("bad", [b"", b"\0" * 100, b"\x11\xe0\x01\xff"])
def test_format(case: Case, bad: bytes) -> None:
    case.report = bad
    found = case.verify()
    assert found.authentic is False and found.failed == ("format",) and found.claims is None and found.evidence_id is None


def test_format_covers_the_opaque_data(lab: NvidiaLab, case: Case) -> None:
    case.report = lab.gpu_report(case.device, fields={**gpu_fields(case.device), 36: b"\x07\0"})
    assert case.verify().failed == ("format",)


def test_device_kind(lab: NvidiaLab) -> None:
    case = Case(lab, "LS_10")
    case.kind = GPU
    assert case.verify().failed == ("format",), "a switch writes its version as text"
    impostor = Case(lab)
    impostor.device = lab.device("LS_10")
    impostor.pem, impostor.report = impostor.device.pem, lab.gpu_report(impostor.device, vbios=VBIOS["GH100"])
    found = impostor.verify()
    assert found.authentic is False and "device-kind" in found.failed


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6])
def test_chain_length(case: Case, count: int) -> None:
    blocks = [block + b"-----END CERTIFICATE-----\n" for block in case.pem.split(b"-----END CERTIFICATE-----\n") if block.strip()]
    case.pem = b"".join((blocks + blocks[-1:])[:count])
    found = case.verify()
    assert found.authentic is False and found.failed[0] == "chain-length" and found.evidence_id is None


@pytest.mark.parametrize("pem", [b"\xff\xfe", b"text", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", bytes(70000)])
def test_a_chain_that_cannot_be_read(case: Case, pem: bytes) -> None:
    case.pem = pem
    assert case.verify().failed[0] == "chain-length"


def test_a_zero_may_end_the_chain(case: Case) -> None:
    case.pem += b"\0"
    assert case.verify().authentic is True


def test_root_not_pinned(lab: NvidiaLab, attacker: NvidiaLab, case: Case) -> None:
    stranger = Case(attacker)
    stranger.lab = lab
    found = stranger.verify()
    assert found.authentic is False and found.failed[0] == "root-not-pinned" and found.anchor == "none"
    case.lab = attacker
    assert "root-not-pinned" in case.verify().failed
    # The genuine root appended to a foreign chain.
    stranger.pem = stranger.pem.replace(pem_of(attacker.device_root), pem_of(lab.device_root))
    found = stranger.verify()
    assert found.authentic is False and found.failed[0] == "chain"


def pem_of(signer: object) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return signer.certificate.public_bytes(Encoding.PEM)  # type: ignore[attr-defined,no-any-return]


def test_the_root_of_manifests_does_not_vouch_for_devices(lab: NvidiaLab, case: Case) -> None:
    found = verify_nvidia(GPU, case.report, case.pem, case.rims, case.ocsp, lab.rim_roots, lab.roots, AT, NONCE)
    assert found.failed[0] == "root-not-pinned" and "driver-rim-chain" in found.failed


def test_chain(lab: NvidiaLab, case: Case) -> None:
    blocks = [pem_of(signer) for signer in case.device.chain]
    case.pem = b"".join([blocks[0], blocks[2], blocks[1], *blocks[3:]])
    assert case.verify().failed[0] == "chain"
    other = lab.device("GH100", 2)
    case.pem = b"".join([pem_of(other.chain[0]), *blocks[1:]])
    assert "chain" in case.verify().failed


def forged(case: Case, place: int, **changes: object) -> None:
    """Rebuild the chain with one certificate changed."""
    old = case.device.chain
    issuer = old[place + 1] if place < 4 else None
    name = old[place].certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    options = {"ca": place > 0, "common_name": name, **changes}
    if place == 1:
        options.setdefault("serial_number", "41" + case.device.pdi.hex().upper())
    if place == 0:
        options.setdefault("extensions", ((composite(spki(old[1].key), case.device.fwid), False),))
    rebuilt = [issue(options.pop("common_name"), issuer, **options)]  # type: ignore[arg-type]
    for below in range(place - 1, -1, -1):
        text = old[below].certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
        serial = "41" + case.device.pdi.hex().upper() if below == 1 else None
        extensions = ((composite(spki(rebuilt[0].key), case.device.fwid), False),) if below == 0 else ()
        rebuilt.insert(0, issue(str(text), rebuilt[0], ca=below > 0, serial_number=serial, extensions=extensions))
    case.device = dataclasses.replace(case.device, chain=rebuilt + old[place + 1:])
    case.pem, case.report = case.device.pem, case.lab.gpu_report(case.device)
    case.ocsp = case.lab.all_ocsp(case.device)


@pytest.mark.parametrize("place", range(4))
def test_a_rebuilt_chain_is_good(case: Case, place: int) -> None:
    forged(case, place)
    assert case.verify().failed == ()


@pytest.mark.parametrize(
    ("place", "changes"),
    [
        (0, {"common_name": "GH200 A01 GSP FMC LF"}),
        (0, {"common_name": "GH100 A01 GSP BROM"}),
        (0, {"common_name": "GB100 A01 GSP FMC LF"}),
        (1, {"common_name": "GH100 A01 GSP FMC LF"}),
        (2, {"common_name": "NVIDIA GB100 Provisioner ICA 1"}),
        (2, {"common_name": "Provisioner"}),
        (0, {"ca": True}),
        (0, {"usage": "sign-certificates"}),
        (0, {"extensions": ((x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING]), False),)}),
        (1, {"ca": False}),
        (1, {"ca": False, "usage": "sign-certificates"}),
        (2, {"usage": "sign-data"}),
        (2, {"path_length": 0}),
        (0, {"extensions": ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\0"), True),)}),
        (0, {"extensions": ((tcb_info(bytes(48)), False), (composite(bytes.fromhex("3000"), bytes(48)), False))}),
        (0, {"extensions": ((composite(bytes.fromhex("3000"), bytes(48)), False),)}),
        (0, {"extensions": ((x509.UnrecognizedExtension(x509.ObjectIdentifier("2.23.133.5.4.1"), b"\x30\x03\x02\x01\x02"), False),)}),
        (0, {"extensions": ((x509.UnrecognizedExtension(x509.ObjectIdentifier("2.23.133.5.4.1.1"), b"\x30\x04\x87\x00\x80\x00"), False),)}),
    ],
)
def test_device_profile(case: Case, place: int, changes: dict[str, object]) -> None:
    forged(case, place, **changes)
    found = case.verify()
    assert found.authentic is False and "device-profile" in found.failed and found.evidence_id is None


def test_two_firmware_ids_are_one_too_many(case: Case) -> None:
    device = case.device.chain[1]
    forged(case, 0, extensions=((composite(spki(device.key), case.device.fwid), False), (tcb_info(case.device.fwid), False)))
    assert case.verify().failed[0] == "device-profile"


def test_a_signature_must_say_what_it_is(case: Case) -> None:
    """The certificate says ECDSA with SHA-256, also where it is signed; the signature is a good one with SHA-384."""
    leaf, device = case.device.chain[:2]
    tbs = leaf.certificate.tbs_certificate_bytes.replace(SHA384_OID, SHA256_OID)
    signature = device.key.sign(tbs, ec.ECDSA(hashes.SHA384()))
    odd = der(0x30, tbs + der(0x30, SHA256_OID) + der(0x03, b"\0" + signature))
    case.pem = case.pem.replace(pem_of(leaf), b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(odd) + b"\n-----END CERTIFICATE-----\n")
    assert case.verify().failed == ("chain",)


SHA384_OID, SHA256_OID = bytes.fromhex("06082a8648ce3d040303"), bytes.fromhex("06082a8648ce3d040302")


def test_our_own_copy_of_the_root_counts(lab: NvidiaLab, case: Case) -> None:
    """The same key in another certificate: it finds the root, and then nothing of it is read."""
    twin = issue("Whatever", None, ca=False, signing_key=lab.device_root.key, not_after=AT - DAY)
    case.pem = case.pem.replace(pem_of(lab.device_root), pem_of(twin))
    assert case.verify().failed == ()


@pytest.mark.parametrize(("place", "changes"), [(0, {"not_after": AT - DAY}), (1, {"not_before": AT + DAY}), (3, {"not_after": AT - DAY})])
def test_device_expired(case: Case, place: int, changes: dict[str, datetime]) -> None:
    forged(case, place, **changes)
    found = case.verify()
    assert found.authentic is False and found.failed == ("device-expired",)


@pytest.mark.parametrize("chip", ["GH100", "GB100"])
def test_fwid_mismatch(lab: NvidiaLab, chip: str) -> None:
    case = Case(lab, chip)
    case.report = lab.gpu_report(case.device, f20=bytes(48))
    found = case.verify()
    assert found.authentic is False and found.failed == ("fwid-mismatch",)
    case.report = lab.gpu_report(case.device, fields={number: value for number, value in gpu_fields(case.device).items() if number != 20})
    assert case.verify().authentic is True and outcome(case.verify(), "fwid-mismatch") == NOT_CHECKED


def test_a_certificate_without_firmware_id_does_not_match_one(case: Case) -> None:
    forged(case, 0, extensions=())
    assert case.verify().failed == ("fwid-mismatch",)


@pytest.mark.parametrize(
    ("flags", "words"), [(0x90000001, "debug"), (0xA0000001, "recovery"), (0xC0000001, "notSecure"), (0xF0000001, "notSecure, recovery, debug")]
)
def test_debug_state(lab: NvidiaLab, flags: int, words: str) -> None:
    case = Case(lab, "GB100")
    case.device = lab.device("GB100", flags=flags)
    case.pem, case.report, case.ocsp = case.device.pem, lab.gpu_report(case.device), lab.all_ocsp(case.device)
    found = case.verify()
    assert found.failed == ("debug-state",) and detail(found, "debug-state").endswith(words)
    assert outcome(found, "secure-boot") == NOT_CHECKED and found.claims is not None and found.claims.secure_boot is None


def test_report_signature(lab: NvidiaLab, case: Case) -> None:
    genuine = case.report
    case.report = genuine[:-1] + bytes([genuine[-1] ^ 1])
    found = case.verify()
    assert found.authentic is False and found.failed == ("report-signature",) and found.evidence_id is None and found.anchor == "none"
    assert outcome(found, "measurement-mismatch") == outcome(found, "secure-boot") == NOT_CHECKED
    case.report = genuine[:-96] + bytes(96)
    assert case.verify().failed == ("report-signature",)
    case.report = lab.gpu_report(dataclasses.replace(case.device, chain=lab.device("GH100", 2).chain))
    assert "report-signature" in case.verify().failed


def test_the_other_valid_signature_is_the_same_evidence(case: Case) -> None:
    first = case.verify()
    s = P384_ORDER - int.from_bytes(case.report[-48:], "big")
    case.report = case.report[:-48] + s.to_bytes(48, "big")
    second = case.verify()
    assert second.authentic is True and first.evidence_id is not None and first.evidence_id == second.evidence_id
    case.report += b"\0"
    assert case.verify().evidence_id == first.evidence_id


def test_nonce_mismatch(case: Case) -> None:
    case.nonce = bytes(32)
    found = case.verify()
    assert found.authentic is True and found.failed == ("nonce-mismatch",)
    case.nonce = UNCHECKED
    assert outcome(case.verify(), "nonce-mismatch") == NOT_CHECKED


@pytest.mark.parametrize("changes", [{"kind": "dpu"}, {"at": datetime(2026, 11, 22)}, {"at": "now"}, {"nonce": b"short"}, {"nonce": None}, {"nonce": "0" * 32}])
def test_wrong_calls_are_errors(case: Case, changes: dict[str, object]) -> None:
    for key, value in changes.items():
        setattr(case, key, value)
    with pytest.raises(AttestedError) as caught:
        case.verify()
    assert caught.value.code == "argument"


@pytest.mark.parametrize("place", [1, 2, 3])
def test_device_revoked(lab: NvidiaLab, case: Case, place: int) -> None:
    case.ocsp.append(lab.ocsp(case.device.chain[place], status="revoked", reason=x509.ReasonFlags.key_compromise))
    found = case.verify()
    assert found.authentic is False and found.failed == ("device-revoked",)


def test_device_on_hold(lab: NvidiaLab, case: Case) -> None:
    case.ocsp[0] = lab.ocsp(case.device.chain[1], status="revoked", reason=x509.ReasonFlags.certificate_hold)
    found = case.verify()
    assert found.authentic is True and found.failed == ("device-on-hold",)
    assert found.claims is not None and len(found.claims.held) == 1


def test_device_revocation_unknown(lab: NvidiaLab, case: Case) -> None:
    for ocsp in ([], case.ocsp[1:], [lab.ocsp(case.device.chain[1], until=AT - timedelta(minutes=1)), *case.ocsp[1:]]):
        case.ocsp = ocsp
        found = case.verify()
        assert found.authentic is True and found.failed == ()
        assert [outcome(found, "device-" + name) for name in ("revoked", "on-hold", "revocation-unknown")] == [NOT_CHECKED] * 3


@pytest.mark.parametrize(("source", "place"), [("driver", 0), ("firmware", 1)])
def test_rim_missing(case: Case, source: str, place: int) -> None:
    del case.rims[place]
    found = case.verify()
    assert found.authentic is True and found.failed == (source + "-rim-missing",)
    assert outcome(found, "measurement-mismatch") == outcome(found, "secure-boot") == outcome(found, "rim-index-conflict") == NOT_CHECKED
    assert found.claims is not None and found.claims.to_dict()["measres"] is None


def test_a_report_that_names_no_version_has_no_manifest(lab: NvidiaLab, case: Case) -> None:
    case.report = lab.gpu_report(case.device, fields={number: value for number, value in gpu_fields(case.device).items() if number not in (3, 6)})
    assert case.verify().failed == ("driver-rim-missing", "firmware-rim-missing")


def test_rim_format(case: Case) -> None:
    case.rims[0] = case.rims[0].replace(b"<ns0:Payload>", b"<ns0:Payload><!-- -->")
    assert case.verify().failed == ("driver-rim-format",)


def test_rim_signature(case: Case) -> None:
    case.rims[1] = case.rims[1].replace(b'revision="r1"', b'revision="r2"')
    found = case.verify()
    assert found.failed == ("firmware-rim-signature",) and outcome(found, "measurement-mismatch") == NOT_CHECKED


def test_rim_chain(case: Case, attacker: NvidiaLab) -> None:
    case.rims[0] = attacker.gpu_rims()[0]
    assert case.verify().failed == ("driver-rim-chain",)


def test_rim_product(lab: NvidiaLab, case: Case) -> None:
    """The service answers with a validly signed manifest of another product if it is asked for the wrong one."""
    case.rims[0] = lab.rim(product="GB100")
    assert case.verify().failed == ("driver-rim-product",)
    case.rims[0] = lab.rim(edition="SWITCH")
    assert case.verify().failed == ("driver-rim-product",)


def test_a_blackwell_variant_has_manifests_of_its_own(lab: NvidiaLab) -> None:
    case = Case(lab, "GB100", f35=b"GB102\0")
    case.rims[0] = lab.rim(product="GB102")
    assert case.verify().failed == ()
    hopper = Case(lab, "GH100", f35=b"GB102\0")
    hopper.rims[0] = lab.rim(product="GB102")
    assert hopper.verify().failed == ("driver-rim-product",), "a Hopper does not become one by saying so"


def test_rim_expired(lab: NvidiaLab, case: Case) -> None:
    signer = lab.new_rim_signer(not_after=AT - DAY)
    case.rims[0] = lab.rim(signer)
    case.ocsp += [lab.ocsp(signer)]
    found = case.verify()
    assert found.failed == ("driver-rim-expired",) and outcome(found, "measurement-mismatch") == PASS
    case.at = AT - 2 * DAY
    case.ocsp = []
    assert case.verify().failed == ()


def test_rim_records(lab: NvidiaLab, case: Case) -> None:
    case.rims[0] = lab.rim(extra='<ns0:Resource type="Other" active="True"/>')
    assert case.verify().failed == ("driver-rim-records",)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_rim_revoked(lab: NvidiaLab, case: Case, place: int) -> None:
    case.ocsp.append(lab.ocsp(lab.rim_signer.path()[place], status="revoked"))
    found = case.verify()
    assert found.authentic is True, "the device is what it was"
    assert found.failed == ("driver-rim-revoked", "firmware-rim-revoked")


def test_rim_on_hold_and_unknown(lab: NvidiaLab, case: Case) -> None:
    case.ocsp = case.ocsp[:3] + [lab.ocsp(lab.rim_signer, status="revoked", reason=x509.ReasonFlags.certificate_hold)]
    found = case.verify()
    assert found.failed == ("driver-rim-on-hold", "firmware-rim-on-hold")
    assert outcome(found, "driver-rim-revocation-unknown") == NOT_CHECKED


def test_rim_index_conflict(lab: NvidiaLab, case: Case) -> None:
    case.rims[1] = lab.rim(version=VBIOS["GH100"], active=golden((*FIRMWARE_INDICES, DRIVER_INDICES[0])))
    found = case.verify()
    assert found.failed == ("rim-index-conflict",) and outcome(found, "secure-boot") == NOT_CHECKED


def test_measurement_mismatch(lab: NvidiaLab, case: Case) -> None:
    case.report = lab.gpu_report(case.device, blocks={**GPU_BLOCKS, 10: bytes(48)})
    found = case.verify()
    assert found.authentic is True and found.failed == ("measurement-mismatch",)
    words = "index 9 (firmware 96.00.9F.00.01) is 0000000000000000..., the manifest says %s" % measurement(10).hex()[:16]
    assert words in detail(found, "measurement-mismatch")
    assert found.claims is not None
    assert [(one.source, one.index, one.seen) for one in found.claims.mismatches] == [("firmware", 9, bytes(48))]
    assert found.claims.to_dict()["measres"] == "fail"


@pytest.mark.parametrize("index", [*DRIVER_INDICES, *FIRMWARE_INDICES])
def test_every_active_index_is_compared(lab: NvidiaLab, case: Case, index: int) -> None:
    case.report = lab.gpu_report(case.device, nvdec0=True, blocks={**GPU_BLOCKS, index + 1: bytes(48)})
    assert case.verify().failed == ("measurement-mismatch",)


def test_the_index_of_a_manifest_is_one_less_than_the_block(lab: NvidiaLab, case: Case) -> None:
    """Index 11 is good for block 12; a reader that takes block 11 would see a mismatch, and would miss this one."""
    case.report = lab.gpu_report(case.device, blocks={**GPU_BLOCKS, 12: bytes(48)})
    assert [one.index for one in case.verify().claims.mismatches] == [11]  # type: ignore[union-attr]


def test_a_missing_block_is_a_mismatch(lab: NvidiaLab, case: Case) -> None:
    case.report = lab.gpu_report(case.device, blocks={index: value for index, value in GPU_BLOCKS.items() if index != 1})
    found = case.verify()
    assert found.failed == ("measurement-mismatch",) and "missing" in detail(found, "measurement-mismatch")


def test_one_of_several_good_values_is_enough(lab: NvidiaLab, case: Case) -> None:
    case.rims[1] = lab.rim(version=VBIOS["GH100"], active=golden(FIRMWARE_INDICES, {12: [bytes(48), measurement(13)]}))
    assert case.verify().failed == ()


@pytest.mark.parametrize(("state", "failed"), [(b"\x55", ()), (b"\xaa", ("measurement-mismatch",)), (None, ("measurement-mismatch",))])
def test_index_35_applies_unless_nvdec0_is_off(lab: NvidiaLab, case: Case, state: bytes | None, failed: tuple[str, ...]) -> None:
    fields = gpu_fields(case.device)
    fields.pop(11)
    if state is not None:
        fields[11] = state
    case.report = lab.gpu_report(case.device, fields=fields, blocks={**GPU_BLOCKS, 36: bytes(48)})
    found = case.verify()
    assert found.failed == failed
    if not failed:
        assert "index 35 does not apply" in detail(found, "measurement-mismatch")


def test_boards_that_share_a_version_are_told_apart_by_the_report(lab: NvidiaLab, case: Case) -> None:
    other = lab.rim(version=VBIOS["GH100"], active=golden(FIRMWARE_INDICES, {9: [bytes(48)]}))
    for rims in ([other, *case.rims], [*case.rims, other]):
        case.rims = rims
        assert case.verify().failed == ()
    case.rims = [case.rims[-3] if case.rims[-1] is other else case.rims[1], other]
    assert "measurement-mismatch" in case.verify().failed


def test_a_fleet_pays_once(lab: NvidiaLab, case: Case) -> None:
    cache = VerificationCache()
    first = case.verify(cache)
    stored = cache.counters()["stored"]
    assert case.verify(cache) == first and cache.counters()["stored"] == stored
    assert case.verify() == first
    other = Case(lab)
    other.rims = case.rims
    other.verify(cache)
    assert [sum(key[0] == kind for key in cache._entries) for kind in ("nvidia-rim", "nvidia-chain")] == [2, 2]
    # Everything is there already if the same responses come with another report of the same devices.
    other.ocsp, case.ocsp = [*other.ocsp, *case.ocsp], [*other.ocsp, *case.ocsp]
    other.verify(cache), case.verify(cache)
    stored = cache.counters()["stored"]
    other.verify(cache), case.verify(cache)
    assert cache.counters()["stored"] == stored


def test_a_cache_keeps_no_failure_and_no_time(case: Case, attacker: NvidiaLab) -> None:
    cache = VerificationCache()
    assert case.verify(cache).failed == ()
    case.at = AT + 400 * DAY
    assert "driver-rim-expired" in case.verify(cache).failed
    case.at, case.lab = AT, attacker
    assert case.verify(cache).failed[0] == "root-not-pinned"


def test_driver_version_is_the_one_of_the_manifest(lab: NvidiaLab, case: Case) -> None:
    assert DRIVER == "580.95.05"
    case.report = lab.gpu_report(case.device, driver="580.95.06")
    assert case.verify().failed == ("driver-rim-missing",)
