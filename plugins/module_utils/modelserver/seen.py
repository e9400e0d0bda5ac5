# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which encrypted requests were answered already, so that a copy of one is not answered a second time."""

from __future__ import annotations

import heapq
import threading
from datetime import datetime
from typing import List, Set, Tuple

ENTRIES_MAX = 100000


class Seen:
    """Remembers identifiers until their requests expire. When it is full it takes no new ones: it never forgets one that could come again."""

    def __init__(self, most: int = ENTRIES_MAX) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._known: Set[str] = set()
        self._order: List[Tuple[datetime, str]] = []

    def first(self, identifier: str, until: datetime, now: datetime) -> bool:
        """Whether this one was not here before, and can be remembered."""
        with self._lock:
            while self._order and self._order[0][0] < now:
                self._known.discard(heapq.heappop(self._order)[1])
            if identifier in self._known or len(self._known) >= self._most:
                return False
            self._known.add(identifier)
            heapq.heappush(self._order, (until, identifier))
            return True
