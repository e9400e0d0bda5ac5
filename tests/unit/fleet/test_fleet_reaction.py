# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift and what follows from it: nothing flaps, nothing that is wanted is forgotten."""

from __future__ import annotations

from datetime import datetime, timezone

import fleet_lab as lab
import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.fleet.drift import compare, fingerprint
from ansible_collections.attested.ai.plugins.module_utils.fleet.metrics import HostMetrics, render
from ansible_collections.attested.ai.plugins.module_utils.fleet.reaction import ACTS, Memory, Observation, Rules, settle, step, wanted
from ansible_collections.attested.ai.plugins.module_utils.fleet.summary import summarise
from hypothesis import given
from hypothesis import strategies as st

RULES = Rules(alert_after=1, quarantine_after=2, revoke_after=3, missing_after=2, recover_after=2, release=True, alert_on=("machine",), bad_on=("anchor",))


def present(document):
    return fingerprint(summarise(document, "r"))


def kinds(before, after):
    return {change.kind for change in compare(present(before), present(after))}


BASE = lab.result()


@pytest.mark.parametrize("after, expected", [
    (lab.result(at="2026-11-29T12:00:00Z"), set()),
    (lab.changed(BASE, machine="ef" * 32), {"machine"}),
    (lab.changed(BASE, measurement="00" * 48), {"measurement"}),
    (lab.changed(BASE, tcb={"reported": {**lab.TCB, "snp": 26}}), {"tcb-lower"}),
    (lab.changed(BASE, tcb={"reported": {**lab.TCB, "snp": 28}}), {"tcb-raised"}),
    (lab.result(tee="tdx"), {"items"}),
    (lab.result(anchor="nonvendor"), {"anchor"}),
    (lab.result(policy="q"), {"policy"}),
    (lab.result("contraindicated"), {"verdict"}),
    ({**BASE, "submods": {}}, {"items"}),
    ({**BASE, "binding": {}}, {"ssh-host-keys"}),
    ({**BASE, "chain_of_trust": {"reaches": "launch"}}, {"chain"}),
])  # fmt: skip
def test_kinds_of_drift(after, expected):
    assert kinds(BASE, after) == expected


def run(pattern, rules=RULES, act=True):
    """Rounds of g(ood), b(ad), m(issing); everything that is asked for is done at once if ``act``."""
    memory, done = Memory(), []
    for number, letter in enumerate(pattern):
        kind = {"g": "good", "b": "bad", "m": "missing"}[letter]
        memory, decision = step(memory, Observation(kind, (), present(BASE), str(number)), rules)
        for one in decision.acts if act else ():
            done.append(f"{number}{one}")
            memory = settle(memory, one)
    return memory, done


@pytest.mark.parametrize("pattern, done", [
    ("gggg", []),
    ("gb", ["1alert"]),
    ("gbgbgbgb", ["1alert", "3quarantine", "5revoke"]),  # it comes and goes: the bad rounds add up, one alert is told
    ("bgggbggg", ["0alert", "2alert", "4alert", "6alert"]),  # two good rounds in a row end it
    ("bbgg", ["0alert", "1quarantine", "3alert", "3release"]),
    ("bbbgg", ["0alert", "1quarantine", "2revoke", "4alert", "4release"]),
    ("mg", []),
    ("mmg", ["1alert", "2alert"]),
    ("mbm", ["1alert"]),
])  # fmt: skip
def test_rounds(pattern, done):
    got = run(pattern)[1]
    assert got == done


def test_what_was_not_done_stays_wanted_and_a_round_is_counted_once():
    memory, _done = run("bb", act=False)
    assert wanted(memory, RULES) == ("alert", "quarantine")
    again, decision = step(memory, Observation("bad", (), present(BASE), "1"), RULES)
    assert again == memory and decision.acts == ("alert", "quarantine")


def test_a_revoked_host_stays_revoked_and_zero_means_never():
    memory, _done = run("bbb" + "g" * 20)
    assert memory.revoked and not memory.quarantined
    never = Rules(alert_after=0, quarantine_after=0, revoke_after=0, missing_after=0)
    assert run("bbbbmmmm", never)[1] == []


def test_drift_alerts_once_and_counts_as_bad_where_the_rules_say_so():
    memory, _decision = step(Memory(), Observation("good", (), present(BASE), "1"), RULES)
    other = lab.changed(BASE, machine="ef" * 32)
    changes = tuple(compare(memory.baseline, present(other)))
    memory, decision = step(memory, Observation("good", changes, present(other), "2"), RULES)
    assert decision.acts == ("alert",) and decision.news == ("drift",) and memory.untold[0]["kind"] == "machine"
    memory, decision = step(settle(memory, "alert"), Observation("good", (), present(other), "3"), RULES)
    assert decision.acts == () and memory.drift_total == 1
    foreign = lab.result(anchor="nonvendor")
    changes = tuple(compare(memory.baseline, present(foreign)))
    memory, decision = step(memory, Observation("good", changes, present(foreign), "4"), RULES)
    assert memory.bad == 1 and decision.acts == ("alert",) and memory.baseline == present(other)


@given(st.lists(st.sampled_from("gbm"), max_size=40))
def test_whatever_comes_an_act_that_was_done_is_not_asked_for_at_once_again(pattern):
    memory, _done = run(pattern)
    assert wanted(memory, RULES) == ()
    kept = memory.to_dict()
    assert Memory.parse(kept, "m") == memory
    # A state of before these were kept: who is in quarantine must stay there.
    assert Memory.parse({name: value for name, value in kept.items() if name not in ("asked", "outcome", "said", "foretold")}, "m") == memory
    assert all(one in ACTS for one in wanted(memory, RULES))


@pytest.mark.parametrize("spoil", [{"bad": "1"}, {"quarantined": 1}, {"untold": {}}, {"baseline": []}, {"more": 1}, {"asked": None}, {"foretold": "soon"}])
def test_a_damaged_memory_is_told(spoil):
    with pytest.raises(FormatError):
        Memory.parse({**Memory().to_dict(), **spoil}, "m")
    with pytest.raises(FormatError):
        Memory.parse({}, "m")
    with pytest.raises(FormatError, match="recover_after"):
        Rules(recover_after=0)


def test_metrics_escape_what_a_guest_says_and_export_times():
    hostile = 'x"} 1\nattested_host_accepted{host="y'
    document = lab.result(policy="p", tcb_status="UpToDate", tcb_date="2026-01-01T00:00:00Z", tcb_evaluation_data_number=19)
    ends = {"item": "", "code": "crl-expired", "because": "expiry", "at": "2026-12-01T00:00:00Z"}
    # Twice the same labels, and Prometheus reads nothing of the file.
    foretold = [{**ends, "at": "2026-12-02T00:00:00Z"}, ends, {**ends, "code": "tcb", "at": None}]
    memory = Memory(bad=2, outcome="bad", asked=lab.AT, foretold=lab.AT)
    text = render([HostMetrics(hostile, "affirming", summarise(document, "r"), memory, foretold)], datetime(2026, 11, 28, tzinfo=timezone.utc))
    assert all(line.startswith(("#", "attested_")) and line.count("} ") <= 2 for line in text.splitlines())
    assert 'attested_host_accepted{host="x\\"} 1\\nattested_host_accepted{host=\\"y"} 1' in text.splitlines()
    assert "attested_host_evaluated_timestamp_seconds" in text and "age" not in {line.split("{")[0] for line in text.splitlines()}
    assert text.count("\nattested_forecast_refusal_timestamp_seconds{") == 1 and 'attested_round_hosts{outcome="bad"} 1' in text.splitlines()
    assert 'code="crl-expired",because="expiry"} 1796083200' in text and 'attested_host_evaluation_number' in text
