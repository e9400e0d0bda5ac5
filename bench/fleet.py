# SPDX-License-Identifier: GPL-3.0-or-later
"""How long one process takes to appraise a fleet of 1,000 guests, and what it takes of memory.

Every guest has evidence, a chip key and a leaf certificate of its own, made here under a root of our own; authorities and collateral are
shared, as in a real fleet. Nothing is remembered of a guest between two rounds but certificates. Prints a table, and JSON with --json.

    PYTHONPATH=<collections> python bench/fleet.py
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools" / "softtee"))

from softtee.snp_authority import SnpAuthority  # noqa: E402
from softtee.snp_report import DEFAULT_TCB, build_report, sign_report  # noqa: E402

from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import Endorsements, appraise  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import SCHEMA, Policy, load_policy  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues, load_reference_values  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import Binding, EvidenceDocument, EvidenceItem  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache  # noqa: E402

LIMIT = 2.0
NONCE = bytes(32)
NOW = datetime.now(timezone.utc)
MEASUREMENT = bytes(range(48))


def reference_values(count: int) -> ReferenceValues:
    """As many images as guests, so that a search from one end to the other would show."""
    later = (NOW + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    values = [
        {"tee": "sev-snp", "measurement": measurement.hex(), "covers": "service", "image": "image", "source": "bench", "not_after": later}
        for measurement in [number.to_bytes(48, "big") for number in range(1, count)] + [MEASUREMENT]
    ]
    return load_reference_values({"schema": "attested.ai/reference-values/1", "values": values})


def snp_fleet(count: int) -> tuple[list[EvidenceDocument], Endorsements, Policy]:
    """Guests of ``count`` machines; their certificates lie in one store, as fetched beforehand."""
    authority = SnpAuthority.create(None)
    binding = Binding()
    documents, leaves = [], []
    template = EvidenceDocument("attested/1", NONCE, binding, (), {})
    for number in range(1, count + 1):
        chip = number.to_bytes(64, "little")[::-1]
        key, leaf = authority.vcek("genoa", chip, DEFAULT_TCB["genoa"])
        report = build_report("genoa", chip_id=chip, measurement=MEASUREMENT, report_data=template.expected_report_data(NONCE))
        sign_report(report, key)
        leaves.append(leaf)
        documents.append(EvidenceDocument("attested/1", NONCE, binding, (EvidenceItem("sev-snp", "sev_guest", bytes(report), {}),), {}))
    endorsements = Endorsements(certificates=(*leaves, authority.intermediate_der("genoa", "vcek")))
    policy = load_policy({"schema": SCHEMA, "id": "fleet", "allow_nonvendor_roots": True, "roots": [authority.ark_pem("genoa")]})
    return documents, endorsements, policy


def judge(documents: list[EvidenceDocument], endorsements: Endorsements, policy: Policy, values: ReferenceValues) -> float:
    """Seconds of processor time for the whole fleet, results as plain data included, so that neighbours on the machine do not count.
    Raises if any guest is refused."""
    cache = VerificationCache(max_entries=4 * len(documents))
    start = time.process_time()
    for document in documents:
        result = appraise(
            document, policy=policy, reference_values=values, endorsements=endorsements, expected_nonce=NONCE, at=NOW, connection=None, cache=cache
        )
        if not result.to_dict()["accepted"]:
            raise SystemExit(result.explain())
    return time.process_time() - start


def resident() -> float:
    """The most memory that this process had so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    fleets: dict[str, Callable[[int], tuple[list[EvidenceDocument], Endorsements, Policy]]] = {"sev-snp": snp_fleet}
    found = {}
    print(f"{'':12} {'guests':>8} {'best s':>8} {'us each':>9} {'half s':>8} {'growth':>8} {'MiB more':>9}")
    for name, make in fleets.items():
        documents, endorsements, policy = make(options.guests)
        values = reference_values(options.guests)
        half = len(documents) // 2
        judge(documents[:10], Endorsements(**{"certificates": endorsements.certificates}), policy, values)
        before = resident()
        # Another Endorsements each time, so that nothing that was made of them counts twice.
        seconds = min(judge(documents, endorsements + Endorsements(), policy, values) for _round in range(options.rounds))
        after = resident()
        part = min(judge(documents[:half], endorsements + Endorsements(), policy, values) for _round in range(options.rounds))
        growth = seconds / part
        print(f"{name:12} {len(documents):>8} {seconds:>8.2f} {1e6 * seconds / len(documents):>9.0f} {part:>8.2f} {growth:>7.2f}x {after - before:>9.1f}")
        found[name] = {"guests": len(documents), "seconds": seconds, "half": part, "growth": growth, "mib": after - before}
    met = all(one["seconds"] <= LIMIT for one in found.values())
    print(f"limit for {options.guests} guests: {LIMIT} s, {'kept' if met else 'NOT kept'}; twice the guests should take about 2x")
    if options.json:
        Path(options.json).write_text(json.dumps({"fleets": found, "limit": LIMIT, "targets_met": met}, indent=1), encoding="utf-8")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
