# SPDX-License-Identifier: GPL-3.0-or-later
"""A soft authority for all tests of this folder, and the public captures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The tests' own helpers; pytest's import mode leaves the path alone.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from nvidia_lab import NvidiaLab  # noqa: E402


@pytest.fixture(scope="session")
def lab() -> NvidiaLab:
    return NvidiaLab()


@pytest.fixture(scope="session")
def attacker() -> NvidiaLab:
    """Another authority with the same names."""
    return NvidiaLab()


@pytest.fixture(scope="session")
def captures(vectors: Path) -> Path:
    return vectors / "nvidia"
