# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Place the certificate table of an SEV-SNP host, made on the controller from a collateral store."""

from __future__ import annotations

import os
import tempfile
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import load_roots
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Store
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.snp_certificates import certificate_table

NUMBER = {"type": "int"}
ARGUMENT_SPEC = {
    "store": {"type": "path", "required": True},
    "dest": {"type": "path", "required": True},
    "chip": {
        "type": "dict",
        "required": True,
        "options": {
            "product": {"type": "str", "required": True, "choices": ["milan", "genoa", "bergamo", "siena", "turin"]},
            "chip_id": {"type": "str", "required": True},
            "tcb": {
                "type": "dict",
                "required": True,
                "options": {"fmc": NUMBER, **{name: {**NUMBER, "required": True} for name in ("bootloader", "tee", "snp", "microcode")}},
            },
        },
    },
    "policy": {"type": "raw"},
    "mode": {"type": "raw", "default": "0644"},
}


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_diff = True
    _supports_async = False

    @failure_as_result
    def run(self, tmp: t.Any = None, task_vars: dict | None = None) -> dict:
        result = super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        try:
            roots = load_roots(Inputs.of_action(self).policy(options["policy"]))
            table = certificate_table(Store(local_path(self, options["store"])), options["chip"], roots)
        except AttestedError as error:
            raise AnsibleActionFail(str(error), result={"code": error.code}) from None
        handle, path = tempfile.mkstemp(prefix="snp-certificates-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(table)
            return {**result, **self._copy(path, options, task_vars)}
        finally:
            os.unlink(path)

    def _copy(self, path: str, options: t.Mapping[str, t.Any], task_vars: dict | None) -> dict:
        task = self._task.copy()
        task.args = {"src": path, "dest": options["dest"], "mode": options["mode"]}
        action = self._shared_loader_obj.action_loader.get(
            "ansible.legacy.copy", task=task, connection=self._connection, play_context=self._play_context, loader=self._loader, templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )  # fmt: skip
        return action.run(task_vars=task_vars)
