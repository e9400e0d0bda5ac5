# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast TDX quotes are verified, against bare ECDSA P-256 verification and dcap-qvl 0.7.0 in the same run, on genuine evidence.

Run it from any directory, with the collection on the path:
    PYTHONPATH=<collections> python bench/verify_tdx.py --vectors <vectors> --json result.json
First: nothing is remembered, as for the first quote of a process. Cold: no cache, every call verifies every signature of the PCK, the revocation
lists, the signed documents, the quoting enclave and the quote; Intel's own authorities were proven, and documents read, once in this process.
New machine: collateral is in the cache, the machine's PCK certificate is not. Warm: both are; the quoting enclave's report and the quote are
always verified. Theirs: dcap-qvl with its collateral object made once, and made for every quote.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Dict, List

import cryptography
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import trust_roots
from ansible_collections.attested.ai.plugins.module_utils.formats import der, pck
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_quote import parse_quote
from ansible_collections.attested.ai.plugins.module_utils.verify import intel_chain, primitives, tdx_collateral
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx import verify_tdx

QUOTE, COLLATERAL = "real-v4-uptodate-2025-06.quote.bin", "b0c06f-2025-06.collateral.json"
AT = datetime(2025, 7, 1, tzinfo=timezone.utc)
WARM_TARGET, COLD_TARGET = 2.0, 0.9
REMEMBERED = (
    intel_chain._parsed, intel_chain._link_offence, pck._decode, der.common_name, primitives.p256_key,
    tdx_collateral._collateral, tdx_collateral._tcb_info, tdx_collateral._qe_identity, tdx_collateral._crl,
)  # fmt: skip


class NewMachines(VerificationCache):
    """A cache that has never seen this machine before."""

    def put(self, key, entry) -> None:
        if key[0] != "tdx-pck":
            super().put(key, entry)


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


def steps(folder: Path) -> Dict[str, Callable[[], None]]:
    quote, collateral = (folder / QUOTE).read_bytes(), (folder / COLLATERAL).read_bytes()
    roots, parsed = trust_roots(kind="intel"), parse_quote(quote)
    key = primitives.p256_point(parsed.attestation_key)
    signature = encode_dss_signature(int.from_bytes(parsed.signature[:32], "big"), int.from_bytes(parsed.signature[32:], "big"))
    algorithm = ec.ECDSA(hashes.SHA256())

    def ours(cache) -> None:
        if not verify_tdx(quote, (collateral,), roots, AT, parsed.body.reportdata, cache).authentic:
            raise SystemExit("the genuine quote was refused")

    def first() -> None:
        for remembered in REMEMBERED:
            remembered.cache_clear()
        ours(None)

    warm, new = VerificationCache(), NewMachines()
    found: Dict[str, Callable[[], None]] = {
        "bare P-256": lambda: key.verify(signature, parsed.signed, algorithm),
        "parse": lambda: parse_quote(quote),
        "first": first,
        "cold": lambda: ours(None),
        "new machine": lambda: ours(new),
        "warm": lambda: ours(warm),
    }
    try:
        import dcap_qvl
    except ImportError:
        print("dcap-qvl is not installed: no comparison", file=sys.stderr)
        return found
    text, at = collateral.decode(), int(AT.timestamp())
    document = dcap_qvl.QuoteCollateralV3.from_json(text)
    found["theirs"] = lambda: dcap_qvl.verify(quote, document, at)
    found["theirs+json"] = lambda: dcap_qvl.verify(quote, dcap_qvl.QuoteCollateralV3.from_json(text), at)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("ATTESTED_VECTORS", str(Path(__file__).resolve().parents[1].parent / "shared" / "vectors"))
    parser.add_argument("--vectors", type=Path, default=Path(default), help="folder of the test vectors")
    parser.add_argument("--seconds", type=float, default=1.0, help="processor time of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind, taken in turn; the median counts")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    arguments = parser.parse_args()

    kinds = steps(arguments.vectors / "tdx")
    samples: Dict[str, List[float]] = {kind: [] for kind in kinds}
    for _round in range(arguments.rounds):
        for kind, step in kinds.items():
            samples[kind].append(rate(step, arguments.seconds))
    figures = {kind: statistics.median(values) for kind, values in samples.items()}
    for kind, value in figures.items():
        print("%-14s %10.0f per second" % (kind, value))
    if "theirs" in figures:
        for kind, target in (("warm", WARM_TARGET), ("new machine", WARM_TARGET), ("cold", COLD_TARGET), ("first", None)):
            ratio = figures[kind] / figures["theirs"]
            figures[kind + " / theirs"] = ratio
            print("%-14s %10.2f times dcap-qvl%s" % (kind, ratio, " (target %.1f)" % target if target else ""))
    document = {
        "bench": "verify_tdx", "python": platform.python_version(), "cryptography": cryptography.__version__, "machine": platform.machine(),
        "clock": "process_time",
        "evidence": {name: hashlib.sha256((arguments.vectors / "tdx" / name).read_bytes()).hexdigest() for name in (QUOTE, COLLATERAL)},
        "results": figures,
    }  # fmt: skip
    print(json.dumps(document, indent=2, sort_keys=True))
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
