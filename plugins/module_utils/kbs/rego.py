# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From the policy that ``attest`` uses to an attestation policy of Trustee's: the same words, as far as Trustee sees what they speak of.

What Trustee does not tell its policies cannot be asked for there. Each such wish of a policy is a gap, with a name; a policy with a gap is made only if
whoever asks for it accepts that gap by name. What Trustee asks for anyway, or what makes it stricter than ours, is a note.

Source of the claims: trustee v0.21.0, deps/verifier/src/{snp,tdx,intel_dcap}, attestation-service/src/ear_token/broker.rs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.gcp_policy import OFF
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import STAGES, Policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValue, ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.kbs import rego_snp, rego_tdx
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.regotext import check, comment, rule

_HEAD = """package policy

import rego.v1

# 33: unrecognised executables, 97: unrecognised hardware, 36: configuration not known (AR4SI).
default executables := 33

default hardware := 97

default configuration := 36

trust_claims := {
  "executables": executables,
  "hardware": hardware,
  "configuration": configuration,
  "file-system": 0,
  "instance-identity": 0,
  "runtime-opaque": 0,
  "storage-opaque": 0,
  "sourced-data": 0,
}"""


@dataclass(frozen=True)
class Gap:
    """A wish that Trustee cannot grant."""

    name: str
    why: str


@dataclass(frozen=True)
class Generated:
    rego: str
    gaps: Tuple[Gap, ...]
    notes: Tuple[str, ...]


def attestation_policy(policy: Policy, references: ReferenceValues, accept_gaps: Sequence[str] = (), allow_sample: bool = False) -> Generated:
    """The policy for default_cpu. Raises KbsError if it has a gap that is not accepted, or an accepted one that it does not have."""
    snp, tdx = rego_snp.speak(policy), rego_tdx.speak(policy)
    gaps = tuple(Gap(name, why) for name, why in (*_common_gaps(policy), *snp.gaps, *tdx.gaps))
    _judge(gaps, accept_gaps)
    usable, notes = _usable(policy, references)
    blocks = [comment("Made by attested.ai from the policy %s, digest %s. Change that, and make this anew." % (policy.id, policy.digest)), _HEAD]
    for gap in gaps:
        blocks.append(comment("Not asked here: %s (%s)" % (gap.name, gap.why)))
    for part, tee, measured in ((snp, "sev-snp", rego_snp.measured), (tdx, "tdx", rego_tdx.measured)):
        values = [value for value in usable if value.tee == tee]
        blocks += part.rules
        blocks += _executables(part.guard, [measured(value) for value in values], policy.measurements_required, part.prefix)
    if allow_sample:
        notes = notes + ["the sample TEE is accepted: everybody can make its evidence"]
        blocks += _sample()
    text = "\n\n".join(blocks) + "\n"
    check(text, ("trust_claims",), "policy %s" % policy.id)
    return Generated(text, gaps, tuple([*notes, *snp.notes, *tdx.notes]))


def _executables(guard: str, alternatives: Sequence[Sequence[str]], required: bool, prefix: str) -> List[str]:
    if not required:
        return [rule("executables := 3", [guard])]
    found = [rule("%s_measured" % prefix, lines) for lines in alternatives]
    # Without a value there is no rule to name, and the default stays.
    return found + ([rule("executables := 3", [guard, "%s_measured" % prefix])] if found else [])


def _usable(policy: Policy, references: ReferenceValues) -> Tuple[List[ReferenceValue], List[str]]:
    """The values that reach as far as the policy asks. As with ours, the least of those that share a measurement counts."""
    chain = policy.chain_of_trust
    least = 0 if chain.waiver else STAGES.index(chain.must_reach)
    weak: Dict[Tuple[str, object], str] = {}
    notes = []
    for value in references.values:
        if value.covers and STAGES.index(value.covers) < least:
            weak[(value.tee, value.measurement)] = value.covers
    kept = []
    for value in references.values:
        if value.tee not in ("sev-snp", "tdx"):
            notes.append("image %s: values of %s are not in this policy, such guests are refused" % (value.image, value.tee))
        elif (value.tee, value.measurement) in weak:
            notes.append("image %s: its measurement vouches for %s only, the policy asks for %s" % (
                value.image, weak[(value.tee, value.measurement)], chain.must_reach))  # fmt: skip
        else:
            kept.append(value)
    if policy.roots:
        notes.append("roots: Trustee takes the vendors' roots only")
    if policy.tdx.allow_relaunch_advised:
        notes.append("tdx.allow_relaunch_advised: not in this policy, such TDs are refused")
    if not kept and policy.measurements_required:
        notes.append("no reference value can be used: every guest is refused")
    return kept, notes


def _common_gaps(policy: Policy) -> List[Tuple[str, str]]:
    gaps = []
    if policy.revocation == "required":
        gaps.append(("revocation", "Trustee does not look at AMD's revocation lists"))
    if policy.machines.allow or policy.machines.deny or policy.machines.csp_ids:
        gaps.append(("machines", "Trustee does not tell its policies which machine it is"))
    if policy.ssh_binding == "required":
        gaps.append(("ssh_binding", "there is no SSH between a guest and a KBS"))
    if policy.ssh_keys_in_memory:
        gaps.append(("ssh_keys_in_memory", "there is no SSH between a guest and a KBS"))
    if policy.gcp.launch_endorsement != OFF:
        gaps.append(("gcp.launch_endorsement", "Trustee does not look at Google's endorsements of its firmware"))
    if policy.require.gpu or policy.require.switch:
        gaps.append(("nvidia", "GPUs and switches are judged by the policies default_gpu and default_switch, which are not made from this one"))
    return gaps


def _judge(gaps: Sequence[Gap], accepted: Sequence[str]) -> None:
    names = [gap.name for gap in gaps]
    missing = [gap for gap in gaps if gap.name not in accepted]
    if missing:
        told = "; ".join("%s: %s" % (gap.name, gap.why) for gap in missing)
        raise KbsError("it asks for what Trustee cannot check (%s)" % told, where="policy", code="kbs-policy-gap",
                       fix="Take these out of the policy for Trustee, or accept each by name: accept_gaps: [%s]" % ", ".join(gap.name for gap in missing))
    stale = sorted(set(accepted) - set(names))
    if stale:
        raise KbsError("it has no gap %s" % ", ".join(stale), where="accept_gaps", fix="Remove it, so that nothing is accepted unseen", code="kbs-policy-gap")


def _sample() -> List[str]:
    return [
        comment("The sample TEE is software: this proves nothing."),
        rule("executables := 3", ["input.sample"]), rule("hardware := 2", ["input.sample"]), rule("configuration := 2", ["input.sample.debug == false"]),
    ]  # fmt: skip
