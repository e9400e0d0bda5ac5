# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the training of several owners."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from training_lab import Lab  # noqa: E402  pylint: disable=wrong-import-position


@pytest.fixture
def make_lab(tmp_path):
    made = []

    def make(**options):
        memory = Path("/dev/shm") / f"attested-test-{uuid.uuid4().hex}"
        memory.mkdir(mode=0o700)
        made.append(Lab(tmp_path, memory, **options))
        return made[-1]

    yield make
    for lab in made:
        lab.close()


@pytest.fixture
def lab(make_lab):
    return make_lab()
