# SPDX-License-Identifier: GPL-3.0-or-later
"""What if a TCB recovery became mandatory today: with genuine evidence and collateral of Intel's, and where nobody can say."""

from __future__ import annotations

import json

import pytest
from ansible_collections.attested.ai.plugins.module_utils.endorsements.forecast import Verdict
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Piece, Store
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_forecast import forecast
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_recovery import UNKNOWN, Recovery
from collateral_lab import AT, b64, document_of, make_task

GENUINE, WHEN = "b0c06f-2025-06.collateral.json", "2025-07-01T00:00:00Z"
STORED = "intel/tdx/b0c06f000000-platform-standard.json"


def piece(number, mark=""):
    return json.dumps({"tcb_info": json.dumps({"tcbEvaluationDataNumber": number}), "mark": mark}).encode()


def test_genuine_evidence_passes_its_own_number_and_of_the_next_nobody_can_say(vectors, store_path):
    data = (vectors / "tdx" / GENUINE).read_bytes()
    stored = Piece("tdx", STORED, data, "standard")
    Store(store_path).put([(stored, stored.entry("x", AT))])
    quote = (vectors / "tdx" / "real-v4-uptodate-2025-06.quote.bin").read_bytes()
    documents = {"node": document_of({"type": "tdx", "provider": "tdx_guest", "evidence": b64(quote), "auxiliary": {}})}
    task = make_task(store_path, operation="forecast", evidence=documents, at=WHEN, horizon=1, recoveries=[18, 17, 18])[0]
    result = forecast(task)
    assert [(event["code"], event["at"]) for event in result["forecast"] if event["because"] == "tcb-recovery"] == [(UNKNOWN, None)]
    assert result["recoveries"] == [
        {"number": 17, "refused": [], "unknown": [], "guests": 1}, {"number": 18, "refused": [], "unknown": ["node"], "guests": 1},
    ]  # fmt: skip


def test_what_fails_only_then_is_told_with_its_number():
    recovery = Recovery(20, {})
    today = Verdict({("cpu0", "old"): "as before"})
    then = Verdict({("cpu0", "old"): "as before", ("cpu0", "tcb-status"): "OutOfDate"})
    (event,) = recovery.events("node7", today, then)
    assert (event.code, event.at, event.because) == ("tcb-status", None, "tcb-recovery") and event.detail.startswith("if number 20 were mandatory: OutOfDate")
    assert recovery.events("node8", today, today) == []
    assert recovery.told() == {"number": 20, "refused": ["node7"], "unknown": [], "guests": 2}


@pytest.mark.parametrize("number, chosen", [(19, 19), (20, 21), (22, 21), (0, 18)])
def test_the_lowest_number_that_is_high_enough_is_asked(number, chosen):
    pieces = {f"intel/tdx/aa-platform-{view}.json": piece(level) for view, level in (("standard", 18), ("n19", 19), ("early", 21))}
    assert Recovery(number, pieces)._tdx == (piece(chosen),)


def test_each_platform_has_its_own_and_damage_is_never_chosen_before_what_is_whole():
    names = ("aa-platform-standard", "aa-platform-early", "bb-platform-standard")
    pieces = {f"intel/tdx/{name}.json": data for name, data in zip(names, (b"damaged", piece(20), b"damaged"))}
    assert set(Recovery(19, pieces)._tdx) == {piece(20), b"damaged"}
    with pytest.raises(AttestedError, match="no evaluation number"):
        Recovery(-1, {})
