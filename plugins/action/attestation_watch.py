# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep what a round of attestations showed, tell drift, and decide what is to be done; on the controller, for all hosts in one task."""

from __future__ import annotations

import os
import typing as t
from datetime import timedelta

from ansible.plugins.action import ActionBase

from ansible_collections.attested.ai.plugins.module_utils.appraisal import jws
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.fleet import drift, metrics, reaction
from ansible_collections.attested.ai.plugins.plugin_utils import fleet_round
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs, evaluation_time, plain
from ansible_collections.attested.ai.plugins.plugin_utils.fleet_store import FleetStore
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path

_ROUNDS = {"type": "int"}
RULES: t.Final[dict[str, dict[str, t.Any]]] = {
    "alert_after": {**_ROUNDS, "default": 1},
    "quarantine_after": {**_ROUNDS, "default": 2},
    "revoke_after": {**_ROUNDS, "default": 0},
    "missing_after": {**_ROUNDS, "default": 2},
    "quarantine_missing_after": {**_ROUNDS, "default": 0},
    "recover_after": {**_ROUNDS, "default": 3},
    "release": {"type": "bool", "default": False},
    "alert_on": {
        "type": "list",
        "elements": "str",
        "choices": list(drift.KINDS),
        "default": ["anchor", "items", "machine", "device", "measurement", "chain", "tcb-lower", "tcb-status"],
    },
    "bad_on": {"type": "list", "elements": "str", "choices": list(drift.KINDS), "default": ["anchor", "items"]},
}
ARGUMENT_SPEC: t.Final[dict[str, dict[str, t.Any]]] = {
    "directory": {"type": "path", "required": True},
    "operation": {"type": "str", "choices": ["observe", "settle", "forget", "fleet", "history"], "default": "observe"},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "variable": {"type": "str", "default": "attestation"},
    "signing_key": {"type": "path", "no_log": False},
    "rules": {"type": "dict", "default": {}, "options": RULES, "apply_defaults": True},
    "quarantine_variable": {"type": "str", "default": "attestation_monitor_quarantine"},
    "revoke_variable": {"type": "str", "default": "attestation_monitor_revoke"},
    "max_age_hours": {"type": "float", "default": 24.0},
    "keep_evidence": {"type": "bool", "default": True},
    "history_max": {"type": "int", "default": 10000},
    "metrics_file": {"type": "path"},
    "forecast": {"type": "dict"},
    "settled": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "host": {"type": "str", "required": True},
            "act": {"type": "str", "required": True, "choices": list(reaction.ACTS)},
            "detail": {"type": "str", "default": ""},
        },
    },
    "at": {"type": "str"},
}


# What of a step says how to take it back, where its kind alone does not.
_BACK: t.Final = {"command": "release_argv", "http": "release_url"}


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False
    BYPASS_HOST_LOOP = True  # a round is one thing, not one per host

    @failure_as_result
    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        answer = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(
            argument_spec=ARGUMENT_SPEC,
            required_if=[("operation", "observe", ("hosts",)), ("operation", "settle", ("settled",)), ("operation", "forget", ("hosts",))],
        )
        try:
            answer.update(self._operate(options, (task_vars or {}).get("hostvars", {})))
        except AttestedError as error:
            return {**answer, "failed": True, "msg": str(error), "code": error.code}
        return answer

    def _operate(self, options: t.Mapping[str, t.Any], hostvars: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        if options["max_age_hours"] <= 0 or options["history_max"] < 1:
            raise AttestedError("max_age_hours and history_max must be more than 0", where="options")
        store = FleetStore(local_path(self, options["directory"]), dry=bool(self._task.check_mode))
        operation, now = options["operation"], evaluation_time(options["at"])
        if operation == "history":
            return {"changed": False, "history": [event for event in store.history() if not options["hosts"] or event["host"] in options["hosts"]]}
        # Read before anything is locked or written: a bad key must not cost a round.
        key = Inputs.of_action(self).signing_key(options["signing_key"]) if options["signing_key"] else None
        if operation == "fleet":
            return {"changed": False, "history": store.history(), **fleet_round.fleet(_round(options, store, key, now, {}), store.memories())}
        with store.locked():
            memories = store.memories()
            if operation == "observe":
                found = self._observe(options, hostvars, store, memories, key, now)
            elif operation == "settle":
                found = {"history": store.tell(fleet_round.settle(memories, options["settled"], now), options["history_max"])}
                store.remember(memories)
            else:
                found = {"forgotten": fleet_round.forget(store, memories, options["hosts"])}
                store.remember(memories)
        return {"changed": bool(store.changed), **found}

    def _observe(
        self, options: t.Mapping[str, t.Any], hostvars: t.Mapping[str, t.Any], store: FleetStore, memories: dict[str, reaction.Memory], key: t.Any, now: t.Any
    ) -> dict[str, t.Any]:
        hosts = list(dict.fromkeys(options["hosts"]))
        able = {
            reaction.ALERT: hosts,
            reaction.QUARANTINE: [host for host in hosts if _given(hostvars, host, options["quarantine_variable"])],
            reaction.RELEASE: [host for host in hosts if _way_back(_given(hostvars, host, options["quarantine_variable"]))],
            reaction.REVOKE: [host for host in hosts if _given(hostvars, host, options["revoke_variable"])],
        }
        task = _round(options, store, key, now, able)
        found = {host: fleet_round.seen_of(hostvars[host].get(options["variable"]) if host in hostvars else None) for host in hosts}
        rows, events, measured = fleet_round.observe(task, found, memories)
        counts = fleet_round.outcomes(rows)
        # A round over a part of the fleet must not take the others out of the metrics.
        measured += [fleet_round.remembered(task, host, memory) for host, memory in sorted(memories.items()) if host not in found]
        text = metrics.render(measured, now)
        history = store.tell(events, options["history_max"])
        store.remember(memories)
        said, problem = "%d good, %d bad, %d without an answer" % (counts["good"], counts["bad"], counts["missing"]), ""
        if options["metrics_file"]:
            # They lie on somebody else's disk. What is to be done about the hosts is told all the same, and the task fails.
            try:
                store.write(local_path(self, options["metrics_file"]), text.encode())
            except AttestedError as error:
                problem = f"metrics: {error}"
        return {
            "failed": bool(problem),
            "hosts": rows,
            "todo": [{"host": row["host"], "act": act} for row in rows for act in row["acts"]],
            "events": events,
            "history": history,
            "counts": counts,
            "metrics": text,
            "metrics_problem": problem,
            "files": [os.path.relpath(path, store.root) for path in store.changed],
            "msg": f"{said}. {problem}" if problem else said,
        }


def _round(options: t.Mapping[str, t.Any], store: FleetStore, key: t.Any, now: t.Any, able: t.Mapping[str, t.Collection[str]]) -> fleet_round.Round:
    rules = reaction.Rules(**{name: tuple(value) if isinstance(value, list) else value for name, value in options["rules"].items()})
    trusted = jws.parse_jwks({"keys": [jws.public_jwk(key)]}) if key is not None else ()
    forecast = plain(options["forecast"], "forecast") if options["forecast"] else None
    return fleet_round.Round(store, rules, now, timedelta(hours=options["max_age_hours"]), key, trusted, options["keep_evidence"], able, forecast)


def _given(hostvars: t.Mapping[str, t.Any], host: str, variable: str) -> t.Any:
    return hostvars[host].get(variable) if host in hostvars else None


def _way_back(steps: t.Any) -> bool:
    """Whether somebody said how to let a host back in: a command or a hook that only closes says nothing of that. What is not said right, the role refuses."""
    if not isinstance(steps, (list, tuple)):
        return bool(steps)
    return bool(steps) and all(_BACK.get(str(step.get("kind")), "kind") in step for step in steps if isinstance(step, t.Mapping))
