# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring reference values of key brokers to those of a document; on the controller. These can be read back, so no state is needed."""

from __future__ import annotations

import json
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kbs.plan import MARKER
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import check_reference_name
from ansible_collections.attested.ai.plugins.module_utils.measure.rvps import lost, to_rvps
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs, evaluation_time, plain
from ansible_collections.attested.ai.plugins.plugin_utils.kbs_task import ADMIN_SPEC, ONE_ADMIN, SERVER_SPEC, WITH_ADMIN, Kbs, brokers, refuse_open

DISPLAY = Display()
# The names of measure/rvps.py: with a document all of these are ours to keep.
MANAGED = ("snp_launch_measurement", "mr_td", "rtmr_1", "rtmr_2", "measurement", "snp_pcr11", "tdx_pcr11")
ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    **SERVER_SPEC,
    **ADMIN_SPEC,
    "reference_values": {"type": "raw"},
    # No defaults: one of these must be given.
    "values": {"type": "dict"},
    "absent": {"type": "list", "elements": "str"},
    "at": {"type": "str"},
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
            argument_spec=ARGUMENT_SPEC, mutually_exclusive=ONE_ADMIN, required_one_of=[*ONE_ADMIN, ["reference_values", "values", "absent"]],
            required_by=WITH_ADMIN)  # fmt: skip
        done: list[dict[str, t.Any]] = []
        try:
            wanted, notes = _wanted(options, Inputs.of_action(self))
            kbs = brokers(self, options)
            warnings = refuse_open(kbs, options["allow_open_admin"])
            # All are read before one is changed.
            seen = [(one, _seen(one, wanted)) for one in kbs]
            for one, before in seen:
                changes = {name: value for name, value in wanted.items() if not _same(before[name], value) and not (value == [] and before[name] is None)}
                if changes and not self._task.check_mode:
                    one.as_admin.set_reference_values(changes)
                done.append({"kbs": one.url, "before": before, "after": {**before, **changes}, "changed": sorted(changes)})
                if changes and not self._task.check_mode:
                    _confirm(one, changes)
        except AttestedError as error:
            raise AnsibleActionFail(str(error), result={"code": error.code, "changed": any(one["changed"] for one in done), "kbs": done}) from None
        for line in (*warnings, *notes):
            DISPLAY.warning(line)
        result: dict[str, t.Any] = {"changed": any(one["changed"] for one in done), "kbs": done, "notes": notes}
        if self._task.diff:
            result["diff"] = [
                {"before_header": one["kbs"], "after_header": one["kbs"], "before": _text(one["before"]), "after": _text(one["after"])} for one in done
            ]
        return result


def _wanted(options: t.Mapping[str, t.Any], inputs: Inputs) -> tuple[dict[str, t.Any], list[str]]:
    """(name -> value, remarks). What shall not be there is an empty list: a KBS forgets no name, and nothing is in an empty list."""
    wanted: dict[str, t.Any] = {}
    notes: list[str] = []
    if options["reference_values"] is not None:
        references, at = inputs.reference_values(options["reference_values"]), evaluation_time(options["at"])
        wanted = {name: [] for name in MANAGED} | to_rvps(references, at)
        notes = lost(references, at)
    for name, value in plain(options["values"] or {}, "values").items():
        if wanted.get(name):
            raise KbsError("%s is in reference_values, too" % name, where="values", code="kbs-reference-name")
        wanted[check_reference_name(name)] = value
    for name in options["absent"] or ():
        if wanted.get(name):
            raise KbsError("%s shall be there and absent" % name, where="absent", code="kbs-reference-name")
        wanted[check_reference_name(name)] = []
    if MARKER in wanted:
        raise KbsError("%s is the marker of the state" % MARKER, where="values", code="kbs-reference-name")
    return wanted, notes


def _seen(one: Kbs, wanted: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {name: one.as_admin.reference_value(name) for name in sorted(wanted)}


def _confirm(one: Kbs, changes: t.Mapping[str, t.Any]) -> None:
    """A KBS says yes to a value that its extractor then leaves out: it is there when it reads back."""
    missing = [name for name, value in changes.items() if not _same(one.as_admin.reference_value(name), value)]
    if missing:
        raise KbsError("it took %s and does not have it" % ", ".join(missing), where=one.url, fix="See the log of its reference value provider",
                       code="kbs-reference-lost")


def _same(one: t.Any, two: t.Any) -> bool:
    """As JSON: for Python 1 is True, for a policy it is not."""
    return json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)


def _text(values: t.Mapping[str, t.Any]) -> str:
    return json.dumps(values, indent=2, sort_keys=True) + "\n"
