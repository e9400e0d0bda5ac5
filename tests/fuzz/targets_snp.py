# SPDX-License-Identifier: GPL-3.0-or-later
"""SEV-SNP reports, the certificate table, DER certificates, and the evidence document around all evidence."""

from __future__ import annotations

import base64
import functools
import json
import os
from datetime import datetime, timezone
from pathlib import Path

from harness import Target

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import trust_roots
from ansible_collections.attested.ai.plugins.module_utils.formats import der, evidence, snp_certtable, snp_report
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.result import UNCHECKED
from ansible_collections.attested.ai.plugins.module_utils.verify.snp import verify_snp

AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
CACHE = VerificationCache()


def vectors() -> Path:
    default = Path(__file__).resolve().parents[3] / "shared" / "vectors"
    return Path(os.environ.get("ATTESTED_VECTORS", default))


@functools.lru_cache(maxsize=None)
def cases() -> list[dict]:
    return json.loads((vectors() / "snp" / "cases.json").read_text(encoding="utf-8"))["cases"]


def read(*names: str) -> bytes:
    return vectors().joinpath(*names).read_bytes()


def reports() -> list[bytes]:
    return [path.read_bytes() for path in sorted((vectors() / "snp").glob("*report*.bin"))] or [read("coco", "trustee", "snp", "test-report.bin")]


def certificates() -> list[bytes]:
    folder = vectors() / "coco" / "trustee" / "snp"
    return [path.read_bytes() for path in sorted(folder.glob("*.der"))] + [read("tdx", "intel-sgx-root-ca.der")]


def tables() -> list[bytes]:
    from uuid import UUID

    vcek = read("coco", "trustee", "snp", "test-vcek.der")
    entry = UUID("63da758d-e664-4564-adc5-f4b93be8accd").bytes_le + (48).to_bytes(4, "little") + len(vcek).to_bytes(4, "little")
    return [entry + bytes(24) + vcek]


def documents() -> list[bytes]:
    item = {"type": "sev-snp", "provider": "sev_guest", "evidence": base64.b64encode(reports()[0]).decode(), "auxiliary": {}}
    gpu = {"type": "nvidia-gpu", "provider": "hopper", "evidence": base64.b64encode(bytes(64)).decode(), "auxiliary": {"certificates": "AAAA"}}
    document = {
        "schema": evidence.SCHEMA, "profile": "attested/1", "nonce": base64.b64encode(bytes(32)).decode(),
        "binding": {"tls-spki": "sha256:" + "0" * 64}, "items": [item, gpu], "observations": {"generation": 1},
    }  # fmt: skip
    return [json.dumps(document).encode()]


def verify(data: bytes) -> object:
    return verify_snp(data, read("coco", "trustee", "snp", "test-vcek.der"), (), trust_roots(), AT, UNCHECKED, cache=CACHE)


TARGETS = {
    "snp-report": Target(reports, snp_report.parse_report),
    "snp-verify": Target(reports, verify),
    "snp-certificate-table": Target(tables, snp_certtable.parse_certtable),
    "der-certificate": Target(certificates, der.parse_certificate),
    "evidence-document": Target(documents, lambda data: evidence.EvidenceDocument.from_json(data).expected_report_data(bytes(32))),
}
