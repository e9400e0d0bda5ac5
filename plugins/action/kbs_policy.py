# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring the policies of key brokers to what they shall be, written by hand or made from the policy that attest uses; on the controller."""

from __future__ import annotations

import hashlib
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kbs import plan
from ansible_collections.attested.ai.plugins.module_utils.kbs.admin import AdminClient
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import POLICY_IDS
from ansible_collections.attested.ai.plugins.module_utils.kbs.rego import Generated, attestation_policy
from ansible_collections.attested.ai.plugins.module_utils.kbs.rego_resource import resource_policy
from ansible_collections.attested.ai.plugins.module_utils.kbs.regotext import check
from ansible_collections.attested.ai.plugins.module_utils.kbs.state import ATTESTATION_POLICY, RESOURCE_POLICY
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs
from ansible_collections.attested.ai.plugins.plugin_utils.kbs_grants import GRANT_SPEC, grants_of
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
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.rego_file import written

DISPLAY = Display()
SOURCES = ("src", "content", "policy", "grants")
RESOURCE, ATTESTATION = "resource", "attestation"
_RULES = {RESOURCE: ("allow",), ATTESTATION: ("trust_claims",)}
ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    **SERVER_SPEC,
    **ADMIN_SPEC,
    **STATE_SPEC,
    "kind": {"type": "str", "choices": [RESOURCE, ATTESTATION], "required": True},
    "policy_id": {"type": "str", "choices": list(POLICY_IDS), "default": "default_cpu"},
    "src": {"type": "path"},
    "content": {"type": "str"},
    "policy": {"type": "raw"},
    "reference_values": {"type": "raw"},
    "accept_gaps": {"type": "list", "elements": "str", "default": []},
    "allow_sample": {"type": "bool", "default": False},
    "grants": GRANT_SPEC,
    "dest": {"type": "path"},
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
            argument_spec=ARGUMENT_SPEC, mutually_exclusive=[*ONE_ADMIN, SOURCES], required_one_of=[*ONE_ADMIN, SOURCES], required_by=WITH_ADMIN)  # fmt: skip
        check_mode = self._task.check_mode
        result: dict[str, t.Any] = {}
        try:
            made = _text(options, Inputs.of_action(self))
            remarks = check(made.rego, _RULES[options["kind"]], options["src"] or options["kind"] + " policy")
            kbs = brokers(self, options)
            remarks += refuse_open(kbs, options["allow_open_admin"])
            name = options["policy_id"] if options["kind"] == ATTESTATION else "resource-policy"
            kind = ATTESTATION_POLICY if options["kind"] == ATTESTATION else RESOURCE_POLICY
            wish = plan.Wanted(kind, name, made.rego.encode("utf-8"))
            result = bring(kbs, [wish], options, local_path(self, options["state_path"]), check_mode=check_mode, act=_act)
            kept, diff = written(local_path(self, options["dest"]), made.rego, check_mode) if options["dest"] else (False, None)
        except AttestedError as error:
            # What follows the change may fail as well.
            done = {name: result[name] for name in ("changed", "changes") if name in result}
            raise AnsibleActionFail(str(error), result={**done, **told_failure(error)}) from None
        for line in (*remarks, *made.notes):
            DISPLAY.warning(line)
        if not self._task.diff:
            del result["diff"]
        elif diff:
            result["diff"] = [result["diff"], diff]
        return {
            **result, "changed": result["changed"] or kept, "rego": made.rego, "digest": hashlib.sha256(made.rego.encode("utf-8")).hexdigest(),
            "gaps": [{"name": gap.name, "why": gap.why} for gap in made.gaps], "notes": [*remarks, *made.notes],
        }  # fmt: skip


def _text(options: t.Mapping[str, t.Any], inputs: Inputs) -> Generated:
    """The Rego that the task describes. Raises AttestedError."""
    if options["src"] is not None:
        return Generated(inputs.read_text(options["src"], "policy"), (), ())
    if options["content"] is not None:
        return Generated(str(options["content"]), (), ())
    if options["grants"] is not None:
        _only(options, RESOURCE, "grants")
        text, notes = resource_policy(grants_of(options["grants"], inputs))
        return Generated(text, (), tuple(notes))
    _only(options, ATTESTATION, "policy")
    policy, references = inputs.policy(options["policy"]), inputs.reference_values(options["reference_values"])
    return attestation_policy(policy, references, options["accept_gaps"], options["allow_sample"])


def _only(options: t.Mapping[str, t.Any], kind: str, name: str) -> None:
    if options["kind"] != kind:
        raise AnsibleActionFail(f"{name} makes a policy of the kind {kind}", result={"code": "kbs-options"})
    if kind == ATTESTATION and options["policy_id"] != POLICY_IDS[0]:
        raise AnsibleActionFail(f"{name} makes the policy {POLICY_IDS[0]}", result={"code": "kbs-options"})


def _act(client: AdminClient, change: plan.Change) -> bool:
    text = (change.wanted.content or b"").decode("utf-8")
    if change.wanted.kind == RESOURCE_POLICY:
        client.set_resource_policy(text)
    else:
        client.set_attestation_policy(change.wanted.name, text)
    return True
