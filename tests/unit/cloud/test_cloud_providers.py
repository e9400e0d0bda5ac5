# SPDX-License-Identifier: GPL-3.0-or-later
"""The named profiles: every key of theirs is one of the policy, and what the user writes wins."""

from __future__ import annotations

import pytest

from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.providers import AZURE_ID_KEY, PROVIDERS


def load(**keys):
    return load_policy({"schema": "attested.ai/policy/1", "id": "p", **keys})


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_profile_loads_and_reads_back(name):
    policy = load(provider=name)
    assert load_policy(policy.to_dict()) == policy and policy.provider == name


def test_no_profile_is_wider_than_it_says():
    plain = load().to_dict()
    changed = {
        name: {(section, key) for section in plain if isinstance(plain[section], dict)
               for key in plain[section] if load(provider=name).to_dict()[section][key] != plain[section][key]}
        for name in PROVIDERS
    }  # fmt: skip
    assert changed["none"] == set()
    assert changed["aws"] == {("sev_snp", "vmpl"), ("sev_snp", "allow_provisional_firmware")}
    assert changed["gcp"] == {("sev_snp", "signing_keys")}
    assert {key for key in changed["azure"] if key[0] != "tdx"} == {("sev_snp", "signing_keys"), ("sev_snp", "id_key_digests")}


def test_what_the_user_writes_wins():
    assert load(provider="azure").sev_snp.id_key_digests == (AZURE_ID_KEY,)
    own = load(provider="azure", sev_snp={"id_key_digests": ["00" * 48], "signing_keys": ["vlek"]}).sev_snp
    assert own.id_key_digests == ("00" * 48,) and own.signing_keys == ("vlek",)
    assert load(provider="azure", sev_snp={"id_key_digests": None}).sev_snp.id_key_digests is None
