# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a policy asks of an Intel TD quote, one stable check each. The quote is taken as authentic: verify/tdx.py says whether it is.

Every detail names what was seen and what was expected, and on failure what to do next.
"""

from __future__ import annotations

from typing import List, Optional, Sequence

from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Machines
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import format_time
from ansible_collections.attested.ai.plugins.module_utils.appraisal.tdx_policy import REFUSED, UP_TO_DATE, TdxPolicy
from ansible_collections.attested.ai.plugins.module_utils.checks import Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.formats.tcb_info import OUT_OF_DATE, OUT_OF_DATE_CONFIGURATION, REVOKED
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_quote import (
    TD_ICSSD, TD_MIGRATABLE, TD_PERFMON, TD_RESERVED, TD_SEPT_VE_DISABLE, TD_SERVTD_EXT, TD_UNDER_DEBUG,
)  # fmt: skip
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx_claims import TdxClaims
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx_tcb import RELAUNCH, RELAUNCH_CONFIGURATION

STATUS, OUTDATED, WITHDRAWN, RELAUNCH_ADVISED = "tcb-status-not-allowed", "tcb-out-of-date", "tcb-revoked", "td-relaunch-advised"
# Which check tells of a status that is not accepted. All others are told by STATUS.
_TELLS = {
    OUT_OF_DATE: OUTDATED, OUT_OF_DATE_CONFIGURATION: OUTDATED, REVOKED: WITHDRAWN, RELAUNCH: RELAUNCH_ADVISED,
    RELAUNCH_CONFIGURATION: RELAUNCH_ADVISED,
}  # fmt: skip
_UPDATE = {
    OUTDATED: "update BIOS, microcode and TDX module of the machine",
    WITHDRAWN: "Intel withdrew its word for this platform: take it out of use",
    RELAUNCH_ADVISED: "the TDX module was updated under the running TD: launch the TD again, or set tdx.allow_relaunch_advised",
    STATUS: "change what Intel's advisories ask for, or add the status to tdx.statuses and the advisories to tdx.allow_advisories",
}
_CONFIGURATION_STATUSES = ("ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded")


def check_policy(claims: TdxClaims, policy: TdxPolicy, machines: Machines) -> List[Check]:
    """All checks of a policy but the reference values, most telling first."""
    return [
        _debug(claims, policy),
        _reserved(claims),
        _sept(claims, policy),
        _migration(claims, policy),
        _service_td(claims, policy),
        _feature("policy-icssd", "the TD is for a secure service of the host (ICSSD)", TD_ICSSD, policy.allow_icssd, "allow_icssd", claims),
        _feature("policy-perfmon", "the TD may use performance counters (PERFMON)", TD_PERFMON, policy.allow_perfmon, "allow_perfmon", claims),
        _xfam(claims, policy),
        _status(claims, policy),
        _advisories(claims, policy),
        _date(claims, policy),
        _evaluation_number(claims, policy),
        _module_svn(claims, policy),
        _listed("policy-mrseam", "MRSEAM", claims.body.mrseam, policy.mrseam, "mrseam"),
        _platform(claims, policy),
        _machine(claims, machines),
        _listed("mrconfigid-mismatch", "MRCONFIGID", claims.body.mrconfigid, policy.mrconfigid, "mrconfigid"),
        _listed("mrowner-mismatch", "MROWNER", claims.body.mrowner, policy.mrowner, "mrowner"),
        _listed("mrownerconfig-mismatch", "MROWNERCONFIG", claims.body.mrownerconfig, policy.mrownerconfig, "mrownerconfig"),
    ]


def _debug(claims: TdxClaims, policy: TdxPolicy) -> Check:
    bits = claims.body.tdattributes & TD_UNDER_DEBUG
    if not bits:
        return passed("policy-debug", "debugging and profiling are off")
    if policy.allow_debug:
        return passed("policy-debug", "debugging or profiling is ON (TDATTRIBUTES 0x%02x) and the policy allows it: the host can read this TD's memory" % bits)
    return failed("policy-debug", "debugging or profiling is on (TDATTRIBUTES 0x%016x), the host can read this TD's memory; launch the TD without it" % (
        claims.body.tdattributes))  # fmt: skip


def _reserved(claims: TdxClaims) -> Check:
    bits = claims.body.tdattributes & TD_RESERVED & ~TD_UNDER_DEBUG
    if not bits:
        return passed("policy-reserved-attributes", "no reserved attribute is set")
    return failed("policy-reserved-attributes", "TDATTRIBUTES 0x%016x has reserved bits (0x%x), of which nobody knows what they allow; launch the TD "
                  "without them" % (claims.body.tdattributes, bits))  # fmt: skip


def _sept(claims: TdxClaims, policy: TdxPolicy) -> Check:
    code = "policy-sept-ve-disable"
    if claims.body.tdattributes & TD_SEPT_VE_DISABLE:
        return passed(code, "SEPT_VE_DISABLE is set")
    if not policy.require_sept_ve_disable:
        return passed(code, "SEPT_VE_DISABLE is clear and the policy allows it (provider azure: the paravisor handles these exceptions)")
    return failed(code, "SEPT_VE_DISABLE is clear (TDATTRIBUTES 0x%016x), so the host can inject exceptions by taking pages away; launch the TD with it, or "
                  "set provider: azure for guests under its paravisor" % claims.body.tdattributes)  # fmt: skip


def _migration(claims: TdxClaims, policy: TdxPolicy) -> Check:
    if not claims.body.tdattributes & TD_MIGRATABLE:
        return passed("policy-migration", "the TD cannot be migrated")
    if policy.allow_migratable:
        return passed("policy-migration", "the TD can be migrated and the policy allows it")
    return failed("policy-migration", "the TD can be migrated to another machine; launch it without MIGRATABLE, or set tdx.allow_migratable")


def _service_td(claims: TdxClaims, policy: TdxPolicy) -> Check:
    code, bound = "policy-service-td", claims.body.mrservicetd
    extended = bool(claims.body.tdattributes & TD_SERVTD_EXT)
    if extended and policy.allow_service_td is None:
        return failed(code, "a service TD may be bound after launch (SERVTD_EXT); launch the TD without it, or name its digest in tdx.allow_service_td")
    if bound is None:
        return not_checked(code, "a TDX 1.0 body cannot say whether a service TD is bound")
    if not any(bound):
        return passed(code, "no service TD is bound")
    if policy.allow_service_td is not None and bound.hex() in policy.allow_service_td:
        return passed(code, "the service TD %s is bound, which the policy allows" % bound.hex())
    return failed(code, "the service TD %s is bound and may act on this TD; launch it without, or add the digest to tdx.allow_service_td" % bound.hex())


def _feature(code: str, text: str, bit: int, allowed: bool, key: str, claims: TdxClaims) -> Check:
    if not claims.body.tdattributes & bit:
        return passed(code, "the attribute is clear")
    if allowed:
        return passed(code, text + " and the policy allows it")
    return failed(code, "%s; launch it without, or set tdx.%s" % (text, key))


def _xfam(claims: TdxClaims, policy: TdxPolicy) -> Check:
    beyond = claims.body.xfam & ~policy.xfam_mask
    if not beyond:
        return passed("policy-xfam", "XFAM 0x%x is within 0x%x" % (claims.body.xfam, policy.xfam_mask))
    return failed("policy-xfam", "XFAM 0x%x has bits (0x%x) beyond 0x%x; launch the TD without these CPU features, or widen tdx.xfam_mask" % (
        claims.body.xfam, beyond, policy.xfam_mask))  # fmt: skip


def _status(claims: TdxClaims, policy: TdxPolicy) -> Check:
    status = claims.tcb_status
    if status is None or claims.tcb is None:
        return not_checked(STATUS, "no TCB status is reached")
    code = _TELLS.get(status, STATUS)
    text = "the TCB status is %s (platform %s, module %s, QE %s), accepted are %s" % (
        status, claims.tcb.platform_status, claims.tcb.module_status or "with the platform", claims.tcb.qe_status, _words(policy.statuses)
    )  # fmt: skip
    if status in policy.statuses or _relaunch_allowed(status, policy):
        return passed(STATUS, text)
    return failed(code, "%s; %s" % (text, _UPDATE[code]))


def _relaunch_allowed(status: str, policy: TdxPolicy) -> bool:
    if not policy.allow_relaunch_advised:
        return False
    return status == RELAUNCH or (status == RELAUNCH_CONFIGURATION and any(name in policy.statuses for name in _CONFIGURATION_STATUSES))


def _advisories(claims: TdxClaims, policy: TdxPolicy) -> Check:
    code, found = "policy-advisory", claims.advisory_ids
    denied = [name for name in found if name in policy.deny_advisories]
    if denied:
        return failed(code, "%s on tdx.deny_advisories concern this machine; update it" % _words(denied))
    if claims.tcb_status in (UP_TO_DATE, None):
        return passed(code, "the machine is up to date; advisories that are dealt with: %s" % _words(found))
    unknown = [name for name in found if name not in policy.allow_advisories]
    if unknown:
        return failed(code, "%s concern this machine and are not on tdx.allow_advisories; read them, then update the machine or add them" % _words(unknown))
    return passed(code, "advisories that the policy allows: %s" % _words(found))


def _date(claims: TdxClaims, policy: TdxPolicy) -> Check:
    code, seen, least = "policy-tcb-date", claims.tcb_date, policy.min_tcb_date
    text = "unknown" if seen is None else format_time(seen)
    if least is None:
        return not_checked(code, "tdx.min_tcb_date is not set, the TCB is of %s" % text)
    if seen is not None and seen >= least:
        return passed(code, "the TCB is of %s, at least %s" % (text, format_time(least)))
    return failed(code, "the TCB is of %s, the policy asks for %s or later; update the machine" % (text, format_time(least)))


def _evaluation_number(claims: TdxClaims, policy: TdxPolicy) -> Check:
    code, least = "policy-tcb-eval-number", policy.min_tcb_evaluation_data_number
    seen = [number for number in (claims.tcb_evaluation_data_number, claims.qe_evaluation_data_number) if number is not None]
    if not least:
        return not_checked(code, "tdx.min_tcb_evaluation_data_number is not set, judged by number %s" % _words(seen))
    if len(seen) == 2 and min(seen) >= least:
        return passed(code, "judged by evaluation number %d, at least %d" % (min(seen), least))
    return failed(code, "judged by evaluation number %s, the policy asks for %d or higher; fetch collateral with update: early or a later number" % (
        _words(seen) or "none", least))  # fmt: skip


def _module_svn(claims: TdxClaims, policy: TdxPolicy) -> Check:
    code, seen = "policy-module-svn", claims.body.tee_tcb_svn[0]
    if not policy.min_module_svn:
        return not_checked(code, "tdx.min_module_svn is not set, the TDX module has SVN %d" % seen)
    if seen >= policy.min_module_svn:
        return passed(code, "TDX module SVN %d, at least %d" % (seen, policy.min_module_svn))
    return failed(code, "TDX module SVN %d, the policy asks for %d; update the TDX module and launch the TD again" % (seen, policy.min_module_svn))


def _listed(code: str, name: str, value: bytes, allowed: Optional[Sequence[str]], key: str) -> Check:
    if allowed is None:
        return not_checked(code, "tdx.%s is not set, %s is %s" % (key, name, value.hex()))
    if value.hex() in allowed:
        return passed(code, "%s is %s, as the policy asks" % (name, value.hex()))
    return failed(code, "%s is %s, the policy allows %s; launch the TD with one of these" % (name, value.hex(), _words(allowed)))


def _platform(claims: TdxClaims, policy: TdxPolicy) -> Check:
    code, pck = "policy-platform", claims.pck
    if pck is None:
        return not_checked(code, "the PCK certificate is not proven")
    problems = []
    if policy.fmspcs is not None and pck.fmspc.hex() not in policy.fmspcs:
        problems.append("FMSPC %s is none of %s (tdx.fmspcs)" % (pck.fmspc.hex(), _words(policy.fmspcs)))
    if claims.ca not in policy.pck_cas:
        problems.append("the PCK certificate is of the %s CA, allowed are %s (tdx.pck_cas)" % (claims.ca, _words(policy.pck_cas)))
    for key, flag in (("dynamic_platform", pck.dynamic_platform), ("cached_keys", pck.cached_keys), ("smt", pck.smt_enabled)):
        # What the certificate does not state is not known to be off.
        if getattr(policy, key) == REFUSED and flag is not False:
            problems.append("%s is %s and tdx.%s is refused" % (key, "on" if flag else "not stated", key))
    if problems:
        return failed(code, "%s; register the machine anew after changing it, or change the policy" % "; ".join(problems))
    return passed(code, "FMSPC %s, %s CA, dynamic platform %s, cached keys %s, SMT %s" % (
        pck.fmspc.hex(), claims.ca, pck.dynamic_platform, pck.cached_keys, pck.smt_enabled))  # fmt: skip


def _machine(claims: TdxClaims, machines: Machines) -> Check:
    code, machine = "machine-not-allowed", claims.machine
    name = "machine %s" % machine if machine else "a machine that hides its PPID"
    if machine is not None and machine in machines.deny:
        return failed(code, "%s is on machines.deny" % name)
    if machine is None and (machines.allow or machines.deny):
        return failed(code, "%s cannot be told from those of machines.allow and machines.deny" % name)
    if machines.allow:
        if machine in machines.allow:
            return passed(code, "%s is on machines.allow" % name)
        return failed(code, "%s is not on machines.allow; add its digest if it is yours" % name)
    if machines.csp_ids:
        return failed(code, "only providers are allowed (machines.csp_ids), and no provider stands for %s; add it to machines.allow if it is yours" % name)
    return not_checked(code, "any machine is accepted" + ("; pin yours with machines.allow: [%s]" % machine if machine else ""))


def _words(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values) or "none"
