# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""key_ledger: verify and read the release ledger on the controller."""

from __future__ import annotations

import os
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import ledger
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import public_key

ARGUMENT_SPEC: t.Final[dict[str, dict[str, t.Any]]] = {
    "path": {"type": "path", "required": True},
    "public_key": {"type": "raw", "required": True},
    "expected_head": {"type": "str"},
    "model_id": {"type": "str"},
}


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        answer = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        try:
            report = ledger.verify(os.path.expanduser(options["path"]), public_key(options["public_key"], self), options["expected_head"])
        except AttestedError as error:
            return {**answer, "failed": True, "msg": str(error), "code": error.code}
        entries = [dict(entry) for entry in report.entries if options["model_id"] in (None, entry["model_id"])]
        head = {"seq": report.head.seq, "digest": report.head.digest}
        return {**answer, "changed": False, "entries": entries, "count": len(report.entries), "head": head}
