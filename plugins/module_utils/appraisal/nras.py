# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Appraise a token of NVIDIA's Remote Attestation Service: another's verdict on GPUs, in the place of their own reports.

The policy must accept that source by name (nvidia.nras.accept). What a policy asks of devices and a token does not tell is refused.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Dict, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si
from ansible_collections.attested.ai.plugins.module_utils.appraisal.common import check_replay, with_next_step
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.nvidia_policy import NvidiaPolicy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, NOT_CHECKED, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.nvidia import nras_certificate_pins
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.verify.nras import NrasClaims, NrasDevice, verify_nras

TEE = "nvidia-nras"
_AGAIN = "ask the service again for the nonce of this run"
_KEYS = "give the service's key set as it was when the token was issued (/.well-known/jwks.json, option collateral)"
_NEXT_STEPS = {
    "format": "give the detached EAT as the service returned it",
    "token-algorithm": "a local verifier's token is no evidence for anybody else; ask the service",
    "signer-not-pinned": "if NVIDIA has a new issuer, give its digest in nvidia.nras.certificates, with allow_nonvendor_roots: true",
    "signer-chain": _KEYS,
    "signer-expired": "archived tokens are judged at their own time (option at)",
    "token-signature": _AGAIN,
    "submod-digest": "give all tokens of one answer",
    "device-count": "give all tokens of one answer",
    "token-issuer": "give the base URL of the service that you asked in nvidia.nras.issuer",
    "token-expired": _AGAIN,
    "nonce-mismatch": _AGAIN,
    "overall-result": "look at the service's claims for what failed",
    "device-result": "look at the service's claims for what failed",
}  # fmt: skip


def appraise_item(item: EvidenceItem, context: ItemContext) -> ItemResult:
    """Verify and judge one detached EAT. Never raises for what the evidence holds."""
    policy = context.policy.nvidia
    shipped = nras_certificate_pins()
    own = policy.nras.certificates if context.policy.allow_nonvendor_roots else ()
    verification = verify_nras(
        item.evidence, context.endorsements.jwks, shipped + tuple(own), shipped, context.at, context.expected_device_nonce, policy.nras.issuer,
        timedelta(seconds=policy.nras.clock_skew), context.cache,
    )  # fmt: skip
    claims = verification.claims
    checks = [with_next_step(_required(check), _NEXT_STEPS) for check in verification.checks]
    checks += [check_replay(verification.evidence_id, context.seen), _accepted(policy)]
    if verification.authentic is not True or claims is None:
        checks.append(not_checked("policy", "not held against the policy, because the token does not hold by itself"))
    else:
        checks += _check_policy(claims, policy)
    devices = () if claims is None else claims.devices
    return ItemResult(
        tee=TEE,
        authentic=verification.authentic,
        checks=tuple(checks),
        vector=_vector(verification.authentic, claims, checks),
        claims={} if claims is None else claims.to_dict(),
        anchor=verification.anchor,
        expires_at=verification.not_after,
        identity=verification.evidence_id,
        devices=max(1, len(devices)),
    )


def _required(check: Check) -> Check:
    """Without the key nothing is known, which must not look like a small matter."""
    if check.id == "signer-unknown" and check.outcome == NOT_CHECKED:
        return failed(check.id, "%s; %s" % (check.detail, _KEYS))
    return check


def _accepted(policy: NvidiaPolicy) -> Check:
    code = "policy-nras"
    if policy.nras.accept:
        return passed(code, "the policy takes the service's word (nvidia.nras.accept)")
    return failed(code, "the policy does not take the word of a service; collect the device's own report, or set nvidia.nras.accept: true")


def _check_policy(claims: NrasClaims, policy: NvidiaPolicy) -> List[Check]:
    checks = [_kind(claims), _identity(claims, policy), _architecture(claims, policy), _versions(claims, policy), _vbios(claims, policy), _mode(policy)]
    for code, asked, key in (
        ("policy-fsp-svn", bool(policy.min_fsp_svn), "min_fsp_svn"),
        ("policy-nvle", policy.nvle_status is not None, "nvle_status"),
    ):
        if asked:
            checks.append(failed(code, "a token does not tell what nvidia.%s asks for; collect the device's own report" % key))
    return checks


def _kind(claims: NrasClaims) -> Check:
    code, others = "device-kind", [device.name for device in claims.devices if not device.name.startswith("GPU-") or device.architecture == "ls10"]
    if others:
        return failed(code, "%s are no GPUs, and only those count here; collect the reports of switches" % ", ".join(others))
    return passed(code, "%d GPUs" % len(claims.devices))


def _identity(claims: NrasClaims, policy: NvidiaPolicy) -> Check:
    code = "device-not-allowed"
    if claims.device is None or len(set(claims.ueids)) != len(claims.devices):
        return failed(code, "the tokens do not tell %d different devices (ueid); ask the service again" % len(claims.devices))
    if policy.devices.allow or policy.devices.deny:
        return failed(code, "a token does not name the device's key, which nvidia.devices asks for; collect the device's own report")
    return passed(code, "any device is accepted; these are %s" % ", ".join(claims.ueids))


def _architecture(claims: NrasClaims, policy: NvidiaPolicy) -> Check:
    code, seen = "policy-architecture", sorted({device.architecture or "unknown" for device in claims.devices})
    text = "the devices are %s, allowed are %s" % (", ".join(seen), ", ".join(policy.architectures))
    return passed(code, text) if set(seen) <= set(policy.architectures) else failed(code, text + "; add it to nvidia.architectures to accept it")


def _versions(claims: NrasClaims, policy: NvidiaPolicy) -> Check:
    code, offences = "policy-driver", []
    for device in claims.devices:
        offences += _offence(device, "driver", device.driver_version, policy.min_driver, policy.drivers, 10)
    return failed(code, "; ".join(offences)) if offences else passed(code, "the drivers are those that the policy asks for, if any")


def _vbios(claims: NrasClaims, policy: NvidiaPolicy) -> Check:
    code, offences, floors = "policy-vbios", [], dict(policy.min_vbios)
    for device in claims.devices:
        if floors and device.chip not in floors:
            offences.append("%s: nvidia.min_vbios has no version for %s; add one" % (device.name, ascii(device.chip)))
        offences += _offence(device, "VBIOS", device.vbios, floors.get(device.chip or ""), policy.vbios, 16)
    return failed(code, "; ".join(offences)) if offences else passed(code, "the VBIOS is one that the policy asks for, if any")


def _offence(device: NrasDevice, what: str, seen: Optional[str], least: Optional[str], allowed: Optional[Sequence[str]], base: int) -> List[str]:
    shown = ascii(seen)[1:-1] if seen is not None else "not stated"
    found = []
    if least is not None and (_number(seen, base) or ()) < (_number(least, base) or ()):
        found.append("%s: %s %s, the policy asks for at least %s; update it" % (device.name, what, shown, least))
    if allowed is not None and (seen or "").upper() not in allowed:
        found.append("%s: %s %s, allowed are %s; add it to accept it" % (device.name, what, shown, ", ".join(allowed)))
    return found


def _number(version: Optional[str], base: int) -> Optional[Tuple[int, ...]]:
    try:
        return tuple([int(part, base) for part in (version or "").split(".")])
    except ValueError:
        return None


def _mode(policy: NvidiaPolicy) -> Check:
    code = "policy-mode"
    if policy.allow_unstated_mode:
        return passed(code, "a token does not state the mode, and the policy allows it")
    return failed(code, "a token does not state the mode (SPT, MPT, PPCIE); collect the device's own report, or set nvidia.allow_unstated_mode")


def _vector(authentic: Optional[bool], claims: Optional[NrasClaims], checks: Sequence[Check]) -> Dict[str, int]:
    bad = {check.id for check in checks if check.outcome == FAIL}
    if authentic is not True or claims is None:
        return {"hardware": ar4si.UNEXPECTED_EVIDENCE if "format" in bad else ar4si.CRYPTO_FAILED}
    if bad & {"overall-result", "device-result"}:
        return {"hardware": ar4si.CONTRAINDICATED_VALUE, "executables": ar4si.CONTRAINDICATED_VALUE}
    return {"hardware": ar4si.APPROVED, "executables": ar4si.APPROVED_BOOT}
