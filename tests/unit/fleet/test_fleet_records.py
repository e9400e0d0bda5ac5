# SPDX-License-Identifier: GPL-3.0-or-later
"""Kept results: what is proven, what is not, and in which state that leaves a host."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import fleet_lab as lab
import pytest
from ansible_collections.attested.ai.plugins.module_utils.appraisal import jws
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.fleet import record
from ansible_collections.attested.ai.plugins.module_utils.fleet.standing import expiry_groups, standing
from ansible_collections.attested.ai.plugins.module_utils.fleet.summary import summarise
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 28, 13, tzinfo=timezone.utc)
DAY = timedelta(hours=24)


@pytest.fixture(scope="module")
def keys():
    private = lab.key()
    return private, jws.parse_jwks({"keys": [jws.public_jwk(private)]})


def judged(data, name, trusted, now=NOW):
    kept = record.read_kept(data if isinstance(data, bytes) else json.dumps(data).encode(), name, trusted)
    return kept, standing(kept, now, DAY).state


def test_a_signed_record_is_affirming_and_only_for_its_own_host(keys):
    private, trusted = keys
    token = record.sign_record("guest1", lab.result(), private).encode()
    kept, state = judged(token, "guest1.jws", trusted)
    assert state == "affirming" and kept.proven and kept.summary.tees == ("sev-snp",)
    other, state = judged(token, "guest2.jws", trusted)
    assert state == "unproven" and "another host" in other.problem and other.summary is None


@pytest.mark.parametrize("status, state", [("affirming", "unproven"), ("warning", "unproven"), ("contraindicated", "contraindicated"), ("none", "unproven")])
def test_what_is_not_signed_is_never_good_and_bad_news_count(keys, status, state):
    assert judged(lab.result(status), "g.json", keys[1])[1] == state


def test_without_a_key_and_with_another_key_a_record_proves_nothing(keys):
    token = record.sign_record("g", lab.result(), keys[0]).encode()
    assert judged(token, "g.jws", ())[1] == "unproven"
    foreign = jws.parse_jwks({"keys": [jws.public_jwk(lab.key())]})
    kept, state = judged(token, "g.jws", foreign)
    assert state == "unproven" and not kept.proven


def test_age_end_and_clock(keys):
    private, trusted = keys

    def state(**more):
        return judged(record.sign_record("g", lab.result(**more), private).encode(), "g.jws", trusted)[1]

    assert state(at="2026-11-27T12:59:59Z") == "stale" and state(at="2026-11-27T13:00:00Z") == "affirming"
    assert state(expires="2026-11-28T13:00:00Z") == "stale" and state(expires=None) == "affirming"
    assert state(at="2026-11-28T13:02:00Z") == "unproven"
    assert state(status="warning") == "warning" and state(status="contraindicated") == "contraindicated"


@pytest.mark.parametrize("spoil", [
    lambda r: r.pop("status"), lambda r: r.update(accepted="yes"), lambda r: r.update(status="fine"), lambda r: r.update(submods=[]),
    lambda r: r.update(authentic=False), lambda r: r.update(status="contraindicated"), lambda r: r.update(evaluated_at="yesterday"),
    lambda r: r.update(schema="attested.ai/result/2"), lambda r: r["policy"].clear(), lambda r: r.update(reasons=[{"id": 1}]),
])  # fmt: skip
def test_a_signed_result_that_contradicts_itself_is_damaged(keys, spoil):
    document = lab.result()
    spoil(document)
    kept, state = judged(record.sign_record("g", document, keys[0]).encode(), "g.jws", keys[1])
    assert state == "unproven" and kept.problem.startswith("g.jws")


def test_an_ear_of_attest_is_read_however_old_and_judged_by_its_age(keys):
    private, trusted = keys
    document = lab.result()
    own = {name: value for name, value in document.items() if name not in ("submods", "nonce", "status")}
    issued = int(datetime(2026, 11, 28, 12, tzinfo=timezone.utc).timestamp())
    payload = {
        "eat_profile": "tag:ietf.org,2026:rats/ear#04", "iat": issued, "exp": issued + 300, "ear_verifier_id": {"developer": "d", "build": "b"},
        "ear_status": "affirming", "attested_ai": own,
        "submods": {"cpu0": {
            "ear_status": "affirming", "ear_trustworthiness_vector": {"hardware": 2}, "ear_appraisal_policy_ids": ["p"],
            "ear_attester_claims": document["submods"]["cpu0"]["claims"], "ear_verifier_claims": {"tee": "sev-snp"},
        }},
    }  # fmt: skip
    token = jws.sign(payload, private, "eat+jwt").encode()
    assert judged(token, "g.jwt", trusted)[1] == "affirming"
    assert judged(token, "g.jwt", trusted, NOW + timedelta(days=2))[1] == "stale"
    refused = jws.sign({**payload, "ear_status": "contraindicated"}, private, "eat+jwt").encode()
    assert judged(refused, "g.jwt", trusted)[1] == "unproven"  # accepted and contraindicated: it contradicts itself


@given(st.binary(max_size=200))
def test_reading_never_raises(data):
    kept = record.read_kept(data, "x.jws", ())
    assert standing(kept, NOW, DAY).state in ("unproven", "contraindicated")


# A character takes up to twelve in the name of a file.
@given(st.text(min_size=1, max_size=16))
def test_names_of_hosts_survive_as_names_of_files(host):
    name = record.file_name(host)
    assert "/" not in name and "\0" not in name and record.host_of(name) == host


def test_a_name_that_no_file_can_have_is_refused():
    for host in ("", "x" * 300):
        with pytest.raises(FormatError, match="name of 1 to"):
            record.file_name(host)


def test_the_distance_counts_steps():
    behind = lab.result(tcb={"reported": {**lab.TCB, "snp": 20}, "current": lab.TCB})
    assert summarise(behind, "r").distance == 7
    below_the_floor = lab.result(tcb={"reported": {"snp": 20}, "current": {"snp": 20}})
    assert summarise(below_the_floor, "r").distance == 3  # the shipped floor of Genoa is 23
    assert summarise(lab.result(tee="tdx", tcb_status="OutOfDate", tcb=None), "r").distance == 1
    assert summarise(lab.result(tee="cca", tcb=None, product=None), "r").distance is None


@pytest.mark.parametrize("days, groups", [(None, ("unknown",)), (-1, ("expired",)), (3, ("within_7d", "within_30d")), (7, ("within_30d",)), (90, ("later",))])
def test_groups_of_the_days_that_are_left(days, groups):
    assert expiry_groups(days, [30, 7]) == groups
