# SPDX-License-Identifier: GPL-3.0-or-later
"""What a decommission may say: no step without a row, no proof in check mode, no success where nothing was done."""

from __future__ import annotations

import json

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.fleet import decommission as core

OK = {"what": "/m", "outcome": "ok", "proof": "no such directory"}
ABSENT = {**OK, "outcome": "absent"}
TOLD = {"check": False, "asked": False, "declared": False, "earlier": []}


@pytest.mark.parametrize(
    ("step", "found", "told", "outcomes"),
    [
        ("models", [OK], {}, ["ok"]),
        ("models", [OK], {"check": True}, ["planned"]),
        ("bios", [{**OK, "outcome": "waits"}], {"check": True}, ["planned"]),
        ("models", [{**OK, "outcome": "failed"}], {"check": True}, ["failed"]),
        ("models", [], {}, ["nothing"]),
        ("models", [], {"asked": True}, ["failed"]),
        ("models", [], {"asked": True, "check": True}, ["failed"]),
        # Said to be none.
        ("models", [], {"asked": True, "declared": True}, ["nothing"]),
        # Not all hosts of a run are in a group.
        ("bios", [], {"asked": True}, ["nothing"]),
        # Looking keys up is no revoking.
        ("keys", [{**OK, "outcome": "listed"}], {}, ["listed", "nothing"]),
        ("keys", [{**OK, "outcome": "listed"}], {"asked": True}, ["listed", "failed"]),
        ("models", [ABSENT], {}, ["absent"]),
        ("models", [ABSENT], {"earlier": [{**OK, "at": "T", "host": "h", "step": "models"}]}, ["ok"]),
        ("models", [ABSENT], {"earlier": [{**OK, "at": "T", "host": "other", "step": "models"}]}, ["absent"]),
    ],
)
def test_rows_of_a_step(step, found, told, outcomes):
    made = core.rows(found, "h", step, {**TOLD, **told})
    assert [row["outcome"] for row in made] == outcomes and all(row["host"] == "h" and row["step"] == step for row in made)
    if told.get("check"):
        assert all("no such directory" not in row["proof"] for row in made if row["outcome"] == "planned")
    if outcomes == ["ok"] and found == [ABSENT]:
        assert "done before, says the document of T" in made[0]["proof"]


def row(outcome, step="models", host="h"):
    return {"host": host, "step": step, "what": "x", "outcome": outcome, "proof": "p"}


@pytest.mark.parametrize(
    ("made", "steps", "asked", "wrong"),
    [
        ([row("ok")], ["models"], True, []),
        ([row("planned")], ["models"], True, []),
        ([row("ok"), row("absent", "vms")], ["models", "vms"], False, []),
        ([row("ok"), row("absent", "vms")], ["models", "vms"], True, ["vms was asked for, and nothing was done"]),
        ([row("nothing"), row("listed", "keys", "localhost")], ["models", "keys"], False, ["nothing was taken out of service"]),
        ([row("failed")], ["models"], True, ["models on h: x: p"]),
        ([], ["models"], False, ["models on h: it gave no answer"]),
        ([row("ok")], ["models", "monitor"], False, ["monitor on localhost: it gave no answer"]),
        ([row("failed", "reach")], ["models"], False, ["not reached: h"]),
    ],
)
def test_what_stands_against_success(made, steps, asked, wrong):
    found = core.judged(made, steps, asked, ["h"], "localhost")
    assert len(found["wrong"]) == len(wrong) and all(words in told for words, told in zip(wrong, found["wrong"])), found["wrong"]
    assert found["not_reached"] == (["h"] if any("not reached" in words for words in wrong) else [])
    assert {(one["host"], one["step"]) for one in found["rows"]} >= {(one["host"], one["step"]) for one in made}


def test_an_earlier_document_is_one_or_is_not_written_over():
    document = {"schema": core.SCHEMA, "at": "T", "steps": [row("ok"), row("failed"), "x"]}
    assert core.earlier(json.dumps(document), "d") == [{"at": "T", **row("ok")}] and core.earlier(" ", "d") == []
    for text in ("{", "[]", '{"schema": "x"}', json.dumps({**document, "steps": {}})):
        with pytest.raises(AttestedError, match="Move it away"):
            core.earlier(text, "d")


def test_names_and_words():
    assert core.unknown(["decommission_model", "decommission_models", "__decommission_x", "other"]) == ["decommission_model"]
    assert all(core.needed(step) for step in core.STEPS)
    with pytest.raises(AttestedError, match="models on h"):
        core.rows([{**OK, "outcome": "done"}], "h", "models", TOLD)


def test_what_was_proven_before_outlives_a_run_that_says_nothing_of_it():
    steps = [{"host": "h", "step": "models", "what": what, "outcome": outcome, "proof": "p"} for what, outcome in (("/m", "ok"), ("/n", "failed"))]
    document = {"schema": core.SCHEMA, "at": "2026-01-01T00:00:00Z", "steps": steps}
    before = core.earlier(json.dumps(document), "here")
    away = [{"host": "h", "step": "reach", "what": "all steps", "outcome": "failed", "proof": "it was not reached"}]
    found = core.judged(away, ["models"], True, ["h"], "localhost", before)
    assert found["kept"] == [{"at": "2026-01-01T00:00:00Z", **document["steps"][0]}] and len(found["rows"]) == 1
    # It is kept with the time of the run that proved it, and counts in the next one.
    later = core.earlier(json.dumps({**document, "at": "2026-02-02T00:00:00Z", "steps": found["rows"] + found["kept"]}), "here")
    assert later == found["kept"]
    gone = [{"what": "/m", "outcome": "absent", "proof": "nothing is there"}]
    rows = core.rows(gone, "h", "models", {"check": False, "asked": True, "declared": True, "earlier": later})
    assert rows[0]["outcome"] == "ok" and core.judged(rows, ["models"], True, ["h"], "localhost", later)["kept"] == []
