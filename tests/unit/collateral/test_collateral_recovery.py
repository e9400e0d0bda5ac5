# SPDX-License-Identifier: GPL-3.0-or-later
"""What if a TCB recovery became mandatory today: with genuine evidence and collateral of Intel's, and where nobody can say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.endorsements.forecast import Verdict
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Piece, Store
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import evidence
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_forecast import forecast
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_recovery import UNKNOWN, Recovery
from collateral_lab import AT, NONCE, b64, document_of, make_task

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tdx"))

import tdx_lab  # noqa: E402

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


@pytest.fixture
def fleet(store_path):
    """Two TDX guests and collateral, all signed: number 20 takes both, number 21 calls the components of one OutOfDate. (Policy, documents.)"""
    lab, now = tdx_lab.lab(), datetime.now(timezone.utc).replace(microsecond=0)
    issued, until = now - timedelta(days=1), now + timedelta(days=20)
    dates = {"issueDate": tdx_lab.stamp(issued), "nextUpdate": tdx_lab.stamp(until)}
    lists = {
        "root_ca_crl": tdx_lab.crl(lab.root_name, lab.root_key, start=issued, end=until).hex(),
        "pck_crl": tdx_lab.crl(lab.ca_name, lab.ca_key, start=issued, end=until).hex(),
    }  # fmt: skip
    mended = (6, *tdx_lab.COMPONENTS[1:])
    levels = {20: [tdx_lab.level()], 21: [tdx_lab.level(sgx=mended), tdx_lab.level("OutOfDate", advisories=("INTEL-SA-99009",))]}
    pieces = []
    for number, view in ((20, "standard"), (21, "n21")):
        info = tdx_lab.tcb_info(tcbLevels=levels[number], tcbEvaluationDataNumber=number, **dates)
        data = lab.collateral(info, tdx_lab.qe_identity(tcbEvaluationDataNumber=number, **dates), **lists)
        pieces.append(Piece("tdx", f"intel/tdx/{tdx_lab.FMSPC.hex()}-platform-{view}.json", data, view, issued, until))
    Store(store_path).put([(piece, piece.entry("the lab", now)) for piece in pieces])
    body = tdx_lab.td_report(reportdata=evidence.report_data("attested/1", NONCE, evidence.Binding()))
    chains = {"node-old": None, "node-mended": tdx_lab.pem(lab.leaf(components=mended), lab.ca_certificate, lab.root)}
    documents = {
        name: document_of({"type": "tdx", "provider": "tdx_guest", "evidence": b64(lab.quote(body, chain=chain)), "auxiliary": {}})
        for name, chain in chains.items()
    }  # fmt: skip
    policy = {
        "schema": "attested.ai/policy/1", "id": "lab", "allow_nonvendor_roots": True, "roots": [tdx_lab.pem(lab.root)], "measurements_required": False,
        "ssh_binding": "off",
    }  # fmt: skip
    return policy, documents


def test_a_recovery_refuses_whom_its_signed_collateral_calls_out_of_date(fleet, store_path):
    policy, documents = fleet
    now = tdx_lab.stamp(datetime.now(timezone.utc))
    task = make_task(store_path, operation="forecast", evidence=documents, policy=policy, at=now, horizon=10, recoveries=[20, 21, 22])[0]
    result = forecast(task)
    # Today both are accepted, and nothing ends within the horizon.
    assert result["guests_at_risk"] == [] and {event["because"] for event in result["forecast"]} == {"tcb-recovery"}
    told = [(event["guest"], event["code"], event["at"]) for event in result["forecast"] if "number 21" in event["detail"]]
    assert ("node-old", "tcb-out-of-date", None) in told and {guest for guest, _code, _at in told} == {"node-old"}, result["forecast"]
    assert result["recoveries"] == [
        {"number": 20, "refused": [], "unknown": [], "guests": 2}, {"number": 21, "refused": ["node-old"], "unknown": [], "guests": 2},
        {"number": 22, "refused": [], "unknown": ["node-mended", "node-old"], "guests": 2},
    ]  # fmt: skip


def test_the_playbook_tells_it_as_a_table_a_page_and_a_document(fleet, store_path, tmp_path):
    policy, documents = fleet
    (tmp_path / "evidence").mkdir()
    for name, document in documents.items():
        (tmp_path / "evidence" / f"{name}.json").write_text(json.dumps(document))
    given = {
        "collateral_dir": str(tmp_path), "collateral_site_store": store_path, "collateral_policy": policy, "collateral_recoveries": [21],
        "collateral_report": "report",
    }  # fmt: skip
    command = [sys.executable, "-m", "ansible", "playbook", "attested.ai.collateral", "--tags", "forecast", "-e", json.dumps(given)]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "200", "ANSIBLE_LOCALHOST_WARNING": "0"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    # The collateral ends within the 30 days that are asked about without a word.
    assert "2 of 2 guests would be refused by" in done.stdout and "collateral-expired" in done.stdout and "tcb-out-of-date" in done.stdout, done.stdout
    said = "If TCB recovery 21 became mandatory today: 1 of 2 TDX guests would be refused"
    page = (tmp_path / "report" / "report.html").read_text()
    assert said in done.stdout and said in page
    outlook = json.loads((tmp_path / "report" / "report.json").read_text())["fleet"]["forecast"]
    assert outlook["recoveries"] == [{"number": 21, "refused": ["node-old"], "unknown": [], "guests": 2}] and len(outlook["ending"]) == 2
