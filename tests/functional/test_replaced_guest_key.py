# SPDX-License-Identifier: GPL-3.0-or-later
"""Who stands between puts a key of his own in the place of the guest's. Evidence that is genuine, fresh and good by the policy, but of the other key, moves
no key."""

from __future__ import annotations

import base64
import json
import os
from datetime import datetime, timezone

import yaml

from ansible_collections.attested.ai.plugins.action.model_release import ActionModule
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import appraise
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target import collect
from ansible_collections.attested.ai.tests.unit.plugin_utils.test_hostile_guest import KEYS, SOON, Action, hand_over_to


class Relayed:
    """An Attestation of a guest that is asked for evidence of another key than the controller said. If ``forged``, the controller's is written over it."""

    def __init__(self, soft_guest, replaced=None, forged=False):
        self._guest, self._replaced, self._forged = soft_guest, replaced, forged
        self.result = None

    def of(self, _guest, tee_pubkey):
        nonce = os.urandom(32)
        asked = collect.Request(nonce=base64.b64encode(nonce).decode(), tsm_path=str(self._guest.tsm_path), method="configfs",
                                tee_pubkey=self._replaced or dict(tee_pubkey))  # fmt: skip
        document = collect.collect_all(asked).document
        if self._forged:
            document = document._replace(binding=document.binding._replace(tee_pubkey=dict(tee_pubkey)))
        self.result = appraise(
            document, policy=load_policy(yaml.safe_load(self._guest.policy.read_text())),
            reference_values=load_reference_values(json.loads(self._guest.reference_values.read_text())), endorsements=Endorsements(),
            expected_nonce=nonce, at=datetime.now(timezone.utc), connection=None,
        )  # fmt: skip
        return self

    def to_dict(self):
        return {"result": self.result.to_dict()}


def released(tmp_path, attestation):
    action = Action(guest_key=lambda arguments: {"changed": True} if "release" in arguments else {"jwk": KEYS[0], "expires_at": SOON})
    answer = {}
    try:
        ActionModule._release(None, hand_over_to(action, tmp_path), attestation, answer)
        code = ""
    except AttestedError as error:
        code = error.code
    return code, answer, [arguments for _module, arguments in action.asked if "release" in arguments]


def test_a_key_that_was_replaced_gets_nothing(soft_guest, tmp_path):
    code, answer, handed = released(tmp_path / "honest", Relayed(soft_guest))
    assert (code, answer["changed"], len(handed)) == ("", True, 1), "the same lab releases to the guest's own key"
    attestation = Relayed(soft_guest, KEYS[1])
    code, answer, handed = released(tmp_path / "replaced", attestation)
    assert attestation.result.accepted, "nothing else is wrong with it"
    assert (code, handed, answer["ledger_entry"]["decision"]) == ("guest-key-unbound", [], "refused") and "session" not in answer
    # And written into the evidence afterwards, the guest's own key is not what the hardware signed.
    code, answer, handed = released(tmp_path / "forged", Relayed(soft_guest, KEYS[1], forged=True))
    assert answer["failed"] and handed == [] and "report-data-mismatch" in [reason["id"] for reason in answer["result"]["reasons"]]
