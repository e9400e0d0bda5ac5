# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring resources of key brokers to what they shall be; on the controller."""

from __future__ import annotations

import base64
import binascii
import os
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.vault import is_encrypted
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kbs import plan
from ansible_collections.attested.ai.plugins.module_utils.kbs.admin import AdminClient
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import RESOURCE_MAX, Resource
from ansible_collections.attested.ai.plugins.module_utils.kbs.state import RESOURCE
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import create_secret, read_secret
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs
from ansible_collections.attested.ai.plugins.plugin_utils.kbs_task import (
    ADMIN_SPEC,
    ONE_ADMIN,
    SERVER_SPEC,
    STATE_SPEC,
    WITH_ADMIN,
    bring,
    brokers,
    refuse_open,
    told_failure,
)
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import find, local_path

DISPLAY = Display()
SOURCES = ("src", "content", "content_b64", "key_file")
KEY_SIZE = 32
ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    **SERVER_SPEC,
    **ADMIN_SPEC,
    **STATE_SPEC,
    "resources": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "path": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "src": {"type": "path"},
            "content": {"type": "str", "no_log": True},
            "content_b64": {"type": "str", "no_log": True},
            # The path of a key, not the key.
            "key_file": {"type": "path", "no_log": False},
            "create": {"type": "bool", "default": False},
        },
    },
}


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_diff = True
    _supports_async = False
    _requires_connection = False

    @failure_as_result
    def run(self, tmp: t.Any = None, task_vars: dict | None = None) -> dict:
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(
            argument_spec=ARGUMENT_SPEC, mutually_exclusive=ONE_ADMIN, required_one_of=ONE_ADMIN, required_by=WITH_ADMIN)  # fmt: skip
        check_mode = self._task.check_mode
        try:
            # Everything that can be wrong here is found before anything is sent.
            made, wanted = self._wanted(options["resources"], check_mode)
            kbs = brokers(self, options)
            warnings = refuse_open(kbs, options["allow_open_admin"])
            result = bring(kbs, wanted, options, local_path(self, options["state_path"]), check_mode=check_mode, act=_act)
        except AttestedError as error:
            raise AnsibleActionFail(str(error), result=told_failure(error)) from None
        for line in warnings:
            DISPLAY.warning(line)
        if not self._task.diff:
            del result["diff"]
        return {**result, "changed": result["changed"] or bool(made), "created_files": made}

    def _wanted(self, resources: t.Sequence[t.Mapping[str, t.Any]], check_mode: bool) -> tuple[list[str], list[plan.Wanted]]:
        """(key files that were made, wishes)."""
        wanted: dict[str, plan.Wanted] = {}
        given = []
        for index, resource in enumerate(resources):
            place = Resource.parse(resource["path"], f"resources[{index}]").path
            sources = [name for name in SOURCES if resource[name] is not None]
            if len(sources) != (1 if resource["state"] == "present" else 0):
                raise KbsError("it needs one of %s, and none if it shall be absent" % ", ".join(SOURCES), where=place, code="kbs-resource-source")
            if place in wanted:
                raise KbsError("it is there twice", where=place, code="kbs-resource-path")
            wanted[place] = plan.Wanted(RESOURCE, place, None)
            given.append((place, resource, sources))
        # Keys are made last: what is wrong with another resource is found before.
        made: list[str] = []
        for place, resource, sources in sorted(given, key=lambda item: item[2] == ["key_file"]):
            if sources == ["key_file"]:
                wanted[place] = plan.Wanted(RESOURCE, place, self._key(place, resource, check_mode, made))
            elif sources:
                wanted[place] = plan.Wanted(RESOURCE, place, self._content(place, resource, sources[0]))
        return made, list(wanted.values())

    def _key(self, place: str, resource: t.Mapping[str, t.Any], check_mode: bool, made: list[str]) -> bytes:
        path = local_path(self, resource["key_file"])
        if resource["create"] and not os.path.lexists(path):
            made.append(path)
            if check_mode:
                # Any key will do: a new one differs from what is there.
                return os.urandom(KEY_SIZE)
            create_secret(path, os.urandom(KEY_SIZE), "key")
        return _usable(place, read_secret(path, "key"))

    def _content(self, place: str, resource: t.Mapping[str, t.Any], source: str) -> bytes:
        if source == "src":
            data = self._read(resource["src"], place)
        elif source == "content":
            data = str(resource["content"]).encode("utf-8")
        else:
            try:
                data = base64.b64decode(resource["content_b64"], validate=True)
            except (binascii.Error, ValueError):
                raise KbsError("content_b64 is no standard base64", where=place, code="kbs-resource-source") from None
        return _usable(place, data)

    def _read(self, path: str, place: str) -> bytes:
        """What is vaulted is decrypted in memory: Ansible's own way would put a secret on a disk in the clear, if only for a while."""
        try:
            found = find(self, path)
            data = Inputs(lambda _path: found).read(path, place, RESOURCE_MAX)
            return self._loader._vault.decrypt(data) if is_encrypted(data) else data
        except AnsibleError as error:
            raise KbsError("it cannot be read: %s" % " ".join(str(error).split())[:200], where=f"{place} {path}", code="kbs-resource-source") from None


def _usable(place: str, data: bytes) -> bytes:
    if not data:
        raise KbsError("it would be empty", where=place, code="kbs-resource-source")
    if data.startswith(b"$ANSIBLE_VAULT;"):
        raise KbsError("it is still encrypted by Ansible Vault", where=place, fix="Give the vault's password", code="kbs-resource-source")
    return data


def _act(client: AdminClient, change: plan.Change) -> bool:
    resource = Resource.parse(change.wanted.name)
    if change.wanted.content is None:
        return client.delete_resource(resource)
    client.set_resource(resource, change.wanted.content)
    return True
