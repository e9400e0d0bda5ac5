# SPDX-License-Identifier: GPL-3.0-or-later
"""A centre with one model and a gateway, made once and copied for each test."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from edge_lab import MODULES, Lab, make_ground  # noqa: E402  pylint: disable=wrong-import-position


@pytest.fixture(scope="session")
def ground(tmp_path_factory):
    return make_ground(tmp_path_factory.mktemp("edge"))


@pytest.fixture
def lab(ground, tmp_path, monkeypatch):
    """A clock that stands where the test puts it, and a folder of its own."""
    folder = tmp_path / "lab"
    shutil.copytree(ground, folder)
    made = Lab(folder)
    for module in MODULES:
        monkeypatch.setattr(module, "now", lambda: made.clock)
    return made
