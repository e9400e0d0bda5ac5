# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching AMD's collateral: what is asked for, how often, and what becomes of answers that are late, wrong or none."""

from __future__ import annotations

import json
import os
import threading
from datetime import timedelta
from email.utils import format_datetime

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_inputs import load
from collateral_lab import AT, ISSUED, Fault, Services, fetch, make_task
from softtee.snp_report import DEFAULT_TCB


def statuses(result):
    return {item["path"]: item["status"] for item in result["pieces"]}


def snapshot(store):
    found = {}
    for directory, _names, files in os.walk(store):
        for name in files:
            path = os.path.join(directory, name)
            if ".gates" not in path:
                found[os.path.relpath(path, store)] = (os.stat(path).st_mtime_ns, open(path, "rb").read())
    return found


def test_many_guests_on_one_chip_cost_one_request(lab, services, store_path):
    documents = [lab.document(1, measurement=bytes([number])) for number in range(20)]
    result = fetch(services, store_path, documents)
    assert result["changed"] and result["complete"] and not result["failed"]
    assert services.asked_for(lab.chip(1).hex()) == 1
    assert sum(services.asked.values()) == result["requests"] == 3, services.asked
    assert sorted(item["kind"] for item in result["pieces"]) == ["amd-chain", "amd-crl", "amd-vek"]
    found = load([store_path])
    assert lab.vcek("genoa", lab.chip(1), DEFAULT_TCB["genoa"])[1] in found.certificates and found.crls == (lab.crl("genoa"),)


def test_a_second_run_asks_nothing_and_changes_nothing(lab, services, store_path):
    documents = [lab.document(1), lab.document(2, "turin")]
    fetch(services, store_path, documents)
    before, asked = snapshot(store_path), sum(services.asked.values())
    again = fetch(services, store_path, documents)
    assert not again["changed"] and set(statuses(again).values()) == {"fresh"} and again["requests"] == 0
    assert snapshot(store_path) == before and sum(services.asked.values()) == asked


def test_many_processes_share_one_request(lab, services, store_path):
    services.delay = 0.1
    documents, results = [lab.document(1)], []
    threads = [threading.Thread(target=lambda: results.append(fetch(services, store_path, documents, force=True))) for _number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and all(result["complete"] for result in results)
    assert services.asked_for(lab.chip(1).hex()) == 1, services.asked
    assert sum(result["counts"].get("added", 0) for result in results) == 3


def test_check_mode_tells_what_it_would_ask_for_and_asks_nothing(lab, services, store_path):
    result = fetch(services, store_path, [lab.document(1)], check=True)
    assert result["changed"] and set(statuses(result).values()) == {"planned"}
    assert not services.asked and not os.path.exists(store_path)
    assert all(path in result["diff"]["after"] for path in statuses(result))
    fetch(services, store_path, [lab.document(1)])
    assert not fetch(services, store_path, [lab.document(1)], check=True)["changed"]


def test_offline_reaches_nothing_and_says_what_is_missing(lab, services, store_path):
    def opener(_request):
        raise AssertionError("the network was touched")

    task, _said = make_task(store_path, opener=opener, offline=True, evidence=[lab.document(1)], policy=lab.policy(), **services.urls)
    from ansible_collections.attested.ai.plugins.plugin_utils.collateral_refresh import fetch as operate

    result = operate(task, None)
    assert result["failed"] and set(statuses(result).values()) == {"missing"} and "offline" in result["msg"]
    fetch(services, store_path, [lab.document(1)])
    result = operate(task, None)
    assert not result["failed"] and not result["changed"] and set(statuses(result).values()) == {"fresh"}


def test_a_certificate_that_came_with_the_evidence_is_taken_instead_of_asking(lab, services, store_path):
    result = fetch(services, store_path, [lab.document(1, with_vcek=True)])
    # The lab's own CA certificates are in no shipped file, so the first run cannot prove the certificate before it has them.
    assert result["complete"]
    other = fetch(services, store_path, [lab.document(2, with_vcek=True)])
    assert other["complete"] and services.asked_for(lab.chip(2).hex()) == 0
    assert [item["source"] for item in other["pieces"] if item["kind"] == "amd-vek"] == ["evidence of evidence 1"]


@pytest.mark.parametrize("after", ["1", "date"])
def test_throttling_is_waited_out(lab, services, store_path, after):
    from datetime import datetime, timezone

    value = after if after != "date" else format_datetime(datetime.now(timezone.utc) + timedelta(seconds=2), usegmt=True)
    services.faults.append(Fault(lab.chip(1).hex(), times=2 if after == "1" else 1, status=429, headers={"Retry-After": value}))
    result = fetch(services, store_path, [lab.document(1)])
    assert result["complete"] and services.asked_for(lab.chip(1).hex()) == (3 if after == "1" else 2)


def test_a_pause_that_is_too_long_is_told_and_not_waited_for(lab, services, store_path):
    services.faults.append(Fault(lab.chip(1).hex(), times=9, status=429, headers={"Retry-After": "3600"}))
    result = fetch(services, store_path, [lab.document(1)])
    (bad,) = [item for item in result["pieces"] if item["status"] == "missing"]
    assert result["failed"] and bad["code"] == "collateral-throttled" and "3600 seconds" in bad["detail"] and "max_wait" in bad["detail"]
    assert services.asked_for(lab.chip(1).hex()) == 1
    assert [item["status"] for item in result["pieces"] if item["kind"] != "amd-vek"] == ["added", "added"]


def test_a_pause_holds_for_all_requests_to_that_service(lab, services, store_path):
    """While a service asks for a pause, no other chip is asked for: that is what makes it angry."""
    services.faults.append(Fault("/vcek/v1/Genoa/0", times=1, status=429, headers={"Retry-After": "1"}))
    fetch(services, store_path, [lab.document(number) for number in range(1, 9)], parallelism=1)
    throttled = services.asked_for("/vcek/v1/Genoa/0")
    assert throttled == 9


def test_throttled_for_good_ends_with_the_reason(lab, services, store_path):
    services.faults.append(Fault("/vcek/", times=99, status=429, headers={"Retry-After": "0"}))
    result = fetch(services, store_path, [lab.document(1)], attempts=3)
    assert result["failed"] and "429" in result["msg"] and "run it again later" in result["msg"].lower()
    assert all(count == 3 for count in services.asked.values())


def test_the_deadline_ends_it(lab, services, store_path):
    services.faults.append(Fault("/vcek/", times=99, status=503, headers={"Retry-After": "2"}))
    result = fetch(services, store_path, [lab.document(1)], deadline=1)
    assert result["failed"] and {item["code"] for item in result["pieces"]} == {"collateral-deadline"}


def test_a_missing_chip_is_told_and_not_asked_for_again(lab, services, store_path):
    services.faults.append(Fault(lab.chip(1).hex(), status=404))
    result = fetch(services, store_path, [lab.document(1)])
    (bad,) = [item for item in result["pieces"] if item["status"] == "missing"]
    assert bad["code"] == "collateral-not-found" and services.asked_for(lab.chip(1).hex()) == 1
    assert not fetch(services, store_path, [lab.document(1)], fail_on_problem=False)["failed"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/vcek/", cut=100),
        Fault("/vcek/", drop=True),
        Fault("/vcek/", status=502),
        Fault("/vcek/", delay=1.6),
    ],
    ids=["truncated", "connection drop", "bad gateway", "too slow"],
)
def test_passing_trouble_is_tried_again(lab, services, store_path, fault):
    fault.match, fault.times = lab.chip(1).hex(), 1
    services.faults.append(fault)
    result = fetch(services, store_path, [lab.document(1)], timeout=1)
    assert result["complete"], result["msg"]
    assert services.asked_for(lab.chip(1).hex()) == 2


def test_a_trickle_is_no_answer(lab, services, store_path):
    services.faults.append(Fault(lab.chip(1).hex(), times=9, trickle=True))
    result = fetch(services, store_path, [lab.document(1)], timeout=1, attempts=2)
    assert result["failed"] and "took too long" in result["msg"]


def test_the_certificate_of_another_chip_is_refused(lab, services, store_path):
    other = lab.vcek("genoa", lab.chip(2), DEFAULT_TCB["genoa"])[1]
    services.faults.append(Fault(lab.chip(1).hex(), body=other))
    result = fetch(services, store_path, [lab.document(1)])
    (bad,) = [item for item in result["pieces"] if item["status"] == "refused"]
    assert result["failed"] and bad["code"] == "collateral-answer" and "asked was for" in bad["detail"]
    assert other not in load([store_path]).certificates


def test_the_certificate_for_another_tcb_is_refused(lab, services, store_path):
    tcb = dict(DEFAULT_TCB["genoa"], snp=26)
    services.faults.append(Fault(lab.chip(1).hex(), body=lab.vcek("genoa", lab.chip(1), tcb)[1]))
    assert fetch(services, store_path, [lab.document(1)])["counts"]["refused"] == 1


@pytest.mark.parametrize("body", [b"", b"<html>please log in</html>", b"0\x82\x01\x00", bytes(9 << 20)], ids=["empty", "html", "stub", "huge"])
def test_what_is_no_certificate_is_refused(lab, services, store_path, body):
    services.faults.append(Fault(lab.chip(1).hex(), body=body))
    result = fetch(services, store_path, [lab.document(1)])
    assert result["failed"] and result["counts"] == {"added": 2, "refused": 1}


def test_a_certificate_under_another_root_is_refused(lab, services, store_path):
    policy = {"schema": "attested.ai/policy/1", "id": "strict"}
    result = fetch(services, store_path, [lab.document(1)], policy=policy)
    assert result["failed"] and result["counts"] == {"refused": 2} and "pinned root" in result["msg"]
    assert not os.path.exists(os.path.join(store_path, "index.json"))


def test_a_redirection_is_told_and_not_followed(lab, services, store_path):
    services.faults.append(Fault(lab.chip(1).hex(), times=9, status=302, headers={"Location": "http://192.0.2.1/elsewhere"}))
    result = fetch(services, store_path, [lab.document(1)])
    (bad,) = [item for item in result["pieces"] if item["status"] == "missing"]
    assert bad["code"] == "collateral-redirect" and "192.0.2.1" in bad["detail"]


def test_a_wrong_answer_never_replaces_a_good_one(lab, services, store_path):
    fetch(services, store_path, [lab.document(1)])
    before = snapshot(store_path)
    services.faults.append(Fault("/vcek/", times=99, body=b"<html>"))
    result = fetch(services, store_path, [lab.document(1)], force=True)
    assert set(statuses(result).values()) == {"kept"} and not result["failed"] and not result["changed"]
    assert snapshot(store_path) == before


def test_an_older_list_does_not_replace_a_newer_one(lab, services, store_path):
    fetch(services, store_path, [lab.document(1)])
    services.crl_issued = ISSUED - timedelta(days=20)
    result = fetch(services, store_path, [lab.document(1)], force=True)
    (crl,) = [item for item in result["pieces"] if item["kind"] == "amd-crl"]
    assert crl["status"] == "kept" and crl["code"] == "collateral-older" and load([store_path]).crls == (lab.crl("genoa"),)


def test_only_what_is_about_to_end_is_asked_for_again(lab, services, store_path):
    fetch(services, store_path, [lab.document(1)])
    asked = sum(services.asked.values())
    near = (ISSUED + timedelta(days=55)).strftime("%Y-%m-%dT%H:%M:%SZ")
    services.crl_issued = ISSUED + timedelta(days=50)
    result = fetch(services, store_path, [lab.document(1)], at=near)
    assert statuses(result)["amd/crl/genoa.der"] == "replaced" and result["requests"] == 1 == sum(services.asked.values()) - asked
    assert "until 2026-11-30" in result.get("diff", {"before": ""})["before"]


def test_an_expired_list_fails_the_run_if_nothing_newer_is_had(lab, services, store_path):
    fetch(services, store_path, [lab.document(1)])
    late = (ISSUED + timedelta(days=70)).strftime("%Y-%m-%dT%H:%M:%SZ")
    result = fetch(services, store_path, [lab.document(1)], at=late)
    (crl,) = [item for item in result["pieces"] if item["kind"] == "amd-crl"]
    assert result["failed"] and crl["status"] == "expired" and "ended at 2026-11-30" in crl["detail"]


def test_a_damaged_file_is_never_used_and_is_mended(lab, services, store_path):
    fetch(services, store_path, [lab.document(1)])
    path = os.path.join(store_path, "amd/crl/genoa.der")
    with open(path, "r+b") as stream:
        stream.seek(30)
        stream.write(b"\0\0")
    with pytest.raises(AttestedError, match="not what the index says") as caught:
        load([store_path])
    assert caught.value.code == "store-damaged"
    result = fetch(services, store_path, [lab.document(1)])
    assert statuses(result)["amd/crl/genoa.der"] == "replaced" and load([store_path]).crls


def test_a_damaged_index_is_told(services, lab, store_path):
    fetch(services, store_path, [lab.document(1)])
    index = os.path.join(store_path, "index.json")
    document = json.load(open(index, encoding="utf-8"))
    document["entries"]["../../etc/passwd"] = document["entries"].pop("amd/crl/genoa.der")
    json.dump(document, open(index, "w", encoding="utf-8"))
    with pytest.raises(AttestedError, match="path") as caught:
        load([store_path])
    assert caught.value.code == "store-damaged"


def test_names_given_by_hand(lab, services, store_path):
    tcb = DEFAULT_TCB["turin"]
    amd = [
        {"product": "turin", "chip_id": lab.chip(3, "turin").hex(), "tcb": {name: tcb.get(name) for name in ("fmc", "bootloader", "tee", "snp", "microcode")}},
        {"product": "siena", "chip_id": None, "tcb": None},
    ]
    result = fetch(services, store_path, amd=amd)
    kinds = sorted(item["kind"] for item in result["pieces"])
    assert kinds == ["amd-chain", "amd-chain", "amd-crl", "amd-crl", "amd-vek"]
    assert "fmcSPL=1" in [target for _method, target, _headers in services.log if lab.chip(3, "turin").hex() in target][0]


@pytest.mark.parametrize(
    "amd",
    [
        {"chip_id": "00", "tcb": {"bootloader": 1, "tee": 0, "snp": 1, "microcode": 1}},
        {"chip_id": "11" * 64, "tcb": {"snp": 300}},
        {"chip_id": "11" * 64, "tcb": None},
    ],
)
def test_bad_names_are_told_before_anything_is_asked(services, store_path, amd):
    with pytest.raises(AttestedError):
        fetch(services, store_path, amd=[{"product": "genoa", **amd}])
    assert not services.asked


def test_the_committed_tcb_can_be_prepared_for(lab, services, store_path):
    higher = dict(DEFAULT_TCB["genoa"], microcode=90)
    document = lab.document(1, committed_tcb=higher, current_tcb=higher)
    result = fetch(services, store_path, [document], tcbs=["reported", "committed", "current"])
    paths = [item["path"] for item in result["pieces"] if item["kind"] == "amd-vek"]
    assert len(paths) == 2 and paths[0].endswith("ucode84.der") and paths[1].endswith("ucode90.der")


def test_what_no_service_has_is_noted(lab, services, store_path):
    vlek = fetch(services, store_path, [lab.document(1, signing_key="vlek")])
    assert any("VLEK" in note for note in vlek["notes"])
    masked = fetch(services, store_path, [lab.document(report=lab.report(1, chip_id=b""))])
    assert any("chip_id" in note for note in masked["notes"]) and services.asked_for("/vcek/v1/Genoa/0") == 0


def test_over_tls_with_a_ca_of_ones_own(lab, tmp_path):
    store = str(tmp_path / "store")
    with Services(lab, tls=True, directory=str(tmp_path)) as services:
        refused = fetch(services, store, [lab.document(1)], attempts=1)
        assert refused["failed"] and "certificate" in refused["msg"].lower()
        assert fetch(services, store, [lab.document(1)], ca_path=services.ca_path)["complete"]


def test_nothing_to_fetch_for_is_an_error(services, store_path):
    with pytest.raises(AttestedError, match="nothing to fetch"):
        fetch(services, store_path)


def test_the_evaluation_time_decides(lab, services, store_path):
    assert AT > ISSUED
    with pytest.raises(AttestedError):
        fetch(services, store_path, [lab.document(1)], at="yesterday")
