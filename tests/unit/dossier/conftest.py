# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from .dossier_lab import Lab


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)
