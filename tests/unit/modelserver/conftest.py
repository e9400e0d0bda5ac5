# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab of model servers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import modelserver_lab  # noqa: E402


@pytest.fixture
def lab(tmp_path):
    """A front in this process, before a model server that does as it is told."""
    with modelserver_lab.Lab(tmp_path) as made:
        yield made
