# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Register a TDX platform with Intel: decides and keeps copies on the controller, and has the machine take one step at a time."""

from __future__ import annotations

import re
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, HostError
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.registration_options import ARGUMENT_SPEC, PLACES
from ansible_collections.attested.ai.plugins.plugin_utils.registration_store import Store
from ansible_collections.attested.ai.plugins.plugin_utils.tdx_registration_task import Registration
from ansible_collections.attested.ai.plugins.plugin_utils.text_table import one_line

DISPLAY = Display()
_CODE = re.compile(r"(?!None)[A-Za-z0-9-]{1,64}\Z")


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_diff = True
    _supports_async = False

    @failure_as_result
    def run(self, tmp: t.Any = None, task_vars: dict | None = None) -> dict:
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        host = str((task_vars or {}).get("inventory_hostname", ""))
        places = {name: options[name] for name in PLACES}

        def step(name: str, **arguments: t.Any) -> t.Mapping[str, t.Any]:
            given = {"step": name, **places, **{key: value for key, value in arguments.items() if value is not None}}
            answer = self._execute_module(module_name="attested.ai.tdx_registration_step", module_args=given, task_vars=task_vars)
            if answer.get("failed") or "msg" in answer and answer.get("rc"):
                code = str(answer.get("code"))
                said = one_line(answer.get("msg") or "the module failed without a message")[:2000]
                raise HostError(said, where=host, code=code if _CODE.match(code) else "host")
            return answer

        for name in ("manifest_file", "collateral_file"):
            options[name] = local_path(self, options[name]) if options[name] else ""
        if options["send_from"] == "controller":
            for name in ("ca_path", "pccs_ca_path"):
                options[name] = local_path(self, options[name]) if options[name] else ""
        registration = None
        try:
            registration = Registration(step, Store(local_path(self, options["directory"]), host), options, host, DISPLAY.v)
            return registration.bring(self._task.check_mode)
        except AttestedError as error:
            done = {"code": error.code, "changed": bool(registration and registration.changed), "files": registration.files if registration else {}}
            raise AnsibleActionFail(str(error), result=done) from None
