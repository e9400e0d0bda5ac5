# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Appraise an evidence document: every item verified and judged, the binding rebuilt from our own nonce, one result.

Pure: the time, the nonce, the policy, the endorsements and what is known of the connection are arguments.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, Container, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.appraisal import snp, ssh
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements, ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import STAGES, Policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ChainReport, ItemResult, Result
from ansible_collections.attested.ai.plugins.module_utils.appraisal.ssh import ConnectionBinding
from ansible_collections.attested.ai.plugins.module_utils.checks import PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import load_roots
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import Binding, EvidenceDocument, EvidenceItem, report_data
from ansible_collections.attested.ai.plugins.module_utils.formats.jwk import thumbprint
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import encode_base64
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.result import UNCHECKED, Unchecked

__all__ = ["ConnectionBinding", "Endorsements", "UNCHECKED", "appraise", "appraise_report"]

FRESHNESS, CHAIN, REPORT_DATA = "freshness", "chain-of-trust", "report-data-mismatch"


class Appraiser(NamedTuple):
    """How one type of evidence is judged, and the submodule name of its items (a number is added)."""

    submod: str
    appraise_item: Callable[[EvidenceItem, ItemContext], ItemResult]


# A further TEE is one more line here. A type that has no line is refused, never skipped.
APPRAISERS: Mapping[str, Appraiser] = {snp.TEE: Appraiser("cpu", snp.appraise_item)}


@dataclass(frozen=True)
class _Subject:
    """What is appraised: items, what they should carry, and what that would bind. ``nonce`` is ours, None if unchecked."""

    items: Tuple[EvidenceItem, ...]
    digest: str
    nonce: Optional[bytes]
    expected_report_data: Union[bytes, Unchecked]
    freshness: Check
    binding: Binding
    observations: Mapping[str, Any]


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
        expected_report_data=report_data(document.profile, nonce, document.binding),
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
    tee: str = snp.TEE,
    seen: Optional[Container[str]] = None,
    cache: Optional[VerificationCache] = None,
) -> Result:
    """Appraise a raw report without an evidence document. ``expected_report_data`` is the 64 bytes that it must carry, or UNCHECKED."""
    if isinstance(expected_report_data, Unchecked):
        freshness = not_checked(FRESHNESS, "freshness was left unchecked on request: this evidence may be old or another's")
    else:
        freshness = not_checked(FRESHNESS, "the report is held against given report data; whether that is fresh the caller knows")
    subject = _Subject(
        items=(EvidenceItem(tee, "file", bytes(report), {}),),
        digest=hashlib.sha256(report).hexdigest(),
        nonce=None,
        expected_report_data=expected_report_data,
        freshness=freshness,
        binding=Binding(),
        observations={},
    )
    return _appraise(subject, _Setting(policy, reference_values, endorsements, at, None, seen, False, cache))


def _appraise(subject: _Subject, setting: _Setting) -> Result:
    if setting.at.tzinfo is None:
        raise AttestedError("the time of evaluation has no time zone", where="appraisal")
    policy = setting.policy
    context = ItemContext(
        policy, setting.reference_values, setting.endorsements, load_roots(policy), subject.expected_report_data, setting.at, setting.seen, setting.cache
    )
    items = _items(subject.items, context)
    proven = bool(items) and all(_binds(item) for item in items.values())
    chain = _chain_of_trust(items, policy)
    bound = subject.binding.ssh_host_keys
    checks = [
        subject.freshness,
        ssh.check_host_key(policy.ssh_binding, setting.connection, bound, proven),
        ssh.check_storage(policy.ssh_keys_in_memory, subject.observations, bound, proven and chain.reaches is not None),
        _chain_check(chain, setting.enforce_chain_of_trust),
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
        appraiser = APPRAISERS.get(item.type, Appraiser("unknown", _refuse_item))
        number = counts.get(appraiser.submod, 0)
        counts[appraiser.submod] = number + 1
        results["%s%d" % (appraiser.submod, number)] = appraiser.appraise_item(item, context)
    return results


def _refuse_item(item: EvidenceItem, context: ItemContext) -> ItemResult:
    detail = "evidence of type %s cannot be judged by this version; known are %s" % (item.type, ", ".join(sorted(APPRAISERS)))
    return ItemResult(tee=item.type, authentic=None, checks=(failed("item-type", detail),))


def _binds(item: ItemResult) -> bool:
    """True if the item is authentic and carries the report data that covers the binding."""
    return item.authentic is True and any(check.id == REPORT_DATA and check.outcome == PASS for check in item.checks)


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
    """The chain is as long as that of the item that vouches least; evidence that is not authentic vouches for nothing."""
    reached: List[Optional[str]] = [item.reaches if item.authentic is True else None for item in items.values()]
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
