# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of Trustee's verifier of SEV-SNP as the Soft TEE needs: report data, the signature by the VCEK that came along, and the claims.

The Soft TEE's root is nobody's, so no chain is asked for: this protects nothing. Claims after trustee v0.21.0, deps/verifier/src/snp/mod.rs.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.attested.ai.plugins.module_utils.formats.der import spki_of_certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import SnpReport, parse_report
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from .attestation import AttestationFailed

_SIGNED, _SIZE = 0x2A0, 1184
_TURIN = 0x1A
_FIELDS = ("report_data", "measurement", "host_data", "id_key_digest", "author_key_digest", "report_id", "report_id_ma")


def verify(primary: dict[str, Any], expected: bytes) -> dict[str, Any]:
    """The claims, with init_data. Raises AttestationFailed."""
    shape = primary["attestation_report"]
    raw = report_bytes(shape)
    if bytes(shape["report_data"]) != expected:
        raise AttestationFailed("REPORT_DATA differs")
    chain = {entry["cert_type"]: bytes(entry["data"]) for entry in primary["cert_chain"] or []}
    r, s = (int.from_bytes(bytes(shape["signature"][name]), "little") for name in ("r", "s"))
    try:
        key = load_der_public_key(spki_of_certificate(chain["VCEK"]))
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise AttestationFailed("the VCEK is no EC key")
        key.verify(encode_dss_signature(r, s), raw[:_SIGNED], ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, KeyError, ValueError) as error:
        raise AttestationFailed(f"signature ({type(error).__name__})") from None
    return claims(parse_report(raw))


def claims(report: SnpReport) -> dict[str, Any]:
    tcb = dict(report.tcb(str(report.product)).reported.components())
    return {
        "policy_abi_major": report.policy.abi_major, "policy_abi_minor": report.policy.abi_minor, "policy_smt_allowed": report.policy.smt_allowed,
        "policy_migrate_ma": report.policy.migrate_ma, "policy_debug_allowed": report.policy.debug, "policy_single_socket": report.policy.single_socket,
        **{f"reported_tcb_{part}": tcb[part] for part in ("bootloader", "tee", "snp", "microcode")},
        "platform_tsme_enabled": report.platform_info.tsme_en, "platform_smt_enabled": report.platform_info.smt_en, "measurement": report.measurement.hex(),
        "init_data": report.host_data.hex(),
    }  # fmt: skip


def report_bytes(shape: dict[str, Any]) -> bytes:
    """The report that virtee's form says, put together by the table of AMD publication 56860."""

    def number(name: str, size: int) -> bytes:
        return int(shape.get(name) or 0).to_bytes(size, "little")

    def tcb(name: str) -> bytes:
        value = shape[name]
        if shape["cpuid_fam_id"] == _TURIN:
            return bytes([value["fmc"], value["bootloader"], value["tee"], value["snp"], 0, 0, 0, value["microcode"]])
        return bytes([value["bootloader"], value["tee"], 0, 0, 0, 0, value["snp"], value["microcode"]])

    def version(name: str) -> bytes:
        return bytes([shape[name]["build"], shape[name]["minor"], shape[name]["major"], 0])

    parts = [
        number("version", 4), number("guest_svn", 4), number("policy", 8), bytes(shape["family_id"]), bytes(shape["image_id"]), number("vmpl", 4),
        number("sig_algo", 4), tcb("current_tcb"), number("plat_info", 8), number("key_info", 4), bytes(4), *(bytes(shape[name]) for name in _FIELDS),
        tcb("reported_tcb"), number("cpuid_fam_id", 1), number("cpuid_mod_id", 1), number("cpuid_step", 1), bytes(21), bytes(shape["chip_id"]),
        tcb("committed_tcb"), version("current"), version("committed"), tcb("launch_tcb"), number("launch_mit_vector", 8), number("current_mit_vector", 8),
    ]  # fmt: skip
    signature = bytes(shape["signature"]["r"]) + bytes(shape["signature"]["s"])
    return (b"".join(parts).ljust(_SIGNED, b"\0") + signature).ljust(_SIZE, b"\0")
