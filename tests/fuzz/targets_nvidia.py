# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's evidence: SPDM reports, opaque data, manifests, OCSP responses, device chains, and the verifier over all of it."""

from __future__ import annotations

import base64
import functools
import json
import os
import sys
from datetime import datetime, timezone
from pathlib import Path

from harness import Target

# The soft authority makes what no public capture has: responses, and manifests of any kind.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "nvidia"))

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import NVIDIA_DEVICE, NVIDIA_RIM, trust_roots  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.formats import nvidia_opaque, ocsp, rim, spdm  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.formats.der import parse_certificate, pem_to_der  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia import UNCHECKED, verify_nvidia  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_chain import build_chain  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_ocsp import certificate_status  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_rim import verify_rim  # noqa: E402

AT = datetime(2026, 11, 22, tzinfo=timezone.utc)
CACHE = VerificationCache()


def vectors() -> Path:
    default = Path(__file__).resolve().parents[3] / "shared" / "vectors"
    return Path(os.environ.get("ATTESTED_VECTORS", default)) / "nvidia"


@functools.lru_cache(maxsize=None)
def captured() -> list[tuple[bytes, bytes]]:
    """(report, PEM chain): a Hopper in PPCIE mode, a switch, a Blackwell, a Hopper with an old report."""
    found = []
    for name in ("nvtrust-ppcie/gpu_evidence.json", "nvtrust-ppcie/switch_evidence.json"):
        entry = json.loads((vectors() / name).read_text(encoding="utf-8"))[0]
        found.append((base64.b64decode(entry["evidence"]), base64.b64decode(entry["certificate"])))
    for report, chain in (("blackwellAttestationReport", "blackwellCertChain"), ("hopperAttestationReport", "hopperCertChain")):
        folder = vectors() / "attestation-sdk" / "unit" / "gpu"
        found.append((bytes.fromhex((folder / (report + ".txt")).read_text().strip()), (folder / (chain + ".txt")).read_bytes()))
    return found


def reports() -> list[bytes]:
    return [report for report, _chain in captured()]


def chains() -> list[bytes]:
    return [chain for _report, chain in captured()]


def opaque() -> list[bytes]:
    sample = (vectors() / "attestation-sdk-2.0" / "sample_nvdaod_opaque_only.hex").read_text().strip()
    return [spdm.parse_spdm_report(report).opaque for report in reports()] + [bytes.fromhex(sample)]


@functools.lru_cache(maxsize=None)
def rims() -> list[bytes]:
    folder = vectors() / "attestation-sdk" / "rims"
    names = ("switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml", "NV_GPU_DRIVER_GH100_550.144.03.xml", "incorrect_cert_chain_driver_rim.xml")
    return [(folder / name).read_bytes() for name in names]


@functools.lru_cache(maxsize=None)
def soft():
    from nvidia_lab import NvidiaLab

    lab = NvidiaLab()
    return lab, lab.device()


def responses() -> list[bytes]:
    lab, device = soft()
    return [lab.ocsp(device.chain[1]), lab.ocsp(device.chain[1], delegated=False, nonce=bytes(16)), lab.ocsp(device.chain[1], status="revoked")]


def run_opaque(data: bytes) -> None:
    for kind in (nvidia_opaque.GPU, nvidia_opaque.SWITCH):
        try:
            nvidia_opaque.parse_opaque(data, kind).to_dict()
        except FormatError:
            pass


def leaves() -> list[bytes]:
    return [pem_to_der(chain.decode())[0] for chain in chains()]


def run_leaf(data: bytes) -> None:
    """The leaf is fuzzed below the base64, under the rest of a genuine chain."""
    for chain in chains()[:3]:
        blocks = [data, *pem_to_der(chain.decode())[1:]]
        pem = b"".join(b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(one) + b"\n-----END CERTIFICATE-----\n" for one in blocks)
        if build_chain(pem, trust_roots(kind=NVIDIA_DEVICE)).proven and data not in leaves():
            raise ValueError("a changed leaf was accepted")


def run_response(data: bytes) -> None:
    _lab, device = soft()
    certificate, issuer = parse_certificate(device.chain[1].der), parse_certificate(device.chain[2].der)
    certificate_status(certificate, issuer, (data,), AT)
    ocsp.parse_ocsp(data)


def run_verify(data: bytes) -> None:
    """The report is fuzzed, everything else is genuine."""
    for kind, chain in (("gpu", captured()[0][1]), ("switch", captured()[1][1]), ("gpu", captured()[2][1])):
        found = verify_nvidia(kind, data, chain, rims(), (), trust_roots(kind=NVIDIA_DEVICE), trust_roots(kind=NVIDIA_RIM), AT, UNCHECKED, CACHE)
        if found.claims is not None:
            found.claims.to_dict()
        if found.authentic is True and found.evidence_id not in genuine():
            raise ValueError("a changed report was accepted")


@functools.lru_cache(maxsize=None)
def genuine() -> frozenset[str | None]:
    roots = trust_roots(kind=NVIDIA_DEVICE), trust_roots(kind=NVIDIA_RIM)
    kinds = ("gpu", "switch", "gpu", "gpu")
    return frozenset(verify_nvidia(kind, report, chain, (), (), *roots, AT, UNCHECKED).evidence_id for kind, (report, chain) in zip(kinds, captured()))


TARGETS = {
    "nvidia-spdm": Target(reports, lambda data: spdm.parse_spdm_report(data).to_dict()),
    "nvidia-opaque": Target(opaque, run_opaque),
    "nvidia-rim": Target(rims, rim.parse_rim),
    "nvidia-rim-verify": Target(rims, lambda data: verify_rim(data, trust_roots(kind=NVIDIA_RIM))),
    "nvidia-ocsp": Target(responses, run_response),
    "nvidia-chain": Target(chains, lambda data: build_chain(data, trust_roots(kind=NVIDIA_DEVICE))),
    "nvidia-leaf": Target(leaves, run_leaf),
    "nvidia-verify": Target(reports, run_verify),
}
