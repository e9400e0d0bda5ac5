# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of collateral share: an authority in AMD's shape, services on the loopback interface, a store."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "nvidia"))

from collateral_lab import Lab, Services  # noqa: E402  pylint: disable=wrong-import-position


@pytest.fixture(scope="session")
def lab():
    return Lab()


@pytest.fixture
def services(lab):
    with Services(lab) as running:
        yield running


@pytest.fixture
def store_path(tmp_path):
    return str(tmp_path / "store")


@pytest.fixture(scope="session")
def soft_nvidia():
    from nvidia_lab import NvidiaLab

    return NvidiaLab()
