# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine of each cloud."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The tests' own helpers; pytest's import mode leaves the path alone.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from cloud_lab import AzureLab, GoogleLab  # noqa: E402


@pytest.fixture(scope="session")
def azure() -> AzureLab:
    return AzureLab()


@pytest.fixture(scope="session")
def google() -> GoogleLab:
    return GoogleLab()
