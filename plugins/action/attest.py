# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""attest: nonce on the controller, evidence on the guest, appraisal on the controller, in one task."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.attested.ai.plugins.module_utils.appraisal import snp, tdx
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.attestation import Attestation
from ansible_collections.attested.ai.plugins.plugin_utils.attestation_options import ATTESTATION
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_inputs import load
from ansible_collections.attested.ai.plugins.plugin_utils.guest import Guest
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import read_public_key

# Loaded here though they are needed later: ansible-core loads this file once, before it forks a process per host, and each would load them again.
PRELOADED: t.Final = (snp, tdx, load, read_public_key)
ARGUMENT_SPEC: t.Final[dict[str, dict[str, t.Any]]] = {
    **ATTESTATION,
    "nonce": {"type": "str"},
    "tls_certificate": {"type": "path"},
    "result_file": {"type": "path"},
    "record_key": {"type": "path", "no_log": False},
    "ear_key": {"type": "path", "no_log": False},
    "fail_on_refusal": {"type": "bool", "default": True},
}


class ActionModule(ActionBase):
    """Attest the guest of this connection."""

    _requires_connection = True

    @failure_as_result
    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        answer = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC, required_by={"record_key": "result_file"})
        try:
            attestation = Attestation(options, self)
            key = attestation.signing_key(options["record_key"]) if options["record_key"] else None
            attested = attestation.of(Guest(self, task_vars or {}), nonce=options["nonce"], tls_certificate=options["tls_certificate"])
            answer.update(changed=False, **attested.to_dict())
            if options["ear_key"]:
                answer["ear"] = attested.ear(options["ear_key"])
            if options["result_file"]:
                record = attested.record((task_vars or {})["inventory_hostname"], key) if key is not None else None
                answer["changed"] = self._task.check_mode or attested.save(local_path(self, options["result_file"]), record)
        except AttestedError as error:
            return {**answer, "failed": True, "msg": str(error), "code": error.code}
        if options["fail_on_refusal"] and not attested.result.accepted:
            answer.update(failed=True, msg=attested.result.explain())
        return answer
