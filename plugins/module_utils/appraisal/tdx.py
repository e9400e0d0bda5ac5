# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Appraise one item of Intel TDX evidence: verify the quote, believe the event log only if it fits, hold both against the policy."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si, launch_endorsement, tdx_checks
from ansible_collections.attested.ai.plugins.module_utils.appraisal.common import check_replay, with_next_step
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import STAGES, Policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValue
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult
from ansible_collections.attested.ai.plugins.module_utils.appraisal.tdx_references import TEE, check_measurement
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, Check, failed, not_checked
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import INTEL
from ansible_collections.attested.ai.plugins.module_utils.formats.ccel import EventLog
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.formats.tcb_info import REVOKED, UP_TO_DATE
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_quote import TD_UNDER_DEBUG
from ansible_collections.attested.ai.plugins.module_utils.verify import eventlog
from ansible_collections.attested.ai.plugins.module_utils.verify.result import Verification
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx import TdxClaims, verify_tdx

# Enough for every boot that was seen; a log with more is told by its number of events.
EVENTS_SHOWN = 256
_COLLECT_AGAIN = "collect the evidence again"
_FETCH = "fetch the collateral again (attested.ai.collateral) and give it with the option collateral"
# What to do when authenticity fails: the verifier says what it saw, only here it is known how evidence and collateral are given.
_NEXT_STEPS = {
    "format": _COLLECT_AGAIN,
    "version": "use a release of this collection that knows this version",
    "ak-type": "let the host use Intel's TD quoting enclave",
    "tee-type": "give SGX evidence to something that judges SGX",
    "qe-vendor": "let the host use Intel's TD quoting enclave",
    "body-type": "use a release of this collection that knows this body",
    "body-size": _COLLECT_AGAIN,
    "cert-type": "let the host's quote generation service use PCK certificates (PCCS), not the platform's raw identity",
    "trailing-data": _COLLECT_AGAIN,
    "root-not-pinned": "use evidence under Intel's root; roots of your own need roots and allow_nonvendor_roots in the policy",
    "pck-chain": "let the host fetch its PCK certificate again, then " + _COLLECT_AGAIN,
    "pck-validity": "let the host fetch its PCK certificate again; archived evidence is judged at its own time (option at)",
    "collateral-missing": _FETCH,
    "fmspc-mismatch": _FETCH,
    "pceid-mismatch": _FETCH,
    "collateral-format": _FETCH,
    "crl-signature": _FETCH,
    "crl-issuer": _FETCH,
    "tcb-signer-role": _FETCH,
    "tcb-signer-revoked": _FETCH,
    "tcb-info-signature": _FETCH,
    "qe-identity-signature": _FETCH,
    "tcb-info-id": "fetch the collateral for TDX, not for SGX (attested.ai.collateral)",
    "qe-identity-id": "fetch the identity of the TD quoting enclave, not of SGX's (attested.ai.collateral)",
    "collateral-not-yet-valid": "compare the clocks; archived evidence is judged at its own time (option at)",
    "collateral-expired": _FETCH + "; archived evidence is judged at its own time (option at)",
    "pck-ca-revoked": "Intel withdrew this authority: take the machine out of use until it has a new certificate",
    "pck-revoked": "Intel withdrew this machine's certificate: take it out of use until it has a new one",
    "qe-report-signature": _COLLECT_AGAIN,
    "ak-binding": _COLLECT_AGAIN,
    "quote-signature": _COLLECT_AGAIN,
    "qe-identity": "let the host use Intel's current TD quoting enclave",
    "tcb-not-supported": "Intel vouches for no machine like this: update BIOS and microcode",
    "module-identity": "fetch newer collateral, or let the host load a TDX module that Intel names",
    "module-mrsigner": "let the host load Intel's TDX module",
    "module-attributes": "let the host load Intel's TDX module",
    "module-tcb-not-supported": "update the TDX module",
    "report-data-mismatch": "collect evidence for the nonce of this run",
}
_UNRECOGNISED_CODES = ("root-not-pinned", "pck-chain", "qe-identity", "module-identity", "module-mrsigner", "module-attributes", "fmspc-mismatch")
_REVOKED_CODES = ("pck-revoked", "pck-ca-revoked")
_FIRMWARE_CODES = frozenset((
    "tcb-not-supported", "module-tcb-not-supported", tdx_checks.STATUS, tdx_checks.OUTDATED, tdx_checks.RELAUNCH_ADVISED, "policy-advisory",
    "policy-tcb-date", "policy-tcb-eval-number", "policy-module-svn", "policy-mrseam", "policy-platform",
))  # fmt: skip
_CONFIGURATION_CODES = frozenset((
    "policy-reserved-attributes", "policy-sept-ve-disable", "policy-migration", "policy-service-td", "policy-icssd", "policy-perfmon", "policy-xfam",
    "mrconfigid-mismatch", "mrowner-mismatch", "mrownerconfig-mismatch",
))  # fmt: skip


def appraise_item(item: EvidenceItem, context: ItemContext) -> ItemResult:
    """Verify and judge one quote. Never raises for what the evidence holds: a malformed quote is a failed check."""
    policy = context.policy
    verification = verify_tdx(item.evidence, context.endorsements.tdx, context.roots_of(INTEL), context.at, context.expected_report_data, context.cache)
    checks = [with_next_step(check, _NEXT_STEPS) for check in verification.checks]
    checks.append(check_replay(verification.evidence_id, context.seen))
    claims = verification.claims
    reaches: Optional[str] = None
    ends: List[Optional[datetime]] = [verification.not_after]
    matched: Optional[ReferenceValue] = None
    told: Dict[str, Any] = {} if claims is None else claims.to_dict()
    # The verifier gives an evidence id only where a proven key signed the quote: only then its fields are worth judging.
    if verification.authentic is False or verification.evidence_id is None or claims is None:
        checks.append(not_checked(eventlog.CODE, "the quote does not hold, so nothing vouches for a log"))
        checks.append(not_checked("policy", "not held against the policy, because the evidence does not hold by itself"))
    else:
        check, log = _event_log(item, claims, policy)
        checks.append(check)
        told["event_log"] = None if log is None else _told(log)
        checks += tdx_checks.check_policy(claims, policy.tdx, policy.machines)
        measured = check_measurement(claims.body, context)
        checks += measured.checks
        matched = measured.matched
        if matched is not None:
            reaches = matched.covers
            ends.append(matched.not_after)
    return ItemResult(
        tee=TEE,
        authentic=verification.authentic,
        checks=tuple(checks),
        vector=_vector(verification, checks, reaches, policy),
        claims=told,
        anchor=launch_endorsement.anchor_with(verification.anchor, matched),
        expires_at=min((end for end in ends if end is not None), default=None),
        reaches=reaches,
        identity=verification.evidence_id,
    )


def _event_log(item: EvidenceItem, claims: TdxClaims, policy: Policy) -> Tuple[Check, Optional[EventLog]]:
    data = item.auxiliary.get("event-log")
    if data is None:
        if policy.tdx.require_event_log:
            return failed(eventlog.CODE, "there is no event log and the policy requires one; collect it with the quote (option event_log)"), None
        return not_checked(eventlog.CODE, "there is no event log; the RTMRs are judged as they are"), None
    replayed = eventlog.check_eventlog(data, claims.body.rtmrs)
    return replayed.check, replayed.log


def _told(log: EventLog) -> Dict[str, Any]:
    """The events that changed a register. The others are remarks that anybody could have added, and no register vouches for them."""
    events = [event for event in log.events if event.extends]
    return {"count": len(events), "events": [event.to_dict() for event in events[:EVENTS_SHOWN]]}


def _vector(verification: Verification[TdxClaims], checks: Sequence[Check], reaches: Optional[str], policy: Policy) -> Dict[str, int]:
    """The AR4SI claims that this item makes; those that nothing is known about are left out."""
    bad = frozenset(check.id for check in checks if check.outcome == FAIL)
    claims = verification.claims
    if verification.authentic is not True or claims is None:
        return {"hardware": _hardware_unproven(verification, bad)}
    denied = "machine-not-allowed" in bad or claims.tcb_status == REVOKED
    weak = claims.tcb_status != UP_TO_DATE or bad & _FIRMWARE_CODES
    vector = {"hardware": ar4si.CONTRAINDICATED_VALUE if denied else ar4si.UNSAFE if weak else ar4si.APPROVED}
    if claims.body.tdattributes & TD_UNDER_DEBUG:
        vector["configuration"] = vector["runtime-opaque"] = ar4si.CONTRAINDICATED_VALUE
    else:
        vector["configuration"] = ar4si.UNSAFE if bad & _CONFIGURATION_CODES else ar4si.APPROVED
        vector["runtime-opaque"] = ar4si.APPROVED
    vector["executables"] = ar4si.UNRECOGNISED_EXECUTABLES if reaches is None else ar4si.APPROVED_BOOT
    if reaches is not None and STAGES.index(reaches) >= STAGES.index("root-fs"):
        vector["file-system"] = ar4si.APPROVED
    if policy.machines.allow:
        vector["instance-identity"] = ar4si.UNRECOGNISED if denied else ar4si.APPROVED
    return vector


def _hardware_unproven(verification: Verification[TdxClaims], bad: FrozenSet[str]) -> int:
    if verification.claims is None:
        return ar4si.UNEXPECTED_EVIDENCE
    if bad.intersection(_REVOKED_CODES):
        return ar4si.CONTRAINDICATED_VALUE
    if verification.authentic is None:
        return ar4si.NO_CLAIM
    return ar4si.UNRECOGNISED if bad.intersection(_UNRECOGNISED_CODES) else ar4si.CRYPTO_FAILED
