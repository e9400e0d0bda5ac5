# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How often somebody may ask: token buckets, one for all and one for each peer. The clock is an argument."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Dict, Optional

# Peers beyond this number share the fate of the oldest: their bucket is full again. The bucket for all still holds.
PEERS_MAX = 4096


@dataclass(frozen=True)
class Rate:
    """``burst`` at once, and ``per_second`` more each second."""

    per_second: float
    burst: int


class _Bucket:
    __slots__ = ("left", "at")

    def __init__(self, burst: int, at: float) -> None:
        self.left, self.at = float(burst), at

    def fill(self, rate: Rate, now: float) -> None:
        self.left = min(float(rate.burst), self.left + max(0.0, now - self.at) * rate.per_second)
        self.at = now


class Limiter:
    """Says how long a peer has to wait. Safe to use from several threads."""

    def __init__(self, for_all: Rate, for_each: Rate) -> None:
        self._all, self._each = for_all, for_each
        self._lock = threading.Lock()
        self._shared: Optional[_Bucket] = None
        self._peers: Dict[str, _Bucket] = OrderedDict()

    def take(self, peer: str, now: float) -> float:
        """0 if the peer may go on, else the seconds until it may ask again. A peer that has to wait takes nothing from the others."""
        with self._lock:
            if self._shared is None:
                self._shared = _Bucket(self._all.burst, now)
            own = self._peers.pop(peer, None) or _Bucket(self._each.burst, now)
            # Put back last: the first are those that were not seen for longest.
            self._peers[peer] = own
            while len(self._peers) > PEERS_MAX:
                del self._peers[next(iter(self._peers))]
            self._shared.fill(self._all, now)
            own.fill(self._each, now)
            wait = max(_wait(own, self._each), _wait(self._shared, self._all))
            if wait <= 0.0:
                own.left -= 1
                self._shared.left -= 1
            return wait


def _wait(bucket: _Bucket, rate: Rate) -> float:
    return 0.0 if bucket.left >= 1 else (1 - bucket.left) / rate.per_second
