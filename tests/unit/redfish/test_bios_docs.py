# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/bios.md says what the data and the service hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.redfish import maps
from bmc.faults import ACTIONS
from bmc.models import MODELS
from bmc_support import REBOOTS

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "bios.md").read_text(encoding="utf-8")


def test_every_setting_stands_there_with_its_goals_and_its_mark():
    rows = {line.split("|")[1].strip(" `"): [cell.strip() for cell in line.split("|")[2:-1]] for line in TEXT.splitlines() if line.startswith("| `")}
    for name, setting in maps.load_settings().items():
        for column, state in enumerate(("tdx", "snp")):
            step = {step.setting: step for step in maps.load_state(state)}.get(name)
            cell = rows[name][column]
            expected = () if step is None else step.goal.accepted or ((step.goal.at_least,) if step.goal.at_least else ("left alone",))
            assert all(word in cell for word in expected) and ("required" in cell) == bool(step and step.required) and bool(cell) == bool(step), name
        assert rows[name][3] == setting.mark


@pytest.mark.parametrize("key", maps.VENDORS)
def test_every_name_of_a_vendor_stands_in_its_row(key):
    vendor = maps.load_vendor(key)
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| {vendor.name} (`{key}`)")]
    for setting, names in vendor.settings.items():
        assert f"`{setting}` `{names.names[0]}`" in row, setting
    assert row.count("[unverified]") == sum(names.mark == "unverified" for names in vendor.settings.values())


def test_the_traces_count_as_the_tests_do():
    for model, count in REBOOTS.items():
        assert f"{model}: {count} reboots" in TEXT
    assert all(f"`{word}`" in TEXT for word in (*MODELS, *ACTIONS))
