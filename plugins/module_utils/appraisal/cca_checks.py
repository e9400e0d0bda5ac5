# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a policy asks of an Arm CCA token, one stable check each. The token is taken as authentic: verify/cca.py says whether it is.

Every detail names what was seen and what was expected, and on failure what to do next.
"""

from __future__ import annotations

from typing import List, Sequence

from ansible_collections.attested.ai.plugins.module_utils.appraisal.cca_policy import LIFECYCLES, CcaPolicy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Machines
from ansible_collections.attested.ai.plugins.module_utils.checks import Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.verify.cca import CcaClaims

SECURED = "secured"
# Who holds a bare key may put any ids into the token, so no list of ids means anything then.
_NAME_IT = "the endorsement is a bare key: give one with implementation_id and instance_id"


def lifecycle_name(claims: CcaClaims) -> str:
    """The name of the platform's lifecycle state, empty for a value that has none."""
    return LIFECYCLES.get(claims.token.platform_claims.lifecycle >> 8, "")


def check_policy(claims: CcaClaims, policy: CcaPolicy, machines: Machines) -> List[Check]:
    """All checks of a policy but the reference values, most telling first."""
    return [
        _lifecycle(claims, policy),
        _profile(claims, policy),
        _implementation(claims, policy),
        _machine(claims, machines),
        _unknown_claims(claims, policy),
        _live_activation(claims, policy),
        _extensions(claims, policy),
        _mec(claims, policy),
        _configuration(claims, policy),
        _devices(claims),
    ]


def _lifecycle(claims: CcaClaims, policy: CcaPolicy) -> Check:
    name, value = lifecycle_name(claims), claims.token.platform_claims.lifecycle
    text = "the platform's lifecycle is 0x%04x (%s), allowed are %s" % (value, name or "no defined state", _words(policy.allow_lifecycle))
    if name and name in policy.allow_lifecycle:
        return passed("lifecycle", text)
    return failed("lifecycle", text + "; a platform in another state than secured may be debugged or changed by its owner: take it out of use")


def _profile(claims: CcaClaims, policy: CcaPolicy) -> Check:
    seen, text = claims.token.generation, "profile %s, allowed are %s" % (claims.token.generation, _words(policy.profiles))
    if seen in policy.profiles:
        return passed("policy-profile", text)
    return failed("policy-profile", text + "; add it to cca.profiles to accept it")


def _implementation(claims: CcaClaims, policy: CcaPolicy) -> Check:
    code, seen = "policy-implementation", claims.token.platform_claims.implementation_id.hex()
    if policy.implementation_ids is None:
        return not_checked(code, "any implementation with an endorsed key is accepted; this one is %s" % seen)
    if not _endorsed_by_name(claims):
        return failed(code, "implementation %s is named by nothing but its own token; %s" % (seen, _NAME_IT))
    if seen in policy.implementation_ids:
        return passed(code, "implementation %s is on cca.implementation_ids" % seen)
    return failed(code, "implementation %s is not on cca.implementation_ids; add it if you use this platform" % seen)


def _machine(claims: CcaClaims, machines: Machines) -> Check:
    code, machine = "machine-not-allowed", claims.machine
    if machine in machines.deny:
        return failed(code, "machine %s is on machines.deny" % machine)
    if (machines.allow or machines.deny) and not _endorsed_by_name(claims):
        return failed(code, "machine %s is named by nothing but its own token; %s" % (machine, _NAME_IT))
    if machines.allow:
        if machine in machines.allow:
            return passed(code, "machine %s is on machines.allow" % machine)
        return failed(code, "machine %s is not on machines.allow; add its digest if it is yours" % machine)
    if machines.csp_ids:
        return failed(code, "only providers are allowed (machines.csp_ids), and no provider stands for machine %s; add it to machines.allow if "
                      "it is yours" % machine)  # fmt: skip
    return not_checked(code, "any machine with an endorsed key is accepted; pin yours with machines.allow: [%s]" % machine)


def _endorsed_by_name(claims: CcaClaims) -> bool:
    return claims.endorsed is not None and claims.endorsed.names_platform


def _unknown_claims(claims: CcaClaims, policy: CcaPolicy) -> Check:
    code = "unknown-claims"
    unknown = claims.token.platform_claims.unknown + claims.token.realm_claims.unknown
    if not unknown:
        return passed(code, "every claim is one that the profile defines")
    text = "claims that profile %s does not define: %s" % (claims.token.generation, _words(unknown[:8]))
    if policy.allow_unknown_claims:
        return not_checked(code, text + " (cca.allow_unknown_claims is true): nothing is judged by them")
    return failed(code, text + "; learn what they mean, then set cca.allow_unknown_claims, or use a release of this collection that knows them")


def _live_activation(claims: CcaClaims, policy: CcaPolicy) -> Check:
    """Firmware that is replaced while the realm runs is no longer what the platform token lists."""
    code, seen = "policy-live-activation", claims.token.realm_claims.lfa_policy
    able = [part.name or "?" for part in claims.token.platform_claims.components if part.live_activation]
    if seen == "disallow":
        return passed(code, "the realm forbids live firmware activation")
    if seen is None and not able:
        return passed(code, "no live firmware activation is named")
    text = "the realm allows live firmware activation" if seen else "%s can be replaced while the realm runs, which does not forbid it" % ascii(_words(able))
    if policy.allow_live_firmware_activation:
        return passed(code, text + ", and the policy allows it")
    return failed(code, text + ": the firmware may change after this token; forbid it when the realm is made, or set cca.allow_live_firmware_activation")


def _extensions(claims: CcaClaims, policy: CcaPolicy) -> Check:
    code, number = "platform-extensions", len(claims.token.platform_claims.extensions)
    if not number:
        return passed(code, "no device was added to the platform")
    text = "%d devices were added to the platform at run time (claim 2404), for example memory on a bus" % number
    if policy.allow_platform_extensions:
        return not_checked(code, text + " (cca.allow_platform_extensions is true): their evidence is not part of the token")
    return failed(code, text + "; their evidence is not part of the token, set cca.allow_platform_extensions if you trust them")


def _mec(claims: CcaClaims, policy: CcaPolicy) -> Check:
    code, seen = "policy-mec", claims.token.realm_claims.mec_policy
    if policy.mec_policy == "any":
        return not_checked(code, "nothing is asked of the memory encryption context, it is %s" % (seen or "not named"))
    if seen == policy.mec_policy:
        return passed(code, "the realm's memory has an encryption context of its own")
    return failed(code, "the memory encryption context is %s, the policy asks for %s; launch the realm with a private one" % (
        seen or "not named by profile %s" % claims.token.generation, policy.mec_policy))  # fmt: skip


def _configuration(claims: CcaClaims, policy: CcaPolicy) -> Check:
    code, seen = "configuration-mismatch", claims.token.platform_claims.configuration.hex()
    if policy.configurations is None:
        return not_checked(code, "nothing is asked of the platform's configuration, it is %s" % _short(seen))
    if seen in policy.configurations:
        return passed(code, "the platform's configuration is %s, as expected" % _short(seen))
    return failed(code, "the platform's configuration is %s, the policy allows %s; its meaning is the silicon vendor's" % (
        _short(seen), _words([_short(value) for value in policy.configurations])))  # fmt: skip


def _devices(claims: CcaClaims) -> Check:
    seen = claims.token.realm_claims.devices_hash
    if seen is None:
        return passed("assigned-devices", "the token names no device that is assigned to the realm")
    detail = "devices are assigned to the realm (their token has the digest %s); their evidence is not part of this one" % seen.hex()
    return not_checked("assigned-devices", detail)


def _short(text: str) -> str:
    return text if len(text) <= 128 else text[:125] + "..."


def _words(values: Sequence[str]) -> str:
    return ", ".join(values)
