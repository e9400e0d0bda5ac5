# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What tasks that talk to an attested model server share: the options, the judge, the token, and files of answers."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import read_secret, replace_file
from ansible_collections.attested.ai.plugins.module_utils.modelserver.client import AttestedServer, Verified
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError
from ansible_collections.attested.ai.plugins.module_utils.modelserver.judging import Judge
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs, evaluation_time
from ansible_collections.attested.ai.plugins.plugin_utils.attestation_options import APPRAISAL
from ansible_collections.attested.ai.plugins.plugin_utils.controller_action import ControllerAction
from ansible_collections.attested.ai.plugins.plugin_utils.endorsement_inputs import read_endorsements

CLIENT: t.Final[dict[str, dict[str, t.Any]]] = {
    **APPRAISAL,
    "url": {"type": "str", "required": True},
    # The path of a file, no token.
    "token_file": {"type": "path", "no_log": False},
    "timeout": {"type": "int", "default": 600},
    "model_id": {"type": "str"},
    "minimum_release": {"type": "int"},
}


class ClientAction(ControllerAction):
    """What asks a model server."""

    def server(self, options: t.Mapping[str, t.Any]) -> AttestedServer:
        """A client that has verified the server by the policy of the task. Raises AttestedError."""
        if not 1 <= options["timeout"] <= 86400:
            raise ServingError("it is 1 to 86400 seconds", where="timeout", code="options")
        server = AttestedServer(options["url"], judge_of(options, self), token=self.token(options), timeout=float(options["timeout"]))
        check_model(server.verify(), options)
        return server

    def token(self, options: t.Mapping[str, t.Any]) -> str:
        """The bearer token of the file that the task names, or none."""
        if not options["token_file"]:
            return ""
        token = read_secret(self.local(options["token_file"]), "token", 4096).decode("utf-8", "replace").strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ServingError("it is no bearer token", where="token_file", code="options")
        return token


def judge_of(options: t.Mapping[str, t.Any], action: t.Any) -> Judge:
    """Appraises by the policy of a task. Files are read before the server is asked."""
    inputs = Inputs.of_action(action)
    return Judge(
        inputs.policy(options["policy"]), inputs.reference_values(options["reference_values"]), read_endorsements(options, inputs),
        evaluation_time(options["at"]) if options["at"] else None,
    )  # fmt: skip


def check_model(found: Verified, options: t.Mapping[str, t.Any]) -> None:
    """Is it the model that was meant? What the server says of it is as good as its image, which was just appraised. Raises ServingError."""
    served = found.served or {}
    if options["model_id"] is not None and served.get("model_id") != options["model_id"]:
        raise ServingError(f"it serves {ascii(served.get('model_id'))}, {ascii(options['model_id'])} was expected", where=options["url"], code="model-other")
    lowest = options["minimum_release"]
    release = served.get("release")
    if lowest is not None and (not isinstance(release, int) or release < lowest):
        raise ServingError(f"it serves release {ascii(release)}, at least {lowest} was expected", where=options["url"], code="model-release-lower")


def facts(found: Verified) -> dict[str, t.Any]:
    """What a task returns of a server."""
    return {"served": dict(found.served) if found.served else None, "tls_spki": found.spki, "result": found.verdict.to_dict()}


def read_small(path: str, most: int, where: str) -> bytes:
    """A file of the user's, of at most so many bytes. Raises ServingError, OSError."""
    with open(path, "rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise ServingError(f"it is longer than {most} bytes", where=f"{where} {path}", fix="Split it", code="request-size")
    return data


def write_private(path: str, data: bytes) -> bool:
    """Whole or not at all, for the owner alone. Returns whether anything changed."""
    try:
        with open(path, "rb") as stream:
            if stream.read(len(data) + 1) == data and os.stat(path).st_mode & 0o077 == 0:
                return False
    except FileNotFoundError:
        pass
    replace_file(path, data)
    return True
