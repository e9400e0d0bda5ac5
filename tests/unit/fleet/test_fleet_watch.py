# SPDX-License-Identifier: GPL-3.0-or-later
"""The action attestation_watch in a real ansible-playbook: what it keeps, decides and refuses. One run for all of it: starting Ansible takes the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import fleet_lab as lab
import pytest

pytestmark = pytest.mark.costly
HOSTS = ("a", "b", "bare", "c")
AT, LATER = "2026-11-28T12:01:00Z", "2026-11-28T12:06:00Z"


def seen(status="affirming", at=lab.AT, **more):
    return {"result": lab.result(status, at=at, **more), "evidence": {"schema": "attested.ai/evidence/1"}}


def bad(at=lab.AT):
    return seen("contraindicated", at=at)


FIRST = {"a": seen(), "b": bad(), "bare": bad(), "c": {"msg": "timed out", "unreachable": True}}
SECOND = {
    "a": seen(at="2026-11-28T12:05:00Z", machine="00" * 32), "b": bad("2026-11-28T12:05:00Z"), "bare": bad("2026-11-28T12:05:00Z"), "c": {"msg": "timed out"},
}  # fmt: skip
DAMAGE = '{"schema": "attested.ai/fleet-state/1", "hosts": {"a": {}}}'
# name: (directory, what the hosts registered, options)
STEPS = {
    "first": ("kept", FIRST, {"at": AT, "metrics_file": "attested.prom"}),
    "again": ("kept", {"a": seen(), "b": bad(), "bare": bad()}, {"at": AT}),
    "second": ("kept", SECOND, {"at": LATER}),
    "settled": ("kept", {}, {"operation": "settle", "settled": [{"host": "b", "act": "quarantine", "detail": "cordoned"}, {"host": "b", "act": "alert"}]}),
    "after": ("kept", {"b": SECOND["b"]}, {"at": LATER}),
    "check": ("checked", {"b": bad()}, {"metrics_file": "checked.prom", "check_mode": True}),
    "plain": ("plain", {"a": seen()}, {"signing_key": "", "at": AT}),
    "signed": ("plain", {"a": SECOND["a"]}, {"at": LATER}),
    "stored": ("forgetful", {"a": seen(), "b": seen()}, {"at": AT}),
    "forgotten": ("forgetful", {"a": {}}, {"operation": "forget"}),
    "damaged": ("damaged", {"a": seen()}, {}),
    "no-key": ("wrong", {"a": seen()}, {"signing_key": "nowhere.pem"}),
    "no-recovery": ("wrong", {"a": seen()}, {"rules": {"recover_after": 0}}),
    "no-age": ("wrong", {"a": seen()}, {"max_age_hours": 0}),
    "stranger": ("wrong", {}, {"operation": "settle", "settled": [{"host": "stranger", "act": "alert"}]}),
    "no-result": ("wrong", {"a": {"result": {"schema": "attested.ai/result/1"}}}, {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    directory = tmp_path_factory.mktemp("watch")
    key = directory / "monitor.pem"
    key.write_bytes(lab.pem(lab.key()))
    key.chmod(0o600)
    (directory / "damaged").mkdir()
    (directory / "damaged" / "state.json").write_text(DAMAGE)
    hosts = {host: {"attestation_monitor_quarantine": [] if host == "bare" else [{"kind": "service"}]} for host in HOSTS}
    tasks = []
    for number, (name, (place, found, options)) in enumerate(STEPS.items()):
        for host, one in found.items():
            hosts[host][f"seen_{number}"] = one
        options = dict(options)
        check = options.pop("check_mode", False)
        task = {"directory": place, "hosts": sorted(found), "variable": f"seen_{number}", "signing_key": "monitor.pem", **options}
        task = {option: value for option, value in task.items() if value not in ("", [])}
        save = {"content": "{{ round | to_json }}", "dest": f"{directory}/{name}.answer", "mode": "0600"}
        tasks += [
            {"attested.ai.attestation_watch": task, "register": "round", "ignore_errors": True, "check_mode": check},
            {"ansible.builtin.copy": save, "run_once": True, "delegate_to": "localhost"},
        ]
    (directory / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": {"ansible_python_interpreter": sys.executable}}}))
    (directory / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "connection": "local", "tasks": tasks}]))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.json", "play.yml"]
    done = subprocess.run(command, cwd=directory, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return directory, {name: json.loads((directory / f"{name}.answer").read_text()) for name in STEPS}


def by_host(answer):
    return {one["host"]: one for one in answer["hosts"]}


def names(directory, place):
    return sorted(path.name for path in (directory / place / "results").iterdir())


def test_a_round_leaves_records_and_metrics(ran):
    directory, answers = ran
    first = answers["first"]
    assert first["counts"] == {"good": 1, "bad": 2, "missing": 1} and first["changed"]
    assert {host: one["acts"] for host, one in by_host(first).items()} == {"a": [], "b": ["alert"], "bare": ["alert"], "c": []}
    assert first["hosts"][0]["state"] == "affirming" and first["hosts"][1]["reasons"] == ["policy-debug"]
    assert names(directory, "kept") == ["a.jws", "b.jws", "bare.jws"]
    assert 'attested_host_state{host="b",state="contraindicated"} 1' in (directory / "attested.prom").read_text()
    assert (directory / "kept" / "state.json").stat().st_mode & 0o777 == 0o600
    assert not list((directory / "kept").rglob("*.partial"))


def test_the_same_results_are_counted_once_and_what_was_not_done_stays_wanted(ran):
    again = ran[1]["again"]
    assert not again["changed"] and again["todo"] == [{"host": "b", "act": "alert"}, {"host": "bare", "act": "alert"}]


def test_the_next_round_tells_drift_and_asks_for_more(ran):
    second = by_host(ran[1]["second"])
    assert second["a"]["changes"][0]["kind"] == "machine" and second["a"]["acts"] == ["alert"]
    assert second["b"]["acts"] == ["alert", "quarantine"]
    assert second["bare"]["acts"] == ["alert"] and second["bare"]["no_means"] == ["quarantine"]
    assert second["c"]["condition"] == "missing" and second["c"]["why"] == "timed out"


def test_what_was_done_is_remembered_and_told(ran):
    assert [event["event"] for event in ran[1]["settled"]["history"]] == ["failing", "failing", "drift", "missing", "quarantined"]
    assert ran[1]["after"]["hosts"][0]["quarantined"] and ran[1]["after"]["todo"] == []


def test_check_mode_decides_and_writes_nothing(ran):
    directory, answers = ran
    assert answers["check"]["changed"] and answers["check"]["hosts"][0]["acts"] == ["alert"] and "results/b.jws" in answers["check"]["files"]
    assert not (directory / "checked").exists() and not (directory / "checked.prom").exists()


def test_without_a_key_records_are_plain_and_unproven(ran):
    directory, answers = ran
    assert answers["plain"]["hosts"][0]["state"] == "unproven" and answers["plain"]["files"][0] == "results/a.json"
    assert answers["signed"]["hosts"][0]["state"] == "affirming" and names(directory, "plain") == ["a.jws"]


def test_a_damaged_state_stops_the_monitor_instead_of_freeing_everybody(ran):
    directory, answers = ran
    answer = answers["damaged"]
    assert answer["failed"] and answer["code"] == "fleet-state-damaged" and "backup" in answer["msg"]
    assert (directory / "damaged" / "state.json").read_text() == DAMAGE and names(directory, "damaged") == []


@pytest.mark.parametrize("name, says", [
    ("no-key", "nowhere.pem"), ("no-recovery", "recover_after"), ("no-age", "more than 0"), ("stranger", "not known"), ("no-result", "result of a"),
])  # fmt: skip
def test_what_cannot_be_is_told(ran, name, says):
    answer = ran[1][name]
    assert answer["failed"] and says in answer["msg"]


def test_forget_drops_all_of_a_host(ran):
    assert names(ran[0], "forgetful") == ["b.jws"]
    assert list(json.loads((ran[0] / "forgetful" / "state.json").read_text())["hosts"]) == ["b"]
