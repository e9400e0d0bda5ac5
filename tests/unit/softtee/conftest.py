# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[3] / "tools" / "softtee"
sys.path.insert(0, str(TOOLS))

from softtee import mounting  # noqa: E402
from softtee.errors import SoftTeeError  # noqa: E402
from softtee.machine import Machine  # noqa: E402
from softtee.snp_authority import SnpAuthority  # noqa: E402


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


class Soft:
    """A soft TEE behind its command line."""

    def __init__(self, base: Path) -> None:
        self.state = base / "state"
        self.mount = base / "mnt"
        self.tsm = self.mount / "report"

    def run(self, *words, check=True, timeout=60):
        command = [sys.executable, "-m", "softtee", words[0], "--state", str(self.state), *words[1:]]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(TOOLS)}, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def serve(self, *words):
        return self.run("serve", "--daemon", "--mount", str(self.mount), *words)

    def entry(self, name, inblob=None):
        path = self.tsm / name
        path.mkdir()
        if inblob is not None:
            write(path / "inblob", inblob)
        return path


def write(path, data):
    descriptor = os.open(path, os.O_WRONLY)
    try:
        return os.write(descriptor, data)
    finally:
        os.close(descriptor)


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
