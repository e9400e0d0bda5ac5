# SPDX-License-Identifier: GPL-3.0-or-later
"""What will be refused, when and why: the forecast says what the verdict will say."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import UNCHECKED, appraise
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import merge_reference_values
from ansible_collections.attested.ai.plugins.module_utils.endorsements import forecast as core
from ansible_collections.attested.ai.plugins.module_utils.endorsements.forecast import Event, Verdict
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceDocument
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_forecast import forecast
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_inputs import load
from collateral_lab import AT, ISSUED, fetch, make_task
from softtee.snp_report import DEFAULT_TCB

CRL_ENDS = ISSUED + timedelta(days=60)


def look(lab, store, evidence, **options):
    return forecast(make_task(store, operation="forecast", evidence=evidence, **{"policy": lab.policy(), "horizon": 60, **options})[0])


def test_a_list_that_ends_is_foretold(lab, services, store_path):
    evidence = {"node1": lab.document(1), "node2": lab.document(2, "turin")}
    fetch(services, store_path, list(evidence.values()))
    result = look(lab, store_path, evidence)
    assert [(event["guest"], event["code"], event["at"], event["days"], event["because"]) for event in result["forecast"]] == [
        ("node1", "crl-expired", "2026-11-30T00:00:00Z", 29, "expiry"),
        ("node2", "crl-expired", "2026-11-30T00:00:00Z", 29, "expiry"),
    ]
    assert [event["ends"] for event in result["forecast"]] == [["amd/crl/genoa.der"], ["amd/crl/turin.der"]] and result["guests_at_risk"] == ["node1", "node2"]
    assert [entry["path"] for entry in result["collateral_ending"]] == ["amd/crl/genoa.der", "amd/crl/turin.der"]
    assert "node1" in result["table"][2] and "crl-expired" in result["table"][2] and "2 of 2 guests" in result["msg"]
    assert not look(lab, store_path, evidence, horizon=20)["forecast"]


def test_it_says_what_the_verdict_will_say(lab, services, store_path):
    document = lab.document(1)
    fetch(services, store_path, [document])
    (event,) = look(lab, store_path, {"node1": document})["forecast"]
    at = datetime.fromisoformat(event["at"].replace("Z", "+00:00"))
    for moment, accepted in ((at - timedelta(seconds=1), True), (at + timedelta(seconds=1), False)):
        result = appraise(
            EvidenceDocument.parse(document), policy=load_policy(lab.policy()), reference_values=merge_reference_values([]),
            endorsements=load([store_path]), expected_nonce=UNCHECKED, at=moment, connection=None,
        )  # fmt: skip
        assert result.accepted is accepted
        if not accepted:
            assert event["code"] in [check.id for check in result.reasons]


def test_what_fails_today_comes_first(lab, services, store_path):
    known, unknown = lab.document(1), lab.document(7)
    fetch(services, store_path, [known])
    result = look(lab, store_path, {"a-known": known, "z-unknown": unknown})
    first = result["forecast"][0]
    assert (first["guest"], first["because"], first["days"]) == ("z-unknown", "now", 0) and first["at"] == "2026-11-01T00:00:00Z"
    assert "vek-missing" in {event["code"] for event in result["forecast"] if event["guest"] == "z-unknown"}


def test_the_end_of_a_certificate_is_foretold(lab, services, store_path):
    key, der = lab.authority.vcek("genoa", lab.chip(40), DEFAULT_TCB["genoa"], not_before=ISSUED, not_after=AT + timedelta(days=10))
    lab._vceks["genoa", lab.chip(40), tuple(sorted(DEFAULT_TCB["genoa"].items()))] = (key, der)
    document = lab.document(40)
    fetch(services, store_path, [document])
    events = look(lab, store_path, {"node": document})["forecast"]
    assert (events[0]["code"], events[0]["days"], events[0]["because"]) == ("vek-expired", 10, "expiry") and "-snp27-" in events[0]["ends"][0]


def test_a_planned_policy_refuses_from_its_day_on(lab, services, store_path):
    document = lab.document(1)
    fetch(services, store_path, [document])
    stricter = lab.policy(id="stricter", sev_snp={"min_tcb": {"microcode": 90}})
    planned = [{"at": "2026-11-15T00:00:00Z", "policy": stricter}, {"at": "2027-11-15T00:00:00Z", "policy": stricter}]
    events = [event for event in look(lab, store_path, {"node": document}, planned=planned)["forecast"] if event["because"] == "planned-policy"]
    assert [(event["code"], event["at"], event["days"]) for event in events] == [("policy-tcb-floor", "2026-11-15T00:00:00Z", 14)]
    with pytest.raises(AttestedError, match="planned 1"):
        look(lab, store_path, {"node": document}, planned=[{"at": "soon", "policy": stricter}])


def test_the_shipped_floor_is_foretold_to_who_has_a_lower_one(lab, services, store_path):
    tcb = dict(DEFAULT_TCB["genoa"], snp=20)
    document = lab.document(report=lab.report(9, tcb=tcb))
    fetch(services, store_path, [document])
    lower = lab.policy(sev_snp={"min_tcb": {"snp": 10}, "min_launch_tcb": {"snp": 10}})
    events = look(lab, store_path, {"node": document}, policy=lower, horizon=1)["forecast"]
    assert {(event["code"], event["because"], event["at"]) for event in events} >= {("policy-tcb-floor", "shipped-floor", None)}


def test_a_firmware_that_waits_for_the_next_boot_is_foretold(lab, services, store_path):
    higher = dict(DEFAULT_TCB["genoa"], microcode=90)
    document = lab.document(1, committed_tcb=higher, current_tcb=higher)
    fetch(services, store_path, [document])
    events = [event for event in look(lab, store_path, {"node": document})["forecast"] if event["because"] == "firmware-update"]
    assert len(events) == 1 and "microcode=90" in events[0]["detail"] and events[0]["at"] is None
    fetch(services, store_path, [document], tcbs=["reported", "committed"])
    assert not [event for event in look(lab, store_path, {"node": document})["forecast"] if event["because"] == "firmware-update"]


def test_without_evidence_there_is_nothing_to_say(lab, store_path):
    with pytest.raises(AttestedError, match="no evidence"):
        look(lab, store_path, None)
    with pytest.raises(AttestedError, match="no collateral store"):
        look(lab, store_path, {"node": lab.document(1)})


T0 = datetime(2026, 1, 1, tzinfo=timezone.utc)


def day(number):
    return T0 + timedelta(days=number)


def test_the_order_is_by_time_and_the_undated_last():
    events = [Event("b", "", "x", None, core.EARLY_TCB, ""), Event("a", "", "y", day(2), core.EXPIRY, ""), Event("a", "", "x", day(1), core.EXPIRY, "")]
    assert [event.code for event in core.order(events)] == ["x", "y", "x"]


def test_each_failure_is_told_once_at_its_first_day():
    def judge(at):
        failures = {}
        if at > day(3):
            failures["cpu0", "crl-expired"] = "x"
        if at > day(5):
            failures["gpu0", "driver-rim-expired"] = "y"
        return Verdict(failures, tuple(moment for moment in (day(3), day(5), day(90)) if moment > at))

    events = core.expiries("node", judge, T0, day(30), {day(3): ["amd/crl/genoa.der"], day(4): ["other"]})
    assert [(event.code, event.at, event.ends) for event in events] == [("crl-expired", day(3), ("amd/crl/genoa.der",)), ("driver-rim-expired", day(5), ())]


def test_it_ends_even_if_every_second_brings_another_end_and_says_so():
    (event,) = core.expiries("node", lambda at: Verdict({}, (at + timedelta(seconds=1),)), T0, day(30), {})
    assert event.code == core.INCOMPLETE and "shorter horizon" in event.detail


def test_one_item_that_has_ended_does_not_hide_the_others():
    """What ends in the evidence itself is in no store: only the verdict knows of it."""

    def judge(at):
        failures = {(name, "expired"): name for name, end in (("gpu0", day(1)), ("cpu0", day(20))) if at > end}
        return Verdict(failures, (day(1), day(20)))

    events = core.expiries("node", judge, T0, day(30), {})
    assert [(event.item, event.at) for event in events] == [("gpu0", day(1)), ("cpu0", day(20))]


def test_what_ends_for_others_is_not_looked_at(lab, services, store_path, monkeypatch):
    """A store of a fleet has thousands of ends; a guest has a few."""
    mine, others = lab.document(1), [lab.document(number, "turin") for number in range(2, 6)]
    fetch(services, store_path, [mine, *others])
    monkeypatch.setattr(core, "INSTANTS_MAX", 2)
    assert [event["code"] for event in look(lab, store_path, {"node": mine}, horizon=4000)["forecast"]].count(core.INCOMPLETE) == 0


def test_the_early_view_is_asked_beside_the_standard_one(lab, services, store_path, monkeypatch):
    """A level that is in the early view only refuses from a day on that nobody knows yet."""
    from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Piece, Store
    from ansible_collections.attested.ai.plugins.plugin_utils import collateral_forecast as module

    document = lab.document(1)
    fetch(services, store_path, [document])
    pieces = [Piece("tdx", f"intel/tdx/90c06f000000-platform-{view}.json", view.encode(), view) for view in ("standard", "early")]
    Store(store_path).put([(piece, piece.entry("x", AT)) for piece in pieces])
    assert load([store_path]).tdx == (b"standard",)
    genuine = module.appraise

    class Judged:
        """The genuine result, and for the early view one more failure."""

        def __init__(self, result, early):
            from ansible_collections.attested.ai.plugins.module_utils.checks import failed

            self.items, self.checks = result.items, result.checks + ((failed("tcb-out-of-date", "OutOfDate"),) if early else ())

    def fake(document, *, endorsements, **more):
        assert endorsements.tdx in ((b"standard",), (b"early",))
        return Judged(genuine(document, endorsements=endorsements, **more), endorsements.tdx == (b"early",))  # pylint: disable=missing-kwoa

    monkeypatch.setattr(module, "appraise", fake)
    result = look(lab, store_path, {"node": document}, horizon=1)
    assert [(event["code"], event["because"], event["at"]) for event in result["forecast"]] == [("tcb-out-of-date", "early-tcb", None)]
    assert result["table"][2].startswith("early-tcb")
