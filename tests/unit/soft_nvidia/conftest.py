# SPDX-License-Identifier: GPL-3.0-or-later
"""Soft devices of each architecture, and a soft machine with a CPU that vouches for them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools" / "softtee"))

from softtee.nvidia_authority import NvidiaAuthority  # noqa: E402


@pytest.fixture(scope="session")
def authority() -> NvidiaAuthority:
    return NvidiaAuthority.create(None)
