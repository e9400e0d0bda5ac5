# SPDX-License-Identifier: GPL-3.0-or-later
"""The first evidence that a machine ever gave, kept for the misbehaviour ``replay``."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from softtee.snp_authority import write_private


def first_of(state: Path, name: str, make: Callable[[], bytes]) -> bytes:
    """The stored bytes, made when there are none."""
    path = state / ("first-%s.bin" % name)
    if not path.exists():
        write_private(path, make())
    return path.read_bytes()
