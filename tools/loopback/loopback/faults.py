# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad manners on demand, at a chosen request. Which there are, each service says."""

from __future__ import annotations

import dataclasses
import threading
from typing import ClassVar


@dataclasses.dataclass
class Fault:
    """The ``nth`` request (from 1) of ``method`` (* for any) whose path contains ``path`` gets ``action``, and the ``times - 1`` after it as well.
    ``value`` is what the action needs to know, such as a pause or the address of a redirection. Services derive from it, for their ``ACTIONS``."""

    ACTIONS: ClassVar[tuple[str, ...]] = ()

    action: str
    method: str = "*"
    path: str = ""
    nth: int = 1
    times: int = 1
    value: str = ""
    seen: int = 0

    def __post_init__(self) -> None:
        if self.action not in self.ACTIONS:
            raise ValueError(f"no such fault {self.action!r}; there are {', '.join(self.ACTIONS)}")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """ACTION[:METHOD[:PATH[:NTH[:TIMES[:VALUE]]]]], such as drop-after:POST:platforms:1:2"""
        action, method, path, nth, times, value = (text.split(":", 5) + [""] * 6)[:6]
        return cls(action, method or "*", path, int(nth or 1), int(times or 1), value)

    def meets(self, method: str, path: str) -> bool:
        if self.method not in ("*", method) or self.path not in path:
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class Faults:
    """Those of one service, of the ``kind`` that it knows."""

    def __init__(self, kind: type[Fault]) -> None:
        self._kind = kind
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, action: str, method: str = "*", path: str = "", nth: int = 1, times: int = 1, value: str = "") -> None:
        self._put(self._kind(action, method, path, nth, times, value))

    def tell(self, text: str) -> None:
        """As on a command line."""
        self._put(self._kind.parse(text))

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def of(self, method: str, path: str) -> Fault | None:
        with self._lock:
            met = [fault for fault in self._faults if fault.meets(method, path)]
        return met[0] if met else None

    def _put(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)
