# SPDX-License-Identifier: GPL-3.0-or-later
"""The action attestation_watch in a real ansible-playbook: what it keeps, decides and refuses. One run for all of it: starting Ansible takes the time."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys

import fleet_lab as lab
import pytest
from ansible_collections.attested.ai.plugins.plugin_utils import fleet_forecast, fleet_store
from ansible_collections.attested.ai.plugins.plugin_utils.report_fleet import fleet_view
from ansible_collections.attested.ai.plugins.plugin_utils.report_view import report_document

pytestmark = pytest.mark.costly
HOSTS = ("a", "b", "bare", "c", "good")
AT, LATER = "2026-11-28T12:01:00Z", "2026-11-28T12:06:00Z"


def seen(status="affirming", at=lab.AT, **more):
    return {"result": lab.result(status, at=at, **more), "evidence": {"schema": "attested.ai/evidence/1"}}


def bad(at=lab.AT):
    return seen("contraindicated", at=at)


FIRST = {"a": seen(), "b": bad(), "bare": bad(), "c": {"msg": "timed out", "unreachable": True}}
SECOND = {
    "a": seen(at="2026-11-28T12:05:00Z", machine="00" * 32), "b": bad("2026-11-28T12:05:00Z"), "bare": bad("2026-11-28T12:05:00Z"), "c": {"msg": "timed out"},
}  # fmt: skip
ENDS = {"at": "2026-12-03T00:00:00Z", "days": 4, "because": "expiry", "ends": []}
TDX = {"schema": "attested.ai/evidence/1", "items": [{"type": "tdx"}]}
# Of four hosts, by what each round is about: c never answered, and the guest of b is a TDX one.
FLEET = {**FIRST, "b": {**bad(), "evidence": TDX}}
FORETOLD = {
    "a": [{"guest": "a", "item": "item 0", "code": "crl-expired", "detail": "ends", **ENDS}],
    "b": [{"guest": "b", "item": "", "code": "tcb", "detail": "17", **ENDS, "at": None, "days": None, "because": "tcb-recovery"}],
    "bare": [{"guest": "bare", "item": "item 0", "code": "ocsp", "detail": "ends first", **ENDS, "at": "2026-12-01T00:00:00Z", "days": 2}],
}
WAY = {"good": {"attestation_monitor_quarantine": [{"kind": "http", "url": "http://localhost:9/", "release_url": "http://localhost:9/"}, {"kind": "cordon"}]},
       "a": {"attestation_monitor_quarantine": [{"kind": "http", "url": "http://localhost:9/"}]},
       "b": {"attestation_monitor_quarantine": [{"kind": "service"}, {"kind": "command", "argv": ["/bin/false"]}]}}  # fmt: skip


BACK = {"rules": {"recover_after": 1, "release": True, "quarantine_after": 1}, "quarantine_variable": "way"}


def foretold(*hosts):
    """As collateral answers for these."""
    found = [event for host in hosts for event in FORETOLD.get(host, ())]
    found.sort(key=lambda event: (event["at"] is None, event["at"] or ""))
    recoveries = [{"number": 17, "refused": ["b"] if "b" in hosts else [], "unknown": [], "guests": int("b" in hosts)}]
    return {"forecast": found, "recoveries": recoveries, "collateral_ending": [], "horizon_end": "2026-12-28T12:00:00Z"}


def part(place, *hosts, at=AT, **more):
    return (place, {host: FLEET[host] for host in hosts}, {"at": at, "metrics_file": f"{place}.prom", "forecast": foretold(*hosts), **more})


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
    "whole": part("whole", *FLEET),
    "whole-fleet": ("whole", {}, {"operation": "fleet", "at": LATER, "forecast": foretold()}),
    "part-1": part("parts", "b", "c"),
    "part-2": part("parts", "a", "bare"),
    "parts-fleet": ("parts", {}, {"operation": "fleet", "at": LATER, "forecast": foretold()}),
    # One host is asked again, as an event makes it, and nothing is foretold of it any more.
    "event": ("parts", {"bare": seen(at="2026-11-28T12:05:00Z")}, {"at": LATER, "metrics_file": "parts.prom", "forecast": foretold()}),
    "no-metrics": ("unmetered", {"b": bad()}, {"at": AT, "metrics_file": "nowhere/attested.prom"}),
    "unread": ("unread", {"a": {"result": {"schema": "attested.ai/result/1"}}, "b": seen()}, {"at": AT}),
    "unread-again": ("unread", {"a": {"result": {"schema": "attested.ai/result/1"}}}, {"at": AT}),
    "unread-fleet": ("unread", {}, {"operation": "fleet", "at": AT}),
    "closed": ("way", {host: bad() for host in WAY}, {"at": AT, **BACK}),
    "noted": ("way", {}, {"operation": "settle", "settled": [{"host": host, "act": act} for host in WAY for act in ("quarantine", "alert")]}),
    "back": ("way", {host: seen(at="2026-11-28T12:05:00Z") for host in WAY}, {"at": LATER, **BACK}),
    "stored": ("forgetful", {"a": seen(), "b": seen()}, {"at": AT, "forecast": foretold("a")}),
    "forgotten": ("forgetful", {"a": {}, "c": {}}, {"operation": "forget"}),
    "damaged": ("damaged", {"a": seen()}, {}),
    "no-key": ("wrong", {"a": seen()}, {"signing_key": "nowhere.pem"}),
    "no-recovery": ("wrong", {"a": seen()}, {"rules": {"recover_after": 0}}),
    "no-age": ("wrong", {"a": seen()}, {"max_age_hours": 0}),
    "stranger": ("wrong", {}, {"operation": "settle", "settled": [{"host": "stranger", "act": "alert"}]}),
    "no-forecast": ("wrong", {"a": seen()}, {"forecast": {"forecast": [{"guest": "a", "at": "soon"}]}}),
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
    for host, one in WAY.items():
        hosts[host]["way"] = one["attestation_monitor_quarantine"]
    tasks = []
    for number, (name, (place, found, options)) in enumerate(STEPS.items()):
        for host, one in found.items():
            hosts[host][f"seen_{number}"] = one
        options = dict(options)
        check = options.pop("check_mode", False)
        task = {"directory": place, "hosts": sorted(found), "variable": f"seen_{number}", "signing_key": "monitor.pem", **options}
        task = {option: value for option, value in task.items() if value not in ("", [])}
        if name == "event":  # what the parts left is compared, so it is put aside first
            tasks.append({"ansible.builtin.command": {"argv": ["sh", "-c", "cp -R parts parts-before && cp parts.prom parts-before.prom"]}, "run_once": True})
            tasks[-1]["args"] = {"chdir": str(directory)}
        tasks.append({"attested.ai.attestation_watch": task, "register": f"round_{number}", "ignore_errors": True, "check_mode": check})
    answers = "{{ {" + ", ".join(f"'{name}': round_{number}" for number, name in enumerate(STEPS)) + "} | to_json }}"
    save = {"content": answers, "dest": f"{directory}/answers.json", "mode": "0600"}
    tasks.append({"ansible.builtin.copy": save, "run_once": True, "delegate_to": "localhost"})
    (directory / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": {"ansible_python_interpreter": sys.executable}}}))
    (directory / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "connection": "local", "tasks": tasks}]))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.json", "play.yml"]
    done = subprocess.run(command, cwd=directory, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return directory, json.loads((directory / "answers.json").read_text())


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
    ("no-key", "nowhere.pem"), ("no-recovery", "recover_after"), ("no-age", "more than 0"), ("stranger", "not known"), ("no-forecast", "forecast"),
])  # fmt: skip
def test_what_cannot_be_is_told(ran, name, says):
    answer = ran[1][name]
    assert answer["failed"] and says in answer["msg"]


def stored(place):
    """All that a folder holds; of signed records what is signed, because a signature is another one each time."""
    files = {str(path.relative_to(place)): path.read_text() for path in sorted(place.rglob("*")) if path.is_file() and path.name != ".lock"}
    files["history.jsonl"] = sorted(files["history.jsonl"].splitlines())
    return {name: base64.urlsafe_b64decode(text.split(".")[1] + "==") if name.endswith(".jws") else text for name, text in files.items()}


def page(answer):
    """What the role report makes of it."""
    return {"fleet": fleet_view(answer["hosts"], sorted(answer["history"], key=json.dumps), answer["forecast"]), "runs": report_document(answer["runs"], "t")}


def test_rounds_over_parts_of_a_fleet_leave_what_one_over_all_of_it_leaves(ran):
    directory, answers = ran
    assert stored(directory / "parts-before") == stored(directory / "whole") and len(stored(directory / "whole")) == 11
    assert (directory / "parts-before.prom").read_text() == (directory / "whole.prom").read_text()
    whole, parts = page(answers["whole-fleet"]), page(answers["parts-fleet"])
    assert parts == whole and [run["host"] for run in whole["runs"]["runs"]] == ["a", "b", "bare", "c"]
    outlook = whole["fleet"]["forecast"]
    assert outlook["msg"] == "2 of 3 guests would be refused by 2026-12-28T12:00:00Z, the first at 2026-12-01T00:00:00Z"
    assert [event["guest"] for event in outlook["events"]] == ["bare", "a", "b"] and outlook["recoveries"][0]["refused"] == ["b"]
    rows = {row["host"]: row for row in whole["fleet"]["hosts"]}
    assert rows["c"]["why"] == "timed out" and rows["b"]["state"] == "contraindicated"
    assert not answers["whole-fleet"]["changed"] and "acts" not in answers["whole-fleet"]["hosts"][0]


def test_a_round_over_one_host_takes_nothing_back_of_the_others_and_hides_no_silence(ran):
    text = (ran[0] / "parts.prom").read_text()
    assert sorted(re.findall(r'attested_forecast_refusal_timestamp_seconds{host="(\w+)"', text)) == ["a"]  # of b no day is known
    asked = dict(re.findall(r'attested_host_asked_timestamp_seconds{host="(\w+)"} (\d+)', text))
    # c was missed in the round at 12:01; the others gave results of 12:00 and 12:05, and only one was asked since.
    assert {host: int(one) - int(asked["a"]) for host, one in asked.items()} == {"a": 0, "b": 0, "bare": 300, "c": 60}
    assert 'attested_round_hosts{outcome="bad"} 1' in text and 'attested_round_hosts{outcome="missing"} 1' in text


def test_metrics_that_cannot_be_written_cost_neither_the_count_nor_the_acts(ran):
    directory, answers = ran
    answer = answers["no-metrics"]
    assert answer["failed"] and "nowhere/attested.prom" in answer["msg"] and answer["todo"] == [{"host": "b", "act": "alert"}]
    assert json.loads((directory / "unmetered" / "state.json").read_text())["hosts"]["b"]["bad"] == 1


def test_a_result_that_nobody_can_read_is_a_bad_round_of_its_host_alone(ran):
    rows = by_host(ran[1]["unread"])
    assert (rows["a"]["outcome"], rows["a"]["state"], rows["a"]["acts"]) == ("bad", "unproven", ["alert"]) and "result of a" in rows["a"]["why"]
    assert rows["b"]["state"] == "affirming" and not ran[1]["unread-again"]["changed"]
    (run, _other) = ran[1]["unread-fleet"]["runs"]
    assert run["ok"] is False and run["detail"]


def test_nobody_is_let_back_in_by_a_step_that_only_closes(ran):
    assert {host: row["acts"] for host, row in by_host(ran[1]["closed"]).items()} == dict.fromkeys(WAY, ["alert", "quarantine"])
    rows = by_host(ran[1]["back"])
    assert {host: (row["acts"], row["no_means"], row["quarantined"]) for host, row in rows.items()} == {
        "a": (["alert"], ["release"], True), "b": (["alert"], ["release"], True), "good": (["alert", "release"], [], True),
    }  # fmt: skip


def test_what_is_kept_can_be_read_again(tmp_path, monkeypatch):
    """More than can be read is not written: else every later round would stop at it."""
    monkeypatch.setattr(fleet_store, "FILE_MAX", 4000)
    store = fleet_store.FleetStore(str(tmp_path), dry=False)
    event = {"at": AT, "host": "a", "event": "drift", "detail": "x" * 900}
    with store.locked():
        assert [len(store.tell([{**event, "number": number}], 1000)) for number in range(5)] == [1, 2, 3, 4, 4]
        assert [event["number"] for event in store.history()] == [1, 2, 3, 4]
        store.remember({"a": fleet_store.Memory()})
        with pytest.raises(fleet_store.AttestedError, match="larger than"):
            store.remember({str(number): fleet_store.Memory() for number in range(100)})
        assert list(store.memories()) == ["a"]


def test_forget_drops_all_of_a_host(ran):
    assert [path.name for path in (ran[0] / "forgetful" / "forecast").iterdir()] == ["b.json"]
    assert names(ran[0], "forgetful") == ["b.jws"]
    assert list(json.loads((ran[0] / "forgetful" / "state.json").read_text())["hosts"]) == ["b"]
    # Of a host there was something, and of one that nobody knows nothing.
    assert ran[1]["forgotten"]["forgotten"] == ["a"]


@pytest.mark.parametrize("recoveries", [{"x": "refused"}, {"17": "perhaps"}, {"17": 1}, {"-1": "refused"}, {"1" * 30: "refused"}])
def test_a_damaged_forecast_foretells_nothing(recoveries):
    whole = {"schema": fleet_forecast.FORECAST, "events": [], "recoveries": {"17": "refused"}}
    assert fleet_forecast.parse(json.dumps(whole).encode(), "here") == whole
    assert fleet_forecast.parse(json.dumps({**whole, "recoveries": recoveries}).encode(), "here") is None
