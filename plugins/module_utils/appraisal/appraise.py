# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Appraise an evidence document: every item verified and judged, the binding rebuilt from our own nonce, one result.

Pure: the time, the nonce, the policy, the endorsements and what is known of the connection are arguments.
"""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Container, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ssh
from ansible_collections.attested.ai.plugins.module_utils.appraisal.composite import CPU, DEVICE_KINDS, binds, check_composite, kind_of
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements, ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import STAGES, Policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ChainReport, ItemResult, Result
from ansible_collections.attested.ai.plugins.module_utils.appraisal.ssh import ConnectionBinding
from ansible_collections.attested.ai.plugins.module_utils.checks import Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import load_roots
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import Binding, EvidenceDocument, EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.formats.jwk import thumbprint
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import encode_base64
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.result import UNCHECKED, Unchecked

__all__ = ["ConnectionBinding", "Endorsements", "UNCHECKED", "appraise", "appraise_report"]

FRESHNESS, CHAIN = "freshness", "chain-of-trust"


class Appraiser(NamedTuple):
    """The kind of the items (their submodules are named after it), and which function of which file beside this one judges them."""

    kind: str
    module: str
    function: str = "appraise_item"

    def appraise(self, item: EvidenceItem, context: ItemContext) -> ItemResult:
        # Imported on use: who judges AMD's reports does not load the readers of Intel's, Arm's and NVIDIA's.
        found = importlib.import_module("%s.%s" % (__name__.rpartition(".")[0], self.module))
        result: ItemResult = getattr(found, self.function)(item, context)
        return result


# A further TEE is one more line here. A type that has no line is refused, never skipped.
APPRAISERS: Mapping[str, Appraiser] = {
    "sev-snp": Appraiser(CPU, "snp"),
    "tdx": Appraiser(CPU, "tdx"),
    "cca": Appraiser(CPU, "cca"),
    "az-snp-vtpm": Appraiser(CPU, "azure", "appraise_az_snp"),
    "az-tdx-vtpm": Appraiser(CPU, "azure", "appraise_az_tdx"),
    "nvidia-gpu": Appraiser("gpu", "nvidia", "appraise_gpu"),
    "nvidia-switch": Appraiser("switch", "nvidia", "appraise_switch"),
    "nvidia-nras": Appraiser("gpu", "nras"),
}


@dataclass(frozen=True)
class _Subject:
    """What is appraised: items, what they should carry, and what that would bind. ``nonce`` is ours, None if unchecked.
    ``single`` tells that it is one bare report."""

    items: Tuple[EvidenceItem, ...]
    digest: str
    nonce: Optional[bytes]
    expected_report_data: Union[bytes, Unchecked]
    expected_device_nonce: Union[bytes, Unchecked]
    freshness: Check
    binding: Binding
    observations: Mapping[str, Any]
    single: bool = False


@dataclass(frozen=True)
class _Setting:
    policy: Policy
    reference_values: ReferenceValues
    endorsements: Endorsements
    at: datetime
    connection: Optional[ConnectionBinding]
    seen: Optional[Container[str]]
    enforce_chain_of_trust: bool
    cache: Optional[VerificationCache]


def appraise(
    document: EvidenceDocument,
    *,
    policy: Policy,
    reference_values: ReferenceValues,
    endorsements: Endorsements,
    expected_nonce: Union[bytes, Unchecked],
    at: datetime,
    connection: Optional[ConnectionBinding],
    seen: Optional[Container[str]] = None,
    enforce_chain_of_trust: bool = False,
    cache: Optional[VerificationCache] = None,
) -> Result:
    """Appraise ``document`` at the time ``at`` (aware).

    ``expected_nonce`` is the nonce that the caller drew for this run (16 to 64 bytes), never taken from the document; UNCHECKED opts
    out, and the result says so. ``seen`` holds ItemResult.identity of evidence accepted before, None to not look. With
    ``enforce_chain_of_trust`` a chain that ends too early is a failure unless the policy waives it.
    Raises AttestedError for unusable arguments; bad evidence is a result that is not accepted.
    """
    unchecked = isinstance(expected_nonce, Unchecked)
    nonce = document.nonce if isinstance(expected_nonce, Unchecked) else bytes(expected_nonce)
    if unchecked:
        freshness = not_checked(FRESHNESS, "freshness was left unchecked on request: this evidence may be old or another's; the nonce is the document's own")
    elif nonce == document.nonce:
        freshness = passed(FRESHNESS, "the document answers the verifier's own nonce")
    else:
        freshness = failed(FRESHNESS, "the document answers another nonce; collect evidence for the nonce of this run")
    subject = _Subject(
        items=document.items,
        digest=document.digest(),
        nonce=None if unchecked else nonce,
        expected_report_data=document.expected_report_data(nonce),
        expected_device_nonce=document.expected_device_nonce(nonce),
        freshness=freshness,
        binding=document.binding,
        observations=document.observations,
    )
    return _appraise(subject, _Setting(policy, reference_values, endorsements, at, connection, seen, enforce_chain_of_trust, cache))


def appraise_report(
    report: bytes,
    *,
    policy: Policy,
    reference_values: ReferenceValues,
    endorsements: Endorsements,
    expected_report_data: Union[bytes, Unchecked],
    at: datetime,
    tee: str = "sev-snp",
    auxiliary: Optional[Mapping[str, bytes]] = None,
    seen: Optional[Container[str]] = None,
    cache: Optional[VerificationCache] = None,
) -> Result:
    """Appraise a raw report without an evidence document.

    ``tee`` is its type (APPRAISERS), ``auxiliary`` what belongs to it (evidence.AUXILIARY_NAMES). ``expected_report_data`` is the 64 bytes
    that it must carry, the 32 bytes of the nonce for a device, or UNCHECKED.
    """
    if isinstance(expected_report_data, Unchecked):
        freshness = not_checked(FRESHNESS, "freshness was left unchecked on request: this evidence may be old or another's")
    else:
        freshness = not_checked(FRESHNESS, "the report is held against given report data; whether that is fresh the caller knows")
    subject = _Subject(
        items=(EvidenceItem(tee, "file", bytes(report), dict(auxiliary or {})),),
        digest=hashlib.sha256(report).hexdigest(),
        nonce=None,
        expected_report_data=expected_report_data,
        expected_device_nonce=expected_report_data,
        freshness=freshness,
        binding=Binding(),
        observations={},
        single=True,
    )
    return _appraise(subject, _Setting(policy, reference_values, endorsements, at, None, seen, False, cache))


def _appraise(subject: _Subject, setting: _Setting) -> Result:
    if setting.at.tzinfo is None:
        raise AttestedError("the time of evaluation has no time zone", where="appraisal")
    policy = setting.policy
    context = ItemContext(
        policy, setting.reference_values, setting.endorsements, load_roots(policy), subject.expected_report_data, setting.at, setting.seen, setting.cache,
        subject.expected_device_nonce,
    )  # fmt: skip
    items = _items(subject.items, context)
    proven = any(kind_of(name) == CPU for name in items) and all(binds(name, item) for name, item in items.items())
    chain = _chain_of_trust(items, policy)
    bound = subject.binding.ssh_host_keys
    checks = [
        subject.freshness,
        ssh.check_host_key(policy.ssh_binding, setting.connection, bound, proven),
        ssh.check_storage(policy.ssh_keys_in_memory, subject.observations, bound, proven and chain.reaches is not None),
        _chain_check(chain, setting.enforce_chain_of_trust),
        *check_composite(items, policy, subject.single),
    ]
    return Result(
        evaluated_at=setting.at,
        nonce=None if subject.nonce is None else encode_base64(subject.nonce),
        evidence_digest=subject.digest,
        policy_id=policy.id,
        policy_digest=policy.digest,
        binding=_binding_report(subject.binding) if proven else {},
        chain_of_trust=chain,
        checks=tuple(checks),
        items=items,
    )


def _items(items: Tuple[EvidenceItem, ...], context: ItemContext) -> Dict[str, ItemResult]:
    results: Dict[str, ItemResult] = {}
    counts: Dict[str, int] = {}
    for item in items:
        appraiser = APPRAISERS.get(item.type)
        kind = appraiser.kind if appraiser is not None else "unknown"
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        results["%s%d" % (kind, number)] = _refuse_item(item) if appraiser is None else appraiser.appraise(item, context)
    return results


def _refuse_item(item: EvidenceItem) -> ItemResult:
    detail = "evidence of type %s cannot be judged by this version; known are %s" % (item.type, ", ".join(sorted(APPRAISERS)))
    return ItemResult(tee=item.type, authentic=None, checks=(failed("item-type", detail),))


def _binding_report(binding: Binding) -> Dict[str, Any]:
    """What the evidence is proven to bind, in the form of the result."""
    report: Dict[str, Any] = {}
    if binding.tee_pubkey is not None:
        report["tee_pubkey_thumbprint"] = thumbprint(binding.tee_pubkey)
    if binding.ssh_host_keys:
        report["ssh_host_keys"] = list(binding.ssh_host_keys)
    if binding.tls_spki is not None:
        report["tls_spki"] = binding.tls_spki
    return report


def _chain_of_trust(items: Mapping[str, ItemResult], policy: Policy) -> ChainReport:
    """The chain is as long as that of the CPU that vouches least; evidence that is not authentic vouches for nothing.
    Devices do not lengthen it: they measure themselves, not what the guest runs."""
    reached: List[Optional[str]] = [item.reaches if item.authentic is True else None for name, item in items.items() if kind_of(name) not in DEVICE_KINDS]
    known = [stage for stage in reached if stage is not None]
    reaches = min(known, key=STAGES.index) if known and len(known) == len(reached) else None
    required, waiver = policy.chain_of_trust.must_reach, policy.chain_of_trust.waiver
    enough = reaches is not None and STAGES.index(reaches) >= STAGES.index(required)
    if enough:
        return ChainReport(reaches, required, False, "the measured chain reaches %s" % reaches)
    ends = "nothing is measured that we know" if reaches is None else "the measured chain ends at %s: the host can change what comes after" % reaches
    if waiver is not None:
        return ChainReport(reaches, required, True, "%s; waived: %s" % (ends, waiver))
    return ChainReport(reaches, required, False, "%s; the policy requires %s" % (ends, required))


def _chain_check(chain: ChainReport, enforce: bool) -> Check:
    if chain.reaches is not None and STAGES.index(chain.reaches) >= STAGES.index(chain.required):
        return passed(CHAIN, chain.reason)
    if enforce and not chain.waived:
        return failed(CHAIN, chain.reason + "; measure more of the image, or set chain_of_trust.waiver with the reason")
    return not_checked(CHAIN, chain.reason)
