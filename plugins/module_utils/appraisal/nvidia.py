# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Appraise one report of an NVIDIA GPU or NVSwitch: verify it, let the policy's named allowances decide, ask what the policy asks."""

from __future__ import annotations

from datetime import datetime
from typing import Dict, FrozenSet, List, Optional, Sequence

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si
from ansible_collections.attested.ai.plugins.module_utils.appraisal.common import check_replay, with_next_step
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.nvidia_checks import check_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.nvidia_policy import DRIVER, FIRMWARE, Allowance, NvidiaPolicy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, NOT_CHECKED, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import NVIDIA_DEVICE, NVIDIA_RIM
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia import GPU, SWITCH, NvidiaClaims, verify_nvidia
from ansible_collections.attested.ai.plugins.module_utils.verify.result import Verification

TEES = {GPU: "nvidia-gpu", SWITCH: "nvidia-switch"}
_RIM_PREFIXES = {DRIVER: "driver-rim", FIRMWARE: "firmware-rim"}
_MISMATCH = "measurement-mismatch"
_REVOKED = "device-revoked"

_COLLECT_AGAIN = "collect the evidence again"
_FETCH_RIM = "fetch the manifest again (module collateral)"
_FETCH_OCSP = "give a current response for each certificate of the chain (module collateral), or set nvidia.revocation: not_required"
# What to do when a check fails: the verifier says what it saw, only here it is known how evidence and endorsements are given.
_NEXT_STEPS = {
    "format": _COLLECT_AGAIN,
    "device-kind": "give the reports of GPUs and of switches as what they are",
    "chain-length": "collect the certificate chain together with the report, whole",
    "root-not-pinned": "use a device under NVIDIA's root; roots of your own need roots and allow_nonvendor_roots in the policy",
    "chain": "collect the certificate chain again",
    "device-profile": "collect the certificate chain again",
    "device-expired": "archived evidence is judged at its own time (option at)",
    "fwid-mismatch": "the chain belongs to other firmware than the report: collect both in one go",
    "debug-state": "take the device out of use: it is not in production state",
    "report-signature": "collect report and chain of one device in one go",
    "device-revoked": "NVIDIA withdrew this device or its authority: take it out of use",
    "device-on-hold": "ask NVIDIA why; to accept it, name the certificate in nvidia.allow_hold with the reason",
    "nonce-mismatch": "collect evidence for the nonce of this run",
    "rim-index-conflict": _FETCH_RIM,
    _MISMATCH: "the firmware is not what NVIDIA published for this version: reset or update the device; to accept one index, name it in nvidia.allow_mismatch",
}
for _prefix in _RIM_PREFIXES.values():
    _NEXT_STEPS.update({
        _prefix + "-missing": "fetch the manifest of this version (module collateral); if NVIDIA publishes none, name it in nvidia.allow_missing_rim",
        _prefix + "-format": _FETCH_RIM,
        _prefix + "-signature": _FETCH_RIM,
        _prefix + "-chain": _FETCH_RIM,
        _prefix + "-product": "the manifest is of another product: fetch the one with the id in claims.rim_ids",
        _prefix + "-expired": "fetch the manifest again, NVIDIA signs it anew; to accept it, name the version in nvidia.allow_expired_rim",
        _prefix + "-records": "use a release of this collection that reads them, or set nvidia.allow_unread_rim_records to the reason",
        _prefix + "-revoked": "NVIDIA withdrew the signer of this manifest: fetch it again",
        _prefix + "-on-hold": "fetch the manifest again; to accept it, name the certificate in nvidia.allow_hold with the reason",
    })  # fmt: skip
_UNRECOGNISED_CODES = ("device-kind", "chain-length", "root-not-pinned", "chain", "device-profile")
_FIRMWARE_CODES = frozenset(("policy-driver-floor", "policy-driver", "policy-vbios-floor", "policy-vbios", "policy-fsp-svn",
                             "policy-switch-bios-floor", "policy-switch-bios", "device-on-hold"))  # fmt: skip
_CONFIGURATION_CODES = frozenset(("policy-mode", "policy-nvle", "policy-architecture"))


def appraise_gpu(item: EvidenceItem, context: ItemContext) -> ItemResult:
    """Verify and judge the report of one GPU. Never raises for what the evidence holds: a malformed report is a failed check."""
    return _appraise(GPU, item, context)


def appraise_switch(item: EvidenceItem, context: ItemContext) -> ItemResult:
    """Verify and judge the report of one NVSwitch. Never raises for what the evidence holds."""
    return _appraise(SWITCH, item, context)


def _appraise(kind: str, item: EvidenceItem, context: ItemContext) -> ItemResult:
    policy = context.policy.nvidia
    verification = verify_nvidia(
        kind, item.evidence, item.auxiliary.get("certificates", b""), context.endorsements.rims, context.endorsements.ocsp,
        context.roots_of(NVIDIA_DEVICE), context.roots_of(NVIDIA_RIM), context.at, context.expected_device_nonce, context.cache,
    )  # fmt: skip
    claims = verification.claims
    used: List[Allowance] = []
    checks = [with_next_step(_decide(check, verification, context, used), _NEXT_STEPS) for check in verification.checks]
    checks.append(check_replay(verification.evidence_id, context.seen))
    if verification.authentic is not True or claims is None:
        checks.append(not_checked("policy", "not held against the policy, because the evidence does not hold by itself"))
    else:
        checks += check_policy(claims, policy)
    ends = [verification.not_after] + [allowance.until for allowance in used]
    return ItemResult(
        tee=TEES[kind],
        authentic=verification.authentic,
        checks=tuple(checks),
        vector=_vector(verification, checks, policy, bool(used)),
        claims={} if claims is None else claims.to_dict(),
        anchor=verification.anchor,
        expires_at=min((end for end in ends if end is not None), default=None),
        identity=verification.evidence_id,
    )


def _decide(check: Check, verification: Verification[NvidiaClaims], context: ItemContext, used: List[Allowance]) -> Check:
    """What the policy requires must not stay unchecked; what it allows by name passes, and says so."""
    claims, policy, at = verification.claims, context.policy.nvidia, context.at
    if claims is None:
        return check
    if check.outcome == NOT_CHECKED and check.id.endswith("-revocation-unknown"):
        required = "required" in (policy.revocation, context.policy.revocation)
        if required and _concerned(check.id, verification, claims):
            return failed(check.id, "%s; %s" % (check.detail, _FETCH_OCSP))
    if check.outcome != FAIL:
        return check
    found = _allowances(check.id, claims, policy, at)
    if not found:
        return check
    used.extend(found)
    return passed(check.id, "%s; the policy allows it: %s" % (check.detail, "; ".join(allowance.reason for allowance in found)))


def _concerned(check_id: str, verification: Verification[NvidiaClaims], claims: NvidiaClaims) -> bool:
    """True if there is a proven path whose status is asked. Where there is none, another check says so."""
    for source, prefix in _RIM_PREFIXES.items():
        if check_id.startswith(prefix):
            return any(use.source == source and use.usable for use in claims.rims)
    return verification.evidence_id is not None


def _allowances(check_id: str, claims: NvidiaClaims, policy: NvidiaPolicy, at: datetime) -> List[Allowance]:
    """The allowances that together cover what failed; none if any part is not covered."""
    if check_id == _MISMATCH:
        return _covering(policy.allow_mismatch, [(one.source, one.version, one.index, None) for one in claims.mismatches], at)
    if check_id.endswith("-on-hold"):
        return _covering(policy.allow_hold, [(None, None, None, certificate) for certificate in claims.held], at)
    for source, prefix in _RIM_PREFIXES.items():
        wanted = [(source, use.version, None, None) for use in claims.rims if use.source == source]
        if check_id == prefix + "-expired":
            return _covering(policy.allow_expired_rim, wanted, at)
        if check_id == prefix + "-missing":
            return _covering(policy.allow_missing_rim, wanted, at)
        if check_id == prefix + "-records" and policy.allow_unread_rim_records is not None:
            return [Allowance(policy.allow_unread_rim_records)]
    return []


def _covering(allowances: Sequence[Allowance], wanted: Sequence[object], at: datetime) -> List[Allowance]:
    known = {(one.rim, one.version, one.index, one.certificate): one for one in allowances if one.holds(at)}
    found: List[Optional[Allowance]] = [known.get(key) for key in wanted]  # type: ignore[call-overload]
    return [one for one in found if one is not None] if all(one is not None for one in found) else []


def _vector(verification: Verification[NvidiaClaims], checks: Sequence[Check], policy: NvidiaPolicy, allowed: bool) -> Dict[str, int]:
    """The AR4SI claims that this item makes; those that nothing is known about are left out. ``allowed`` tells that an allowance of the
    policy was used: what would have been refused without it is accepted, but never affirmed."""
    bad = frozenset(check.id for check in checks if check.outcome == FAIL)
    claims = verification.claims
    if verification.authentic is not True or claims is None:
        return {"hardware": _hardware_unproven(verification, bad)}
    denied = "device-not-allowed" in bad or "switch-identity" in bad
    vector: Dict[str, int] = {}
    vector["hardware"] = ar4si.CONTRAINDICATED_VALUE if denied else ar4si.UNSAFE if bad & _FIRMWARE_CODES or claims.held else ar4si.APPROVED
    if claims.debug_flags:
        vector["configuration"] = ar4si.CONTRAINDICATED_VALUE
    else:
        vector["configuration"] = ar4si.UNSAFE if bad & _CONFIGURATION_CODES else ar4si.APPROVED
    vector["executables"] = ar4si.APPROVED_BOOT if claims.secure_boot and not allowed else ar4si.UNRECOGNISED_EXECUTABLES
    if any(check.id == _MISMATCH and check.outcome == FAIL for check in checks):
        vector["executables"] = ar4si.CONTRAINDICATED_VALUE
    if policy.devices.allow:
        vector["instance-identity"] = ar4si.UNRECOGNISED if denied else ar4si.APPROVED
    return vector


def _hardware_unproven(verification: Verification[NvidiaClaims], bad: FrozenSet[str]) -> int:
    if verification.claims is None:
        return ar4si.UNEXPECTED_EVIDENCE
    if _REVOKED in bad:
        return ar4si.CONTRAINDICATED_VALUE
    return ar4si.UNRECOGNISED if bad.intersection(_UNRECOGNISED_CODES) else ar4si.CRYPTO_FAILED
