# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""evidence_dossier: keep, verify and hand over what a deployment showed of itself."""

from __future__ import annotations

import functools
import math
import os
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.dossier.states import states_of
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, KeyReleaseError, LedgerError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import create_signing_key, load_signing_key, make_signing_key
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs, evaluation_time
from ansible_collections.attested.ai.plugins.plugin_utils.attestation_options import APPRAISAL
from ansible_collections.attested.ai.plugins.plugin_utils.collection_version import collection_version
from ansible_collections.attested.ai.plugins.plugin_utils.controller_action import ControllerAction
from ansible_collections.attested.ai.plugins.plugin_utils.dossier_files import DossierFiles
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import find_file
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import public_key

ARGUMENT_SPEC: t.Final[dict[str, dict[str, t.Any]]] = {
    **APPRAISAL,
    "policy": {"type": "raw"},
    "operation": {"type": "str", "choices": ["add", "verify", "export"], "required": True},
    "path": {"type": "path", "required": True},
    "deployment": {"type": "str"},
    # A path, no key.
    "signing_key": {"type": "path", "no_log": False},
    "create_signing_key": {"type": "bool", "default": False, "no_log": False},
    "url": {"type": "str"},
    "timeout": {"type": "int", "default": 60},
    "evidence": {"type": "raw"},
    "nonce": {"type": "str"},
    "model": {"type": "path"},
    "signer": {"type": "raw"},
    "ledger": {"type": "path"},
    "configuration": {"type": "dict"},
    "guest": {"type": "dict"},
    "fail_on_refusal": {"type": "bool", "default": True},
    "public_key": {"type": "raw", "no_log": False},
    "known_head": {"type": "str", "default": ""},
    "max_gap_hours": {"type": "float"},
    "dest": {"type": "path"},
}
HOURS_MAX: t.Final = 24 * 3660


class ActionModule(ControllerAction):
    _supports_check_mode = True
    argument_spec = ARGUMENT_SPEC
    rules: t.ClassVar[dict[str, t.Any]] = {
        "required_if": [
            ["operation", "add", ["deployment", "signing_key", "policy"]],
            ["operation", "add", ["url", "evidence"], True],
            ["operation", "verify", ["public_key"]],
            ["operation", "export", ["public_key", "dest"]],
        ],
        "mutually_exclusive": [["url", "evidence"]],
        "required_by": {"evidence": ["nonce"], "model": ["signer"], "ledger": ["model"]},
    }

    def work(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        files = DossierFiles(self.local(options["path"]))
        if options["operation"] == "add":
            return self._add(files, options)
        key = public_key(options["public_key"], self)
        if options["operation"] == "export":
            from ansible_collections.attested.ai.plugins.plugin_utils.dossier_export import export

            return export(files, self.local(options["dest"]), key, self._task.check_mode)
        from ansible_collections.attested.ai.plugins.plugin_utils.dossier_read import verify

        hours = options["max_gap_hours"]
        # "not (a <= x)" refuses a number that is none, too.
        if hours is not None and not (0 < hours <= HOURS_MAX and math.isfinite(hours)):
            raise FormatError(f"a number of hours above 0 and up to {HOURS_MAX} was expected", where="max_gap_hours")
        return verify(files, key, options, evaluation_time(options["at"]))

    def _add(self, files: DossierFiles, options: dict[str, t.Any]) -> dict[str, t.Any]:
        from ansible_collections.attested.ai.plugins.plugin_utils.dossier_add import Maker

        if not 1 <= options["timeout"] <= 3600:
            raise FormatError("it is 1 to 3600 seconds", where="timeout")
        if options["evidence"] is not None and files.knows(options["nonce"]):
            raise FormatError("a record of this dossier has it: evidence of then says nothing of now", where="nonce", code="dossier-nonce",
                              fix="Draw a nonce, and have the guest answer that one")  # fmt: skip
        maker = Maker(options, Inputs(functools.partial(find_file, self, vaulted=False)), collection_version())
        key = self._key(files, self.local(options["signing_key"]), options["create_signing_key"])
        draft, judged = maker.made(key)
        found = {"changed": True, "accepted": draft.record.accepted, "states": [state.to_dict() for state in states_of(judged.checks)],
                 "result": judged.result.to_dict(), "checks": [check.to_dict() for check in judged.checks.values()]}  # fmt: skip
        if not self._task.check_mode:
            head = files.append(draft.record, draft.blobs, key, jcs.canonicalize(public_jwk(key)) + b"\n")
            found.update(seq=head.seq, head=head.hash)
        refused = options["fail_on_refusal"] and not draft.record.accepted
        return {**found, "failed": refused, "msg": judged.explain()}

    def _key(self, files: DossierFiles, path: str, create: bool) -> t.Any:
        # Asked in this order: another fork makes the key first, and then the records.
        begun = os.path.exists(files.records)
        if os.path.exists(path) or not create:
            return load_signing_key(path)
        if begun:
            raise LedgerError("the dossier is there, but its key is not", where=path, fix="Restore the key, or begin a new dossier", code="dossier-key")
        if self._task.check_mode:
            # There is none afterwards, either.
            return make_signing_key()
        try:
            return create_signing_key(path)
        except KeyReleaseError as error:
            if error.code != "secret-exists":
                raise
        # Another fork was faster: its key is the key.
        return load_signing_key(path)
