# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's CPU, its GPUs and its switches in one document, judged as one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from nvidia_lab import AT, Device, NvidiaLab

from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import appraise
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import Result
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import (
    Binding, EvidenceDocument, EvidenceItem, additional_evidence, device_nonce, report_data,
)  # fmt: skip
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_certtable import CertificateTable, build_certtable
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools" / "softtee"))

from softtee.snp_authority import SnpAuthority  # noqa: E402
from softtee.snp_report import build_report, sign_report  # noqa: E402

PROFILE = "attested/1"
NONCE = bytes(range(32))
MEASUREMENT = b"\xab" * 48
REFERENCES = load_reference_values({
    "schema": "attested.ai/reference-values/1",
    "values": [{
        "tee": "sev-snp", "measurement": MEASUREMENT.hex(), "covers": "service", "image": "inference", "source": "own build",
        "not_after": "2027-01-31T00:00:00Z",
    }],
})  # fmt: skip


class Guest:
    """One guest on a soft machine. ``devices`` are (Device, report); ``document`` collects the CPU's evidence last."""

    def __init__(self, lab: NvidiaLab, authority: SnpAuthority) -> None:
        self.lab, self.authority = lab, authority
        self.key, self.vcek = authority.vcek("genoa", not_before=datetime(2026, 1, 1, tzinfo=timezone.utc))
        self.device_nonce = device_nonce(PROFILE, NONCE, Binding())

    def items(self, devices: Sequence[tuple[Device, bytes]]) -> list[EvidenceItem]:
        found = []
        for device, report in devices:
            kind, provider = ("nvidia-switch", "ls10") if device.chip == "LS_10" else ("nvidia-gpu", "hopper" if device.chip == "GH100" else "blackwell")
            found.append(EvidenceItem(kind, provider, report, {"certificates": device.pem}))
        return found

    def document(self, devices: Sequence[EvidenceItem], covered: Sequence[EvidenceItem] | None = None) -> EvidenceDocument:
        data = report_data(PROFILE, NONCE, Binding(), additional_evidence(PROFILE, devices if covered is None else covered))
        report = build_report("genoa", signing_key="vcek", measurement=MEASUREMENT, report_data=data)
        sign_report(report, self.key)
        table = build_certtable(CertificateTable((("vcek", self.vcek), ("ask", self.authority.intermediate_der("genoa", "vcek")))))
        cpu = EvidenceItem("sev-snp", "sev_guest", bytes(report), {"certificates": table})
        return EvidenceDocument(PROFILE, NONCE, Binding(), (cpu, *devices), {})

    def judge(self, document: EvidenceDocument, require: dict[str, int], **section: Any) -> Result:
        policy = load_policy({
            "schema": "attested.ai/policy/1", "id": "system", "allow_nonvendor_roots": True, "roots": [self.authority.ark_pem("genoa"), *self.lab.pem],
            "require": require, "nvidia": {"revocation": "not_required", **section},
        })  # fmt: skip
        rims = (*self.lab.gpu_rims(), *self.lab.gpu_rims("GB100"), self.lab.switch_rim())
        return appraise(
            document, policy=policy, reference_values=REFERENCES, endorsements=Endorsements(rims=rims), expected_nonce=NONCE, at=AT, connection=None,
            cache=VerificationCache(),
        )  # fmt: skip


@pytest.fixture(scope="module")
def guest(lab: NvidiaLab) -> Guest:
    return Guest(lab, SnpAuthority.create(None, products=("genoa",), rsa_bits=2048))


@pytest.fixture(scope="module")
def system(guest: Guest) -> list[EvidenceItem]:
    gpus, switches = guest.lab.system(nonce=guest.device_nonce)
    return guest.items([*gpus, *switches])


WHOLE = {"cpu": 1, "gpu": 8, "switch": 4}


def reasons(found: Result) -> set[str]:
    return {check.id for check in found.reasons}


def test_a_whole_system_is_accepted(guest: Guest, system: list[EvidenceItem]) -> None:
    found = guest.judge(guest.document(system), WHOLE)
    assert found.accepted and reasons(found) == set() and found.status == "affirming"
    assert list(found.items) == ["cpu0", *("gpu%d" % number for number in range(8)), *("switch%d" % number for number in range(4))]
    assert {check.id for check in found.checks} >= {"device-binding", "duplicate-device", "ppcie-members", "ppcie-gpu-identity"}


@pytest.mark.parametrize(("chip", "mode"), [("GH100", "spt"), ("GB100", "spt"), ("GB100", "mpt")])
def test_gpus_without_switches_are_accepted_in_their_modes(guest: Guest, chip: str, mode: str) -> None:
    devices = [guest.lab.device(chip, number) for number in range(2 if mode == "mpt" else 1)]
    items = guest.items([(device, guest.lab.gpu_report(device, mode=mode, nonce=guest.device_nonce, versioned=True)) for device in devices])
    assert guest.judge(guest.document(items), {"cpu": 1, "gpu": len(devices)}).accepted


def test_the_cpu_alone_is_refused_for_a_gpu_workload(guest: Guest) -> None:
    assert reasons(guest.judge(guest.document([]), {"cpu": 1, "gpu": 1})) == {"required-evidence"}


@pytest.mark.parametrize("left_out", [0, 11])
def test_a_system_that_is_not_whole_is_refused(guest: Guest, system: list[EvidenceItem], left_out: int) -> None:
    rest = [item for number, item in enumerate(system) if number != left_out]
    found = reasons(guest.judge(guest.document(rest), {"cpu": 1, "gpu": 1}))
    assert "ppcie-members" in found


def test_a_device_that_the_cpu_does_not_cover_is_refused(guest: Guest, system: list[EvidenceItem]) -> None:
    found = guest.judge(guest.document(system, covered=system[:-1]), WHOLE)
    assert reasons(found) >= {"report-data-mismatch", "device-binding"}


def test_a_gpu_of_another_system_is_refused(guest: Guest, system: list[EvidenceItem]) -> None:
    """Relayed: the same nonce, the same switches named, another GPU."""
    fabric = [guest.lab.device("LS_10", number).pdi for number in range(4)]
    stranger = guest.lab.device("GH100", 99)
    (item,) = guest.items([(stranger, guest.lab.gpu_report(stranger, mode="ppcie", switches=fabric, nonce=guest.device_nonce))])
    assert reasons(guest.judge(guest.document([item, *system[1:]]), WHOLE)) == {"ppcie-gpu-identity"}


def test_a_gpu_that_stands_twice_is_refused(guest: Guest, system: list[EvidenceItem]) -> None:
    assert reasons(guest.judge(guest.document([system[0], system[0], *system[2:]]), WHOLE)) == {"duplicate-device", "ppcie-gpu-identity"}


def test_devices_answer_the_nonce_of_devices(guest: Guest) -> None:
    device = guest.lab.device()
    for nonce in (NONCE, bytes(32)):
        items = guest.items([(device, guest.lab.gpu_report(device, nonce=nonce))])
        assert reasons(guest.judge(guest.document(items), {"cpu": 1, "gpu": 1})) == {"nonce-mismatch"}


def test_mixed_modes_are_refused(guest: Guest) -> None:
    devices = [guest.lab.device("GB100", number) for number in range(2)]
    items = guest.items([(one, guest.lab.gpu_report(one, mode=mode, nonce=guest.device_nonce)) for one, mode in zip(devices, ("spt", "mpt"))])
    assert reasons(guest.judge(guest.document(items), {"cpu": 1, "gpu": 2})) == {"gpu-mode-mixed"}
