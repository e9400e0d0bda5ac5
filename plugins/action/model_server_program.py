# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""model_server_program: put the program of model servers on a guest, as one file that is made of this collection."""

from __future__ import annotations

import hashlib
import os
import tempfile
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.attested.ai.plugins import module_utils
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.modelserver.bundle import build
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result


class ActionModule(ActionBase):
    """Makes the file on the controller; copying it, with check mode and diff, is the work of ansible.builtin.copy."""

    _supports_check_mode = True
    _supports_diff = True
    _requires_connection = True

    @failure_as_result
    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec({"dest": {"type": "path", "required": True}})
        try:
            data = build(list(module_utils.__path__)[0])
        except AttestedError as error:
            raise AnsibleActionFail(str(error), result={"code": error.code}) from None
        with tempfile.TemporaryDirectory(prefix="attested-ai-") as folder:
            source = os.path.join(folder, "model-server.pyz")
            with open(source, "wb") as stream:
                stream.write(data)
            task = self._task.copy()
            task.args = {"src": source, "dest": options["dest"], "mode": "0644"}
            copy = self._shared_loader_obj.action_loader.get(
                "ansible.builtin.copy", task=task, connection=self._connection, play_context=self._play_context, loader=self._loader,
                templar=self._templar, shared_loader_obj=self._shared_loader_obj,
            )  # fmt: skip
            result.update(copy.run(task_vars=task_vars))
        result.update(sha256=hashlib.sha256(data).hexdigest(), size=len(data), dest=options["dest"])
        return result
