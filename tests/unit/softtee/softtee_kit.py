# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

"""The command line under test, as the tests call it."""

import os
import subprocess
import sys
from pathlib import Path

from softtee.behaviour import set_behaviour

TOOLS = Path(__file__).resolve().parents[3] / "tools" / "softtee"


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

    def misbehave(self, name, count=0):
        """As the command does, without the start of a Python."""
        set_behaviour(self.state, name, int(count))

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
