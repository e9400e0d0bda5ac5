# SPDX-License-Identifier: GPL-3.0-or-later
"""The action through a real ansible-playbook: many hosts on one store, an air gap, and what it says when something is wrong."""

from __future__ import annotations

import json
import os

import pytest
import yaml
from collateral_lab import AT_TEXT, Fault, NONCE, b64, play, signing_key

pytestmark = pytest.mark.costly
ACTION = "attested.ai.collateral"


def asserted(*that):
    return {"ansible.builtin.assert": {"that": list(that), "quiet": True}}


@pytest.fixture
def common(lab, services, tmp_path):
    """Options of every fetch, and the evidence of two guests on one chip as files."""
    (tmp_path / "policy.yml").write_text(yaml.safe_dump(lab.policy()))
    for number in (1, 2):
        (tmp_path / f"node{number}.json").write_text(json.dumps(lab.document(1, measurement=bytes([number]))))
    return {"store": "store", "policy": "policy.yml", "at": AT_TEXT, **services.urls}


def test_many_hosts_share_one_store_and_one_request(lab, services, common, tmp_path):
    services.delay = 0.05
    hosts = tuple(f"node{number}" for number in range(1, 9))
    evidence = "{{ 'node1.json' if inventory_hostname in ('node1', 'node3', 'node5', 'node7') else 'node2.json' }}"
    fetch = {ACTION: {"operation": "fetch", "evidence": evidence, **common}, "register": "got"}
    again = {ACTION: {"operation": "fetch", "evidence": evidence, **common}, "register": "again"}
    code, output = play(tmp_path, fetch, asserted("got.complete"), again, asserted("again is not changed", "again.requests == 0"), hosts=hosts, forks=8)
    assert code == 0, output
    assert services.asked_for(lab.chip(1).hex()) == 1 and sum(services.asked.values()) == 3, services.asked
    entries = json.loads((tmp_path / "store" / "index.json").read_text())["entries"]
    assert sorted(entry["kind"] for entry in entries.values()) == ["amd-chain", "amd-crl", "amd-vek"]


def test_across_an_air_gap(lab, services, common, tmp_path):
    """Fetch here, carry one file, judge there without network: accepted. Without the file: not."""
    key, public, _key = signing_key(tmp_path)
    verify = {
        "attested.ai.evidence_verify": {
            "evidence": "node1.json", "nonce": b64(NONCE), "policy": "policy.yml", "at": AT_TEXT, "fail_on_refusal": False,
            "collateral": ["there"],
        },
        "register": "verdict",
    }  # fmt: skip
    tasks = [
        {"attested.ai.evidence_verify": {**verify["attested.ai.evidence_verify"], "collateral": []}, "register": "without"},
        {ACTION: {"operation": "fetch", "evidence": ["node1.json", "node2.json"], **common}, "register": "got"},
        {ACTION: {"operation": "export", "store": "store", "bundle": "collateral.tar", "signing_key": key}, "register": "out"},
        {ACTION: {"operation": "export", "store": "store", "bundle": "collateral.tar", "signing_key": key}, "register": "out_again"},
        {ACTION: {"operation": "import", "store": "there", "bundle": "collateral.tar", "public_key": public, "policy": "policy.yml"}, "register": "into"},
        {ACTION: {"operation": "import", "store": "there", "bundle": "collateral.tar", "public_key": public, "policy": "policy.yml"}, "register": "into_again"},
        {ACTION: {"operation": "fetch", "offline": True, "evidence": ["node1.json", "node2.json"], **common, "store": "there"}, "register": "offline"},
        {ACTION: {"operation": "check", "store": "there", "at": AT_TEXT}, "register": "there"},
        verify,
        {
            "attested.ai.evidence_verify": {**verify["attested.ai.evidence_verify"], "collateral": ["collateral.tar"], "collateral_key": public},
            "register": "packed",
        },
        asserted(
            "not without.accepted", "got is changed", "got.requests == 3", "out is changed", "out_again is not changed", "out.bundle.entries == 3",
            "into is changed", "into.counts == {'added': 3}", "into_again is not changed", "offline.complete", "offline is not changed",
            "there.complete", "there.counts.expiring == 1", "verdict.accepted", "packed.accepted",
        ),
    ]  # fmt: skip
    code, output = play(tmp_path, *tasks)
    assert code == 0, output


def test_check_mode_and_diff(common, tmp_path, services):
    task = {ACTION: {"operation": "fetch", "evidence": "node1.json", **common}}
    code, output = play(tmp_path, task, arguments=("--check", "--diff"))
    assert code == 0 and "changed=1" in output and "amd/crl/genoa.der (to be asked for)" in output, output
    assert not services.asked and not (tmp_path / "store").exists()
    code, output = play(tmp_path, task, arguments=("--diff",))
    assert code == 0 and "+amd/crl/genoa.der sha256:" in output, output
    code, output = play(tmp_path, task, arguments=("--check", "--diff"))
    assert code == 0 and "changed=0" in output, output


def test_a_long_wait_shows_on_the_terminal(lab, common, services, tmp_path):
    services.faults.append(Fault(lab.chip(1).hex(), status=429, headers={"Retry-After": "1"}))
    code, output = play(tmp_path, {ACTION: {"operation": "fetch", "evidence": "node1.json", **common}})
    assert code == 0 and "the service answers 429, next try in 1 s" in output, output


def test_forecast_reads_well(common, tmp_path, services):
    tasks = [
        {ACTION: {"operation": "fetch", "evidence": ["node1.json", "node2.json"], **common}},
        {ACTION: {"operation": "forecast", "store": "store", "policy": "policy.yml", "at": AT_TEXT, "horizon": 40,
                  "evidence": {"node1": "node1.json", "node2": "node2.json"}}, "register": "outlook"},
        asserted(
            "outlook is not changed", "outlook.guests_at_risk == ['node1', 'node2']",
            "outlook.forecast | json_query(\"[?because=='expiry' && days < `30`].guest\") == ['node1', 'node2']" if has_json_query() else "true",
            "(outlook.forecast | map(attribute='at')) == (outlook.forecast | map(attribute='at') | sort)",
        ),
        {"ansible.builtin.debug": {"var": "outlook.table"}},
    ]  # fmt: skip
    code, output = play(tmp_path, *tasks)
    assert code == 0 and "REFUSED BY" in output and "crl-expired" in output, output


def has_json_query():
    try:
        import ansible_collections.community.general  # noqa: F401
        import jmespath  # noqa: F401
    except ImportError:
        return False
    return True


MISTAKES = [
    ({"operation": "fetch"}, "nothing to fetch for"),
    ({"operation": "check"}, "there is no collateral in it"),
    ({"operation": "export", "bundle": "b.tar"}, "signing_key"),
    ({"operation": "import"}, "Give bundle or files"),
    ({"operation": "import", "bundle": "b.tar"}, "Give the public key of its maker"),
    ({"operation": "forecast"}, "there is no evidence"),
    ({"operation": "fetch", "kds_url": "ftp://x", "rims": ["NV_X"]}, "no http or https address"),
    ({"operation": "fetch", "update": "early", "tcb_evaluation_data_number": 18, "intel": [{"fmspc": "000000000000"}]}, "mutually exclusive"),
    ({"operation": "fetch", "parallelism": 99, "rims": ["NV_X"]}, "no way to treat a service"),
    ({"operation": "fetch", "intel": [{"fmspc": "xyz"}]}, "12 lower-case hexadecimal digits"),
]


def test_mistakes_are_told_in_one_line(tmp_path):
    tasks = []
    for options, said in MISTAKES:
        tasks.append({ACTION: {"store": "store", **options}, "register": "wrong", "ignore_errors": True})
        tasks.append(asserted("wrong is failed", "'%s' in wrong.msg" % said))
    code, output = play(tmp_path, *tasks)
    assert code == 0 and "Traceback" not in output, output


def test_a_bundle_of_someone_else_fails_with_its_code(lab, services, common, tmp_path):
    key, _public, _key = signing_key(tmp_path)
    _other, public, _key = signing_key(tmp_path, name="other.key")
    tasks = [
        {ACTION: {"operation": "fetch", "evidence": "node1.json", **common}},
        {ACTION: {"operation": "export", "store": "store", "bundle": "b.tar", "signing_key": key}},
        {
            ACTION: {"operation": "import", "store": "there", "bundle": "b.tar", "public_key": public, "policy": "policy.yml"},
            "register": "bad",
            "ignore_errors": True,
        },
        asserted("bad is failed", "bad.code == 'bundle-signature'", "'nothing was taken' in bad.msg"),
    ]
    code, output = play(tmp_path, *tasks)
    assert code == 0, output
    assert not os.path.exists(tmp_path / "there")
