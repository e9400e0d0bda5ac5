# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers for the tests of key sources."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

for folder in (Path(__file__).resolve().parent, Path(__file__).resolve().parents[1] / "kbs"):
    sys.path.insert(0, str(folder))

import bao_lab  # noqa: E402
import kbs_lab  # noqa: E402


@pytest.fixture(scope="session", params=["soft", "openbao"])
def bao(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[bao_lab.Bao]:
    """The same tests before our own and before the real one."""
    if request.param == "openbao" and not bao_lab.REAL:
        pytest.skip("no real Vault: OPENBAO names no binary")
    with (bao_lab.soft if request.param == "soft" else bao_lab.real)(tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.fixture
def soft_bao(tmp_path: Path) -> Iterator[bao_lab.Bao]:
    """Our own and fresh, for faults."""
    with bao_lab.soft(tmp_path) as found:
        yield found


@pytest.fixture
def soft_kbs(tmp_path: Path) -> Iterator[kbs_lab.Peer]:
    with kbs_lab.soft_peer(tmp_path) as found:
        yield found
