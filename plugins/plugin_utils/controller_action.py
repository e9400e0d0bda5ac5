# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An action whose work is all on the controller: options in, a result or one line of failure out."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path


class ControllerAction(ActionBase):
    """Runs on the controller, whatever the host of the task."""

    _supports_async = False
    _requires_connection = False
    argument_spec: t.ClassVar[dict[str, dict[str, t.Any]]]
    rules: t.ClassVar[dict[str, t.Any]] = {}

    @failure_as_result
    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(self.argument_spec, **self.rules)
        try:
            result.update(self.work(options))
        except AttestedError as error:
            raise AnsibleActionFail(str(error), result={"code": error.code}) from None
        except OSError as error:
            raise AnsibleActionFail(f"{error.filename or 'file'}: it cannot be read or written ({error.strerror})", result={"code": "file"}) from None
        return result

    def work(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        raise NotImplementedError

    def local(self, path: str) -> str:
        return local_path(self, path)
