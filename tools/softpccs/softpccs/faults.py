# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad manners on demand: at a chosen request the service is busy, slow, empty, or drops the connection."""

from __future__ import annotations

import dataclasses
import threading

# What is no number of an HTTP status: drop ends the connection without an answer, drop-after once the request took effect, cut in the middle of the
# data, slow waits before it answers, empty has no body, garbage one that means nothing, redirect sends elsewhere.
ACTIONS = ("401", "404", "429", "500", "502", "503", "drop", "drop-after", "cut", "slow", "empty", "garbage", "redirect")


@dataclasses.dataclass
class Fault:
    """The ``nth`` request (from 1) of ``method`` (* for any) whose path contains ``path`` gets ``action``, and the ``times - 1`` after it as well.
    ``value`` is the pause of 429 and slow, and the address of redirect."""

    action: str
    method: str = "*"
    path: str = ""
    nth: int = 1
    times: int = 1
    value: str = ""
    seen: int = 0

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"no such fault {self.action!r}; there are {', '.join(ACTIONS)}")

    def meets(self, method: str, path: str) -> bool:
        if self.method not in ("*", method) or self.path not in path:
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class Faults:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, action: str, method: str = "*", path: str = "", nth: int = 1, times: int = 1, value: str = "") -> None:
        with self._lock:
            self._faults.append(Fault(action, method, path, nth, times, value))

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def of(self, method: str, path: str) -> Fault | None:
        with self._lock:
            met = [fault for fault in self._faults if fault.meets(method, path)]
        return met[0] if met else None


def parse(text: str) -> Fault:
    """ACTION[:METHOD[:PATH[:NTH[:TIMES[:VALUE]]]]], such as 429:POST:platforms:1:2:1"""
    action, method, path, nth, times, value = (text.split(":", 5) + [""] * 6)[:6]
    return Fault(action, method or "*", path, int(nth or 1), int(times or 1), value)
