# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""model_request: verify a model server, then ask it; nothing leaves before its key is the attested one."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.modelserver.client import said
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError
from ansible_collections.attested.ai.plugins.plugin_utils.model_client import CLIENT, ClientAction, facts, read_small, write_private

BODY_MAX: t.Final = 256 << 20
ARGUMENT_SPEC: t.Final[dict[str, dict[str, t.Any]]] = {
    **CLIENT,
    "method": {"type": "str", "choices": ["GET", "POST"]},
    "target": {"type": "str"},
    "body": {"type": "raw", "no_log": False},
    "src": {"type": "path"},
    "content_type": {"type": "str", "default": "application/json"},
    "encrypt": {"type": "bool", "default": False},
    "dest": {"type": "path"},
}


class ActionModule(ClientAction):
    _supports_check_mode = True
    argument_spec = ARGUMENT_SPEC
    rules: t.ClassVar[dict[str, t.Any]] = {"mutually_exclusive": [["body", "src"]], "required_by": {"dest": ["target"], "body": ["target"], "src": ["target"]}}

    def work(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        body = self._body(options)
        method = options["method"] or ("GET" if body is None else "POST")
        if body is not None and method == "GET":
            raise ServingError("a GET has no body", where="method", code="options")
        server = self.server(options)
        found = facts(server.verified)  # type: ignore[arg-type]
        if options["target"] is None or self._task.check_mode:
            return {**found, "changed": False}
        if options["encrypt"]:
            answer = server.request_encrypted(method, options["target"], body or b"", options["content_type"])
            status, data, kind = answer.status, answer.body, answer.content_type
        else:
            plain = server.request(method, options["target"], body, options["content_type"])
            status, data, kind = plain.status, plain.body, plain.headers.get("content-type", "")
            if status >= 400:
                raise ServingError(f"it answers: {said(plain)}", where=options["url"] + options["target"], code="answer-status")
        if status >= 400:
            raise ServingError(f"the model server answers with status {status}", where=options["url"] + options["target"], code="answer-status")
        found.update(status=status, content_type=kind, encrypted=options["encrypt"])
        if options["dest"]:
            return {**found, "changed": write_private(self.local(options["dest"]), data), "dest": options["dest"]}
        return {**found, "changed": False, **_shown(data, kind)}

    def _body(self, options: t.Mapping[str, t.Any]) -> bytes | None:
        if options["src"]:
            return read_small(self.local(options["src"]), BODY_MAX, "src")
        if options["body"] is None:
            return None
        return options["body"].encode() if isinstance(options["body"], str) else json.dumps(options["body"]).encode()


def _shown(data: bytes, kind: str) -> dict[str, t.Any]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ServingError("the answer is no text", fix="Set dest, and it is written there", code="answer-form") from None
    if kind.partition(";")[0].strip() != "application/json":
        return {"answer": text}
    try:
        return {"answer": json.loads(text)}
    except (ValueError, RecursionError):
        return {"answer": text}
