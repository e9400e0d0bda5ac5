# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a measurement is: something that can be called again and again, and says how many seconds each of its parts took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional

# A call shorter than this is repeated within one round, so that the clock's own grain does not matter.
GRAIN_SECONDS = 0.002
MOST_REPEATS = 100_000


@dataclass(frozen=True)
class Measure:
    """``call`` returns seconds by name. ``size`` are the bytes that one call moves, ``close`` gives back what it held."""

    id: str
    call: Callable[[], Dict[str, float]]
    size: Optional[int] = None
    close: Callable[[], None] = lambda: None


@dataclass
class Found:
    """What can be measured here, and why the rest cannot."""

    measures: List[Measure] = field(default_factory=list)
    absent: Dict[str, str] = field(default_factory=dict)


def timed(name: str, work: Callable[[], object], size: Optional[int] = None, close: Callable[[], None] = lambda: None) -> Measure:
    """The same work so often that a round lasts well over the clock's grain; the seconds of one. How often is settled in the first call, the warm-up."""
    repeats = [0]

    def call() -> Dict[str, float]:
        if not repeats[0]:
            repeats[0] = _repeats(work)
        begin = time.perf_counter()
        for _number in range(repeats[0]):
            work()
        return {name: (time.perf_counter() - begin) / repeats[0]}

    return Measure(name, call, size, close)


def _repeats(work: Callable[[], object]) -> int:
    work()
    begin = time.perf_counter()
    work()
    once = max(time.perf_counter() - begin, 1e-9)
    return max(1, min(MOST_REPEATS, round(GRAIN_SECONDS / once)))


def label(size: int) -> str:
    """4096 as 4k, 1048576 as 1m."""
    for unit, factor in (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)):
        if size >= factor and size % factor == 0:
            return "%d%s" % (size // factor, unit)
    return "%db" % size
