# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a policy asks of a SEV-SNP report, one stable check each. The report is taken as authentic: verify/snp.py says whether it is.

Every detail names what was seen and what was expected, and on failure what to do next.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Machines
from ansible_collections.attested.ai.plugins.module_utils.appraisal.snp_policy import GUEST_POLICY_BITS, PLATFORM_INFO_BITS, SnpPolicy, TcbFloor
from ansible_collections.attested.ai.plugins.module_utils.checks import Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import SIGNING_KEY_VLEK, SnpReport
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_tcb import SILICON, TcbSet, TcbVersion

# (CPUID family, model) -> the floor shipped with the collection, None if there is none for this silicon.
FloorLookup = Callable[[int, int], Optional[Mapping[str, int]]]


@dataclass(frozen=True)
class SnpFacts:
    """An authentic report, its product ("milan", ...), its decoded TCBs, and the CSP_ID of its VLEK if that signed it."""

    report: SnpReport
    product: str
    tcb: TcbSet
    csp_id: Optional[str] = None

    @property
    def signing_key(self) -> str:
        return "vlek" if self.report.signing_key == SIGNING_KEY_VLEK else "vcek"

    @property
    def machine(self) -> Optional[str]:
        """The identity of the machine: SHA-256 of the 64 bytes of CHIP_ID, None if they are masked."""
        return None if self.report.chip_id_masked else hashlib.sha256(self.report.chip_id).hexdigest()


def check_policy(facts: SnpFacts, policy: SnpPolicy, machines: Machines, shipped: FloorLookup) -> List[Check]:
    """All checks of a policy but the reference values, most telling first."""
    return [
        _debug(facts, policy),
        _migration(facts, policy),
        _vmpl(facts, policy),
        _product(facts, policy),
        _signing_key(facts, policy),
        _chip_id(facts, policy),
        _machine(facts, machines),
        _floor("policy-tcb-floor", (("reported", facts.tcb.reported), ("committed", facts.tcb.committed)), policy.min_tcb, facts, shipped),
        _floor("policy-launch-tcb-floor", (("launch", facts.tcb.launch),), policy.min_launch_tcb, facts, shipped),
        _provisional(facts, policy),
        _abi(facts, policy),
        _smt(facts, policy),
        _guest_policy(facts, policy),
        _platform_info(facts, policy),
        _mitigations(facts, policy),
        _id_block(facts, policy),
    ]


def _debug(facts: SnpFacts, policy: SnpPolicy) -> Check:
    if not facts.report.policy.debug:
        return passed("policy-debug", "debugging is off")
    if policy.allow_debug:
        return passed("policy-debug", "debugging is ON and the policy allows it: the host can read this guest's memory")
    raw = facts.report.policy.raw
    return failed("policy-debug", "debugging is on (guest policy 0x%x), the host can read this guest's memory; launch the guest without it" % raw)


def _migration(facts: SnpFacts, policy: SnpPolicy) -> Check:
    if not facts.report.policy.migrate_ma:
        return passed("policy-migration", "no migration agent is allowed")
    if policy.allow_migration_agent:
        return passed("policy-migration", "a migration agent is allowed by the guest policy and by the policy")
    return failed("policy-migration", "the guest policy 0x%x allows a migration agent; launch the guest without it" % facts.report.policy.raw)


def _vmpl(facts: SnpFacts, policy: SnpPolicy) -> Check:
    vmpl = facts.report.vmpl
    expected = _words(policy.vmpl)
    if vmpl in policy.vmpl:
        return passed("policy-vmpl", "VMPL %d, allowed are %s" % (vmpl, expected))
    return failed("policy-vmpl", "VMPL %d, allowed are %s; under an SVSM or on AWS add it to sev_snp.vmpl" % (vmpl, expected))


def _product(facts: SnpFacts, policy: SnpPolicy) -> Check:
    if facts.product in policy.products:
        return passed("policy-product", "%s, allowed are %s" % (facts.product, _words(policy.products)))
    why = "; software alone can forge its chip keys (arXiv 2605.12990), so name it and pin the machines as well" if facts.product == "milan" else ""
    return failed("policy-product", "%s, allowed are %s%s; add it to sev_snp.products to accept it" % (facts.product, _words(policy.products), why))


def _signing_key(facts: SnpFacts, policy: SnpPolicy) -> Check:
    text = "signed by a %s, allowed are %s" % (facts.signing_key, _words(policy.signing_keys))
    if facts.signing_key in policy.signing_keys:
        return passed("policy-signing-key", text)
    return failed("policy-signing-key", text + "; add it to sev_snp.signing_keys to accept it")


def _chip_id(facts: SnpFacts, policy: SnpPolicy) -> Check:
    if not facts.report.chip_id_masked:
        return passed("chip-id-masked", "CHIP_ID names the chip")
    if facts.signing_key == "vlek":
        return passed("chip-id-masked", "CHIP_ID is masked, as is usual under a VLEK, which stands for a provider and not for a chip")
    if policy.allow_masked_chip_id:
        return passed("chip-id-masked", "CHIP_ID is masked under a VCEK and the policy allows it")
    return failed(
        "chip-id-masked", "CHIP_ID is all zeros under a VCEK, so nothing binds the report to its chip; unmask it on the host, or set allow_masked_chip_id"
    )


def _machine(facts: SnpFacts, machines: Machines) -> Check:
    code, machine = "machine-not-allowed", facts.machine
    name = "machine %s" % machine if machine else "a machine that hides its CHIP_ID"
    if machine is not None and machine in machines.deny:
        return failed(code, "%s is on machines.deny" % name)
    if machine is None and machines.deny and (facts.signing_key == "vcek" or not machines.csp_ids):
        advice = "unmask CHIP_ID on the host" + (", or trust its provider with machines.csp_ids" if facts.signing_key == "vlek" else "")
        return failed(code, "%s may be one of machines.deny; %s" % (name, advice))
    if facts.signing_key == "vlek" and machines.csp_ids:
        if facts.csp_id not in machines.csp_ids:
            return failed(code, "the VLEK belongs to %s, allowed are %s" % (facts.csp_id, _words(machines.csp_ids)))
        if not machines.allow:
            return passed(code, "the VLEK belongs to %s, which machines.csp_ids allows" % facts.csp_id)
    if machines.allow:
        if machine in machines.allow:
            return passed(code, "%s is on machines.allow" % name)
        return failed(code, "%s is not on machines.allow; add its digest if it is yours" % name)
    if machines.csp_ids:
        return failed(code, "only providers are allowed (machines.csp_ids) and %s signed with its own VCEK; add it to machines.allow if it is yours" % name)
    detail = "any provider is accepted; pin yours with machines.csp_ids"
    if machine:
        detail = "any machine is accepted; pin yours with machines.allow: [%s]" % machine
    if facts.product == "milan":
        detail += " (on Milan this matters: software alone can forge its chip keys)"
    return not_checked(code, detail)


def _floor(code: str, observed: Sequence[Tuple[str, TcbVersion]], wanted: TcbFloor, facts: SnpFacts, shipped: FloorLookup) -> Check:
    key = "min_tcb" if code == "policy-tcb-floor" else "min_launch_tcb"
    if wanted.is_none:
        return not_checked(code, "sev_snp.%s is {}: any firmware is accepted (%s)" % (key, observed[0][1]))
    found = _floors_of(facts, wanted, shipped)
    if not found:
        where = "%s (%s)" % (facts.product, _silicon_text(facts))
        if wanted.shipped:
            return not_checked(code, "no floor is shipped for %s; set sev_snp.%s, seen is %s" % (where, key, observed[0][1]))
        return failed(code, "sev_snp.%s has no row for %s, seen is %s; add one" % (key, where, observed[0][1]))
    problems = []
    for floor in found:
        for name, tcb in observed:
            have = dict(tcb.components())
            problems += [
                "%s %s %s < %d" % (name, part, have.get(part, "(absent)"), least)
                for part, least in floor.items() if have.get(part, -1) < least
            ]
    if problems:
        return failed(code, "%s; update the machine's firmware and microcode" % ", ".join(dict.fromkeys(problems)))
    return passed(code, "%s TCB (%s) is not below the floor (%s)" % (observed[0][0], observed[0][1], _floor_text(found[0])))


def _floors_of(facts: SnpFacts, wanted: TcbFloor, shipped: FloorLookup) -> List[Dict[str, int]]:
    """The floors that hold for this silicon. A version 2 report names only its product: then those of all its silicon."""
    if facts.report.silicon is not None:
        silicon = [facts.report.silicon]
    else:
        silicon = [(family, model) for family, first, last, product in SILICON if product == facts.product for model in range(first, last + 1)]
    floors = [shipped(*pair) if wanted.shipped else wanted.for_silicon(*pair) for pair in silicon]
    return [dict(floor) for floor in dict.fromkeys(tuple(floor.items()) for floor in floors if floor)]


def _provisional(facts: SnpFacts, policy: SnpPolicy) -> Check:
    code, report = "policy-provisional-firmware", facts.report
    if not report.provisional_firmware:
        return passed(code, "the firmware is committed (%s)" % _version(report.current_abi))
    text = "current firmware %s (%s) is not the committed %s (%s)" % (
        _version(report.current_abi), facts.tcb.current, _version(report.committed_abi), facts.tcb.committed)
    if policy.allow_provisional_firmware:
        return passed(code, text + ", which the policy allows")
    return failed(code, text + ": the host can roll it back; run SNP_COMMIT on the host, or set allow_provisional_firmware")


def _abi(facts: SnpFacts, policy: SnpPolicy) -> Check:
    # Committed, not current: the host can go back to the committed firmware at any time.
    have, least = facts.report.committed_abi, policy.min_abi
    if least is None:
        return not_checked("policy-abi", "sev_snp.min_abi is not set, committed firmware is %s" % _version(have))
    if have >= least:
        return passed("policy-abi", "committed firmware %s, at least %s" % (_version(have), _version(least)))
    return failed("policy-abi", "committed firmware %s, at least %s is required; update the SEV firmware of the host" % (_version(have), _version(least)))


def _smt(facts: SnpFacts, policy: SnpPolicy) -> Check:
    if not facts.report.policy.smt_allowed:
        return passed("policy-smt", "the guest policy forbids SMT")
    if policy.allow_smt and "smt_disabled" not in policy.require_guest_policy:
        return passed("policy-smt", "the guest policy allows SMT, and so does the policy")
    return failed("policy-smt", "the guest policy 0x%x allows SMT; launch the guest with SMT forbidden" % facts.report.policy.raw)


def _guest_policy(facts: SnpFacts, policy: SnpPolicy) -> Check:
    raw = facts.report.policy
    missing = [name for name in policy.require_guest_policy if name != "smt_disabled" and not raw.raw >> GUEST_POLICY_BITS[name] & 1]
    if missing:
        return failed("policy-guest-policy", "the guest policy 0x%x lacks %s; launch the guest with it" % (raw.raw, _words(missing)))
    if raw.unknown_bits and not policy.allow_unknown_policy_bits:
        return failed("policy-guest-policy", "the guest policy 0x%x has bits that are not known (0x%x); set allow_unknown_policy_bits only if you know "
                      "what they mean" % (raw.raw, raw.unknown_bits))
    return passed("policy-guest-policy", "guest policy 0x%x, required are %s" % (raw.raw, _words(policy.require_guest_policy)))


def _platform_info(facts: SnpFacts, policy: SnpPolicy) -> Check:
    code, raw = "policy-platform-info", facts.report.platform_info.raw
    missing = [name for name in policy.require_platform_info if not raw >> PLATFORM_INFO_BITS[name] & 1]
    if not missing:
        return passed(code, "platform information 0x%x, required are %s" % (raw, _words(policy.require_platform_info)))
    if facts.report.version < 3 and missing == ["alias_check_complete"]:
        return not_checked(code, "a version 2 report cannot say that the memory alias check (BadRAM) was done; refuse such firmware with sev_snp.min_abi")
    return failed(code, "platform information 0x%x lacks %s; update the host's firmware or its BIOS settings" % (raw, _words(missing)))


def _mitigations(facts: SnpFacts, policy: SnpPolicy) -> Check:
    code, report = "policy-mitigation-vector", facts.report
    if not policy.launch_mitigations and not policy.current_mitigations:
        seen = "launch 0x%x, current 0x%x" % (report.launch_mit_vector or 0, report.current_mit_vector or 0) if report.version >= 5 else "the report has none"
        return not_checked(code, "sev_snp.required_mitigations is not set, %s" % seen)
    if report.launch_mit_vector is None or report.current_mit_vector is None:
        return failed(code, "a version %d report carries no mitigation vector; update the SEV firmware of the host" % report.version)
    for name, have, wanted in (
        ("launch", report.launch_mit_vector, policy.launch_mitigations), ("current", report.current_mit_vector, policy.current_mitigations),
    ):
        if wanted & ~have:
            return failed(code, "the %s mitigation vector 0x%x lacks 0x%x; update the firmware, then launch the guest anew" % (name, have, wanted & ~have))
    return passed(code, "launch 0x%x, current 0x%x" % (report.launch_mit_vector, report.current_mit_vector))


def _id_block(facts: SnpFacts, policy: SnpPolicy) -> Check:
    code, report = "id-block", facts.report
    problems, asked = [], []
    fields = (
        ("FAMILY_ID", report.family_id, policy.family_id), ("IMAGE_ID", report.image_id, policy.image_id),
        ("ID_KEY_DIGEST", report.id_key_digest, policy.id_key_digests), ("AUTHOR_KEY_DIGEST", report.author_key_digest, policy.author_key_digests),
    )
    for name, value, allowed in fields:
        if allowed is not None:
            asked.append(name)
            if value.hex() not in allowed:
                problems.append("%s %s is not one of %s" % (name, value.hex(), _words(allowed)))
    if policy.author_key_digests is not None and not report.author_key_en:
        problems.append("AUTHOR_KEY_EN is 0, so no author key was used")
    if policy.min_guest_svn:
        asked.append("GUEST_SVN")
        if report.guest_svn < policy.min_guest_svn:
            problems.append("GUEST_SVN %d is below %d" % (report.guest_svn, policy.min_guest_svn))
    if problems:
        return failed(code, "%s; launch the guest with the ID block that the policy names" % "; ".join(problems))
    if asked:
        return passed(code, "%s as the policy asks" % _words(asked))
    return not_checked(code, "the policy asks nothing of the ID block")


def _words(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values) or "none"


def _version(abi: Tuple[int, int, int]) -> str:
    return "%d.%d.%d" % abi


def _floor_text(floor: Mapping[str, int]) -> str:
    return " ".join("%s>=%d" % part for part in floor.items())


def _silicon_text(facts: SnpFacts) -> str:
    return "family 0x%02x model 0x%02x" % facts.report.silicon if facts.report.silicon else "a version 2 report"
