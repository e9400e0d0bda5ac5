# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[3] / "tools" / "softtee"
sys.path[:0] = [str(TOOLS), str(Path(__file__).resolve().parent)]

from softtee import mounting  # noqa: E402
from softtee.errors import SoftTeeError  # noqa: E402
from softtee.machine import Machine  # noqa: E402
from softtee.snp_authority import SnpAuthority  # noqa: E402
from softtee_kit import Soft  # noqa: E402


def can_mount():
    try:
        mounting.require_fuse()
    except SoftTeeError as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def authority():
    """All three products, in memory, keys of the genuine size (made as they are asked for)."""
    return SnpAuthority.create(None)


@pytest.fixture(scope="session")
def seed(tmp_path_factory):
    """The CA of a soft genoa: making RSA keys anew for each test would take longer than the tests."""
    state = tmp_path_factory.mktemp("seed")
    Machine.open(state).prepare()
    return state


def seeded(tee, seed):
    tee.state.mkdir(mode=0o700)
    shutil.copytree(seed / "authority", tee.state / "authority")


@pytest.fixture(scope="module")
def soft(tmp_path_factory, seed):
    """A running soft TEE (genoa, vcek), one per test module."""
    reason = can_mount()
    if reason:
        pytest.skip("no FUSE here: " + reason)
    tee = Soft(tmp_path_factory.mktemp("soft"))
    seeded(tee, seed)
    tee.serve()
    yield tee
    tee.run("stop")
    assert not mounting.is_mounted(tee.mount)


@pytest.fixture
def idle(tmp_path, seed):
    """A soft TEE that is not started yet; stopped after the test."""
    reason = can_mount()
    if reason:
        pytest.skip("no FUSE here: " + reason)
    tee = Soft(tmp_path)
    seeded(tee, seed)
    yield tee
    if tee.state.exists():
        tee.state.chmod(0o700)
    tee.run("stop")
    assert not mounting.is_mounted(tee.mount)
