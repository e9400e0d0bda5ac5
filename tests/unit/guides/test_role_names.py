# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role computes and what its tasks register have different names: the second would take the place of the first, for the rest of the run."""

from __future__ import annotations

import re

import pytest

from .guides_lab import REPO

ROLES = sorted(path.name for path in (REPO / "roles").iterdir() if path.is_dir())


def names(role: str, pattern: str, *folders: str) -> set[str]:
    found = (path.read_text(encoding="utf-8") for folder in folders for path in (REPO / "roles" / role / folder).rglob("*.yml"))
    return {name for text in found for name in re.findall(pattern, text, re.MULTILINE)}


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_registered_over_what_the_role_computes(role):
    assert not names(role, r"^\s+register: *(\w+)", "tasks", "handlers") & names(role, r"^(\w+):", "defaults", "vars")
