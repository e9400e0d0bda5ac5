# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast evidence of NVIDIA devices is verified, against bare ECDSA P-384 verification in the same run.

Run it from any directory, with the collection on the path:
    PYTHONPATH=<collections> python bench/verify_nvidia.py --vectors <vectors> --json result.json
Cold: no cache, every call parses and proves the chain of five certificates and the manifests; the authorities above a device were proven
once in this process. Warm: a cache of proven chains and
manifests, as for the next report of the same device; the report is always verified, its measurements always compared.
Fleet: 1,000 reports of 12 devices in turn, in one process, with one cache that begins empty.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import resource
import statistics
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import cryptography
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import NVIDIA_DEVICE, NVIDIA_RIM, trust_roots
from ansible_collections.attested.ai.plugins.module_utils.formats.der import parse_certificate, pem_to_der
from ansible_collections.attested.ai.plugins.module_utils.formats.spdm import parse_spdm_report
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia import UNCHECKED, verify_nvidia

AT = datetime(2026, 11, 22, tzinfo=timezone.utc)
UNIT = "attestation-sdk/unit/"
RIMS = "nvtrust-local-verifier/rims/"
# (name, kind, report, chain, manifests)
CASES = (
    ("hopper", "gpu", UNIT + "gpu/hopperAttestationReport.txt", UNIT + "gpu/hopperCertChain.txt", (RIMS + "1010_0200_882_96005E0001_PROD.swidtag",)),
    ("blackwell", "gpu", UNIT + "gpu/blackwellAttestationReport.txt", UNIT + "gpu/blackwellCertChain.txt", ()),
    (
        "ls10", "switch", UNIT + "switch/switchAttestationReport.txt", UNIT + "switch/switchCertChain.txt",
        ("attestation-sdk/rims/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml",),
    ),
)  # fmt: skip
FLEET = 1000
WARM_TARGET, FLEET_TARGET = 0.70, 2.0


def rate(step: Callable[[], None], seconds: float) -> float:
    """Calls per second of processor time of this process, so that neighbours on the machine do not count."""
    step()
    calls, began = 0, time.process_time()
    while True:
        for _call in range(10):
            step()
        calls += 10
        spent = time.process_time() - began
        if spent >= seconds:
            return calls / spent


def steps(folder: Path) -> List[Tuple[str, Dict[str, Callable[[], None]]]]:
    roots, rim_roots = trust_roots(kind=NVIDIA_DEVICE), trust_roots(kind=NVIDIA_RIM)
    found = []
    for name, kind, report_name, chain_name, rim_names in CASES:
        report = bytes.fromhex((folder / report_name).read_text().strip())
        pem = (folder / chain_name).read_bytes()
        rims = tuple((folder / rim_name).read_bytes() for rim_name in rim_names)
        parsed = parse_spdm_report(report)
        key = load_der_public_key(parse_certificate(pem_to_der(pem.decode())[0]).spki)
        signature = encode_dss_signature(parsed.signature_r, parsed.signature_s)
        algorithm = ec.ECDSA(hashes.SHA384())
        cache = VerificationCache()

        def bare(key=key, signature=signature, signed=parsed.signed_region, algorithm=algorithm) -> None:
            key.verify(signature, signed, algorithm)

        def run(kind=kind, report=report, pem=pem, rims=rims, nonce=parsed.nonce, cache=None) -> None:
            if not verify_nvidia(kind, report, pem, rims, (), roots, rim_roots, AT, nonce, cache).authentic:
                raise SystemExit("the genuine report was refused")

        def warm(run=run, cache=cache) -> None:
            run(cache=cache)

        found.append((name, {"bare": bare, "cold": run, "warm": warm}))
    return found


def fleet(folder: Path) -> Dict[str, float]:
    """The whole system of 8 GPUs and 4 switches, over and over: processor seconds, and how much memory the second half took."""
    roots, rim_roots = trust_roots(kind=NVIDIA_DEVICE), trust_roots(kind=NVIDIA_RIM)
    devices = []
    for kind, name in (("gpu", "gpu_evidence.json"), ("switch", "switch_evidence.json")):
        for entry in json.loads((folder / "nvtrust-ppcie" / name).read_text()):
            devices.append((kind, base64.b64decode(entry["evidence"]), base64.b64decode(entry["certificate"])))
    rims = tuple(path.read_bytes() for path in sorted((folder / RIMS).glob("*.swidtag")))
    cache = VerificationCache()
    began, half = time.process_time(), 0
    for number in range(FLEET):
        kind, report, pem = devices[number % len(devices)]
        if not verify_nvidia(kind, report, pem, rims, (), roots, rim_roots, AT, UNCHECKED, cache).authentic:
            raise SystemExit("a genuine report was refused")
        if number == FLEET // 2:
            half = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spent = time.process_time() - began
    return {"items": FLEET, "seconds": spent, "growth_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - half}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("ATTESTED_VECTORS", str(Path(__file__).resolve().parents[1].parent / "shared" / "vectors"))
    parser.add_argument("--vectors", type=Path, default=Path(default), help="folder of the test vectors")
    parser.add_argument("--seconds", type=float, default=1.0, help="processor time of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind, taken in turn; the median counts")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    arguments = parser.parse_args()

    folder = arguments.vectors / "nvidia"
    results: Dict[str, Dict[str, float]] = {}
    print("%-28s %10s %10s %10s %10s" % ("verifications per second", "bare P-384", "cold", "warm", "warm/bare"))
    for name, kinds in steps(folder):
        samples: Dict[str, List[float]] = {kind: [] for kind in kinds}
        for _round in range(arguments.rounds):
            for kind, step in kinds.items():
                samples[kind].append(rate(step, arguments.seconds))
        figures = {kind: statistics.median(values) for kind, values in samples.items()}
        figures["warm_share_of_bare"] = figures["warm"] / figures["bare"]
        results[name] = figures
        print("%-28s %10.0f %10.0f %10.0f %9.1f%%" % (name, figures["bare"], figures["cold"], figures["warm"], 100 * figures["warm_share_of_bare"]))
    results["fleet"] = fleet(folder)
    print("fleet: %d reports in %.2f s, memory of the second half: %+d KiB" % (FLEET, results["fleet"]["seconds"], results["fleet"]["growth_kib"]))
    met = all(results[name]["warm_share_of_bare"] >= WARM_TARGET for name, *_rest in CASES) and results["fleet"]["seconds"] < FLEET_TARGET
    print("targets (warm >= %.0f%% of bare, fleet < %.0f s): %s" % (100 * WARM_TARGET, FLEET_TARGET, "met" if met else "NOT met"))
    document = {
        "bench": "verify_nvidia", "python": platform.python_version(), "cryptography": cryptography.__version__,
        "machine": platform.machine(), "clock": "process_time", "results": results, "targets_met": met,
    }  # fmt: skip
    print(json.dumps(document, indent=2, sort_keys=True))
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
