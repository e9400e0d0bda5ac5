# SPDX-License-Identifier: GPL-3.0-or-later
"""The section cca of a policy: strict defaults, every key, unknown ones refused."""

from __future__ import annotations

import pytest

from ansible_collections.attested.ai.plugins.module_utils.appraisal import cca_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.errors import PolicyError


def load(**cca):
    return load_policy({"schema": "attested.ai/policy/1", "id": "test", "cca": cca}).cca


def test_defaults_are_strict():
    assert load() == cca_policy.CcaPolicy()
    assert load().to_dict() == {
        "profiles": ["2023", "2024", "legacy"], "implementation_ids": None, "allow_lifecycle": ["secured"], "allow_test_keys": False,
        "allow_unknown_claims": False, "allow_live_firmware_activation": False, "allow_platform_extensions": False, "mec_policy": "any",
        "require_platform_references": True, "vendor_endorsements": [], "configurations": None, "rpv": None,
    }  # fmt: skip
    assert set(load().to_dict()) == set(cca_policy.KEYS)


FULL = {
    "profiles": ["2026", "legacy"], "implementation_ids": ["00" * 32], "allow_lifecycle": ["provisioning", "secured"], "allow_test_keys": True,
    "allow_unknown_claims": True, "allow_live_firmware_activation": True, "allow_platform_extensions": True, "mec_policy": "private",
    "require_platform_references": False, "vendor_endorsements": ["11" * 32], "configurations": ["", "cfcfcfcf"], "rpv": ["22" * 64],
}  # fmt: skip


def test_every_key_survives_a_round_trip():
    policy = load(**FULL)
    assert policy.to_dict() == FULL
    assert load(**policy.to_dict()) == policy
    assert load(**load().to_dict()) == load()


def test_bare_years_are_what_they_look_like():
    assert load(profiles=[2024, "2026"]).profiles == ("2024", "2026")


@pytest.mark.parametrize("key,value", [
    ("profiles", []), ("profiles", ["2025"]), ("profiles", [True]), ("profiles", "2024"), ("profiles", [2024, "2024"]), ("implementation_ids", []),
    ("implementation_ids", ["00"]), ("implementation_ids", ["AA" * 32]), ("allow_lifecycle", []), ("allow_lifecycle", ["debug"]), ("allow_lifecycle", [0x30]),
    ("allow_test_keys", "yes"), ("allow_test_keys", 1), ("allow_unknown_claims", None), ("allow_live_firmware_activation", "true"),
    ("allow_platform_extensions", 0), ("mec_policy", "shared"), ("mec_policy", True), ("require_platform_references", "no"), ("vendor_endorsements", ["x"]),
    ("vendor_endorsements", ["11" * 33]), ("configurations", []), ("configurations", ["f"]), ("configurations", ["CF"]), ("configurations", [1]),
    ("configurations", ["00" * 1025]), ("rpv", []), ("rpv", ["22" * 32]), ("allow_testkeys", True), ("lifecycle", []),
])  # fmt: skip
def test_wrong_values_are_refused(key, value):
    with pytest.raises(PolicyError):
        load(**{key: value})
