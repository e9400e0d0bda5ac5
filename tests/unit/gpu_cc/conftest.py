# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine by its name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpu_lab import SoftMachine  # noqa: E402


@pytest.fixture
def machine(tmp_path):
    def make(name: str) -> SoftMachine:
        return SoftMachine.named(name, tmp_path / name)

    return make


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Nothing here outlives the test, so nothing need reach the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
