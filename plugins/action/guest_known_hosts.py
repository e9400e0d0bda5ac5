# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the known_hosts file of one guest; runs on the controller."""

from __future__ import annotations

import os
import tempfile
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.plugin_utils import known_hosts_file
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path

ARGUMENT_SPEC = {
    "path": {"type": "path", "required": True},
    "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "keyscan": {"type": "bool", "default": False},
    "keep": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_diff = True
    _supports_async = False
    _requires_connection = True

    @failure_as_result
    def run(self, tmp: t.Any = None, task_vars: dict | None = None) -> dict:
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC, mutually_exclusive=[["keys", "keyscan"]])
        path = local_path(self, options["path"])
        try:
            found = known_hosts_file.wiring(self._connection, path)
            answer = {"ssh": found.ssh, "checked": found.checked, "wired": found.wired, "problem": found.problem, "path": path, "changed": False}
            if not found.ssh or not (options["keys"] or options["keyscan"]):
                return answer
            before = read(path)
            keys = known_hosts_file.scan(found) if options["keyscan"] else options["keys"]
            kept = [line.partition(" ")[2] for line in before.splitlines()] if options["keep"] else []
            after = known_hosts_file.text_of(found.name, [*kept, *keys])
            # A server that is slow or going down answers a scan for some of its keys only: that is no news, and no other server.
            if options["keyscan"] and set(after.splitlines()) <= set(before.splitlines()):
                after = before
            if before != after and not self._task.check_mode:
                write(path, after)
        except AttestedError as error:
            raise AnsibleActionFail(str(error), result={"code": error.code}) from None
        except OSError as error:
            raise AnsibleActionFail(f"{path}: it cannot be written ({error.strerror})", result={"code": "controller"}) from None
        return {**answer, "changed": before != after, "diff": {"before": before, "after": after, "before_header": path, "after_header": path}}


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def write(path: str, text: str) -> None:
    """Whole or not at all: another play may read it just now."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".known_hosts-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except OSError:
        os.unlink(scratch)
        raise
