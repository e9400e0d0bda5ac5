# SPDX-License-Identifier: GPL-3.0-or-later
"""A management controller for tests and for trying things: stateful, over TLS, with the manners and the bad manners of several vendors."""

from __future__ import annotations

import sys
from pathlib import Path

# What it shares with the other services lies beside it; whoever runs this one names its own folder only.
sys.path.append(str(Path(__file__).resolve().parents[2] / "loopback"))
