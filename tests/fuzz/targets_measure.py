# SPDX-License-Identifier: GPL-3.0-or-later
"""Firmware images with TDX metadata, event logs, and whole appraisals of TD quotes with logs beside them."""

from __future__ import annotations

import gzip
import os
import sys
from datetime import datetime, timezone
from pathlib import Path

from harness import Target

from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import UNCHECKED, Endorsements, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import SCHEMA, load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.formats.ccel import parse_ccel
from ansible_collections.attested.ai.plugins.module_utils.measure import tdvf
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "unit" / "reference_values"))

from firmware_lab import image  # noqa: E402  pylint: disable=wrong-import-position

VECTORS = Path(os.environ.get("ATTESTED_VECTORS", HERE.parents[3] / "shared" / "vectors"))
TDX = VECTORS / "coco" / "trustee" / "tdx"
POLICY = load_policy({"schema": SCHEMA, "id": "fuzz", "measurements_required": False})
CACHE = VerificationCache()
AT = datetime(2025, 7, 1, tzinfo=timezone.utc)
ENDORSEMENTS = Endorsements(tdx=((VECTORS / "tdx" / "b0c06f-2025-06.collateral.json").read_bytes(),))
QUOTE = (VECTORS / "tdx" / "real-v4-uptodate-2025-06.quote.bin").read_bytes()


def firmware() -> list[bytes]:
    return [image(size=0x1000, sections=((0, 0x1000, 0xFFFFF000, 0x1000, 0, 1), (0, 0, 0x809000, 0x1000, 2, 0)))]


def logs() -> list[bytes]:
    return [gzip.decompress((TDX / "CCEL_data.gz").read_bytes())[:6000], (TDX / "CCEL_data_ovmf").read_bytes()[:9000]]


def core(quote: bytes) -> bytes:
    """Without the blank lines and zeros that RFC 7468 and Intel's own quotes allow behind the last certificate: they say nothing."""
    return quote.rstrip(b"\0").rstrip(b"\n")


def judge(quote: bytes, log: bytes) -> object:
    result = appraise_report(
        quote, tee="tdx", policy=POLICY, reference_values=ReferenceValues(), endorsements=ENDORSEMENTS, expected_report_data=UNCHECKED, at=AT, cache=CACHE,
        auxiliary={"event-log": log} if log else None,
    )  # fmt: skip
    if result.accepted and core(quote) != core(QUOTE):
        raise RuntimeError("a changed quote was accepted")
    return result.to_dict()


TARGETS = {
    "tdvf": Target(firmware, tdvf.mrtd),
    "ccel": Target(logs, parse_ccel),
    "tdx-appraise": Target(lambda: [QUOTE], lambda data: judge(data, b"")),
    "tdx-appraise-log": Target(logs, lambda data: judge(QUOTE, data)),
}
