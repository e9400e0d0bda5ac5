# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: the checkout as a collection, the place of the vectors, and how hypothesis runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

REPO = Path(__file__).resolve().parents[1]
VECTORS = Path(os.environ.get("ATTESTED_VECTORS", REPO.parent / "shared" / "vectors"))
CI = os.environ.get("CI", "").lower() in ("1", "true")

# Plain `pytest` finds the collection too, once `make` has made the link. What PYTHONPATH names comes first.
sys.path.append(str(REPO / ".cache" / "collections"))

# Modules run in the Python under test. Left to discovery, Ansible takes the newest python3.x on the PATH, which may be a version manager's shim
# that starts nothing.
os.environ.setdefault("ANSIBLE_PYTHON_INTERPRETER", sys.executable)

# No test asserts a time. In CI the examples are the same in each run, so that a verdict belongs to the commit; elsewhere they differ, and find more.
settings.register_profile("attested", deadline=None, derandomize=CI, print_blob=True)
settings.load_profile("attested")


def pytest_configure() -> None:
    """CI must not pass because the vectors are missing: tests that draw their cases from them would silently have none."""
    if CI and not VECTORS.is_dir():
        raise pytest.UsageError(f"the test vectors are missing: {VECTORS} is no directory; set ATTESTED_VECTORS")


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of the published test vectors. On a user's machine without them the test reports that it was skipped."""
    if not VECTORS.is_dir():
        pytest.skip(f"no test vectors at {VECTORS}; set ATTESTED_VECTORS")
    return VECTORS
