# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Appraise evidence of guests under Azure's paravisor: the hardware report like any other of its kind, then the virtual TPM."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si, azure_checks, snp, snp_checks
from ansible_collections.attested.ai.plugins.module_utils.appraisal.common import check_replay, with_next_step
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import STAGES
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, Check, not_checked
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.azure_evidence import AZ_SNP, AZ_TDX, parse_azure_evidence
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.verify.azure_vtpm import AzureClaims, verify_az_snp, verify_az_tdx
from ansible_collections.attested.ai.plugins.module_utils.verify.result import Verification

_REVOCATION = "ask-revoked"
_CHIP_ID = "chip-id-masked"
# What is asked of a bare TD that vouches for its guest itself. Here the paravisor's virtual TPM does.
_NOT_OF_THE_QUOTE = ("measurement-mismatch", "rtmr-mismatch", "replay", "launch-endorsement")
_AGAIN = "collect the evidence again"
_NEXT_STEPS = {
    "hcl-format": "use a release of this collection that knows this paravisor, or " + _AGAIN,
    "hcl-vmpl": "the guest may have made this report itself: collect the one that the paravisor keeps in the TPM",
    "ak-binding": _AGAIN + ": hardware report and JSON must be of one read",
    "hcl-report-mismatch": _AGAIN + ": HCL report and quote must be of one boot",
    "quote-format": _AGAIN,
    "quote-magic": "the key signed something that its TPM did not make: take the machine out of use",
    "quote-type": _AGAIN,
    "quote-signature": "quote with the key at handle 0x81000003 of the same virtual TPM",
    "pcr-selection": "quote one selection of SHA-256 PCRs, with a value for each",
    "pcr-digest": _AGAIN + ": a PCR may have been extended between reading and quoting",
    "hardware-freshness": _AGAIN,
}


def appraise_az_snp(item: EvidenceItem, context: ItemContext) -> ItemResult:
    """Verify and judge one item of az-snp-vtpm. Never raises for what the evidence holds."""
    verification = _verify_snp(item, context)
    claims = verification.claims
    checks = [_for_the_user(snp.for_the_user(check, context.policy), context) for check in verification.checks]
    checks.append(check_replay(verification.evidence_id, context.seen))
    hardware = None if claims is None else claims.hardware
    outcome = azure_checks.References([])
    if _unproven(verification) or claims is None or hardware is None or hardware.product is None or hardware.tcb is None:
        checks.append(_not_judged())
    else:
        checks = [check for check in checks if check.id != _CHIP_ID]
        policy = context.policy
        facts = snp_checks.SnpFacts(hardware.report, hardware.product, hardware.tcb, hardware.csp_id)
        judged = snp_checks.check_policy(facts, policy.sev_snp, policy.machines, snp.shipped_floor)
        judged.append(snp.check_host_data(hardware.report.host_data.hex(), (), None, policy))
        checks += judged + azure_checks.check_policy(claims, policy.azure)
        named = hardware.report.id_key_digest.hex() in (policy.sev_snp.id_key_digests or ())
        pinned = "its ID key is one of sev_snp.id_key_digests" if named else ""
        outcome = azure_checks.check_references(AZ_SNP, hardware.report.measurement.hex(), claims, pinned, context)
        checks += outcome.checks
    of_hardware = Verification(
        verification.authentic, verification.checks, hardware, verification.not_after, verification.anchor, verification.evidence_id
    )  # fmt: skip
    vector = snp.trust_vector(of_hardware, checks, outcome.covers, context.policy)
    return _result(AZ_SNP, verification, checks, vector, outcome)


def appraise_az_tdx(item: EvidenceItem, context: ItemContext) -> ItemResult:
    """Verify and judge one item of az-tdx-vtpm. Never raises for what the evidence holds."""
    # Imported on use: who judges AMD's reports does not load the readers of Intel's.
    from ansible_collections.attested.ai.plugins.module_utils.appraisal import tdx

    found: List[ItemResult] = []

    def verify_quoted(quote: bytes, wanted: bytes) -> Verification[_TdClaims]:
        """The TD quote is verified and held against the section tdx like any other; what it must carry is the link to the key."""
        # References of az-tdx-vtpm are the paravisor's MRTD and PCRs, and evidence is replayed as a whole: neither is asked of the quote.
        policy = dataclasses.replace(context.policy, measurements_required=False)
        inner = dataclasses.replace(context, policy=policy, expected_report_data=wanted, reference_values=ReferenceValues(), seen=None)
        result = tdx.appraise_item(EvidenceItem("tdx", item.provider, quote), inner)
        found.append(result)
        # What fails all the same is something that the policy itself asks.
        checks = tuple(check for check in result.checks if check.id not in _NOT_OF_THE_QUOTE or check.outcome == FAIL)
        claims = _TdClaims(result.claims) if result.claims else None
        return Verification(result.authentic, checks, claims, result.expires_at, result.anchor, result.identity)

    verification = verify_az_tdx(item.evidence, context.expected_report_data, verify_quoted)
    claims = verification.claims
    checks = [_for_the_user(check, context) for check in verification.checks]
    checks.append(check_replay(verification.evidence_id, context.seen))
    outcome = azure_checks.References([])
    if _unproven(verification) or claims is None or claims.hardware is None:
        checks.append(_not_judged())
        vector = dict(found[0].vector) if found and found[0].authentic is not True else {"hardware": ar4si.CRYPTO_FAILED}
        return _result(AZ_TDX, verification, checks, vector, outcome)
    outcome = azure_checks.check_references(AZ_TDX, str(claims.hardware.members["measurement"]), claims, "", context)
    checks += azure_checks.check_policy(claims, context.policy.azure) + outcome.checks
    vector = {name: value for name, value in found[0].vector.items() if name != "file-system"}
    vector["executables"] = ar4si.UNRECOGNISED_EXECUTABLES if outcome.covers is None else ar4si.APPROVED_BOOT
    if outcome.covers is not None and STAGES.index(outcome.covers) >= STAGES.index("root-fs"):
        vector["file-system"] = ar4si.APPROVED
    return _result(AZ_TDX, verification, checks, vector, outcome)


@dataclasses.dataclass(frozen=True)
class _TdClaims:
    """The claims of an appraised TD quote."""

    members: Mapping[str, Any]

    def to_dict(self) -> Dict[str, Any]:
        return dict(self.members)


def _verify_snp(item: EvidenceItem, context: ItemContext) -> Verification[AzureClaims]:
    """Verify with each revocation list that may concern it. One list that names its authority is enough to refuse."""
    try:
        leaf: Optional[bytes] = parse_azure_evidence(item.evidence, AZ_SNP).endorsement
    except FormatError:
        leaf = None
    path, report_data = context.endorsements.certificates, context.expected_report_data
    outcomes = [
        verify_az_snp(item.evidence, path, context.roots, context.at, report_data, crl=crl, cache=context.cache)
        for crl in snp.crls_of(context.endorsements, leaf)
    ]
    return min(outcomes, key=lambda outcome: (_REVOCATION not in outcome.failed, outcome.authentic is not True))


def _for_the_user(check: Check, context: ItemContext) -> Check:
    return azure_checks.require_fresh_hardware(with_next_step(check, _NEXT_STEPS), context.policy.azure)


def _unproven(verification: Verification[AzureClaims]) -> bool:
    return verification.authentic is False or verification.evidence_id is None


def _not_judged() -> Check:
    return not_checked("policy", "not held against the policy, because the evidence does not hold by itself")


def _result(
    tee: str, verification: Verification[AzureClaims], checks: Sequence[Check], vector: Dict[str, int], outcome: azure_checks.References
) -> ItemResult:
    bad = frozenset(check.id for check in checks if check.outcome == FAIL)
    if vector.get("configuration") == ar4si.APPROVED and bad.intersection(azure_checks.CONFIGURATION_CODES):
        vector["configuration"] = ar4si.UNSAFE
    ends: List[Any] = [verification.not_after] + ([outcome.value.not_after] if outcome.value is not None else [])
    return ItemResult(
        tee=tee,
        authentic=verification.authentic,
        checks=tuple(checks),
        vector=vector,
        claims={} if verification.claims is None else verification.claims.to_dict(),
        anchor=verification.anchor,
        expires_at=min(filter(None, ends), default=None),
        reaches=outcome.covers,
        identity=verification.evidence_id,
    )
