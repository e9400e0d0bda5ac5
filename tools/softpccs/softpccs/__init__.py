# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for what TDX quoting talks to: a PCCS, Intel's registration service, QGS, and a platform's firmware with Intel's tools. None proves anything."""

from __future__ import annotations

import sys
from pathlib import Path

# What it shares with the other services lies beside it; whoever runs this one names its own folder only.
sys.path.append(str(Path(__file__).resolve().parents[2] / "loopback"))
