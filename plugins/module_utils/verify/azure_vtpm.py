# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify evidence of a guest under Azure's paravisor. Three links, and each must hold:

1. the hardware report (SEV-SNP report, or TD quote) is authentic: verify/snp.py, verify/tdx.py;
2. its REPORT_DATA is the SHA-256 of the HCL report's JSON, which names the attestation key of the virtual TPM (``ak-binding``);
3. that key signed a quote over our report data and over the PCR values (verify/tpm_quote.py).

The key is taken from that JSON only. The quote proves freshness; the hardware report is as old as the boot unless the JSON carries our
report data too (``hardware-freshness``). Which paravisor stands between them is for the appraisal: on a machine of one's own anybody
can launch a guest that names a key of its own.

Ids besides those of the hardware report and of the quote: format, hcl-format, hcl-vmpl (SEV-SNP), hcl-report-mismatch (TDX), ak-binding,
hardware-freshness.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.azure_evidence import AZ_SNP, AZ_TDX, AzureEvidence, parse_azure_evidence
from ansible_collections.attested.ai.plugins.module_utils.formats.hcl_report import KINDS, SNP, TDX, HclReport, RsaPublic, parse_hcl_report
from ansible_collections.attested.ai.plugins.module_utils.formats.tdreport import QUOTED_SIZE, quoted_part
from ansible_collections.attested.ai.plugins.module_utils.formats.tpm2 import Quote
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.result import ANCHOR_NONE, Unchecked, Verification
from ansible_collections.attested.ai.plugins.module_utils.verify.snp import verify_snp
from ansible_collections.attested.ai.plugins.module_utils.verify.tpm_quote import REPORT_DATA_SIZE, verify_quote

AK_BINDING, FRESHNESS = "ak-binding", "hardware-freshness"
_REPORT_DATA = "report-data-mismatch"
_KIND = {AZ_SNP: SNP, AZ_TDX: TDX}

# Verifies the hardware part: (HCL report, evidence, the REPORT_DATA that it must have) -> its own verification.
Hardware = Callable[[HclReport, AzureEvidence, bytes], Verification[Any]]
# Judges whether the paravisor made that report: (HCL report, evidence, the hardware claims) -> a check that must pass.
Origin = Callable[[HclReport, AzureEvidence, Any], Check]
_PARAVISOR_VMPL = 0
# Where the body of a TD quote begins, by the version of the quote: behind the header, in version 5 also behind type and size.
_QUOTE_BODY = {4: 48, 5: 54}


@dataclass(frozen=True)
class AzureClaims:
    """``hardware`` are the claims of the SEV-SNP report or TD quote. ``pcrs`` are empty unless the quote proves them."""

    hardware: Any
    hcl: HclReport
    quote: Optional[Quote]
    algorithm: Optional[str]
    pcrs: Mapping[int, bytes]
    fresh_hardware: bool

    def to_dict(self) -> Dict[str, Any]:
        """The claims of the hardware report, and beside them ``hcl`` and ``tpm``."""
        result: Dict[str, Any] = {} if self.hardware is None else dict(self.hardware.to_dict())
        result["hcl"] = self.hcl.to_dict()
        result["tpm"] = {
            "algorithm": self.algorithm,
            "ak_bits": self.hcl.ak.n.bit_length() if isinstance(self.hcl.ak, RsaPublic) else None,
            "quote": None if self.quote is None else self.quote.to_dict(),
            "pcrs": {str(number): value.hex() for number, value in sorted(self.pcrs.items())},
        }
        result["hardware_report"] = "fresh" if self.fresh_hardware else "boot-time"
        return result


def verify_az_snp(
    data: bytes,
    chain: Sequence[bytes],
    roots: TrustRoots,
    at: datetime,
    expected_report_data: Union[bytes, Unchecked],
    crl: Optional[bytes] = None,
    cache: Optional[VerificationCache] = None,
) -> Verification[AzureClaims]:
    """Verify the JSON bytes of az-snp-vtpm evidence. The arguments are those of ``verify_snp``; the VCEK is the evidence's own.

    Bad evidence never raises. AttestedError with code "argument" means that the call itself is wrong.
    """

    def hardware(hcl: HclReport, evidence: AzureEvidence, wanted: bytes) -> Verification[Any]:
        return verify_snp(hcl.hardware, evidence.endorsement, chain, roots, at, wanted, crl, cache)

    return verify_azure(data, AZ_SNP, expected_report_data, hardware, _vmpl)


def verify_az_tdx(
    data: bytes, expected_report_data: Union[bytes, Unchecked], verify_quoted: Callable[[bytes, bytes], Verification[Any]]
) -> Verification[AzureClaims]:
    """Verify the JSON bytes of az-tdx-vtpm evidence. ``verify_quoted`` verifies a TD quote, given its bytes and the REPORTDATA that it
    must have, as ``verify_tdx`` does with collateral and roots that the caller chose."""

    def hardware(_hcl: HclReport, evidence: AzureEvidence, wanted: bytes) -> Verification[Any]:
        return verify_quoted(evidence.endorsement, wanted)

    return verify_azure(data, AZ_TDX, expected_report_data, hardware, _quoted_report)


def _quoted_report(hcl: HclReport, evidence: AzureEvidence, _claims: Any) -> Check:
    """The TDREPORT must be the one that was quoted. Only its MAC and CPUSVN are for the machine alone to check."""
    code, quote = "hcl-report-mismatch", evidence.endorsement
    # Version 5 says what kind of body follows; both kinds begin alike. That the quote is well-formed was checked before.
    start = _QUOTE_BODY.get(int.from_bytes(quote[:2], "little"), len(quote))
    try:
        if quoted_part(hcl.hardware) == quote[start:start + QUOTED_SIZE]:
            return passed(code, "the TDREPORT of the HCL report is the one that was quoted")
        return failed(code, "the TDREPORT of the HCL report is another than the one that was quoted")
    except FormatError as error:
        return failed(code, str(error))


def _vmpl(_hcl: HclReport, _evidence: AzureEvidence, claims: Any) -> Check:
    """At any other level than 0 the guest itself may have asked for the report, over a JSON of its own making."""
    code, vmpl = "hcl-vmpl", claims.report.vmpl
    if vmpl == _PARAVISOR_VMPL:
        return passed(code, "the paravisor's level asked for the report")
    return failed(code, "VMPL %d asked for the report, the paravisor runs at VMPL %d" % (vmpl, _PARAVISOR_VMPL))


def verify_azure(
    data: bytes, tee: str, expected_report_data: Union[bytes, Unchecked], hardware: Hardware, origin: Origin
) -> Verification[AzureClaims]:
    """Verify the JSON bytes of evidence of type ``tee``; ``hardware`` verifies its hardware report and is told what REPORT_DATA must be;
    ``origin`` judges where the hardware report comes from.

    ``expected_report_data`` are 1 to 64 bytes, or UNCHECKED, which leaves the check "report-data-mismatch" visibly not checked.
    """
    expected = expected_report_data
    if not isinstance(expected, Unchecked) and (not isinstance(expected, (bytes, bytearray)) or not 1 <= len(expected) <= REPORT_DATA_SIZE):
        raise AttestedError(
            "the expected report data must be 1 to 64 bytes", where="verify_azure",
            fix="Pass UNCHECKED if freshness is really not to be checked.", code="argument",
        )  # fmt: skip
    try:
        evidence = parse_azure_evidence(data, tee)
    except FormatError as error:
        return _unreadable("format", error)
    try:
        hcl = parse_hcl_report(evidence.hcl_report)
        if hcl.kind != _KIND[tee]:
            raise FormatError("it holds a report of %s, the evidence is %s" % (KINDS[hcl.kind], tee), where="HCL report")
    except FormatError as error:
        return _unreadable("hcl-format", error)
    report = hardware(hcl, evidence, hcl.runtime_digest.ljust(REPORT_DATA_SIZE, b"\0"))
    return _judge(evidence, hcl, report, None if report.claims is None else origin(hcl, evidence, report.claims), expected)


def _unreadable(code: str, error: FormatError) -> Verification[AzureClaims]:
    return Verification(False, (failed(code, str(error)),), None, None, ANCHOR_NONE, None)


def _judge(
    evidence: AzureEvidence, hcl: HclReport, report: Verification[Any], origin: Optional[Check], expected: Union[bytes, Unchecked]
) -> Verification[AzureClaims]:
    quote = verify_quote(evidence.message, evidence.signature, evidence.pcrs, hcl.ak, expected)
    binding = _ak_binding(hcl, report)
    fresh = _fresh_hardware(evidence, hcl, binding, expected)
    checks: List[Check] = [passed("hcl-format", "version %d, %d bytes" % (hcl.version, len(evidence.hcl_report)))]
    checks += [check for check in report.checks if check.id != _REPORT_DATA]
    checks += ([] if origin is None else [origin]) + [binding] + list(quote.checks) + [fresh]
    linked = binding.outcome == PASS and quote.proven and origin is not None and origin.outcome == PASS
    authentic = report.authentic if linked else False
    identity = None
    if linked and report.evidence_id is not None:
        # Over what was signed, on both sides of the link: the hardware report (by its own identity) and the quote.
        identity = hashlib.sha256(bytes.fromhex(report.evidence_id) + evidence.message).hexdigest()
    return Verification(
        authentic=authentic,
        checks=tuple(checks),
        claims=AzureClaims(report.claims, hcl, quote.quote, quote.algorithm, quote.pcrs if linked else {}, fresh.outcome == PASS),
        not_after=report.not_after,
        anchor=report.anchor,
        evidence_id=identity,
    )


def _ak_binding(hcl: HclReport, report: Verification[Any]) -> Check:
    """The hardware verifier compared REPORT_DATA with the hash of the JSON: under our name that is the link to the attestation key."""
    outcome = [check.outcome for check in report.checks if check.id == _REPORT_DATA]
    if outcome == [PASS]:
        return passed(AK_BINDING, "REPORT_DATA is the hash of the JSON that names the attestation key")
    if outcome == [FAIL]:
        return failed(AK_BINDING, "REPORT_DATA is not %s, the hash of the JSON that names the attestation key" % hcl.runtime_digest.hex())
    return not_checked(AK_BINDING, "the hardware report cannot be read")


def _fresh_hardware(evidence: AzureEvidence, hcl: HclReport, binding: Check, expected: Union[bytes, Unchecked]) -> Check:
    if binding.outcome != PASS:
        return not_checked(FRESHNESS, "the hardware report does not vouch for the JSON")
    if isinstance(expected, Unchecked):
        return not_checked(FRESHNESS, "freshness was left unchecked on request")
    if hcl.user_data is not None and hmac.compare_digest(hcl.user_data, bytes(expected).ljust(REPORT_DATA_SIZE, b"\0")):
        return passed(FRESHNESS, "the hardware report was made for the expected report data too")
    if evidence.version >= 2:
        return failed(FRESHNESS, "evidence of version %d carries other user data in its HCL report than the expected report data" % evidence.version)
    return not_checked(FRESHNESS, "the hardware report is a boot-time one: only the quote is proven to be fresh")
