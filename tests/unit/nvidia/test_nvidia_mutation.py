# SPDX-License-Identifier: GPL-3.0-or-later
"""Change every byte of genuine evidence, one at a time: nothing may be accepted but what the tests name.

Reports: none. The optional zero after a signature is the only byte that may come or go. Leaf certificates: none. Other
certificates of a chain: none but in the root, which is only looked up by its key; of it every byte outside of the key may change as
long as it is a certificate. The same goes for the root in a manifest.
"""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nvidia_lab import AT, NONCE, NvidiaLab

from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import NVIDIA_DEVICE, NVIDIA_RIM, trust_roots
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats.der import parse_certificate, pem_to_der
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia import UNCHECKED, NvidiaClaims, Verification, verify_nvidia
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_chain import build_chain
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_rim import verify_rim

pytestmark = pytest.mark.costly
UNIT = "attestation-sdk/unit/"
GENUINE = {
    "hopper": ("gpu", UNIT + "gpu/top_hopperAttestationReport.txt", UNIT + "gpu/top_hopperCertChain.txt"),
    "blackwell": ("gpu", UNIT + "gpu/blackwellAttestationReport.txt", UNIT + "gpu/blackwellCertChain.txt"),
    "switch": ("switch", UNIT + "switch/switchAttestationReport.txt", UNIT + "switch/switchCertChain.txt"),
}
ROOTS, RIM_ROOTS = trust_roots(kind=NVIDIA_DEVICE), trust_roots(kind=NVIDIA_RIM)


@pytest.fixture(params=GENUINE)
def genuine(request: pytest.FixtureRequest, captures: Path) -> tuple[str, bytes, bytes]:
    kind, report, chain = GENUINE[request.param]
    return kind, bytes.fromhex((captures / report).read_text().strip()), (captures / chain).read_bytes()


def verify(kind: str, report: bytes, pem: bytes, cache: VerificationCache | None = None) -> Verification[NvidiaClaims]:
    return verify_nvidia(kind, report, pem, (), (), ROOTS, RIM_ROOTS, AT, UNCHECKED, cache)


def changed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1:]


def encode(*certificates: bytes) -> bytes:
    return b"".join(b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(one) + b"\n-----END CERTIFICATE-----\n" for one in certificates)


def test_every_byte_of_a_report_counts(genuine: tuple[str, bytes, bytes]) -> None:
    kind, report, pem = genuine
    cache = VerificationCache()
    assert verify(kind, report, pem, cache).authentic is True
    accepted = [place for place in range(len(report)) if verify(kind, changed(report, place), pem, cache).authentic is not False]
    assert accepted == []


def test_every_byte_of_a_leaf_counts(genuine: tuple[str, bytes, bytes]) -> None:
    kind, report, pem = genuine
    leaf, *others = pem_to_der(pem.decode())
    assert verify(kind, report, encode(leaf, *others)).authentic is True
    accepted = []
    for place in range(len(leaf)):
        chain = build_chain(encode(changed(leaf, place), *others), ROOTS)
        if chain.proven or all(check.outcome != FAIL for check in chain.checks.values()):
            accepted.append(place)
    assert accepted == []


def test_of_other_certificates_only_the_rest_of_the_root_is_free(genuine: tuple[str, bytes, bytes]) -> None:
    certificates = pem_to_der(genuine[2].decode())
    root = parse_certificate(certificates[-1])
    key_at = root.der.index(root.spki)
    for number in range(1, len(certificates)):
        for place in range(0, len(certificates[number]), 1 if number == len(certificates) - 1 else 5):
            mutated = [*certificates[:number], changed(certificates[number], place), *certificates[number + 1:]]
            if build_chain(encode(*mutated), ROOTS).proven:
                assert number == len(certificates) - 1 and not key_at <= place < key_at + len(root.spki), (number, place)


def test_every_byte_of_the_pem_text_is_read(genuine: tuple[str, bytes, bytes]) -> None:
    """Other spellings of the same certificates may stay: space, and case of nothing."""
    pem = genuine[2]
    expected = pem_to_der(pem.decode())
    for place in range(0, len(pem), 3):
        mutated = changed(pem, place)
        if build_chain(mutated, ROOTS).proven:
            assert pem_to_der(mutated.rstrip(b"\0").decode("ascii"))[:4] == expected[:4], place


def test_of_a_manifest_only_the_rest_of_its_root_is_free(captures: Path) -> None:
    """A stride over the positions, to be quick; all of them were tried, and gave the same."""
    rim = (captures / "attestation-sdk/rims/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml").read_bytes()
    assert verify_rim(rim, RIM_ROOTS).proven
    root_at = rim.rindex(b"<ds:X509Certificate>")
    accepted = [place for place in range(0, len(rim), 11) if verify_rim(changed(rim, place), RIM_ROOTS).proven]
    assert all(place > root_at for place in accepted)


@settings(max_examples=150)
@given(st.data())
def test_several_changes_are_no_better(lab: NvidiaLab, data: st.DataObject) -> None:
    if not _SOFT:
        device = lab.device("GB100")
        _SOFT.extend((lab.gpu_report(device, versioned=True), device.pem, *lab.gpu_rims("GB100")))
    report = bytearray(_SOFT[0])
    for _change in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(report) - 1))
        if data.draw(st.booleans()):
            report[place] = data.draw(st.integers(0, 255))
        else:
            del report[place:place + data.draw(st.integers(1, 8))]
        if not report:
            break
    try:
        found = verify_nvidia("gpu", bytes(report), _SOFT[1], _SOFT[2:], (), lab.roots, lab.rim_roots, AT, NONCE)
    except AttestedError as error:
        raise AssertionError("bad evidence raised") from error
    assert found.authentic is not True or bytes(report) in (_SOFT[0], _SOFT[0] + b"\0")


_SOFT: list[bytes] = []
