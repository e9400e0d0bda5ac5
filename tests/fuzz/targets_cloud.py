# SPDX-License-Identifier: GPL-3.0-or-later
"""HCL reports, TPM structures, Azure evidence, launch endorsements."""

from __future__ import annotations

import base64
import functools
import json
import os
from datetime import datetime, timezone
from pathlib import Path

from harness import Target

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import trust_roots
from ansible_collections.attested.ai.plugins.module_utils.checks import passed
from ansible_collections.attested.ai.plugins.module_utils.formats import azure_evidence, gce_endorsement, hcl_report, tdreport, tpm2
from ansible_collections.attested.ai.plugins.module_utils.verify.azure_vtpm import verify_az_snp, verify_az_tdx
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.gce_endorsement import verify_gce_endorsement
from ansible_collections.attested.ai.plugins.module_utils.verify.tpm_quote import verify_quote
from ansible_collections.attested.ai.plugins.module_utils.verify.result import UNCHECKED, Verification

AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
CACHE = VerificationCache()
TRUSTEE = Path(os.environ.get("ATTESTED_VECTORS", Path(__file__).resolve().parents[3] / "shared" / "vectors")) / "coco" / "trustee"


def read(*names: str) -> bytes:
    return TRUSTEE.joinpath(*names).read_bytes()


def hcl_reports() -> list[bytes]:
    return [read(tee, "hcl-report.bin") for tee in ("az-snp-vtpm", "az-tdx-vtpm")]


def quotes() -> list[bytes]:
    return [bytes.fromhex(json.loads(read(tee, "tpm-quote-v1.json"))["message"]) for tee in ("az-snp-vtpm", "az-tdx-vtpm")]


def signatures() -> list[bytes]:
    ecdsa = tpm2.build_signature(tpm2.Signature(tpm2.ALG_ECDSA, tpm2.ALG_SHA256, r=1 << 255, s=1 << 254))
    return [base64.b64decode(json.loads(read("tpm", "tpm_evidence.json"))["tpm_quote"]["signature"]), ecdsa]


def publics() -> list[bytes]:
    rsa = bytes.fromhex("0001000b00050072000000100014000b080000000000" + "0100") + b"\xa5" * 256
    ecc = bytes.fromhex("0023000b00050072000000100018000b00030010" + "0020") + b"\x11" * 32 + b"\0\x20" + b"\x22" * 32
    return [rsa, ecc]


def evidence(tee: str, *versions: str) -> list[bytes]:
    return [read(tee, "evidence-%s.json" % version) for version in versions]


def endorsements() -> list[bytes]:
    def blob(field: int, data: bytes) -> bytes:
        size = len(data)
        return bytes([field << 3 | 2]) + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + data

    leaf = read("snp", "test-vcek.der")
    snp = blob(7, b"\x08\x07" + blob(2, b"\x08\x04" + blob(2, b"\x5c" * 48)) + blob(7, b"\x5d" * 48))
    tdx = blob(8, b"\x08\x02" + blob(2, b"\x08\x10\x10\x01" + blob(3, b"\x5e" * 48)))
    payload = blob(1, b"\x08\x80\x01") + b"\x10\x05" + blob(4, leaf) + blob(5, b"\x11" * 48) + blob(6, read("az-snp-vtpm", "vcek-genoa.pem")) + snp + tdx
    return [blob(1, payload) + blob(2, b"\x99" * 256)]


@functools.lru_cache(maxsize=1)
def key() -> hcl_report.PublicKey:
    return hcl_report.parse_hcl_report(hcl_reports()[0]).ak


def verify(data: bytes) -> object:
    result = verify_az_snp(data, (), trust_roots(), AT, UNCHECKED, cache=CACHE)
    # What comes out is printed as JSON whatever came in.
    return json.dumps(result.claims.to_dict()) if result.claims is not None else None


class Quoted:
    """Claims of a TD quote that is taken as good, whatever it is."""

    @staticmethod
    def to_dict() -> dict[str, str]:
        return {}


def verify_td(data: bytes) -> object:
    def quoted(_quote: bytes, _wanted: bytes) -> Verification[Quoted]:
        return Verification(True, (passed("report-data-mismatch", ""),), Quoted(), None, "none", "00" * 32)

    result = verify_az_tdx(data, UNCHECKED, quoted)
    return json.dumps(result.claims.to_dict()) if result.claims is not None else None


TARGETS = {
    "hcl-report": Target(hcl_reports, hcl_report.parse_hcl_report),
    "tpm-quote": Target(quotes, tpm2.parse_quote),
    "tpm-signature": Target(signatures, tpm2.parse_signature),
    "tpm-public": Target(publics, tpm2.parse_public),
    "tpm-quote-verify": Target(quotes, lambda data: verify_quote(data, data[:256], [bytes(32)] * 24, key(), UNCHECKED)),
    "azure-snp-evidence": Target(lambda: evidence("az-snp-vtpm", "v1", "v2"), lambda data: azure_evidence.parse_azure_evidence(data, "az-snp-vtpm")),
    "azure-tdx-evidence": Target(lambda: evidence("az-tdx-vtpm", "v1"), lambda data: azure_evidence.parse_azure_evidence(data, "az-tdx-vtpm")),
    "azure-snp-verify": Target(lambda: evidence("az-snp-vtpm", "v1", "v2"), verify),
    "tdreport": Target(lambda: [read("az-tdx-vtpm", "hcl-report.bin")[0x20:0x420]], tdreport.quoted_part),
    "azure-tdx-verify": Target(lambda: evidence("az-tdx-vtpm", "v1"), verify_td),
    "gce-endorsement": Target(endorsements, gce_endorsement.parse_gce_endorsement),
    "gce-verify": Target(endorsements, lambda data: verify_gce_endorsement(data, trust_roots((), kind="gce"), AT)),
}
