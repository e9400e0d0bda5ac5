# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Appraise evidence of guests under Azure's paravisor: the hardware report like any other of its kind, then the virtual TPM."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si, azure_checks, snp, snp_checks
from ansible_collections.attested.ai.plugins.module_utils.appraisal.common import check_replay, with_next_step
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, Check, not_checked
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.azure_evidence import AZ_SNP, parse_azure_evidence
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.verify.azure_vtpm import AzureClaims, verify_az_snp
from ansible_collections.attested.ai.plugins.module_utils.verify.result import Verification

_REVOCATION = "ask-revoked"
_CHIP_ID = "chip-id-masked"
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
