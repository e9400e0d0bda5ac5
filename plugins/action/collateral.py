# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Fetch, keep, carry and forecast the collateral that evidence is judged with, on the controller."""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.attested.ai.plugins.module_utils.endorsements import kds, ocsp_service, pcs, rim_service
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Store
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_forecast import forecast
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_opener import make_opener
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_refresh import check, fetch
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_task import Task, check_options
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_transfer import export_bundle, import_bundle, import_files
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import public_key

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    "operation": {"type": "str", "required": True, "choices": ["fetch", "check", "export", "import", "forecast"]},
    "store": {"type": "path", "required": True},
    "evidence": {"type": "raw"},
    "amd": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "product": {"type": "str", "required": True, "choices": ["milan", "genoa", "bergamo", "siena", "turin"]},
            "chip_id": {"type": "str"},
            "tcb": {
                "type": "dict",
                "options": {name: {"type": "int"} for name in ("fmc", "bootloader", "tee", "snp", "microcode")},
            },
        },
    },
    "intel": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "fmspc": {"type": "str", "required": True},
            "ca": {"type": "str", "default": "platform", "choices": list(pcs.AUTHORITIES)},
        },
    },
    "rims": {"type": "list", "elements": "str", "default": []},
    "tcbs": {"type": "list", "elements": "str", "default": ["reported"], "choices": list(kds.TCB_NAMES)},
    "revocation": {"type": "bool", "default": True},
    "update": {"type": "str", "default": "standard", "choices": list(pcs.VIEWS)},
    "tcb_evaluation_data_number": {"type": "int"},
    "policy": {"type": "raw"},
    "reference_values": {"type": "raw"},
    "at": {"type": "str"},
    "horizon": {"type": "int", "default": 30},
    "planned": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"at": {"type": "str", "required": True}, "policy": {"type": "raw", "required": True}},
    },
    "recoveries": {"type": "list", "elements": "int", "default": []},
    "refresh_within": {"type": "int", "default": 7},
    "force": {"type": "bool", "default": False},
    "offline": {"type": "bool", "default": False},
    "fail_on_problem": {"type": "bool", "default": True},
    "kds_url": {"type": "str", "default": kds.URL},
    "pcs_url": {"type": "str", "default": pcs.URL},
    "pccs_url": {"type": "str"},
    "root_crl_url": {"type": "str", "default": pcs.ROOT_CRL_URL},
    "rim_url": {"type": "str", "default": rim_service.URL},
    # The path of a token, not the token.
    "rim_token_file": {"type": "path", "no_log": False},
    "ocsp_url": {"type": "str", "default": ocsp_service.URL},
    "ca_path": {"type": "path"},
    "timeout": {"type": "int", "default": 20},
    "deadline": {"type": "int", "default": 600},
    "attempts": {"type": "int", "default": 6},
    "max_wait": {"type": "int", "default": 60},
    "parallelism": {"type": "int", "default": 4},
    "bundle": {"type": "path"},
    "files": {"type": "list", "elements": "path", "default": []},
    "signing_key": {"type": "path", "no_log": False},
    "public_key": {"type": "raw", "no_log": False},
    "allow_older": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    @failure_as_result
    def run(self, tmp: t.Any = None, task_vars: dict | None = None) -> dict:
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(
            argument_spec=ARGUMENT_SPEC,
            required_if=[("operation", "export", ("bundle", "signing_key"))],
            mutually_exclusive=[("update", "tcb_evaluation_data_number")] if "update" in self._task.args else [],
        )
        try:
            result = self._operate(options)
        except AttestedError as error:
            raise AnsibleActionFail(str(error), result={"code": error.code}) from None
        if not self._task.diff:
            result.pop("diff", None)
        return result

    def _operate(self, options: t.Mapping[str, t.Any]) -> dict:
        check_options(options)
        inputs = Inputs.of_action(self)
        task = Task(
            options=options,
            inputs=inputs,
            store=Store(local_path(self, options["store"])),
            policy=inputs.policy(options["policy"]),
            check=bool(self._task.check_mode),
            opener=make_opener(None if options["ca_path"] is None else local_path(self, options["ca_path"])),
            tell=Display().display,
        )
        operation = options["operation"]
        if operation == "fetch":
            token = options["rim_token_file"]
            return fetch(task, None if token is None else local_path(self, token))
        if operation == "check":
            return check(task)
        if operation == "forecast":
            return forecast(task)
        if operation == "export":
            return export_bundle(task, local_path(self, options["bundle"]), inputs.signing_key(options["signing_key"]))
        return self._import(task)

    def _import(self, task: Task) -> dict:
        options = task.options
        if (options["bundle"] is not None) == bool(options["files"]):
            raise AttestedError("one source was expected, no more and no less", where="options", fix="Give bundle or files")
        if options["files"]:
            return import_files(task, options["files"])
        if options["public_key"] is None:
            raise AttestedError("a bundle is taken over only from a signer that is named", where="public_key", fix="Give the public key of its maker")
        return import_bundle(task, os.path.realpath(local_path(self, options["bundle"])), public_key(options["public_key"], self), options["allow_older"])
