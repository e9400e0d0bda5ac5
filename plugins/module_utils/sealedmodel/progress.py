# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Telling how far a long run is, at most once per interval, and nothing at all for short ones."""

from __future__ import annotations

import os
import time
from typing import Callable, Optional

from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import marker

INTERVAL = 2.0


class Throttle:
    """A meter that calls ``tell(done, total, bytes per second)`` at most every ``interval`` seconds, first after one."""

    def __init__(self, tell: Callable[[int, int, float], None], interval: float = INTERVAL, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._interval = interval
        self._clock = clock
        self._start = self._last = clock()

    def __call__(self, done: int, total: int) -> None:
        now = self._clock()
        if now - self._last >= self._interval:
            self._last = now
            self._tell(done, total, done / (now - self._start))

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._start


def line(name: str, done: int, total: int, rate: float) -> str:
    """For a person, like "minilm: 41 % 37/91 MB 1.2 GB/s"."""
    unit, label = (1_000_000_000, "GB") if total >= 10_000_000_000 else (1_000_000, "MB")
    speed = "%.1f GB/s" % (rate / 1e9) if rate >= 1e9 else "%d MB/s" % (rate / 1e6)
    return "%s: %d %% %d/%d %s %s" % (name, 100 * done // total if total else 100, done // unit, -(-total // unit), label, speed)


class ProgressFile:
    """Writes ``path`` for others to watch, and removes it at the end. It holds counters only."""

    def __init__(self, path: str, phase: str, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._phase = phase
        self._clock = clock

    def __call__(self, done: int, total: int, rate: float) -> None:
        marker.replace(
            self._path,
            jcs.canonicalize(
                {"phase": self._phase, "bytes_done": done, "bytes_total": total, "bytes_per_second": int(rate), "updated_at": int(self._clock())}
            ),
        )

    def remove(self, _error: Optional[BaseException] = None) -> None:
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
