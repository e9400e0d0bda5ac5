# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests' own helpers, and the stand-ins for PCCS, QGS and firmware."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parents[3] / "tools" / "softpccs"))


@pytest.fixture(scope="module")
def shared_pccs():
    from quoting_lab import ADMIN, USER
    from softpccs.server import Service

    with Service(USER, ADMIN).running() as service:
        yield service


@pytest.fixture
def pauses(monkeypatch):
    """What would have been waited for a busy service."""
    from ansible_collections.attested.ai.plugins.module_utils.target.quoting import services

    waited = []
    monkeypatch.setattr(services, "time", types.SimpleNamespace(sleep=waited.append))
    return waited


@pytest.fixture
def pccs(shared_pccs, pauses):  # pylint: disable=unused-argument
    """One service for all tests of a file, as new for each."""
    shared_pccs.faults.clear()
    shared_pccs.platforms.clear()
    shared_pccs.manifests.clear()
    shared_pccs.certified.clear()
    shared_pccs.collateral = {}
    shared_pccs.requests.clear()
    shared_pccs.refuses, shared_pccs.mode = "", "LAZY"
    return shared_pccs
