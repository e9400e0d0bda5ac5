# SPDX-License-Identifier: GPL-3.0-or-later
"""One soft service for all tests of this folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from nras_lab import Service  # noqa: E402


@pytest.fixture(scope="session")
def service() -> Service:
    return Service()


@pytest.fixture(scope="session")
def attacker() -> Service:
    return Service()
