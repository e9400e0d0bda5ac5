# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of hosts share."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "collateral"))
