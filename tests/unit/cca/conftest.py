# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectors, and a soft CCA platform."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# The tests' own helpers; pytest's import mode leaves the path alone.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from cca_lab import REPOSITORY, Lab  # noqa: E402


@pytest.fixture(scope="session")
def vectors() -> Path:
    folder = Path(os.environ.get("ATTESTED_VECTORS", str(REPOSITORY.parent / "shared" / "vectors"))) / "cca"
    if not folder.is_dir():
        pytest.skip("no test vectors at %s: set ATTESTED_VECTORS" % folder)
    return folder


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab()
