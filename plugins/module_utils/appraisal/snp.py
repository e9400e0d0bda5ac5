# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Appraise one item of SEV-SNP evidence: find its certificate, verify it, hold it against policy and reference values."""

from __future__ import annotations

from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si, launch_endorsement, snp_checks
from ansible_collections.attested.ai.plugins.module_utils.appraisal.common import check_replay, with_next_step
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements, ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import STAGES, Policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValue, ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import format_time
from ansible_collections.attested.ai.plugins.module_utils.appraisal.snp_certificates import candidates, sort_certificates
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, NOT_CHECKED, PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.floors import floor_for
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_certtable import parse_certtable
from ansible_collections.attested.ai.plugins.module_utils.verify.result import SnpClaims, Verification
from ansible_collections.attested.ai.plugins.module_utils.verify.snp import verify_snp

TEE = "sev-snp"
_LEAVES_TRIED = 8

_ENDORSEMENT = "gce-firmware"
# Whether a masked CHIP_ID is tolerable is for the policy: its check takes the place of the verifier's.
_POLICY_DECIDES = "chip-id-masked"
_REVOCATION = "ask-revoked"
_FLOOR = "policy-tcb-floor"
_FETCH_LEAF = "give the certificate that this chip has at this TCB (option certificates)"
# What to do when authenticity fails: the verifier says what it saw, only here it is known how evidence and certificates are given.
_NEXT_STEPS = {
    "format": "collect the evidence again",
    "version-unsupported": "use a release of this collection that knows this version",
    "unsigned": "let the host unmask its chip key",
    "signature-algorithm": "collect the evidence again",
    "host-requested-report": "collect it inside the guest",
    "product-unknown": "use a release of this collection that knows this processor",
    "product-mismatch": _FETCH_LEAF,
    "vek-missing": "let the host hand it over, or " + _FETCH_LEAF,
    "root-not-pinned": "use certificates under AMD's roots; roots of your own need roots and allow_nonvendor_roots in the policy",
    "chain": "fetch the certificates again",
    "vek-signature": "fetch the certificates again",
    "key-role": _FETCH_LEAF,
    "vek-profile": "fetch the certificate again",
    "vek-key-type": "fetch the certificate again",
    "vek-expired": "fetch the certificate again; archived evidence is judged at its own time (option at)",
    "crl-signature": "fetch the revocation list of this product again",
    "crl-expired": "fetch the current revocation list",
    "ask-revoked": "AMD withdrew this authority: take the machine out of use until it has a new certificate",
    "report-signature": "collect the evidence again, and " + _FETCH_LEAF,
    "vek-tcb-mismatch": _FETCH_LEAF,
    "vek-hwid-mismatch": _FETCH_LEAF,
    "chip-id-masked": "let the host unmask CHIP_ID",
    "tcb-inconsistent": "genuine firmware never says so: take the machine out of use",
    "report-data-mismatch": "collect evidence for the nonce of this run",
}
_UNRECOGNISED_CODES = ("product-unknown", "product-mismatch", "root-not-pinned", "chain")
_FIRMWARE_CODES = (
    "policy-tcb-floor", "policy-launch-tcb-floor", "policy-provisional-firmware", "policy-abi", "policy-platform-info",
    "policy-mitigation-vector", "policy-product",
)
_CONFIGURATION_CODES = (
    "policy-migration", "policy-vmpl", "policy-smt", "policy-guest-policy", "host-data-mismatch", "id-block",
)


def appraise_item(item: EvidenceItem, context: ItemContext) -> ItemResult:
    """Verify and judge one report. Never raises for what the evidence holds: a malformed report is a failed check."""
    policy = context.policy
    table, table_problem = _table(item)
    endorsement = table.pop(_ENDORSEMENT, None)
    verification = _verify(item, table, context)
    checks = [for_the_user(check, policy) for check in verification.checks]
    checks += [table_problem] if table_problem is not None else []
    checks.append(check_replay(verification.evidence_id, context.seen))
    claims = verification.claims
    reaches, expires_at, anchor = None, verification.not_after, verification.anchor
    # The verifier gives an evidence id only where a proven key signed the report: only then its fields are worth judging.
    unproven = verification.authentic is False or verification.evidence_id is None
    if unproven or claims is None or claims.product is None or claims.tcb is None:
        checks.append(not_checked("policy", "not held against the policy, because the evidence does not hold by itself"))
    else:
        checks = [check for check in checks if check.id != _POLICY_DECIDES]
        facts = snp_checks.SnpFacts(claims.report, claims.product, claims.tcb, claims.csp_id)
        checks += snp_checks.check_policy(facts, policy.sev_snp, policy.machines, shipped_floor)
        measurement_checks, matched = _measurement(facts, endorsement, context)
        checks += measurement_checks
        if matched is not None:
            reaches, anchor = matched.covers, launch_endorsement.anchor_with(anchor, matched)
            expires_at = min(filter(None, (expires_at, matched.not_after)))
    return ItemResult(
        tee=TEE,
        authentic=verification.authentic,
        checks=tuple(checks),
        vector=trust_vector(verification, checks, reaches, policy),
        claims={} if claims is None else claims.to_dict(),
        anchor=anchor,
        expires_at=expires_at,
        reaches=reaches,
        identity=verification.evidence_id,
    )


def _table(item: EvidenceItem) -> Tuple[Dict[str, bytes], Optional[Check]]:
    """The certificates that came with the item, and the failed check if their table is malformed."""
    blob = item.auxiliary.get("certificates")
    if blob is None:
        return {}, None
    try:
        entries = dict(parse_certtable(blob).entries)
    except FormatError as error:
        return {}, failed("certificate-table", "%s; the host hands this table over, repair it there" % error)
    return {name: entries[name] for name in ("vcek", "vlek", "ask", _ENDORSEMENT) if name in entries}, None


def _verify(item: EvidenceItem, table: Mapping[str, bytes], context: ItemContext) -> Verification[SnpClaims]:
    """Verify with each certificate that may belong to the report, until one fits; else say what the likeliest one gave."""
    leaves, path = candidates(item.evidence, sort_certificates(list(table.values())), context.endorsements)
    outcomes: List[Verification[SnpClaims]] = []
    tried: Sequence[Optional[bytes]] = leaves[:_LEAVES_TRIED] or (None,)
    for leaf in tried:
        outcomes.append(_verify_with(leaf, path, item, context))
        if outcomes[-1].authentic is True:
            return outcomes[-1]
    return outcomes[0]


def _verify_with(leaf: Optional[bytes], path: Sequence[bytes], item: EvidenceItem, context: ItemContext) -> Verification[SnpClaims]:
    """Verify with one certificate and each list that may concern it. One list that names its authority is enough to refuse."""
    outcomes = [
        verify_snp(item.evidence, leaf, path, context.roots, context.at, context.expected_report_data, crl=crl, cache=context.cache)
        for crl in crls_of(context.endorsements, leaf)
    ]
    return min(outcomes, key=lambda outcome: (_REVOCATION not in outcome.failed, outcome.authentic is not True))


def crls_of(endorsements: Endorsements, leaf: Optional[bytes]) -> Sequence[Optional[bytes]]:
    """The revocation lists of every product that this certificate names; without a choice, the only one."""
    if len(endorsements.crls) < 2:
        return endorsements.crls or (None,)
    named = [b"ARK-" + product for product in (b"Milan", b"Genoa", b"Turin") if product in (leaf or b"")]
    return [crl for crl in endorsements.crls if any(name in crl for name in named)] or (None,)


def for_the_user(check: Check, policy: Policy) -> Check:
    """What the policy requires must not stay unchecked; and a failure names the next step."""
    if check.outcome == NOT_CHECKED and check.id == _REVOCATION and policy.revocation == "required":
        return failed(check.id, check.detail + "; the policy requires it: give the certificate revocation list (option crl)")
    return with_next_step(check, _NEXT_STEPS)


def shipped_floor(family: int, model: int) -> Optional[Mapping[str, int]]:
    floor = floor_for(family, model)
    return None if floor is None else floor.minimum


def _measurement(facts: snp_checks.SnpFacts, endorsement: Optional[bytes], context: ItemContext) -> Tuple[List[Check], Optional[ReferenceValue]]:
    """The measurement-mismatch and host-data-mismatch checks, and the reference value that matched in both.

    ``endorsement`` is what the host handed over as Google's; it speaks only where our own values do not know the measurement."""
    policy, report = context.policy, facts.report
    same = context.reference_values.measured(TEE, report.measurement.hex())
    valid = [value for value in same if value.not_after > context.at]
    checks, endorsed = launch_endorsement.endorsed(TEE, report.measurement, endorsement, context)
    if not valid:
        same, valid = same + endorsed, endorsed
    host_data = report.host_data.hex()
    matching = [value for value in valid if value.host_data in (None, host_data)]
    # Who names HOST_DATA too speaks of more. Values that disagree still vouch for no more than the least of them.
    closest = [value for value in matching if value.host_data is not None] or matching
    matched = min(closest, key=lambda value: (STAGES.index(value.covers), -value.not_after.timestamp())) if closest else None
    checks += [_measured(report.measurement.hex(), same, valid, context.reference_values, policy), check_host_data(host_data, valid, matched, policy)]
    return checks, matched


def _measured(seen: str, same: Sequence[ReferenceValue], valid: Sequence[ReferenceValue], values: ReferenceValues, policy: Policy) -> Check:
    code = "measurement-mismatch"
    if valid:
        return passed(code, "the launch measurement is that of image %s (%s)" % (valid[0].image, valid[0].source))
    if same:
        detail = "the reference value of image %s expired at %s; renew it" % (same[0].image, format_time(same[0].not_after))
    elif values.values:
        detail = "the launch measurement %s is none of the %d reference values; add it if the image is yours" % (seen, len(values.values))
    else:
        detail = "no reference values were given, the launch measurement is %s; record it for your image" % seen
    if policy.measurements_required:
        return failed(code, detail)
    return not_checked(code, detail + " (measurements_required is false)")


def check_host_data(seen: str, valid: Sequence[ReferenceValue], matched: Optional[ReferenceValue], policy: Policy) -> Check:
    code = "host-data-mismatch"
    if policy.sev_snp.host_data is not None and seen not in policy.sev_snp.host_data:
        return failed(code, "HOST_DATA is %s, the policy allows %s; launch the guest with one of these" % (seen, ", ".join(policy.sev_snp.host_data)))
    if valid and matched is None:
        wanted = ", ".join(sorted({str(value.host_data) for value in valid}))
        return failed(code, "HOST_DATA is %s, the reference values of this measurement say %s; launch the guest with one of these" % (seen, wanted))
    if policy.sev_snp.host_data is not None or matched is not None and matched.host_data is not None:
        return passed(code, "HOST_DATA is %s, as expected" % seen)
    return not_checked(code, "nothing is asked of HOST_DATA, it is %s" % seen)


def trust_vector(verification: Verification[SnpClaims], checks: Sequence[Check], reaches: Optional[str], policy: Policy) -> Dict[str, int]:
    """The AR4SI claims that this item makes; those that nothing is known about are left out."""
    bad = frozenset(check.id for check in checks if check.outcome == FAIL)
    if verification.authentic is not True or verification.claims is None:
        return {"hardware": _hardware_unproven(verification, bad)}
    report = verification.claims.report
    vector: Dict[str, int] = {}
    floor_held = any(check.id == _FLOOR and check.outcome == PASS for check in checks)
    weak = verification.claims.product == "milan" or not floor_held or bad.intersection(_FIRMWARE_CODES)
    denied = "machine-not-allowed" in bad
    vector["hardware"] = ar4si.CONTRAINDICATED_VALUE if denied else ar4si.UNSAFE if weak else ar4si.APPROVED
    if report.policy.debug:
        vector["configuration"] = vector["runtime-opaque"] = ar4si.CONTRAINDICATED_VALUE
    else:
        vector["configuration"] = ar4si.UNSAFE if bad.intersection(_CONFIGURATION_CODES) else ar4si.APPROVED
        vector["runtime-opaque"] = ar4si.APPROVED
    vector["executables"] = ar4si.UNRECOGNISED_EXECUTABLES if reaches is None else ar4si.APPROVED_BOOT
    if reaches is not None and STAGES.index(reaches) >= STAGES.index("root-fs"):
        vector["file-system"] = ar4si.APPROVED
    if policy.machines.allow:
        vector["instance-identity"] = ar4si.UNRECOGNISED if denied else ar4si.APPROVED
    return vector


def _hardware_unproven(verification: Verification[SnpClaims], bad: FrozenSet[str]) -> int:
    if verification.claims is None:
        return ar4si.UNEXPECTED_EVIDENCE
    if verification.authentic is None:
        return ar4si.NO_CLAIM
    if _REVOCATION in bad:
        return ar4si.CONTRAINDICATED_VALUE
    return ar4si.UNRECOGNISED if bad.intersection(_UNRECOGNISED_CODES) else ar4si.CRYPTO_FAILED
