# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Intel TDX in the words of Trustee's claims: input.tdx.

Trustee itself asks for: a quote under Intel's root, verified by Intel's library with collateral of Intel's service, and the event log, if there is one,
to fit the registers.
"""

from __future__ import annotations

from typing import List, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValue
from ansible_collections.attested.ai.plugins.module_utils.appraisal.tdx_policy import CAS, REFUSED, UP_TO_DATE, TdxPolicy
from ansible_collections.attested.ai.plugins.module_utils.formats import tdx_quote as quote
from ansible_collections.attested.ai.plugins.module_utils.kbs.regotext import bits, literal, one_of, rule, until
from ansible_collections.attested.ai.plugins.module_utils.kbs.rego_snp import Spoken

_BODY = "input.tdx.quote.body"
_ATTRIBUTES = "input.tdx.quote.body.td_attributes"
_NO_SERVICE_TD = "0" * 96
_U64 = 2**64 - 1


def speak(policy: Policy) -> Spoken:
    tdx = policy.tdx
    hardware, rules = _hardware(tdx)
    configuration, more = _configuration(tdx)
    return Spoken("tdx", "input.tdx", [*rules, *more, rule("hardware := 2", hardware), rule("configuration := 2", configuration)], _gaps(tdx), [])


def measured(value: ReferenceValue) -> List[str]:
    lines = ["%s.mr_td == %s" % (_BODY, literal(value.measurement))]
    lines += [one_of("%s.rtmr_%s" % (_BODY, number), allowed) for number, allowed in value.rtmr]
    for name, claim in (("mrseam", "mr_seam"), ("mrconfigid", "mr_config_id"), ("mrowner", "mr_owner"), ("mrownerconfig", "mr_owner_config")):
        wanted = getattr(value, name)
        if wanted is not None:
            lines.append("%s.%s == %s" % (_BODY, claim, literal(wanted)))
    return lines + [until(value.not_after)]


def _hardware(tdx: TdxPolicy) -> Tuple[List[str], List[str]]:
    lines = [
        'input.tdx.quote.header.tee_type == "81000000"', 'input.tdx.quote.header.vendor_id == "%s"' % quote.QE_VENDOR_ID.hex(),
        one_of("input.tdx.tcb_status", tdx.statuses), 'input.tdx.collateral_expiration_status == "0"',
        # There must be a list before it can be said what is not in it.
        "count(input.tdx.advisory_ids) >= 0",
    ]  # fmt: skip
    rules = []
    if tdx.deny_advisories:
        rules.append(rule("tdx_denied_advisory", ["some id in input.tdx.advisory_ids", one_of("id", tdx.deny_advisories)]))
        lines.append("not tdx_denied_advisory")
    if set(tdx.statuses) != {UP_TO_DATE}:
        body = ['input.tdx.tcb_status != "%s"' % UP_TO_DATE, "some id in input.tdx.advisory_ids"]
        body += ["not " + one_of("id", tdx.allow_advisories)] if tdx.allow_advisories else []
        rules.append(rule("tdx_unknown_advisory", body))
        lines.append("not tdx_unknown_advisory")
    if tdx.min_tcb_date is not None:
        lines.append("time.parse_rfc3339_ns(input.tdx.tcb_date) >= %d" % (int(tdx.min_tcb_date.timestamp()) * 10**9))
    if tdx.min_tcb_evaluation_data_number:
        lines.append("input.tdx.tcb_eval_num >= %d" % tdx.min_tcb_evaluation_data_number)
    if tdx.min_module_svn:
        # Two digits in lower case are in the order of the numbers.
        lines.append('substring(%s.tcb_svn, 0, 2) >= "%02x"' % (_BODY, tdx.min_module_svn))
    if tdx.mrseam is not None:
        lines.append(one_of(_BODY + ".mr_seam", tdx.mrseam))
    return lines, rules


def _configuration(tdx: TdxPolicy) -> Tuple[List[str], List[str]]:
    forbidden = quote.TD_RESERVED & ~quote.TD_UNDER_DEBUG
    required = quote.TD_SEPT_VE_DISABLE if tdx.require_sept_ve_disable else 0
    for bit, allowed in (
        (quote.TD_UNDER_DEBUG, tdx.allow_debug), (quote.TD_MIGRATABLE, tdx.allow_migratable), (quote.TD_ICSSD, tdx.allow_icssd),
        (quote.TD_PERFMON, tdx.allow_perfmon), (quote.TD_SERVTD_EXT, tdx.allow_service_td is not None),
    ):  # fmt: skip
        forbidden |= 0 if allowed else bit
    lines = bits(_ATTRIBUTES, 8, required, forbidden) + bits(_BODY + ".xfam", 8, 0, _U64 & ~tdx.xfam_mask)
    bound = rule("tdx_foreign_service_td", [
        _BODY + ".mr_servicetd", "not " + one_of(_BODY + ".mr_servicetd", [_NO_SERVICE_TD, *(tdx.allow_service_td or ())])])  # fmt: skip
    lines.append("not tdx_foreign_service_td")
    for name, claim in (("mrconfigid", "mr_config_id"), ("mrowner", "mr_owner"), ("mrownerconfig", "mr_owner_config")):
        allowed = getattr(tdx, name)
        if allowed is not None:
            lines.append(one_of("%s.%s" % (_BODY, claim), allowed))
    if tdx.require_event_log:
        lines.append("count(input.tdx.uefi_event_logs) > 0")
    return ["input.tdx"] + lines, [bound]


def _gaps(tdx: TdxPolicy) -> List[Tuple[str, str]]:
    gaps = []
    if tdx.fmspcs is not None:
        gaps.append(("tdx.fmspcs", "Trustee does not tell it"))
    if set(tdx.pck_cas) != set(CAS):
        gaps.append(("tdx.pck_cas", "Trustee does not tell it"))
    for name in ("dynamic_platform", "cached_keys", "smt"):
        if getattr(tdx, name) == REFUSED:
            gaps.append(("tdx." + name, "Trustee takes what a certificate does not state for off"))
    return gaps
