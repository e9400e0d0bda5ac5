# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""training_agreement: write down what several owners agree on, the same bytes for each of them; or read such a file and say what it is."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import jwk_thumbprint
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import replace_file
from ansible_collections.attested.ai.plugins.module_utils.training import code
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import CHECKPOINTS, SCHEMA, Agreement
from ansible_collections.attested.ai.plugins.module_utils.training.look import read_agreement
from ansible_collections.attested.ai.plugins.plugin_utils.controller_action import ControllerAction
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import public_key

PARTY: t.Final[dict[str, dict[str, t.Any]]] = {
    "id": {"type": "str", "required": True},
    "model_id": {"type": "str", "required": True},
    "manifest_sha256": {"type": "str", "required": True},
    "manifest_signer": {"type": "raw", "required": True},
    "result_key": {"type": "raw", "required": True, "no_log": False},
}
ARGUMENT_SPEC: t.Final[dict[str, dict[str, t.Any]]] = {
    "path": {"type": "path", "required": True},
    "job": {"type": "str"},
    "code": {"type": "path"},
    "command": {"type": "list", "elements": "str"},
    "parties": {"type": "list", "elements": "dict", "options": PARTY},
    "outputs": {"type": "dict"},
    "checkpoints": {"type": "dict", "options": {"recipients": {"type": "raw", "required": True}, "keep": {"type": "int", "default": 2}}},
}
_MEMBERS = ["job", "command", "parties", "outputs"]


class ActionModule(ControllerAction):
    _supports_check_mode = True
    argument_spec = ARGUMENT_SPEC
    rules: t.ClassVar[dict[str, t.Any]] = {"required_together": [_MEMBERS], "required_by": {"job": ["code"], "checkpoints": ["job"]}}

    def work(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        path = self.local(options["path"])
        found = None if options["code"] is None else code.digest_of(self.local(options["code"]))
        if options["job"] is None:
            agreement = read_agreement(path)
            if found is not None:
                code.check(found, agreement.code, options["code"])
            return self._told(agreement, path, False)
        agreement = self._wanted(options, str(found))
        # What is written here has to be what is read elsewhere.
        data = agreement.to_bytes()
        Agreement.parse(data, path)
        changed = not os.path.exists(path) or read_bytes(path) != data
        if changed and not self._task.check_mode:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            replace_file(path, data)
            os.chmod(path, 0o644)
        return self._told(agreement, path, changed)

    def _wanted(self, options: dict[str, t.Any], digest: str) -> Agreement:
        parties = [
            {**party, "manifest_signer": jwk_thumbprint(public_key(party["manifest_signer"], self)), "result_key": public_key(party["result_key"], self)}
            for party in options["parties"]
        ]
        value = {"schema": SCHEMA, "code": digest, **{name: options[name] for name in _MEMBERS}}
        if options["checkpoints"] is not None:
            value[CHECKPOINTS] = options["checkpoints"]
        return Agreement.of({**value, "parties": sorted(parties, key=lambda party: party["id"])})

    def _told(self, agreement: Agreement, path: str, changed: bool) -> dict[str, t.Any]:
        outputs = {name: list(who) for name, who in agreement.outputs}
        kept = agreement.checkpoints
        more = {CHECKPOINTS: {"keep": kept.keep, "recipients": list(kept.recipients)}} if kept else {}
        return {"changed": changed, "path": path, "digest": agreement.digest, "code_digest": agreement.code, "fields": agreement.fields(), "job": agreement.job,
                "parties": [party.id for party in agreement.parties], "outputs": outputs, "command": list(agreement.command), **more}  # fmt: skip


def read_bytes(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()
