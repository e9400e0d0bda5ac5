# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""What the report shows: nothing better than it is, nothing that was not asked for."""

from __future__ import annotations

import json

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.plugin_utils.report_view import report_document, report_view, runs_of_hosts


def result(accepted=True, checks=(("policy-debug", "pass"),), anchor="vendor"):
    shown = [{"id": code, "outcome": outcome, "detail": f"about {code}"} for code, outcome in checks]
    return {
        "schema": "attested.ai/result/1", "accepted": accepted, "authentic": True, "status": "affirming" if accepted else "contraindicated",
        "anchor": anchor, "evaluated_at": "2026-11-22T12:00:00Z", "expires_at": None, "nonce": "AAAA", "evidence_digest": "ab" * 32,
        "policy": {"id": "p", "digest": "cd" * 32}, "binding": {}, "reasons": [{"id": c["id"], "detail": c["detail"]} for c in shown if c["outcome"] == "fail"],
        "chain_of_trust": {"reaches": "service", "required": "service", "waived": False, "reason": ""}, "checks": [], "out_of_scope": ["physical attack"],
        "submods": {"cpu0": {"tee": "sev-snp", "anchor": anchor, "checks": shown, "claims": {}}},
    }


def test_refused_evidence_is_never_shown_as_good_whatever_the_caller_says():
    view = report_view([{"name": "x", "ok": True, "result": result(accepted=False, checks=[("policy-debug", "fail")])}], "t")
    assert view["runs"][0]["outcome"] == "refused" and view["status"] == "bad"
    assert view["steps"][1]["state"] == "bad" and view["states"][2]["state"] != "ok"


def test_an_expected_refusal_is_fine_and_an_unexpected_acceptance_is_not():
    refused = {"name": "x", "expected": "refused", "result": result(accepted=False)}
    assert report_view([refused], "t")["status"] == "ok"
    assert report_view([{**refused, "result": result()}], "t")["status"] == "bad"


def test_a_check_that_was_not_made_is_no_pass():
    view = report_view([{"result": result(checks=[("a", "not_checked"), ("b", "pass"), ("b", "fail"), ("c", "pass")])}], "t")
    assert view["runs"][0]["counts"] == {"fail": 1, "not_checked": 1, "pass": 1}
    assert [row["id"] for row in view["matrix"]["open"]] == ["b", "a"] and [row["id"] for row in view["matrix"]["passed"]] == ["c"]


def test_one_nonvendor_anchor_flags_the_page():
    assert report_view([{"result": result()}, {"result": result(anchor="nonvendor")}], "t")["nonvendor"]
    assert not report_view([{"result": result()}], "t")["nonvendor"]


def test_members_that_are_not_documented_stay_out():
    runs = [{"name": "x", "session": "SECRET", "result": {**result(), "ear_key": "SECRET"}}]
    assert "SECRET" not in json.dumps([report_view(runs, "t"), report_document(runs, "t")])


def test_a_host_without_a_result_counts_as_failed():
    hostvars = {"a": {"att": {"result": result()}}, "b": {"att": {"msg": "unreachable"}}, "c": {}}
    view = report_view(runs_of_hosts(hostvars, ["a", "b", "c", "d"], "att"), "t")
    assert [run["outcome"] for run in view["runs"]] == ["accepted", "refused", "refused", "refused"]
    assert view["runs"][1]["detail"] == "unreachable" and view["status"] == "bad"


@pytest.mark.parametrize("run", [None, {}, {"ok": "yes"}, {"ok": True, "step": "dance"}, {"ok": True, "expected": "maybe"}, {"result": {"accepted": True}}])
def test_bad_input_names_the_run(run):
    with pytest.raises(FormatError, match=r"report_runs\[0\]"):
        report_view([run], "t")


def test_the_chain_of_proof_says_no_more_than_its_checks():
    links = {link["title"]: link["text"] for link in report_view([{"result": result()}], "t")["proofs"][0]["links"]}
    assert links["Guest"] == links["Freshness"] == "Not checked."


def test_what_was_found_is_told_once_with_its_runs_and_the_worst_first():
    one, two, three = (result(checks=[("a", outcome)]) for outcome in ("pass", "fail", "pass"))
    view = report_view([{"name": "x", "result": one}, {"name": "y", "result": two}, {"name": "z", "result": three}, {"result": result()}], "t")
    assert view["matrix"]["open"][0]["found"] == [
        {"outcome": "fail", "detail": "about a", "runs": ["y"]}, {"outcome": "pass", "detail": "about a", "runs": ["x", "z"]},
    ]  # fmt: skip
