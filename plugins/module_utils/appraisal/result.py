# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The result of an appraisal: one schema for every kind of evidence. See docs/result-schema.md.

Two answers, never one: ``authentic`` (signatures, endorsements and what they bind) and ``accepted`` (authentic, and all
that the policy asks). What was not checked is listed as such.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si, schema
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, Check
from ansible_collections.attested.ai.plugins.module_utils.verify.result import ANCHOR_NONE, ANCHOR_NONVENDOR, ANCHOR_VENDOR

SCHEMA = "attested.ai/result/1"

OUT_OF_SCOPE = (
    "physical attack on memory or on its bus: no attestation report can show an interposer",
    "the place where the machine stands: pin the machine (machines.allow) or its operator (machines.csp_ids)",
    "denial of service: the host can stop the guest at any time",
)


@dataclass(frozen=True)
class ItemResult:
    """What one item of evidence came to. ``vector`` holds the AR4SI claims that say something.

    ``expires_at`` is the earliest end of validity of what the verdict rests on. ``reaches`` is how far the launch measurement
    vouches (policy.STAGES), None if it is not known. ``identity`` names the evidence whatever its signature bytes are (hexadecimal).
    ``devices`` is how many devices the item speaks for; of a device, ``claims["device"]`` names it.
    """

    tee: str
    authentic: Optional[bool]
    checks: Tuple[Check, ...]
    vector: Mapping[str, int] = field(default_factory=dict)
    claims: Mapping[str, Any] = field(default_factory=dict)
    anchor: str = ANCHOR_NONE
    expires_at: Optional[datetime] = None
    reaches: Optional[str] = None
    identity: Optional[str] = None
    devices: int = 1

    @property
    def failures(self) -> Tuple[Check, ...]:
        return tuple(check for check in self.checks if check.outcome == FAIL)

    @property
    def accepted(self) -> bool:
        return self.authentic is True and not self.failures

    @property
    def status(self) -> str:
        """The AR4SI tier. Refused evidence is contraindicated, whatever its claims; evidence that cannot be judged says nothing."""
        if self.authentic is None:
            return ar4si.NONE
        return ar4si.vector_tier(self.vector) if self.accepted else ar4si.CONTRAINDICATED

    def to_dict(self) -> Dict[str, Any]:
        return {
            "tee": self.tee,
            "authentic": self.authentic,
            "accepted": self.accepted,
            "status": self.status,
            "trustworthiness_vector": dict(self.vector),
            "anchor": self.anchor,
            "evidence_identity": self.identity,
            "checks": [check.to_dict() for check in self.checks],
            "claims": dict(self.claims),
        }


@dataclass(frozen=True)
class ChainReport:
    """How far the measurements vouch, what the policy requires, and the waiver if one was used."""

    reaches: Optional[str]
    required: str
    waived: bool
    reason: str

    def to_dict(self) -> Dict[str, Any]:
        return {"reaches": self.reaches, "required": self.required, "waived": self.waived, "reason": self.reason}


@dataclass(frozen=True)
class Result:
    """The verdict over a whole evidence document. ``nonce`` is the verifier's own, None where freshness was left unchecked."""

    evaluated_at: datetime
    nonce: Optional[str]
    evidence_digest: str
    policy_id: str
    policy_digest: str
    binding: Mapping[str, Any]
    chain_of_trust: ChainReport
    checks: Tuple[Check, ...]
    items: Mapping[str, ItemResult]

    @property
    def authentic(self) -> Optional[bool]:
        """False if any item is not authentic, else None if any cannot be judged or there is none, else True."""
        answers = [item.authentic for item in self.items.values()]
        if False in answers:
            return False
        return None if None in answers or not answers else True

    @property
    def accepted(self) -> bool:
        return bool(self.items) and all(item.accepted for item in self.items.values()) and not any(check.outcome == FAIL for check in self.checks)

    @property
    def status(self) -> str:
        found = ar4si.worst(item.status for item in self.items.values())
        if found in (ar4si.AFFIRMING, ar4si.WARNING) and not self.accepted:
            return ar4si.CONTRAINDICATED
        return found

    @property
    def anchor(self) -> str:
        """"nonvendor" if any item rests on a root that is no vendor's, "none" if any rests on no root at all, else "vendor"."""
        anchors = [item.anchor for item in self.items.values()]
        return next((anchor for anchor in (ANCHOR_NONVENDOR, ANCHOR_NONE) if anchor in anchors), ANCHOR_VENDOR if anchors else ANCHOR_NONE)

    @property
    def expires_at(self) -> Optional[datetime]:
        return min((item.expires_at for item in self.items.values() if item.expires_at is not None), default=None)

    @property
    def reasons(self) -> Tuple[Check, ...]:
        """The failed checks, most telling first: authenticity, then what the policy asks of an item, then of the whole."""
        found = [check for item in self.items.values() for check in item.failures]
        return tuple(found + [check for check in self.checks if check.outcome == FAIL])

    def to_dict(self) -> Dict[str, Any]:
        """The result as JSON-able data, as documented in docs/result-schema.md."""
        return {
            "schema": SCHEMA,
            "accepted": self.accepted,
            "authentic": self.authentic,
            "status": self.status,
            "anchor": self.anchor,
            "evaluated_at": schema.format_time(self.evaluated_at),
            "expires_at": None if self.expires_at is None else schema.format_time(self.expires_at),
            "nonce": self.nonce,
            "evidence_digest": self.evidence_digest,
            "policy": {"id": self.policy_id, "digest": self.policy_digest},
            "binding": dict(self.binding),
            "chain_of_trust": self.chain_of_trust.to_dict(),
            "reasons": [{"id": check.id, "detail": check.detail} for check in self.reasons],
            "checks": [check.to_dict() for check in self.checks],
            "submods": {name: item.to_dict() for name, item in self.items.items()},
            "out_of_scope": list(OUT_OF_SCOPE),
        }

    def explain(self) -> str:
        """One line for a person: the verdict and the most telling reasons."""
        if self.accepted:
            return "The evidence is accepted under policy %s (%s)" % (self.policy_id, self.status)
        return explain_refusal([(check.id, check.detail) for check in self.reasons], self.policy_id)


def explain_refusal(reasons: Sequence[Tuple[str, str]], policy_id: str) -> str:
    """One line that says why evidence was refused; at most three reasons in full."""
    shown = "; ".join("%s: %s" % reason for reason in reasons[:3])
    rest = " (and %d more)" % (len(reasons) - 3) if len(reasons) > 3 else ""
    return "The evidence is refused under policy %s. %s%s" % (policy_id, shown or "No item of it could be judged", rest)
