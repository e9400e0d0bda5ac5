# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How much memory the bodies of requests may take, all together and for each peer: what a client can make a server hold must end below what it has."""

from __future__ import annotations

import threading
from typing import Dict

# A peer may hold this part of it.
SHARE = 4


class Budget:
    """Bytes that are lent and given back."""

    def __init__(self, total: int) -> None:
        self._total, self._lent = total, 0
        self._peers: Dict[str, int] = {}
        self._lock = threading.Lock()

    def take(self, peer: str, amount: int) -> bool:
        """Whether there is so much left for this peer; then it is lent."""
        with self._lock:
            held = self._peers.get(peer, 0)
            if self._lent + amount > self._total or held + amount > self._total // SHARE:
                return False
            self._lent += amount
            self._peers[peer] = held + amount
            return True

    def give(self, peer: str, amount: int) -> None:
        with self._lock:
            self._lent -= amount
            left = self._peers.get(peer, 0) - amount
            if left > 0:
                self._peers[peer] = left
            else:
                self._peers.pop(peer, None)
