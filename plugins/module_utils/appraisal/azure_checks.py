# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a policy and its reference values ask of a virtual TPM whose key a hardware report vouches for. The evidence is taken as
authentic: verify/azure_vtpm.py says whether it is. Every detail names what was seen, what was expected and what to do."""

from __future__ import annotations

import hashlib
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.azure_policy import AzurePolicy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import STAGES
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValue
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import format_time
from ansible_collections.attested.ai.plugins.module_utils.checks import Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.formats.hcl_report import RsaPublic
from ansible_collections.attested.ai.plugins.module_utils.verify.azure_vtpm import FRESHNESS, AzureClaims

INIT_DATA_PCR = 8
MEASUREMENT, PCRS = "measurement-mismatch", "pcr-mismatch"
# Failures of these say that the machine is set up otherwise than asked, not that it is another's.
CONFIGURATION_CODES = ("policy-quote-algorithm", "policy-required-pcrs", "policy-secure-boot", "policy-vm-id", "init-data-mismatch")


class References(NamedTuple):
    """``value`` is the reference value that fits, None if none does. ``covers`` is None also where nothing names the paravisor."""

    checks: List[Check]
    value: Optional[ReferenceValue] = None
    covers: Optional[str] = None


def check_policy(claims: AzureClaims, policy: AzurePolicy) -> List[Check]:
    """All checks of the section azure."""
    return [_algorithm(claims, policy), _selection(claims, policy), _secure_boot(claims, policy), _vm_id(claims, policy), _init_data(claims, policy)]


def require_fresh_hardware(check: Check, policy: AzurePolicy) -> Check:
    """The verifier's check hardware-freshness, as the policy wants it."""
    if check.id == FRESHNESS and check.outcome == "not_checked" and policy.require_fresh_hardware_report:
        return failed(FRESHNESS, check.detail + "; the policy requires a fresh one: let the guest put the report data into NV index 0x01400002 first")
    return check


def check_references(tee: str, measurement: str, claims: AzureClaims, paravisor_pinned: str, context: ItemContext) -> References:
    """The checks measurement-mismatch and pcr-mismatch. ``measurement`` is the paravisor's launch measurement (hexadecimal).

    ``paravisor_pinned`` says by what else the policy names the paravisor, empty if by nothing. A PCR is as good as the paravisor that
    keeps it, and anybody can launch one of his own on a machine of his own: without a name for it PCR values vouch for nothing.
    """
    policy, required = context.policy, context.policy.azure.required_pcrs
    seen = {number: value.hex() for number, value in claims.pcrs.items()}
    named = context.reference_values.measured(tee, measurement)
    mine = named + [value for value in context.reference_values.of(tee) if value.measurement is None]
    fitting = [value for value in mine if value.pcrs and all(seen.get(int(number)) == wanted for number, wanted in value.pcrs)]
    complete = [value for value in fitting if set(required) <= set(_named(value))]
    valid = [value for value in complete if value.not_after > context.at]
    # Values that disagree vouch for no more than the least of them; one that names the paravisor too speaks of more.
    closest = [value for value in valid if value.measurement] or valid
    matched = min(closest, key=lambda value: (STAGES.index(value.covers), -value.not_after.timestamp())) if closest else None
    if matched is not None:
        pcrs = passed(PCRS, "PCRs %s are those of image %s (%s)" % (_words(sorted(_named(matched))), matched.image, matched.source))
    else:
        count = len(context.reference_values.of(tee))
        pcrs = _refused(PCRS, _why(seen, count, mine, complete, fitting, required), policy.measurements_required)
    known = [value for value in named if value.not_after > context.at]
    if known:
        paravisor = passed(MEASUREMENT, "the paravisor's launch measurement is known (%s)" % known[0].source)
    elif paravisor_pinned:
        paravisor = passed(MEASUREMENT, "the paravisor %s is not known by its measurement; %s" % (measurement, paravisor_pinned))
    else:
        detail = ("nothing names the paravisor, its launch measurement is %s: anybody could have launched it; state it as measurement of a reference "
                  "value (tee: %s), or pin who signed it (sev_snp.id_key_digests)" % (measurement, tee))
        paravisor = _refused(MEASUREMENT, detail, policy.measurements_required)
    covers = matched.covers if matched is not None and paravisor.outcome == "pass" else None
    return References([paravisor, pcrs], matched, covers)


def _named(value: ReferenceValue) -> Dict[int, str]:
    return {int(number): digest for number, digest in value.pcrs}


def _refused(code: str, detail: str, required: bool) -> Check:
    return failed(code, detail) if required else not_checked(code, detail + " (measurements_required is false)")


def _why(
    seen: Dict[int, str], count: int, mine: Sequence[ReferenceValue], complete: Sequence[ReferenceValue], fitting: Sequence[ReferenceValue],
    required: Tuple[int, ...],
) -> str:
    """Why no reference value counts; ``count`` is how many there are for this TEE, ``mine`` those that may be for this paravisor."""
    record = ", ".join("%d: %s" % (number, seen.get(number, "not quoted")) for number in required)
    if complete:
        return "the reference value of image %s expired at %s; renew it" % (complete[0].image, format_time(complete[0].not_after))
    if fitting:
        missing = sorted(set(required) - set(_named(fitting[0])))
        return "the reference value of image %s does not name PCRs %s, which azure.required_pcrs asks for; seen are %s" % (
            fitting[0].image, _words(missing), record)
    if mine:
        wrong = sorted(number for number, wanted in _named(mine[0]).items() if seen.get(number) != wanted)
        return "PCRs %s are none of the %d reference values (the first: image %s); seen are %s; add them if the image is yours" % (
            _words(wrong) or "(none named)", len(mine), mine[0].image, record)
    if count:
        return "none of the %d reference values is for this paravisor; seen are %s" % (count, record)
    return "no reference values of PCRs were given; seen are %s; record them for your image" % record


def _algorithm(claims: AzureClaims, policy: AzurePolicy) -> Check:
    code, ak = "policy-quote-algorithm", claims.hcl.ak
    bits = ak.n.bit_length() if isinstance(ak, RsaPublic) else None
    text = "%s%s, allowed are %s" % (claims.algorithm, "" if bits is None else " with %d bits" % bits, _words(policy.quote_algorithms))
    if claims.algorithm not in policy.quote_algorithms:
        return failed(code, text + "; add it to azure.quote_algorithms to accept it")
    if bits is not None and bits < policy.min_rsa_bits:
        return failed(code, "%s, at least %d bits (azure.min_rsa_bits)" % (text, policy.min_rsa_bits))
    return passed(code, text)


def _selection(claims: AzureClaims, policy: AzurePolicy) -> Check:
    code = "policy-required-pcrs"
    missing = [number for number in policy.required_pcrs if number not in claims.pcrs]
    if missing:
        return failed(code, "the quote is not over PCRs %s, which azure.required_pcrs asks for; quote all of them" % _words(missing))
    return passed(code, "the quote is over PCRs %s" % _words(sorted(claims.pcrs)))


def _secure_boot(claims: AzureClaims, policy: AzurePolicy) -> Check:
    code, seen = "policy-secure-boot", {True: "on", False: "off", None: "not stated"}[claims.hcl.secure_boot]
    if claims.hcl.secure_boot:
        return passed(code, "secure boot is on")
    if not policy.require_secure_boot:
        return passed(code, "secure boot is %s and the policy allows it" % seen)
    return failed(code, "secure boot is %s; create the machine with it, or set azure.require_secure_boot to false" % seen)


def _vm_id(claims: AzureClaims, policy: AzurePolicy) -> Check:
    code, seen = "policy-vm-id", claims.hcl.vm_id
    if policy.vm_ids is None:
        return not_checked(code, "any virtual machine is accepted, this is %s" % seen)
    if seen in policy.vm_ids:
        return passed(code, "virtual machine %s is one of azure.vm_ids" % seen)
    return failed(code, "virtual machine %s is none of azure.vm_ids; add it if it is yours" % seen)


def _init_data(claims: AzureClaims, policy: AzurePolicy) -> Check:
    """PCR 8 extended once, from zeros, with the SHA-256 of the init-data document, as the guest components of Kata do."""
    code, seen = "init-data-mismatch", claims.pcrs.get(INIT_DATA_PCR)
    text = "not quoted" if seen is None else seen.hex()
    if policy.init_data is None:
        return not_checked(code, "nothing is asked of init-data, PCR %d is %s" % (INIT_DATA_PCR, text))
    for digest in policy.init_data:
        if seen == hashlib.sha256(bytes(32) + bytes.fromhex(digest)).digest():
            return passed(code, "PCR %d holds the init-data document %s" % (INIT_DATA_PCR, digest))
    return failed(code, "PCR %d is %s, which no document of azure.init_data gives; start the guest with the right one" % (INIT_DATA_PCR, text))


def _words(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values)
