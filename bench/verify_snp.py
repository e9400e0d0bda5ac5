# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast SEV-SNP evidence is verified, against bare ECDSA P-384 verification in the same run.

Run it from any directory, with the collection on the path:
    PYTHONPATH=<collections> python bench/verify_snp.py --vectors <vectors> --json result.json
First: nothing is remembered, as for the first report of a process. Cold: no cache, every call parses and proves the leaf
certificate; AMD's shipped intermediates were proven once in this process.
Warm: a cache of proven chains; the report is always verified.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
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

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import trust_roots
from ansible_collections.attested.ai.plugins.module_utils.formats.der import common_name, parse_certificate, pem_to_der
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import parse_report
from ansible_collections.attested.ai.plugins.module_utils.verify.amd_chain import _shipped_link
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import rsa_key
from ansible_collections.attested.ai.plugins.module_utils.verify.snp import UNCHECKED, verify_snp

CASES = (("real-milan-v3-oak-release", "amd-ask-milan.pem"), ("real-turin-v5-oak", "amd-ask-turin.pem"))
AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
WARM_TARGET, COLD_TARGET = 0.70, 1000.0


def rate(step: Callable[[], None], seconds: float) -> float:
    """Calls per second of processor time of this process, so that neighbours on the machine do not count."""
    step()
    calls, began = 0, time.process_time()
    while True:
        for _call in range(20):
            step()
        calls += 20
        spent = time.process_time() - began
        if spent >= seconds:
            return calls / spent


def steps(folder: Path) -> List[Tuple[str, Dict[str, Callable[[], None]]]]:
    roots = trust_roots()
    found = []
    for name, issuer in CASES:
        report = (folder / (name + ".report.bin")).read_bytes()
        vek = (folder / (name + ".vek.der")).read_bytes()
        chain = tuple(pem_to_der((folder / issuer).read_text()))
        parsed = parse_report(report)
        key = load_der_public_key(parse_certificate(vek).spki)
        signature = encode_dss_signature(parsed.signature_r, parsed.signature_s)
        algorithm = ec.ECDSA(hashes.SHA384())
        cache = VerificationCache()

        def bare(key=key, signature=signature, signed=parsed.signed_region, algorithm=algorithm) -> None:
            key.verify(signature, signed, algorithm)

        def cold(report=report, vek=vek, chain=chain) -> None:
            if not verify_snp(report, vek, chain, roots, AT, UNCHECKED).authentic:
                raise SystemExit("the genuine report was refused")

        def first(step=cold) -> None:
            _shipped_link.cache_clear()
            rsa_key.cache_clear()
            common_name.cache_clear()
            step()

        def warm(report=report, vek=vek, chain=chain, cache=cache, data=parsed.report_data) -> None:
            if not verify_snp(report, vek, chain, roots, AT, data, cache=cache).authentic:
                raise SystemExit("the genuine report was refused")

        found.append((name, {"bare": bare, "first": first, "cold": cold, "warm": warm}))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("ATTESTED_VECTORS", str(Path(__file__).resolve().parents[1].parent / "shared" / "vectors"))
    parser.add_argument("--vectors", type=Path, default=Path(default), help="folder of the test vectors")
    parser.add_argument("--seconds", type=float, default=1.0, help="processor time of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind, taken in turn; the median counts")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    arguments = parser.parse_args()

    results = {}
    print("%-28s %10s %10s %10s %10s %10s" % ("verifications per second", "bare P-384", "first", "cold", "warm", "warm/bare"))
    for name, kinds in steps(arguments.vectors / "snp"):
        samples: Dict[str, List[float]] = {kind: [] for kind in kinds}
        for _round in range(arguments.rounds):
            for kind, step in kinds.items():
                samples[kind].append(rate(step, arguments.seconds))
        figures = {kind: statistics.median(values) for kind, values in samples.items()}
        figures["warm_share_of_bare"] = figures["warm"] / figures["bare"]
        results[name] = figures
        print("%-28s %10.0f %10.0f %10.0f %10.0f %9.1f%%" % (
            name, figures["bare"], figures["first"], figures["cold"], figures["warm"], 100 * figures["warm_share_of_bare"]
        ))  # fmt: skip
    met = all(f["warm_share_of_bare"] >= WARM_TARGET and f["cold"] >= COLD_TARGET for f in results.values())
    print("targets (warm >= %.0f%% of bare, cold >= %.0f/s): %s" % (100 * WARM_TARGET, COLD_TARGET, "met" if met else "NOT met"))
    document = {
        "bench": "verify_snp", "python": platform.python_version(), "cryptography": cryptography.__version__,
        "machine": platform.machine(), "clock": "process_time", "results": results, "targets_met": met,
    }  # fmt: skip
    print(json.dumps(document, indent=2, sort_keys=True))
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
