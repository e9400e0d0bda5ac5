# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad manners on demand: at a chosen request the service is busy, drops the connection, sends nonsense or points elsewhere."""

from __future__ import annotations

from loopback import faults

ACTIONS = ("drop-before", "drop-after", "cut", "throttle", "busy", "error", "forget-sessions", "redirect", "huge", "garbage", "wrong-types")


class Fault(faults.Fault):
    """``value`` is the pause of throttle and busy, and the address of redirect."""

    ACTIONS = ACTIONS


parse = Fault.parse
