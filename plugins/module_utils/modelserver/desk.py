# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where clients ask for evidence: each with a nonce of its own, at a limited rate, and a cached document that expires for whoever has no nonce.

Evidence takes the TEE from milliseconds to seconds, and its interface answers one after the other. So one document is made at a time, and who waits too
long is told to come again. What is too old is never given out, whatever happens.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import NONCE_MAX, NONCE_MIN
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError
from ansible_collections.attested.ai.plugins.module_utils.modelserver.rate import Limiter

Document = Dict[str, Any]
# A client that repeats its question, because the answer was lost, gets the same document. Few are kept: each is some kilobytes.
KEPT = 16
TURN_SECONDS = 30.0


@dataclass(frozen=True)
class Given:
    """A document and how old it is."""

    document: Document
    age: float


class TooMany(ServingError):
    """Come again later."""

    default_code = "rate-limit"

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, int(seconds + 0.999))
        super().__init__("evidence is asked for too often", fix="Ask again in %d seconds" % self.seconds)


class Desk:
    """``collect`` makes the document for a nonce (bytes), ``draw`` a nonce, ``clock`` is monotonic, ``lifetime`` in seconds."""

    def __init__(
        self, collect: Callable[[bytes], Document], draw: Callable[[], bytes], clock: Callable[[], float], limiter: Limiter, lifetime: float = 300.0
    ) -> None:
        self._collect, self._draw, self._clock, self._limiter, self._lifetime = collect, draw, clock, limiter, lifetime
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._kept: "OrderedDict[bytes, Any]" = OrderedDict()
        self._own: Optional[bytes] = None

    def answer(self, nonce: Optional[bytes], peer: str) -> Given:
        """The document for ``nonce``, or without one the latest that this desk asked for by itself. Raises AttestedError, TooMany."""
        with self._lock:
            wanted = self._own if nonce is None else nonce
            known = self._known(wanted)
        if known is not None:
            return known
        wait = self._limiter.take(peer, self._clock())
        if wait > 0:
            raise TooMany(wait)
        if not self._turn.acquire(timeout=TURN_SECONDS):
            raise TooMany(TURN_SECONDS)
        try:
            with self._lock:
                # Somebody may have asked for the same in the meantime.
                known = self._known(self._own if nonce is None else nonce)
            if known is not None:
                return known
            asked = self._draw() if nonce is None else nonce
            made = self._collect(asked)
            with self._lock:
                self._kept[asked] = (made, self._clock())
                if nonce is None:
                    self._own = asked
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            return Given(made, 0.0)
        finally:
            self._turn.release()

    def _known(self, nonce: Optional[bytes]) -> Optional[Given]:
        found = None if nonce is None else self._kept.get(nonce)
        if found is None or nonce is None:
            return None
        age = self._clock() - found[1]
        if age >= self._lifetime:
            del self._kept[nonce]
            return None
        return Given(found[0], age)


def read_nonce(text: str) -> bytes:
    """A nonce from a query: base64url without padding, 16 to 64 bytes. Raises AttestedError."""
    try:
        return strict.decode_base64url(text, "nonce", NONCE_MIN, NONCE_MAX)
    except AttestedError:
        raise ServingError("%d to %d random bytes in base64url without padding were expected" % (NONCE_MIN, NONCE_MAX), where="nonce", code="nonce") from None
