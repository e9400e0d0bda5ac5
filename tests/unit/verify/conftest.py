# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectors, and two soft authorities."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# The tests' own helpers; pytest's import mode leaves the path alone.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from verify_lab import REPOSITORY, Lab, SnpAuthority  # noqa: E402

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots, trust_roots  # noqa: E402


@pytest.fixture(scope="session")
def vectors() -> Path:
    folder = Path(os.environ.get("ATTESTED_VECTORS", str(REPOSITORY.parent / "shared" / "vectors"))) / "snp"
    if not folder.is_dir():
        pytest.skip("no test vectors at %s: set ATTESTED_VECTORS" % folder)
    return folder


@pytest.fixture(scope="session")
def lab() -> Lab:
    # 2048 bits: a nonvendor root may be that small, and keys are made in each run.
    return Lab(SnpAuthority.create(None, rsa_bits=2048))


@pytest.fixture(scope="session")
def attacker() -> Lab:
    """Another authority with the same names."""
    return Lab(SnpAuthority.create(None, products=("milan",), rsa_bits=2048))


@pytest.fixture(scope="session")
def vendor_roots() -> TrustRoots:
    return trust_roots()
