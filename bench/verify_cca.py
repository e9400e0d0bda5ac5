# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast Arm CCA tokens are verified, against bare ECDSA P-384 verification in the same run.

Run it from any directory, with the collection on the path:
    PYTHONPATH=<collections> python bench/verify_cca.py --vectors <vectors> --json result.json
Cold: no cache, every call reads the endorsement and proves both signatures. Warm: a cache, as for a machine that is attested again within one
boot; the platform token is the same and was proven, the realm token is always verified. Upstream's tokens come from test platforms: no
token of production silicon is public.
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

from ansible_collections.attested.ai.plugins.module_utils.formats.cca_token import parse_token
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.cca import UNCHECKED, verify_cca
from ansible_collections.attested.ai.plugins.module_utils.verify.cca_keys import public_key

# Token and key. The second key is a public test key: it is verified all the same, and refused afterwards.
CASES = (
    ("veraison-legacy-es256", "cpak-veraison-p256.jwk.json"),
    ("ffm00-profile-1.0.0-fvp", "cpak-tfa-public-test-key.jwk.json"),
    ("syn-baseline-907", "cpak-synth-p384.jwk.json"),
)
AT = datetime(2026, 11, 1, tzinfo=timezone.utc)


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
    found = []
    for name, key_name in CASES:
        token = (folder / (name + ".cbor")).read_bytes()
        endorsements = ((folder / key_name).read_bytes(),)
        parsed = parse_token(token)
        realm = parsed.realm
        key = public_key(parsed.realm_claims.rak_point)
        signature = encode_dss_signature(int.from_bytes(realm.signature[:48], "big"), int.from_bytes(realm.signature[48:], "big"))
        algorithm = ec.ECDSA(hashes.SHA384())
        cache = VerificationCache()

        def bare(key=key, signature=signature, signed=realm.signed, algorithm=algorithm) -> None:
            key.verify(signature, signed, algorithm)

        def cold(token=token, endorsements=endorsements) -> None:
            public_key.cache_clear()
            if not verify_cca(token, endorsements, UNCHECKED, AT, allow_nonvendor=True).authentic:
                raise SystemExit("the genuine token was refused")

        def warm(token=token, endorsements=endorsements, cache=cache, challenge=parsed.realm_claims.challenge) -> None:
            if not verify_cca(token, endorsements, challenge, AT, allow_nonvendor=True, cache=cache).authentic:
                raise SystemExit("the genuine token was refused")

        def parse(token=token) -> None:
            parse_token(token)

        found.append((name, {"bare": bare, "parse": parse, "cold": cold, "warm": warm}))
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
    print("%-28s %10s %10s %10s %10s %10s" % ("per second", "bare P-384", "parse", "cold", "warm", "warm/bare"))
    for name, kinds in steps(arguments.vectors / "cca"):
        samples: Dict[str, List[float]] = {kind: [] for kind in kinds}
        for _round in range(arguments.rounds):
            for kind, step in kinds.items():
                samples[kind].append(rate(step, arguments.seconds))
        figures = {kind: statistics.median(values) for kind, values in samples.items()}
        figures["warm_share_of_bare"] = figures["warm"] / figures["bare"]
        results[name] = figures
        print("%-28s %10.0f %10.0f %10.0f %10.0f %9.1f%%" % (
            name, figures["bare"], figures["parse"], figures["cold"], figures["warm"], 100 * figures["warm_share_of_bare"]
        ))  # fmt: skip
    document = {
        "bench": "verify_cca", "python": platform.python_version(), "cryptography": cryptography.__version__,
        "machine": platform.machine(), "clock": "process_time", "results": results,
    }  # fmt: skip
    print(json.dumps(document, indent=2, sort_keys=True))
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
