# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ends connections on which something takes too long. The timeout of a socket starts again with each byte; this one does not."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, Tuple

from ansible_collections.attested.ai.plugins.module_utils.exchange import hang_up


class Guard:
    """``look`` is called now and then by whoever has time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._watched: Dict[int, Tuple[float, socket.socket]] = {}
        self._number = 0

    @contextmanager
    def within(self, connection: socket.socket, seconds: float) -> Iterator[None]:
        """What is done inside has so long."""
        number = self.begin(connection, seconds)
        try:
            yield
        finally:
            self.end(number)

    def begin(self, connection: socket.socket, seconds: float) -> int:
        with self._lock:
            self._number += 1
            self._watched[self._number] = (self._clock() + seconds, connection)
            return self._number

    def end(self, number: int) -> None:
        with self._lock:
            self._watched.pop(number, None)

    def look(self) -> int:
        """End what is late; returns how many."""
        now = self._clock()
        with self._lock:
            late = [number for number, (until, _connection) in self._watched.items() if until <= now]
            connections = [self._watched.pop(number)[1] for number in late]
        for connection in connections:
            hang_up([connection], threading.Event())
        return len(connections)
