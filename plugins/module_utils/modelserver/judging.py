# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The judge that AttestedServer asks: evidence of a model server, by a policy. Pure, and without Ansible.

    judge = judge_from(policy, reference_values, collateral)   # documents as json or yaml give them, and what plugin_utils.collateral_inputs.load read
    server = AttestedServer("https://model.example.org:8443", judge)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Mapping, Optional, Sequence, Union

from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import Endorsements, appraise
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Policy, load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import (
    ReferenceValues,
    load_reference_values,
    merge_reference_values,
)
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import Result
from ansible_collections.attested.ai.plugins.module_utils.appraisal.ssh import OVER_TLS
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceDocument
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Judge:
    """Raises ServingError unless it accepts. ``at`` is the time to judge at, for archives and tests; without it, the time of each answer."""

    policy: Policy
    reference_values: ReferenceValues
    endorsements: Endorsements = Endorsements()
    at: Optional[datetime] = None

    def __call__(self, document: EvidenceDocument, nonce: bytes) -> Result:
        result = appraise(
            document, policy=self.policy, reference_values=self.reference_values, endorsements=self.endorsements, expected_nonce=nonce,
            at=self.at or datetime.now(timezone.utc), connection=OVER_TLS, enforce_chain_of_trust=True,
        )  # fmt: skip
        if not result.accepted:
            raise ServingError(result.explain(), fix="Nothing was sent", code="refused")
        if result.binding.get("tls_spki") is None:
            raise ServingError("the evidence does not bind the server's TLS key", fix="Nothing was sent", code="key-unattested")
        return result


def judge_from(policy: Document, reference_values: Union[Document, Sequence[Document], None] = None, collateral: Optional[Endorsements] = None) -> Judge:
    """A judge from documents that were read already. What is wrong with them is told now, as AttestedError, and not when a server has answered.

    Without ``collateral`` there are the roots of the policy and nothing else, which no vendor's evidence is accepted by.
    """
    if collateral is not None and not isinstance(collateral, Endorsements):
        raise ServingError("it is no Endorsements", where="collateral", fix="Read it first, by load() of plugin_utils.collateral_inputs", code="options")
    parts = [] if reference_values is None else [reference_values] if isinstance(reference_values, Mapping) else list(reference_values)
    return Judge(load_policy(policy), merge_reference_values(load_reference_values(part) for part in parts), collateral or Endorsements())
