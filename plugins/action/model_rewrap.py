# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""model_rewrap: change who can open a model's data key, on the controller, without encrypting anything anew."""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe import ECDH, Recipient
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import load_public_ec, public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import load_signing_key
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.rewrap import Rewrap, planned, recover, write
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs, plain
from ansible_collections.attested.ai.plugins.plugin_utils.key_source import KekSource
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.release_offer import signed_manifest

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    "model": {"type": "path", "required": True},
    # Places of keys, not keys.
    "kek": {"type": "raw", "required": True, "no_log": False},
    "keks": {"type": "list", "elements": "raw", "default": [], "no_log": False},
    "recipients": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"kid": {"type": "str", "required": True}, "jwk": {"type": "raw", "required": True}},
    },
    "keep_others": {"type": "bool", "default": True},
    "signing_key": {"type": "path", "required": True, "no_log": False},
}
_TELL = (
    "It can still open every copy of the manifest from before, and guests keep keys that were released to them. "
    "Only a new release, encrypted with a new data key, shuts out who has the old one"
)


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    @failure_as_result
    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(ARGUMENT_SPEC)
        try:
            result.update(self._rewrap(options, bool(self._task.check_mode)))
        except AttestedError as error:
            raise AnsibleActionFail(str(error), result={"code": error.code}) from None
        return result

    def _rewrap(self, options: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
        model, signer = local_path(self, options["model"]), load_signing_key(local_path(self, options["signing_key"]))
        recovered = not check_mode and recover(model)
        manifest = signed_manifest(model, public_jwk(signer))
        wanted = [KekSource(self, value, f"keks[{number}]").load().recipient() for number, value in enumerate(options["keks"])]
        wanted += [self._recipient(entry) for entry in options["recipients"]]
        if not wanted:
            raise ModelError("nobody is named who shall open it", where="keks", fix="Name all of them in keks and recipients", code="rewrap-recipients")
        change = planned(manifest, KekSource(self, options["kek"]).load().key, wanted, options["keep_others"], f"data key of {os.path.join(model, '')}")
        if change.changed and not check_mode:
            write(model, change, signer)
        return self._told(change, recovered)

    def _told(self, change: Rewrap, recovered: bool) -> dict[str, t.Any]:
        manifest = change.manifest
        added, removed = ([kid for kid in one if kid not in other] for one, other in ((change.after, change.before), (change.before, change.after)))
        found: dict[str, t.Any] = {
            "changed": change.changed or recovered, "model_id": manifest.model_id, "release": manifest.release, "key_id": manifest.key_id,
            "recipients": list(change.after), "added": added, "removed": removed, "manifest_sha256": manifest.digest(), "revocation": _TELL if removed else "",
        }  # fmt: skip
        if self._task.diff:
            found["diff"] = [{"before_header": "recipients", "after_header": "recipients",
                              "before": "\n".join(change.before) + "\n", "after": "\n".join(change.after) + "\n"}]  # fmt: skip
        return found

    def _recipient(self, entry: dict[str, t.Any]) -> Recipient:
        where, jwk = f"recipient {entry['kid']}", entry["jwk"]
        jwk = strict.loads(Inputs.of_action(self).read(jwk, where), where) if isinstance(jwk, str) else plain(jwk, where)
        return Recipient(entry["kid"], ECDH, load_public_ec(jwk, where=where))
