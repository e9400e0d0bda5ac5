# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def snp_vectors() -> Path:
    default = Path(__file__).resolve().parents[3].parent / "shared" / "vectors"
    folder = Path(os.environ.get("ATTESTED_VECTORS", str(default))) / "snp"
    if not folder.is_dir():
        pytest.skip("no test vectors at %s: set ATTESTED_VECTORS" % folder)
    return folder
