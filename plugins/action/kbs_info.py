# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look at key brokers from outside, and with an admin token at what they tell an admin; on the controller."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kbs import plan
from ansible_collections.attested.ai.plugins.module_utils.kbs.admin import look
from ansible_collections.attested.ai.plugins.module_utils.kbs.state import ATTESTATION_POLICY, RESOURCE, RESOURCE_POLICY, State
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.kbs_task import ADMIN_SPEC, SERVER_SPEC, WITH_ADMIN, Kbs, brokers
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    **SERVER_SPEC,
    **{name: spec for name, spec in ADMIN_SPEC.items() if name != "allow_open_admin"},
    "state_path": {"type": "path"},
    "reference_values": {"type": "list", "elements": "str", "default": []},
    "fail_if_unsafe": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    @failure_as_result
    def run(self, tmp: t.Any = None, task_vars: dict | None = None) -> dict:
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(
            argument_spec=ARGUMENT_SPEC, mutually_exclusive=[["admin_key", "admin_token"]], required_by=WITH_ADMIN)  # fmt: skip
        try:
            state = State.read(local_path(self, options["state_path"]), False) if options["state_path"] else None
            found = [_seen(kbs, state, options) for kbs in brokers(self, options)]
        except AttestedError as error:
            raise AnsibleActionFail(str(error), result={"code": error.code}) from None
        unsafe = [one["url"] for one in found if one["open_admin"]]
        if unsafe and options["fail_if_unsafe"]:
            what = "lets admins in without a token: write [admin] into its configuration"
            raise AnsibleActionFail(f"{', '.join(unsafe)} {what}", result={"code": "kbs-open-admin", "kbs": found})
        return {"changed": False, "kbs": found}


def _seen(kbs: Kbs, state: State | None, options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    seen: dict[str, t.Any] = {"url": kbs.url, **look(kbs.transport, kbs.url).to_dict()}
    if kbs.admin is not None:
        seen["policies"] = kbs.admin.policies()
        seen["reference_values"] = {name: kbs.admin.reference_value(name) for name in options["reference_values"]}
    if state is not None:
        seen["known"] = {kind: sorted(state.names(kbs.url, kind)) for kind in (RESOURCE, RESOURCE_POLICY, ATTESTATION_POLICY)}
        seen["forgotten"] = plan.recognise(kbs.url, kbs.admin, state, True) if kbs.admin is not None else None
    return seen
