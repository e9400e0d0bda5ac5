# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""model_batch: encrypted input files in, encrypted predictions out to the owner's key. Three steps, for three who need not trust each other."""

from __future__ import annotations

import json
import os
import typing as t
from datetime import timedelta

from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import load_signing_key
from ansible_collections.attested.ai.plugins.module_utils.modelserver import envelope
from ansible_collections.attested.ai.plugins.module_utils.modelserver.client import AttestedServer, Sealed, send_anywhere
from ansible_collections.attested.ai.plugins.module_utils.modelserver.envelope import Answer
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError
from ansible_collections.attested.ai.plugins.plugin_utils.model_client import CLIENT, ClientAction, facts, read_small, write_private
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import public_key

REQUEST, ANSWER, NOTE = ".request.jwe", ".answer.jwe", ".request.id"
FILES_MAX: t.Final = 10_000
ARGUMENT_SPEC: t.Final[dict[str, dict[str, t.Any]]] = {
    **CLIENT,
    "url": {"type": "str"},
    "policy": {"type": "raw"},
    "step": {"type": "str", "choices": ["seal", "send", "open"], "required": True},
    "src": {"type": "path", "required": True},
    "dest": {"type": "path", "required": True},
    "target": {"type": "str"},
    "content_type": {"type": "str", "default": "application/json"},
    "reply_to": {"type": "raw", "no_log": False},
    # The path of a file, no key.
    "key": {"type": "path", "no_log": False},
    "valid_hours": {"type": "int", "default": 24},
}


class ActionModule(ClientAction):
    _supports_check_mode = True
    argument_spec = ARGUMENT_SPEC
    rules: t.ClassVar[dict[str, t.Any]] = {
        "required_if": [["step", "seal", ["url", "policy", "target", "reply_to"]], ["step", "send", ["url"]], ["step", "open", ["key"]]]
    }

    def work(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        source, dest = self.local(options["src"]), self.local(options["dest"])
        os.makedirs(dest, mode=0o700, exist_ok=True) if not self._task.check_mode else None
        return {"seal": self._seal, "send": self._send, "open": self._open}[options["step"]](options, source, dest)

    def _seal(self, options: dict[str, t.Any], source: str, dest: str) -> dict[str, t.Any]:
        """The owner: verify the server, encrypt each file to its attested key."""
        if not 1 <= options["valid_hours"] <= envelope.LIFETIME_MAX // timedelta(hours=1):
            raise ServingError("it is 1 to 168 hours", where="valid_hours", code="options")
        reply_to = public_key(options["reply_to"], self)
        names = listing(source, "")
        # A name that is taken, by a request of another batch, is not overwritten: its note is what opens the answer.
        waiting = [name for name in names if not os.path.lexists(os.path.join(dest, name + REQUEST))]
        contents = {name: read_small(os.path.join(source, name), envelope.BODY_MAX, "src") for name in waiting}
        server = self.server(options)
        verified = server.verified
        assert_verified(verified)
        if not self._task.check_mode:
            for name, body in contents.items():
                sealed = Sealed.make(verified.jwk, "POST", options["target"], body, options["content_type"], reply_to,
                                     lifetime=timedelta(hours=options["valid_hours"]))  # fmt: skip
                # The note first: a request without one could be sent, and its answer not be told from another.
                write_private(os.path.join(dest, name + NOTE), sealed.identifier.encode())
                write_private(os.path.join(dest, name + REQUEST), json.dumps(sealed.jwe).encode())
        return {**facts(verified), "changed": bool(waiting), "files": waiting}

    def _send(self, options: dict[str, t.Any], source: str, dest: str) -> dict[str, t.Any]:
        """Anybody: carry what is encrypted to the server, and back. Without a policy nothing is verified, for nothing can be read or changed on the way."""
        names = [name for name in listing(source, REQUEST) if not os.path.lexists(os.path.join(dest, name + ANSWER))]
        if not self._task.check_mode:
            verified = options["policy"] is not None
            server = (
                self.server(options) if verified
                else AttestedServer(options["url"], send_anywhere, token=self.token(options), timeout=float(options["timeout"]))
            )  # fmt: skip
            for name in names:
                sealed = load_jwe(os.path.join(source, name + REQUEST))
                write_private(os.path.join(dest, name + ANSWER), json.dumps(server.carry(sealed, anywhere=not verified)).encode())
        return {"changed": bool(names), "files": names}

    def _open(self, options: dict[str, t.Any], source: str, dest: str) -> dict[str, t.Any]:
        """The owner: decrypt the answers. One that is not the answer to its request is refused."""
        key = load_signing_key(self.local(options["key"]))
        changed, failed, names = False, [], listing(source, ANSWER)
        for name in names:
            note = read_small(os.path.join(source, name + NOTE), 256, "src").decode("ascii", "replace").strip()
            answer = Answer.open(load_jwe(os.path.join(source, name + ANSWER)), key, note)
            if answer.status >= 400:
                failed.append(f"{name} ({answer.status})")
            elif not self._task.check_mode:
                changed |= write_private(os.path.join(dest, name), answer.body)
            else:
                changed |= not os.path.lexists(os.path.join(dest, name))
        if failed:
            raise ServingError(f"the model server refused {', '.join(failed[:10])}; the other answers were written", where=options["src"], code="answer-status")
        return {"changed": changed, "files": names}


def listing(directory: str, ending: str) -> list[str]:
    """Names of the files in a folder that end so, without that ending. Folders and hidden files are left alone."""
    found = sorted(
        entry.name[: len(entry.name) - len(ending)] for entry in os.scandir(directory)
        if entry.is_file(follow_symlinks=False) and entry.name.endswith(ending) and not entry.name.startswith(".")
    )  # fmt: skip
    if len(found) > FILES_MAX:
        raise ServingError(f"there are {len(found)} files, {FILES_MAX} are possible", where=directory, fix="Split it", code="batch-size")
    return found


def load_jwe(path: str) -> dict[str, t.Any]:
    found = strict.loads(read_small(path, envelope.ENCODED_MAX, "src"), path)
    if not isinstance(found, dict):
        raise ServingError("it is no JWE", where=path, code="jwe-form")
    return found


def assert_verified(found: t.Any) -> None:
    if found is None:
        raise ServingError("the server was not verified", code="not-verified")
