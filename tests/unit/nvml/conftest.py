# SPDX-License-Identifier: GPL-3.0-or-later
"""The stubs of NVIDIA's libraries, compiled, and soft devices behind them."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools" / "softtee"))

from softtee.nvidia_authority import NvidiaAuthority  # noqa: E402
from softtee.nvidia_socket import Machine, serve  # noqa: E402


class Devices:
    """A running stub whose machine and behaviour a test may change; what is asked next is answered accordingly."""

    def __init__(self, directory: str) -> None:
        self.authority = NvidiaAuthority.create(None)
        self.behaviour = "none"
        self.serving = serve(directory, Machine(self.authority), lambda: self.behaviour)
        self.nvml, self.nscq = str(self.serving.nvml), str(self.serving.nscq)

    def become(self, arch: str = "hopper", gpus: int = 1, switches: int = 0, mode: str = "spt") -> Machine:
        self.behaviour = "none"
        self.serving.server.machine = Machine(self.authority, arch, gpus, switches, mode)
        return self.serving.server.machine


@pytest.fixture(scope="session")
def running():
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    # Not below pytest's own directory: the path of a Unix socket is short.
    with tempfile.TemporaryDirectory() as directory:
        devices = Devices(directory)
        yield devices
        devices.serving.stop()


@pytest.fixture
def devices(running):
    running.become()
    return running
