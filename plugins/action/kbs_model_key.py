# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""kbs_model_key: put the key of a model into a key broker, together with what it may be used for."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.kbs import plan
from ansible_collections.attested.ai.plugins.module_utils.kbs.admin import AdminClient
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.kbs.state import RESOURCE
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import jwk_thumbprint, public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import load_signing_key
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError
from ansible_collections.attested.ai.plugins.module_utils.training.job import read_agreement
from ansible_collections.attested.ai.plugins.module_utils.training.result import tag_key
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.kbs_task import (
    ADMIN_SPEC,
    ONE_ADMIN,
    SERVER_SPEC,
    STATE_SPEC,
    WITH_ADMIN,
    bring,
    brokers,
    refuse_open,
    told_failure,
)
from ansible_collections.attested.ai.plugins.plugin_utils.key_source import KekSource
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import public_key
from ansible_collections.attested.ai.plugins.plugin_utils.release_counter import counter_of
from ansible_collections.attested.ai.plugins.plugin_utils.release_offer import Offer, load_offer, minimum_release
from ansible_collections.attested.ai.plugins.plugin_utils.release_records import ReleaseRecords, all_counters, counters_of

DISPLAY = Display()
PRESENT = "present"
ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    **SERVER_SPEC,
    **ADMIN_SPEC,
    **STATE_SPEC,
    "path": {"type": "str", "required": True},
    "state": {"type": "str", "choices": [PRESENT, "absent"], "default": PRESENT},
    "model": {"type": "path"},
    "kek": {"type": "raw", "no_log": False},
    "signer": {"type": "raw"},
    "minimum_release": {"type": "int"},
    "ledger": {"type": "path"},
    "counter": {"type": "dict"},
    "agreement": {"type": "path"},
    # The path of a file, no key.
    "result_key": {"type": "path", "no_log": False},
}


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_diff = True
    _supports_async = False
    _requires_connection = False

    @failure_as_result
    def run(self, tmp: t.Any = None, task_vars: dict | None = None) -> dict:
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(
            argument_spec=ARGUMENT_SPEC, mutually_exclusive=ONE_ADMIN, required_one_of=ONE_ADMIN, required_by=WITH_ADMIN,
            required_if=[("state", PRESENT, ["model", "kek", "signer"])], required_together=[("agreement", "result_key")])  # fmt: skip
        told: dict[str, t.Any] = {}
        try:
            place = Resource.parse(options["path"], "path").path
            content = self._content(options, told) if options["state"] == PRESENT else None
            kbs = brokers(self, options)
            warnings = refuse_open(kbs, options["allow_open_admin"])
            wanted = [plan.Wanted(RESOURCE, place, content)]
            result = bring(kbs, wanted, options, local_path(self, options["state_path"]), check_mode=self._task.check_mode, act=_act)
        except AttestedError as error:
            raise AnsibleActionFail(str(error), result=told_failure(error)) from None
        for line in warnings:
            DISPLAY.warning(line)
        if not self._task.diff:
            del result["diff"]
        return {**result, **told}

    def _content(self, options: t.Mapping[str, t.Any], told: dict[str, t.Any]) -> bytes:
        """What is stored. The counters are raised first: a key that a guest may have was never below them."""
        offer = load_offer(local_path(self, options["model"]), KekSource(self, options["kek"]).load, public_key(options["signer"], self))
        purpose = self._purpose(offer, options)
        lowest = self._lowest(offer, options)
        told.update(key_id=offer.manifest.key_id, model_id=offer.manifest.model_id, release=offer.manifest.release, minimum_release=lowest)
        return offer.model_key(lowest, *purpose).to_json()

    def _purpose(self, offer: Offer, options: t.Mapping[str, t.Any]) -> tuple[str, bytes]:
        """Models, or jobs of one agreement, with the owner's tag key for that. Raises AttestedError."""
        if options["agreement"] is None:
            return "", b""
        agreement = read_agreement(local_path(self, options["agreement"]))
        private = load_signing_key(local_path(self, options["result_key"]))
        party = agreement.party_of(jwk_thumbprint(public_jwk(private)))
        if (offer.manifest.digest(), jwk_thumbprint(offer.signer)) != (party.manifest_sha256, party.manifest_signer):
            raise TrainingError("it is not the data set that %s brings by the agreement, or another key signed it" % party.id, where=options["model"],
                                fix="Give the data set that was agreed on", code="training-data")  # fmt: skip
        return agreement.digest, tag_key(private, agreement)

    def _lowest(self, offer: Offer, options: t.Mapping[str, t.Any]) -> int:
        besides = counter_of(self, options["counter"])
        if options["ledger"] is None and besides is None:
            return minimum_release(offer.manifest, options["minimum_release"], 1)
        if options["ledger"] is None:
            raise KeyReleaseError("it goes with ledger", where="counter", fix="Give the directory of the ledger, which keeps the controller's own",
                                  code="counter-source")
        ledger = local_path(self, options["ledger"])
        counters = all_counters(counters_of(ledger), besides) if self._task.check_mode else ReleaseRecords(ledger, besides=besides).counters
        lowest = minimum_release(offer.manifest, options["minimum_release"], counters.minimum(offer.manifest.model_id))
        if not self._task.check_mode:
            counters.raise_to(offer.manifest.model_id, lowest)
        return lowest


def _act(client: AdminClient, change: plan.Change) -> bool:
    resource = Resource.parse(change.wanted.name)
    if change.wanted.content is None:
        return client.delete_resource(resource)
    client.set_resource(resource, change.wanted.content)
    return True
