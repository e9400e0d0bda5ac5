# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m softgpu MACHINE FOLDER: make a machine in FOLDER, and say how to reach it. Without arguments: the machines that are known."""

from __future__ import annotations

import sys
from pathlib import Path

from softgpu.machine import MACHINES, SoftMachine


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in MACHINES:
        print("python -m softgpu MACHINE FOLDER, with one of " + ", ".join(sorted(MACHINES)))
        return 2
    machine = SoftMachine.named(sys.argv[1], Path(sys.argv[2]).resolve())
    print(f"root: {machine.root}\ntool: {machine.tool}\ntool_sha256: {machine.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
