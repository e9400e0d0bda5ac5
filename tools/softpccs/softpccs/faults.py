# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad manners on demand: at a chosen request the service is busy, slow, empty, or drops the connection."""

from __future__ import annotations

from loopback import faults

# What is no number of an HTTP status: drop ends the connection without an answer, drop-after once the request took effect, cut in the middle of the
# data, slow waits before it answers, empty has no body, garbage one that means nothing, redirect sends elsewhere.
ACTIONS = ("401", "404", "429", "500", "502", "503", "drop", "drop-after", "cut", "slow", "empty", "garbage", "redirect")


class Fault(faults.Fault):
    """``value`` is the pause of 429 and slow, and the address of redirect."""

    ACTIONS = ACTIONS


parse = Fault.parse
