# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""The fleet in the report: the worst first, nothing that was not asked for, nothing better than it is."""

from __future__ import annotations

import json

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.plugin_utils.report_fleet import HISTORY_SHOWN, evidence_of_hosts, fleet_view
from ansible_collections.attested.ai.plugins.plugin_utils.report_view import report_view

ROW = {"host": "a", "state": "affirming", "condition": "ok", "evaluated_at": "2026-11-28T12:00:00Z", "days": 3, "distance": 0, "session": "SECRET"}
EVENT = {"guest": "a", "item": "cpu0", "code": "crl-expired", "at": "2026-12-02T00:00:00Z", "days": 3, "because": "expiry", "detail": "d", "token": "SECRET"}


def test_the_worst_come_first_and_only_what_is_named_is_taken():
    rows = [ROW, {**ROW, "host": "b", "state": "contraindicated"}, {**ROW, "host": "c", "quarantined": True}, {**ROW, "host": "d", "state": "stale"}]
    view = fleet_view(rows, [], {"forecast": [EVENT], "msg": "m"})
    assert [row["host"] for row in view["hosts"]] == ["b", "d", "a", "c"] and [row["host"] for row in view["worst"]] == ["b", "d", "c"]
    assert [(one["state"], one["hosts"]) for one in view["counts"]] == [("contraindicated", 1), ("stale", 1), ("affirming", 2)]
    assert "SECRET" not in json.dumps(view) and view["hosts"][2]["days"] == 3


def test_the_forecast_is_counted_by_reason_with_the_first_day():
    events = [EVENT, {**EVENT, "guest": "b", "at": "2026-12-01T00:00:00Z"}, {**EVENT, "guest": "b", "item": "gpu0"}, {**EVENT, "code": "x", "at": None}]
    kinds = fleet_view([], [], {"forecast": events})["forecast"]["kinds"]
    assert [(one["code"], one["at"], one["guests"]) for one in kinds] == [("crl-expired", "2026-12-01T00:00:00Z", 2), ("x", None, 1)]
    assert fleet_view([], [], {})["forecast"] is None


def test_a_long_history_says_what_it_leaves_out():
    history = [{"at": f"2026-11-{day:02}T00:00:00Z", "host": "a", "event": "drift"} for day in range(1, 29)] * 10
    view = fleet_view([], history, None)
    assert len(view["history"]) == HISTORY_SHOWN and view["history_left_out"] == 80 and view["history"][0]["at"] == "2026-11-28T00:00:00Z"


@pytest.mark.parametrize("fleet, history, forecast", [
    ({}, [], None), ([1], [], None), ([{"host": "a", "state": "fine"}], [], None), ([{"state": "stale"}], [], None), ([], [{}], None), ([], [], {"x": 1}),
])  # fmt: skip
def test_what_is_no_fleet_is_told(fleet, history, forecast):
    with pytest.raises(FormatError, match="report_"):
        fleet_view(fleet, history, forecast)


def test_evidence_is_collected_of_those_who_gave_some():
    hostvars = {"a": {"seen": {"evidence": {"schema": "x"}}}, "b": {"seen": {"msg": "unreachable"}}, "c": {}}
    assert evidence_of_hosts(hostvars, ["a", "b", "c", "d"], "seen") == {"a": {"schema": "x"}}


def test_each_workload_has_its_own_three_states():
    steps = [{"workload": "chat", "step": step, "ok": True} for step in ("encrypt", "attest", "open", "release", "serve")]
    view = report_view([*steps, {"workload": "train", "step": "encrypt", "ok": True}, {"step": "attest", "ok": False}], "t")
    assert [(one["name"], [state["state"] for state in one["states"]]) for one in view["workloads"]] == [
        ("chat", ["ok", "ok", "ok"]), ("train", ["ok", "none", "none"]),
    ]  # fmt: skip
