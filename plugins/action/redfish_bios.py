# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring the BIOS of a server to a TEE's settings through its management controller; runs on the controller."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.redfish.staging import changed
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.redfish_task import ARGUMENT_SPEC, bring, warnings

DISPLAY = Display()


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_diff = True
    _supports_async = False
    _requires_connection = False

    @failure_as_result
    def run(self, tmp: t.Any = None, task_vars: dict | None = None) -> dict:
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC, required_one_of=[["state", "attributes"]])
        trace: list[t.Mapping[str, t.Any]] = []
        try:
            ca_path = local_path(self, options["ca_path"]) if options["ca_path"] else ""
            result = bring(options, ca_path, self._task.check_mode, DISPLAY.v, trace)
        except AttestedError as error:
            # What was written before stays pending, and what was applied stays.
            done = {"code": error.code, "changed": changed(trace), "trace": trace}
            raise AnsibleActionFail(str(error), result=done) from None
        for line in warnings(options, result):
            DISPLAY.warning(line)
        return result
