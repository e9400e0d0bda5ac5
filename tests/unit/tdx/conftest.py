# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectors, and a vendor of our own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# The tests' own helpers; pytest's import mode leaves the path alone.
sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="session")
def vectors() -> Path:
    repository = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("ATTESTED_VECTORS", str(repository.parent / "shared" / "vectors"))) / "tdx"
    if not folder.is_dir():
        pytest.skip("no test vectors at %s: set ATTESTED_VECTORS" % folder)
    return folder
