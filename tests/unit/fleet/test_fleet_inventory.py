# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin, read by Ansible's own inventory manager."""

from __future__ import annotations

import json

import fleet_lab as lab
import pytest
from ansible_collections.attested.ai.plugins.module_utils.fleet.record import file_name, sign_record

CONFIG = """
plugin: attested.ai.attested
results: [results]
at: "2026-11-28T13:00:00Z"
"""
KEYED = CONFIG + "public_keys: [monitor.pub.pem]\n"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    directory = tmp_path_factory.mktemp("fleet")
    results = directory / "results"
    results.mkdir()
    private, other = lab.key(), lab.key()
    (directory / "monitor.pub.pem").write_bytes(lab.public_pem(private))

    def signed(host, document, key=private, name=None):
        (results / (name or file_name(host))).write_text(sign_record(host, document, key))

    signed("good", lab.result())
    signed("warns", lab.result("warning", tee="tdx", tcb_status="SWHardeningNeeded", tcb=None))
    signed("refused", lab.result("contraindicated"))
    signed("old", lab.result(at="2026-11-20T12:00:00Z"))
    signed("soon", lab.result(expires="2026-12-02T12:00:00Z", anchor="nonvendor"))
    signed("foreign", lab.result(), other)
    signed("good", lab.result(), name=file_name("swapped"))
    (results / "plain.json").write_text(json.dumps(lab.result()))
    (results / "plain-bad.json").write_text(json.dumps(lab.result("contraindicated")))
    (results / "torn.jws").write_text(sign_record("torn", lab.result(), private)[:500])
    (results / "empty.json").write_text("")
    (results / "notes.txt").write_text("not a result")
    (directory / "hosts.yml").write_text("guests: {hosts: {good: {}, silent: {}}}\n")
    return directory


CACHE = "cache: true\ncache_plugin: ansible.builtin.jsonfile\ncache_connection: {cache}\n"
OWN = "keyed_groups: [{prefix: policy, key: attested_policy}]\ncompose: {serve: attested_state == 'affirming'}\ngroups: {aged: attested_age_hours > 100}\n"
# Read one after the other; "cached" fills the cache, and what follows finds it.
CONFIGS = {
    "all": KEYED + "expect: [guests, nobody]\n", "no-key": CONFIG, "own": KEYED + OWN, "cached": KEYED + CACHE, "cached-later": KEYED + CACHE,
    "cached-other-key": CONFIG + CACHE, "wrong-place": CONFIG.replace("[results]", "[nowhere]"), "wrong-key": CONFIG + "public_keys: [hosts.yml]\n",
    "wrong-age": CONFIG + "max_age_hours: 0\n", "wrong-set": CONFIG + "jwks: {keys: []}\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def listed(fleet, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")

    def paths(names):
        for name in names:
            text = CONFIGS[name].replace("{cache}", str(cache))
            # One file for those that share a cache: its key is made of the path.
            path = fleet / ("cached.attested.yml" if name.startswith("cached") else f"{name}.attested.yml")
            path.write_text(text.replace("2026-11-28T13", "2026-12-28T13") if name == "cached-later" else text)
            yield name, [fleet / "hosts.yml", path]

    found = lab.inventories(fleet, dict(paths(name for name in CONFIGS if name not in ("cached-later", "cached-other-key"))))
    moved = fleet / "results" / "good.jws"
    text = moved.read_text()
    moved.unlink()
    again = lab.inventories(fleet, dict(paths(["cached"])))
    found["cached-again"] = again["cached"]
    for name in ("cached-later", "cached-other-key"):
        found[name] = lab.inventories(fleet, dict(paths([name])))[name]
    moved.write_text(text)
    return found


def members(found, group):
    return found["groups"].get(group, [])


def test_groups_by_state_tee_and_days(listed):
    found = listed["all"]
    assert members(found, "attested_state_affirming") == ["good", "soon"]
    assert members(found, "attested_state_warning") == ["warns"]
    assert members(found, "attested_state_contraindicated") == ["plain-bad", "refused"]
    assert members(found, "attested_state_stale") == ["old"]
    assert members(found, "attested_state_unproven") == ["empty", "foreign", "plain", "swapped", "torn"]
    assert members(found, "attested_state_missing") == ["silent"]
    assert members(found, "attested_tee_sev_snp") == ["good", "old", "refused", "soon"] and members(found, "attested_tee_tdx") == ["warns"]
    assert members(found, "attested_expires_within_7d") == ["soon"] and members(found, "attested_anchor_nonvendor") == ["soon"]
    facts = found["hosts"]
    assert facts["good"]["attested_days_to_expiry"] == 62 and facts["warns"]["attested_tcb_distance"] == 1
    assert facts["refused"]["attested_reasons"] == ["policy-debug"] and not facts["plain"]["attested_signed"]


def test_without_a_key_nothing_is_affirming(listed):
    found = listed["no-key"]
    assert members(found, "attested_state_contraindicated") == ["plain-bad", "refused"]
    assert not any(members(found, group) for group in ("attested_state_affirming", "attested_state_warning", "attested_state_stale", "attested_tee_sev_snp"))


def test_groups_of_ones_own(listed):
    found = listed["own"]
    assert "good" in members(found, "policy_p") and members(found, "aged") == ["old"]
    assert found["hosts"]["good"]["serve"] is True and found["hosts"]["old"]["serve"] is False


def test_the_cache_keeps_content_and_not_states(listed):
    """With other keys, or at another time, nothing old is believed."""
    assert "good" in members(listed["cached"], "attested_state_affirming")
    assert "good" in members(listed["cached-again"], "attested_state_affirming")  # its file is gone: this is the cache
    assert "good" in members(listed["cached-later"], "attested_state_stale")
    assert members(listed["cached-other-key"], "attested_state_affirming") == []


@pytest.mark.parametrize("name, says", [
    ("wrong-place", "nowhere: it is not there"), ("wrong-key", "hosts.yml"), ("wrong-age", "expiry_days must be"), ("wrong-set", "JWKS: it holds no EC key"),
])  # fmt: skip
def test_a_configuration_that_cannot_be_used_is_told(listed, name, says):
    assert "error" in listed[name] and says in listed["said"]
