# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A bounded cache of verified certificate chains."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Dict, Hashable, Optional


class VerificationCache:
    """Remembers certificate chains that were proven, never report signatures and never failures.

    The key is the tuple of every byte that was checked (leaf, supplied certificates, roots, revocation list), so a hit means
    that exactly these bytes were proven before. What depends on time is judged again on every use. Thread-safe.
    """

    def __init__(self, max_entries: int = 1024) -> None:
        self._max_entries = max(1, max_entries)
        self._entries: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0
        self.stored = 0
        self.evicted = 0

    def get(self, key: Hashable) -> Optional[Any]:
        """Return what was stored under ``key``, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return entry

    def put(self, key: Hashable, entry: Any) -> None:
        """Store a proven chain; the least recently used entry goes when the cache is full."""
        with self._lock:
            self._entries[key] = entry
            self._entries.move_to_end(key)
            self.stored += 1
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
                self.evicted += 1

    def counters(self) -> Dict[str, int]:
        """How often the cache was used, for metrics."""
        with self._lock:
            return {
                "entries": len(self._entries),
                "hits": self.hits,
                "misses": self.misses,
                "stored": self.stored,
                "evicted": self.evicted,
            }
