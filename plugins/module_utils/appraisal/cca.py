# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Appraise one Arm CCA token: verify it under the endorsed platform keys, hold it against policy and reference values."""

from __future__ import annotations

from datetime import datetime
from typing import Dict, FrozenSet, List, Optional, Sequence

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si, cca_checks, cca_references
from ansible_collections.attested.ai.plugins.module_utils.appraisal.common import check_replay, with_next_step
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import STAGES, Policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, NOT_CHECKED, PASS, Check, failed, not_checked
from ansible_collections.attested.ai.plugins.module_utils.endorsements.cca import public_test_key
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.verify.cca import CcaClaims, Verification, verify_cca

TEE = "cca"
CHALLENGE, REPORT_DATA, EXPIRY = "challenge-mismatch", "report-data-mismatch", "cpak-expired"

_COLLECT = "collect the evidence again"
_ENDORSE = "give the endorsement document of this platform's maker or operator (option collateral)"
# What to do when authenticity fails: the verifier says what it saw, only here it is known how tokens and endorsements are given.
_NEXT_STEPS = {
    "format": _COLLECT,
    "duplicate-claim": "no genuine attester writes a claim twice: " + _COLLECT,
    "missing-claim": "collect the evidence again; if it stays so, the platform's firmware does not follow its own profile",
    "profile-unsupported": "use a release of this collection that knows this profile",
    "profile-mix": "update the platform's firmware: its two halves follow different specifications",
    "cose-alg": _COLLECT,
    "hash-algorithm": "update the platform's firmware to one that uses SHA-256, SHA-384 or SHA-512",
    "cpak-missing": _ENDORSE,
    "implementation-id": _ENDORSE,
    "instance-id": _ENDORSE,
    "bad-cpak": "get the endorsement document again from its source",
    "alg-key-mismatch": "the endorsement is that of another platform: " + _ENDORSE,
    "root-not-pinned": "name its digest in cca.vendor_endorsements if you had it from the silicon vendor, or set allow_nonvendor_roots: true",
    EXPIRY: "get the current endorsement document; archived evidence is judged at its own time (option at)",
    "test-cpak": "take the platform out of use, or for tests set cca.allow_test_keys: true",
    "platform-signature": "collect the evidence again, and " + _ENDORSE,
    "realm-signature": _COLLECT,
    "rak-binding": "the realm token is not of this platform: " + _COLLECT,
    CHALLENGE: "collect evidence for the nonce of this run",
}
_FIRMWARE_CODES = ("platform-reference-values", "policy-live-activation", "platform-extensions", "policy-profile", "policy-implementation", "unknown-claims")
_CONFIGURATION_CODES = ("configuration-mismatch", "policy-mec", "rpv-mismatch")
_UNRECOGNISED_CODES = ("profile-unsupported", "profile-mix", "implementation-id", "instance-id", "root-not-pinned")


def appraise_item(item: EvidenceItem, context: ItemContext) -> ItemResult:
    """Verify and judge one token. Never raises for what the evidence holds: a malformed token is a failed check."""
    policy = context.policy
    verification = verify_cca(
        item.evidence, context.endorsements.cca, context.expected_report_data, context.at, policy.cca.allow_test_keys,
        policy.allow_nonvendor_roots, frozenset(policy.cca.vendor_endorsements), context.cache,
    )  # fmt: skip
    checks: List[Check] = []
    for check in verification.checks:
        told = _for_the_user(check, policy)
        checks.append(told)
        if told.id == CHALLENGE:
            # The challenge carries the report data: under this id the binding is judged alike for every kind of CPU.
            checks.append(Check(REPORT_DATA, told.outcome, told.detail))
    checks.append(check_replay(verification.evidence_id, context.seen))
    claims = verification.claims
    reaches: Optional[str] = None
    ends: List[Optional[datetime]] = [verification.not_after]
    # The verifier gives an evidence id only where proven keys signed both tokens: only then their claims are worth judging.
    if verification.authentic is False or verification.evidence_id is None or claims is None:
        checks.append(not_checked("policy", "not held against the policy, because the evidence does not hold by itself"))
    else:
        checks += cca_checks.check_policy(claims, policy.cca, policy.machines)
        platform = cca_references.check_platform(claims, context)
        realm = cca_references.check_realm(claims, context)
        checks += platform.checks + realm.checks
        reaches = realm.covers
        ends += [platform.expires_at, realm.expires_at]
    return ItemResult(
        tee=TEE,
        authentic=verification.authentic,
        checks=tuple(checks),
        vector=_vector(verification, checks, reaches, policy),
        claims={} if claims is None else claims.to_dict(),
        anchor=verification.anchor,
        expires_at=min((end for end in ends if end is not None), default=None),
        reaches=reaches,
        identity=verification.evidence_id,
    )


def _for_the_user(check: Check, policy: Policy) -> Check:
    """A failure names the next step; and what the policy requires must not stay unchecked."""
    if check.id == EXPIRY and check.outcome == NOT_CHECKED and policy.revocation == "required":
        return failed(EXPIRY, check.detail + "; the policy requires revocation, and nothing else takes a CPAK back: give a document with not_after")
    return with_next_step(check, _NEXT_STEPS)


def _vector(verification: Verification[CcaClaims], checks: Sequence[Check], reaches: Optional[str], policy: Policy) -> Dict[str, int]:
    """The AR4SI claims that this item makes; those that nothing is known about are left out."""
    bad = frozenset(check.id for check in checks if check.outcome == FAIL)
    claims = verification.claims
    if verification.authentic is not True or claims is None:
        return {"hardware": _hardware_unproven(verification, bad)}
    vector: Dict[str, int] = {}
    known = any(check.id == cca_references.PLATFORM and check.outcome == PASS for check in checks)
    test_key = claims.endorsed is not None and public_test_key(claims.endorsed.cpak.point) is not None
    denied = bool(bad.intersection(("machine-not-allowed", "test-cpak")))
    weak = test_key or not known or bool(bad.intersection(_FIRMWARE_CODES))
    vector["hardware"] = ar4si.CONTRAINDICATED_VALUE if denied else ar4si.UNSAFE if weak else ar4si.APPROVED
    if cca_checks.lifecycle_name(claims) != cca_checks.SECURED:
        # Even where policy allows it: who may debug the platform reads the realm's memory.
        vector["configuration"] = vector["runtime-opaque"] = ar4si.CONTRAINDICATED_VALUE
    else:
        vector["configuration"] = ar4si.UNSAFE if bad.intersection(_CONFIGURATION_CODES) else ar4si.APPROVED
        vector["runtime-opaque"] = ar4si.APPROVED
    vector["executables"] = ar4si.UNRECOGNISED_EXECUTABLES if reaches is None else ar4si.APPROVED_BOOT
    if reaches is not None and STAGES.index(reaches) >= STAGES.index("root-fs"):
        vector["file-system"] = ar4si.APPROVED
    if policy.machines.allow:
        vector["instance-identity"] = ar4si.UNRECOGNISED if "machine-not-allowed" in bad else ar4si.APPROVED
    return vector


def _hardware_unproven(verification: Verification[CcaClaims], bad: FrozenSet[str]) -> int:
    if verification.authentic is None:
        return ar4si.NO_CLAIM
    if bad.intersection(_UNRECOGNISED_CODES):
        return ar4si.UNRECOGNISED
    return ar4si.UNEXPECTED_EVIDENCE if verification.claims is None else ar4si.CRYPTO_FAILED
