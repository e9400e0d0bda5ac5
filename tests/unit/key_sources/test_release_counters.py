# SPDX-License-Identifier: GPL-3.0-or-later
"""Minimum releases in a Vault and in a KBS: they only rise, whoever else writes, and damage is no beginning."""

from __future__ import annotations

import threading

import bao_lab
import kbs_lab
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kbs.counter import KbsCounter, name_of
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.counter import Counters, CounterStore
from ansible_collections.attested.ai.plugins.plugin_utils.release_counter import counter_of


def test_minimum_releases_in_a_vault_only_rise(bao):
    found = bao_lab.counter(bao, "state/minimum", bao.token(("secret/data/state/*", "create read update")))
    assert found.minimum("m") == 1
    assert found.raise_to("m", 3) == 3 and found.raise_to("other", 2) == 2 and found.raise_to("m", 3) == 3
    assert found.minimum("m") == 3 and found.minimum("other") == 2
    assert bao_lab.code_of(lambda: found.raise_to("m", 2)) == "counter-lower"
    assert bao_lab.code_of(lambda: found.raise_to("m", True)) == "counter-value"
    assert bao_lab.code_of(lambda: bao_lab.counter(bao, "state/minimum", bao.token(("secret/data/state/*", "read"))).raise_to("m", 4)) == "vault-denied"
    bao.call("POST", "secret/data/state/minimum", {"data": {"schema": "attested.ai/minimum-releases/1", "models": {"m": 0}}})
    assert bao_lab.code_of(lambda: found.minimum("m")) == "counter-damaged"
    bao.call("DELETE", "secret/data/state/minimum")
    assert bao_lab.code_of(lambda: found.minimum("m")) == "counter-missing" == bao_lab.code_of(lambda: found.raise_to("m", 4))


def test_two_controllers_raise_the_same_counter(bao):
    results = []

    def raise_to(release):
        try:
            results.append(bao_lab.counter(bao, "state/race").raise_to("m", release))
        except AttestedError as error:
            results.append(error.code)

    threads = [threading.Thread(target=raise_to, args=(release,)) for release in range(2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bao_lab.counter(bao, "state/race").minimum("m") == max(result for result in results if isinstance(result, int))
    assert 5 in results and all(result in (2, 3, 4, 5, "counter-lower") for result in results)


def test_a_counter_that_somebody_else_writes_in_between_is_read_again(soft_bao):
    found = bao_lab.counter(soft_bao, "c")
    found.raise_to("m", 2)
    soft_bao.soft.between = lambda: soft_bao.call("POST", "secret/data/c", {"data": {"schema": "attested.ai/minimum-releases/1", "models": {"m": 7}}})
    assert bao_lab.code_of(lambda: found.raise_to("m", 5)) == "counter-lower"

    def always():
        soft_bao.call("POST", "secret/data/c", {"data": {"schema": "attested.ai/minimum-releases/1", "models": {"m": 7}}})
        soft_bao.soft.between = always

    soft_bao.soft.between = always
    assert bao_lab.code_of(lambda: found.raise_to("m", 9)) == "counter-busy"


def test_several_counters_and_a_reset_of_one(tmp_path, soft_bao):
    store, elsewhere = CounterStore(str(tmp_path / "minimum.json")), bao_lab.counter(soft_bao, "c")
    both = Counters([elsewhere, store])
    both.raise_to("m", 4)
    assert store.minimum("m") == elsewhere.minimum("m") == 4
    (tmp_path / "minimum.json").unlink()
    assert both.minimum("m") == 4
    store.raise_to("m", 4)
    soft_bao.call("DELETE", "secret/metadata/c")
    assert elsewhere.minimum("m") == 1 and both.minimum("m") == 4
    assert bao_lab.code_of(lambda: both.raise_to("m", 3)) == "counter-lower"
    # What one would refuse is written nowhere.
    assert elsewhere.minimum("m") == 1
    soft_bao.seal()
    assert bao_lab.code_of(lambda: both.raise_to("m", 5)) == "vault-sealed" and store.minimum("m") == 4


def test_minimum_releases_in_a_kbs(soft_kbs, tmp_path):
    found = KbsCounter(soft_kbs.admin())
    assert found.minimum("m") == 1 and found.raise_to("m", 3) == 3 and found.minimum("m") == 3
    assert bao_lab.code_of(lambda: found.raise_to("m", 2)) == "counter-lower"
    assert found.raise_to("n" * 128, 2) == 2 and found.minimum("n" * 128) == 2 and len(name_of("n" * 128)) <= 128
    soft_kbs.admin().set_reference_values({name_of("m"): ["many"]})
    assert bao_lab.code_of(lambda: found.minimum("m")) == "counter-damaged"
    key = kbs_lab.secret(tmp_path / "admin.pem", kbs_lab.private_pem(soft_kbs.admin_key))
    address = {"url": [soft_kbs.url], "admin_key": str(key), "issuer": kbs_lab.ISSUER}
    ca = tmp_path / "kbs-ca.pem"
    ca.write_text(soft_kbs.ca)
    assert counter_of(bao_lab.Action(), {"source": "kbs", "server": {**address, "ca_path": str(ca)}}).minimum("n" * 128) == 2
    assert bao_lab.code_of(lambda: counter_of(bao_lab.Action(), {"source": "kbs", "server": {**address, "nonsense": 1}})) == "counter-source"
