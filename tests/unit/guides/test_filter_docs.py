# SPDX-License-Identifier: GPL-3.0-or-later
"""Each filter shows its own documentation. What stands in the code is shown for every filter of that file, and hides the files beside it."""

from __future__ import annotations

import importlib

import pytest
import yaml

from .guides_lab import REPO

FILES = sorted(path.stem for path in (REPO / "plugins" / "filter").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("stem", FILES)
def test_a_filter_shows_its_own_documentation(stem):
    module = importlib.import_module(f"ansible_collections.attested.ai.plugins.filter.{stem}")
    inside = yaml.safe_load(getattr(module, "DOCUMENTATION", "{}")).get("name")
    for name in module.FilterModule().filters():
        beside = REPO / "plugins" / "filter" / f"{name}.yml"
        assert (inside or yaml.safe_load(beside.read_text(encoding="utf-8"))["DOCUMENTATION"]["name"]) == name
