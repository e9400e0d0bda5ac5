# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests' own helpers, and the stand-ins for PCCS, QGS and firmware."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parents[3] / "tools" / "softpccs"))

USER, ADMIN = "user-token-4711-x", "admin-token-4712-y"


@pytest.fixture(scope="module")
def shared_pccs():
    from softpccs.server import Service

    with Service(USER, ADMIN).running() as service:
        yield service


@pytest.fixture
def pccs(shared_pccs):
    """One service for all tests of a file, as new for each."""
    shared_pccs.faults.clear()
    shared_pccs.platforms.clear()
    shared_pccs.manifests.clear()
    shared_pccs.certified.clear()
    shared_pccs.collateral = {}
    shared_pccs.requests.clear()
    shared_pccs.refuses, shared_pccs.mode = "", "LAZY"
    return shared_pccs
