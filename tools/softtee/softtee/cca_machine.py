# SPDX-License-Identifier: GPL-3.0-or-later
"""The made-up Arm CCA machine: a platform with its attestation key, a demonstration realm, and the tokens they give."""

from __future__ import annotations

import secrets
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Dict, List, Optional

from softtee import cca_token
from softtee.errors import SoftTeeError
from softtee.cca_token import CcaPlatform
from softtee.first import first_of
from softtee.machine import Evidence

OTHER = "other-platform"


class CcaMachine:
    """One platform and one realm."""

    tee = "cca"
    provider = "arm_cca_guest"

    def __init__(self, state: Path) -> None:
        self.state = state
        self.platform = CcaPlatform.open(state)
        self._other: Optional[CcaPlatform] = None
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Make the token that ``replay`` repeats: one that answers no request."""
        first_of(self.state, "cca", lambda: self.platform.token(secrets.token_bytes(64)))

    def evidence(self, report_data: bytes, _vmpl: int, behaviour: str) -> Evidence:
        """The answer to a request of 32 to 64 bytes, spoilt as ``behaviour`` says."""
        if behaviour == "empty":
            return Evidence(b"", b"")
        if behaviour == "replay":
            return Evidence(first_of(self.state, "cca", lambda: self.platform.token(secrets.token_bytes(64))), b"")
        platform = self._second() if behaviour == "other-machine" else self.platform
        return Evidence(platform.token(report_data, **_spoilt(behaviour)), b"")

    def _second(self) -> CcaPlatform:
        with self._lock:
            if self._other is None:
                directory = self.state / OTHER
                directory.mkdir(mode=0o700, exist_ok=True)
                self._other = CcaPlatform.open(directory)
                # Another machine of the same kind.
                self._other.implementation_id = self.platform.implementation_id
            return self._other

    def roots(self) -> List[str]:
        raise SoftTeeError("a CCA platform has no root: its key is endorsed by the document that the command collateral prints")

    def policy(self) -> Dict[str, Any]:
        return {"cca": {"profiles": ["2024"]}}

    def reference_values(self, not_after: str) -> List[Dict[str, Any]]:
        return self.platform.reference_values(not_after, covers="launch")

    def collateral(self, at: datetime) -> Dict[str, bytes]:
        """Endorsements of this platform and, as their manufacturer would, of the other one, each in a document that names one key."""
        end = (at + timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"cca.json": self.platform.endorsement(not_after=end), "cca-other.json": self._second().endorsement(not_after=end)}


def _spoilt(behaviour: str) -> Dict[str, Any]:
    if behaviour == "debug":
        return {"lifecycle": cca_token.DEBUG}
    if behaviour == "wrong-measurement":
        return {"rim": cca_token.measurement(cca_token.GUEST + " (changed)")}
    if behaviour == "old-tcb":
        components = cca_token.default_components()
        # The firmware of the release before, which no reference value knows any more.
        components[-1] = {**components[-1], 2: bytes(32), 4: "0.8.0"}
        return {"components": components}
    return {"bad_signature": ("realm",)} if behaviour == "bad-signature" else {}
