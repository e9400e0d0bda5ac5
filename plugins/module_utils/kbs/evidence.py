# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Evidence in the shapes that a KBS takes.

Source: guest-components v0.21.0, attestation-agent/attester/src; the SNP report is the serde form of virtee/sev at d4878091.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import SnpReport, parse_report

# Names of certificates in our table -> those of virtee.
_CERTIFICATES = {"ark": "ARK", "ask": "ASK", "vcek": "VCEK", "vlek": "VLEK"}
_BYTES = (
    "family_id", "image_id", "report_data", "measurement", "host_data", "id_key_digest", "author_key_digest", "report_id", "report_id_ma", "chip_id",
)  # fmt: skip
REPORT_DATA = 64


def padded(digest: bytes, size: int = REPORT_DATA) -> bytes:
    """Report data as a TEE takes it."""
    return digest[:size].ljust(size, b"\0")


def sample(digest: bytes) -> Dict[str, str]:
    """Evidence of no TEE at all, for tests and laptops. No policy of ours accepts it unless it is told to."""
    return {"svn": "1", "report_data": strict.encode_base64(digest)}


def tdx(quote: bytes, event_log: Optional[bytes] = None) -> Dict[str, Any]:
    return {"cc_eventlog": None if event_log is None else strict.encode_base64(event_log), "quote": strict.encode_base64(quote)}


def snp(report: bytes, certificates: Optional[Mapping[str, bytes]] = None) -> Dict[str, Any]:
    """``certificates`` are DER by the names ark, ask, vcek, vlek; without any the KBS asks AMD. Raises FormatError."""
    parsed = parse_report(report)
    if parsed.product is None:
        raise FormatError("a version %d report does not name its CPU, or one that is not known, and Trustee needs it" % parsed.version, where="SEV-SNP report",
                          fix="Update the SEV firmware of the host")
    chain: Optional[List[Dict[str, Any]]] = [
        {"cert_type": _CERTIFICATES[name], "data": list(der)} for name, der in sorted((certificates or {}).items()) if name in _CERTIFICATES
    ]
    return {"attestation_report": _report(parsed), "cert_chain": chain or None}


def _report(report: SnpReport) -> Dict[str, Any]:
    family, model, stepping = report.cpuid or (0, 0, 0)
    found: Dict[str, Any] = {
        "version": report.version,
        "guest_svn": report.guest_svn,
        "policy": report.policy.raw,
        "vmpl": report.vmpl,
        "sig_algo": report.signature_algorithm,
        "plat_info": report.platform_info.raw,
        "key_info": int(report.author_key_en) | int(report.mask_chip_key) << 1 | report.signing_key << 2,
        "cpuid_fam_id": family,
        "cpuid_mod_id": model,
        "cpuid_step": stepping,
        "current": _version(report.current_abi),
        "committed": _version(report.committed_abi),
        "launch_mit_vector": report.launch_mit_vector,
        "current_mit_vector": report.current_mit_vector,
        "signature": {"r": _number(report.signature_r), "s": _number(report.signature_s)},
    }
    for name in _BYTES:
        found[name] = list(getattr(report, name))
    tcbs = report.tcb(report.product or "")
    for name, tcb in (("current_tcb", tcbs.current), ("reported_tcb", tcbs.reported), ("committed_tcb", tcbs.committed), ("launch_tcb", tcbs.launch)):
        parts = dict(tcb.components())
        found[name] = {part: parts.get(part) for part in ("fmc", "bootloader", "tee", "snp", "microcode")}
    if report.version < 5:
        del found["launch_mit_vector"], found["current_mit_vector"]
    return found


def _version(abi: Any) -> Dict[str, int]:
    return dict(zip(("major", "minor", "build"), abi))


def _number(value: int) -> List[int]:
    return list(value.to_bytes(72, "little"))
