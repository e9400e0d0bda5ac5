# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The platform's key: which CPAK may have signed a platform token, and whether it did.

Eligible are the endorsements of exactly this platform, or else keys that name no platform.
An endorsement that names the platform rules out those that name none: a bare key cannot stand in for a known one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Dict, FrozenSet, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.checks import Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.cca import public_test_key
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import NONVENDOR, VENDOR
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.cca_endorsement import (
    SILICON_VENDOR, Cpak, EndorsementDocument, parse_endorsement,
)  # fmt: skip
from ansible_collections.attested.ai.plugins.module_utils.formats.cca_token import CcaToken
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.cca_keys import public_key, verifies

# Keys that fit one token: more than one is a key that was replaced, or a pile of bare keys. Each costs a signature verification.
CANDIDATES_MAX = 16
_CPAK_IDS = ("bad-cpak", "alg-key-mismatch", "root-not-pinned", "cpak-expired", "test-cpak", "platform-signature")
_STEPS = ("bad-cpak", "alg-key-mismatch", "platform-signature")
_Held = Tuple[Cpak, EndorsementDocument]


@dataclass(frozen=True)
class Candidate:
    """A key, and the document that holds it. ``anchor`` is "vendor" only where policy names the document (by digest) as the vendor's."""

    cpak: Cpak
    document: EndorsementDocument
    anchor: str

    @property
    def names_platform(self) -> bool:
        return self.cpak.implementation_id is not None

    def expired(self, at: datetime) -> bool:
        return self.document.not_after is not None and at > self.document.not_after


@dataclass(frozen=True)
class Selection:
    """``candidates``, likeliest first. ``unreadable``: what is wrong with the documents that cannot be read.
    ``knows_implementation``: some document has keys for this implementation id, ``documents`` counts those that can be read."""

    candidates: Tuple[Candidate, ...]
    unreadable: Tuple[str, ...]
    knows_implementation: bool
    documents: int


@dataclass(frozen=True)
class _Index:
    """All keys of all documents, so that a fleet with a document for each machine is not searched through for each of them."""

    by_ids: Dict[Tuple[bytes, bytes], Tuple[_Held, ...]]
    bare: Tuple[_Held, ...]
    implementations: FrozenSet[bytes]
    unreadable: Tuple[str, ...]
    documents: int


def select(
    documents: Sequence[bytes], implementation_id: bytes, instance_id: bytes, at: datetime, vendor_documents: FrozenSet[str],
    cache: Optional[VerificationCache],
) -> Selection:  # fmt: skip
    """Find the keys for one platform in the raw endorsement documents."""
    given = tuple([bytes(document) for document in documents])
    # Reading is not proving, but it should be done once for a fleet. Whose word counts, and until when, is asked for every token.
    key = ("cca-endorsements", given)
    index = None if cache is None else cache.get(key)
    if index is None:
        index = _index(given)
        if cache is not None:
            cache.put(key, index)
    found = []
    for cpak, document in index.by_ids.get((implementation_id, instance_id), index.bare):
        vendor = document.endorser == SILICON_VENDOR and document.sha256 in vendor_documents
        found.append(Candidate(cpak, document, VENDOR if vendor else NONVENDOR))
    # The same key may stand in an older document and in the one that renews it.
    found.sort(key=lambda candidate: (candidate.expired(at), candidate.anchor != VENDOR))
    return Selection(tuple(found), index.unreadable, implementation_id in index.implementations, index.documents)


def _index(documents: Sequence[bytes]) -> _Index:
    by_ids: Dict[Tuple[bytes, bytes], Tuple[_Held, ...]] = {}
    bare: List[_Held] = []
    unreadable: List[str] = []
    for number, data in enumerate(documents, 1):
        try:
            document = parse_endorsement(data, "CCA endorsement %d" % number)
        except FormatError as error:
            unreadable.append(str(error))
            continue
        for cpak in document.cpaks:
            if cpak.implementation_id is None or cpak.instance_id is None:
                bare.append((cpak, document))
            else:
                ids = (cpak.implementation_id, cpak.instance_id)
                by_ids[ids] = by_ids.get(ids, ()) + ((cpak, document),)
    implementations = frozenset(implementation_id for implementation_id, _instance_id in by_ids)
    return _Index(by_ids, tuple(bare), implementations, tuple(unreadable), len(documents) - len(unreadable))


def judge_cpak(
    token: CcaToken, selection: Selection, at: datetime, allow_test_keys: bool, allow_nonvendor: bool, cache: Optional[VerificationCache], checks: List[Check]
) -> Optional[Candidate]:
    """Append the checks of the platform's key and signature; returns the endorsement if it is accepted and the signature holds."""
    if not selection.candidates:
        checks.extend(_no_cpak(token, selection))
        return None
    candidate, problem = _fitting(token, selection, cache)
    checks.extend(_names(candidate))
    document = candidate.document
    accepted = candidate.anchor == VENDOR or allow_nonvendor
    proven = problem is None and accepted and not candidate.expired(at)
    broken = len(_STEPS) if problem is None else _STEPS.index(problem.id)
    left_out = "; %d documents cannot be read and were left out" % len(selection.unreadable) if selection.unreadable else ""
    details = (
        "the key lies on %s%s" % (candidate.cpak.point.curve, left_out), "%s goes with the key" % token.platform.algorithm.name,
        "signed with the endorsed key",
    )  # fmt: skip

    def step(index: int) -> Check:
        if problem is not None and index == broken:
            return problem
        if index > broken:
            return not_checked(_STEPS[index], "there is no key that fits")
        return passed(_STEPS[index], details[index]) if proven else not_checked(_STEPS[index], "it holds, but for a key that is not accepted")

    test_key = public_test_key(candidate.cpak.point)
    checks += [step(0), step(1), _judge_anchor(candidate, accepted), _judge_expiry(document.not_after, at)]
    if test_key is None:
        checks.append(passed("test-cpak", "the key is none of the published test keys"))
    elif allow_test_keys:
        checks.append(passed("test-cpak", "the key is the %s, whose private half is PUBLIC, and test keys are allowed: this proves nothing" % test_key))
    else:
        checks.append(failed("test-cpak", "the key is the %s, whose private half is public: anybody can make such tokens" % test_key))
    checks.append(step(2))
    return candidate if proven else None


def _no_cpak(token: CcaToken, selection: Selection) -> List[Check]:
    """The checks where no document has a key for this platform."""
    platform = token.platform_claims
    reason = "no endorsement holds the key of this platform"
    checks: List[Check] = []
    if selection.unreadable:
        checks.append(failed("bad-cpak", selection.unreadable[0]))
    elif not selection.documents:
        checks.append(failed("cpak-missing", "no CPAK endorsement was given"))
    elif selection.knows_implementation:
        checks.append(passed("implementation-id", platform.implementation_id.hex()))
        checks.append(failed("instance-id", "no endorsement names the instance %s of this implementation" % platform.instance_id.hex()))
    else:
        checks.append(failed("implementation-id", "no endorsement names the implementation %s" % platform.implementation_id.hex()))
    seen = {check.id for check in checks}
    return checks + [not_checked(check_id, reason) for check_id in _CPAK_IDS if check_id not in seen]


def _names(candidate: Candidate) -> List[Check]:
    if candidate.names_platform:
        return [passed("implementation-id", "the endorsement names it"), passed("instance-id", "the endorsement names it")]
    detail = "the endorsement is a bare key, which names no platform: its owner can claim any id"
    return [not_checked("implementation-id", detail), not_checked("instance-id", detail)]


def _fitting(token: CcaToken, selection: Selection, cache: Optional[VerificationCache]) -> Tuple[Candidate, Optional[Check]]:
    """The key that signed the platform token; if none did, the likeliest one and what is wrong with it."""
    outcomes: List[Tuple[Candidate, Optional[Check]]] = []
    for candidate in selection.candidates[:CANDIDATES_MAX]:
        outcomes.append(_try(token, candidate, cache))
        if outcomes[-1][1] is None:
            return outcomes[-1]
    candidate, problem = outcomes[0]
    if problem is not None and len(selection.candidates) > CANDIDATES_MAX:
        problem = failed(problem.id, "%s; only %d of %d keys were tried, bind them to their platforms" % (
            problem.detail, CANDIDATES_MAX, len(selection.candidates)))  # fmt: skip
    return candidate, problem


def _try(token: CcaToken, candidate: Candidate, cache: Optional[VerificationCache]) -> Tuple[Candidate, Optional[Check]]:
    """The candidate, and why it is not the key of this platform token, None if it is."""
    point, message = candidate.cpak.point, token.platform
    key = public_key(point)
    if key is None:
        return candidate, failed("bad-cpak", "the endorsed key does not lie on %s" % point.curve)
    if message.algorithm.curve != point.curve:
        return candidate, failed("alg-key-mismatch", "the token is signed with %s, the endorsed key is on %s" % (message.algorithm.name, point.curve))
    # Every byte that the outcome depends on. A machine sends the same platform token until it boots again.
    cache_key = ("cca-platform", point, message.protected, message.payload, message.signature)
    if cache is not None and cache.get(cache_key):
        return candidate, None
    if not verifies(key, message.algorithm, message.signature, message.signed):
        return candidate, failed("platform-signature", "the platform token was not signed with the endorsed key")
    if cache is not None:
        cache.put(cache_key, True)
    return candidate, None


def _judge_anchor(candidate: Candidate, accepted: bool) -> Check:
    if candidate.anchor == VENDOR:
        return passed("root-not-pinned", "the policy names the document %s as the silicon vendor's" % candidate.document.sha256)
    if accepted:
        return passed("root-not-pinned", "the endorsement is the operator's own, which is allowed")
    return failed("root-not-pinned", "no silicon vendor stands for the endorsement (document %s, endorser %s)" % (
        candidate.document.sha256, candidate.document.endorser))  # fmt: skip


def _judge_expiry(not_after: Optional[datetime], at: datetime) -> Check:
    if not_after is None:
        return not_checked("cpak-expired", "the endorsement states no end of its validity")
    if at > not_after:
        return failed("cpak-expired", "the endorsement was valid until %s" % not_after.isoformat())
    return passed("cpak-expired", "the endorsement is valid until %s" % not_after.isoformat())
