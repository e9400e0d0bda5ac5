# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""training_result: an owner opens a result of a job with its own key, after it was found to come from a guest that had the owner's tag key."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import jwk_thumbprint, public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import load_signing_key
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import open as opener
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.signature import verify_manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.source import Directory
from ansible_collections.attested.ai.plugins.module_utils.target.memory import wipe
from ansible_collections.attested.ai.plugins.module_utils.training import result
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import CHECKPOINTS, Party
from ansible_collections.attested.ai.plugins.module_utils.training.choice import choose
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError
from ansible_collections.attested.ai.plugins.module_utils.training.look import read_agreement
from ansible_collections.attested.ai.plugins.plugin_utils.controller_action import ControllerAction
from ansible_collections.attested.ai.plugins.plugin_utils.model_client import read_small

ARGUMENT_SPEC: t.Final[dict[str, dict[str, t.Any]]] = {
    "agreement": {"type": "path", "required": True},
    "party": {"type": "str", "required": True},
    "output": {"type": "str", "required": True},
    "src": {"type": "path", "required": True},
    "dest": {"type": "path", "required": True},
    "checkpoint": {"type": "int"},
    "checkpoint_minimum": {"type": "int", "default": 1},
    # The path of a file, no key.
    "key": {"type": "path", "required": True, "no_log": False},
}


class ActionModule(ControllerAction):
    _supports_check_mode = True
    argument_spec = ARGUMENT_SPEC

    def work(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        agreement = read_agreement(self.local(options["agreement"]))
        party, output = agreement.party(options["party"]), options["output"]
        if output not in agreement.released():
            raise TrainingError("the agreement has no such output", where=output, code="result-other")
        if party.id not in agreement.released()[output]:
            raise TrainingError("it was agreed that %s does not get it" % party.id, where=output, code="result-recipient")
        of_many = output == CHECKPOINTS and agreement.checkpoints is not None
        if not of_many and (options["checkpoint"] is not None or options["checkpoint_minimum"] != 1):
            raise TrainingError("it is no checkpoint, and checkpoint and checkpoint_minimum say which one of them", where=f"output {output}",
                                fix="Leave them out, or open checkpoints", code="training-options")  # fmt: skip
        folder, dest = os.path.join(self.local(options["src"]), output), self.local(options["dest"])
        private = self._private(options["key"], party)
        tag_key = result.tag_key(private, agreement)

        def load(number: int | None) -> result.Statement:
            where = os.path.join(folder, "" if number is None else str(number), result.STATEMENT)
            found = result.Statement.parse(read_small(where, result.SIZE_MAX, "statement"), where)
            found.check(agreement, output, where)
            result.verify(found, party.id, tag_key, where)
            return found

        number = choose(folder, options["checkpoint"], options["checkpoint_minimum"], load) if of_many else None
        statement = load(number)
        if number is not None:
            folder = os.path.join(folder, str(number))
        with contextlib.closing(Directory(os.path.join(folder, result.CIPHERTEXT))) as source:
            sealed = self._sealed(source, statement)
            target = opener.Target(source.src, dest)
            opener.require_ours(dest)
            changed = not opener.is_open(target, sealed)
            # In check mode as well: what cannot be opened is not said to be.
            key = bytearray(jwe.unwrap_general(dict(sealed.manifest.dek), private, party.kid, "key of the result"))
            try:
                if changed and not self._task.check_mode:
                    os.makedirs(os.path.dirname(dest), mode=0o700, exist_ok=True)
                    opener.decrypt(target, sealed, key, source=source)
            finally:
                wipe(key)
        told = {"changed": changed, "dest": dest, "made_at": statement.made_at, "succeeded": statement.succeeded, "agreement": agreement.digest,
                "files": [entry.path for entry in sealed.manifest.files]}  # fmt: skip
        return told if statement.checkpoint is None else told | {"checkpoint": statement.checkpoint.number, "run": statement.checkpoint.run}

    def _private(self, path: str, party: Party) -> t.Any:
        """The private half of the owner's result key. Raises AttestedError."""
        private = load_signing_key(self.local(path))
        if jwk_thumbprint(public_jwk(private)) != party.kid:
            raise TrainingError("it is not the result key of %s in the agreement" % party.id, where=f"key {path}", code="result-key")
        return private

    def _sealed(self, source: Directory, statement: result.Statement) -> opener.Sealed:
        sealed = opener.read_sealed(source)
        verify_manifest(sealed.raw, sealed.signature, statement.signer, source.name(tree.SIGNATURE))
        if sealed.digest != statement.manifest_sha256:
            raise TrainingError("its manifest is not the one that the statement names", where=source.src, fix="Do not use it", code="result-tag")
        source.check(sealed.manifest)
        return sealed
