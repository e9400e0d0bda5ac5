# SPDX-License-Identifier: GPL-3.0-or-later
"""The made-up TDX machine: a platform with keys, a demonstration TD with its event log, and the quotes they give."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, List, Optional

from cryptography.hazmat.primitives.asymmetric import ec

from softtee import tdx_quote
from softtee.first import first_of
from softtee.machine import Evidence
from softtee.snp_authority import write_private
from softtee.tdx_authority import TdxAuthority

GUEST = "attested.ai soft TEE demonstration TD 1"
SETTINGS = "tdx.json"
EVENT_LOG = "ccel.bin"
EVENTS = (
    (1, tdx_quote.EV_FIRMWARE_BLOB, b"soft firmware volume"),
    (1, tdx_quote.EV_SEPARATOR, bytes(4)),
    (2, tdx_quote.EV_IPL, b"soft kernel 6.12"),
    (3, tdx_quote.EV_IPL, b"root=/dev/mapper/root ro"),
)
QUOTES = ("4", "5")


def measurement(guest: str = GUEST) -> bytes:
    """48 bytes that stand for MRTD. There is no image behind them."""
    return hashlib.sha384(guest.encode("ascii")).digest()


class TdxMachine:
    """One platform and one TD. ``version`` 4 gives bodies of TD 1.0, 5 of TD 1.5."""

    tee = "tdx"
    provider = "tdx_guest"

    def __init__(self, state: Path, ppid: bytes, version: int) -> None:
        self.state = state
        self.ppid = ppid
        self.version = version
        self.authority = TdxAuthority.create(state / "tdx-authority")
        # Made by the quoting enclave at each of its starts.
        self._attestation_key = ec.generate_private_key(ec.SECP256R1())
        self._lock = threading.Lock()

    @classmethod
    def open(cls, state: Path, quote: Optional[str] = None) -> TdxMachine:
        """The machine of a state directory; ``quote`` is remembered, at first 4."""
        path = state / SETTINGS
        settings: Dict[str, str] = json.loads(path.read_text("ascii")) if path.exists() else {"ppid": secrets.token_hex(16), "quote": "4"}
        wanted = {**settings, "quote": quote or settings["quote"]}
        if wanted != settings or not path.exists():
            write_private(path, json.dumps(wanted).encode("ascii"))
        return cls(state, bytes.fromhex(wanted["ppid"]), int(wanted["quote"]))

    def prepare(self) -> None:
        """Make what the first answer needs, the event log, and the quote that ``replay`` repeats: one that answers no request."""
        write_private(self.state / EVENT_LOG, tdx_quote.event_log(EVENTS))
        first_of(self.state, "tdx-%d" % self.version, lambda: self._make(secrets.token_bytes(64), "none"))

    def evidence(self, report_data: bytes, _vmpl: int, behaviour: str) -> Evidence:
        """The answer to a request of 64 bytes, spoilt as ``behaviour`` says."""
        if behaviour == "empty":
            return Evidence(b"", b"")
        if behaviour == "replay":
            return Evidence(first_of(self.state, "tdx-%d" % self.version, lambda: self._make(secrets.token_bytes(64), "none")), b"")
        return Evidence(self._make(report_data, behaviour), b"")

    def _make(self, report_data: bytes, behaviour: str) -> bytes:
        ppid = hashlib.sha256(b"another platform" + self.ppid).digest()[:16] if behaviour == "other-machine" else self.ppid
        level = "old" if behaviour == "old-tcb" else "current"
        module = tdx_quote.tcb_svn("old" if behaviour == "old-module" else "current")
        body = tdx_quote.td_report(
            report_data=report_data,
            mrtd=measurement(GUEST + " (changed)" if behaviour == "wrong-measurement" else GUEST),
            rtmrs=tdx_quote.replay(EVENTS),
            attributes=tdx_quote.ATTRIBUTE_SEPT_VE_DISABLE | (tdx_quote.ATTRIBUTE_DEBUG if behaviour == "debug" else 0),
            svn=module,
            svn_2=module if self.version == 5 else None,
        )
        with self._lock:
            key, chain = self.authority.pck(ppid, level)[0], self.authority.chain_pem(ppid, level)
        return tdx_quote.quote(body, self._attestation_key, key, chain, version=self.version, bad_signature=behaviour == "bad-signature", padding=64)

    def roots(self) -> List[str]:
        return [self.authority.root_pem()]

    def policy(self) -> Dict[str, Any]:
        return {"tdx": {"statuses": ["UpToDate"]}}

    def reference_values(self, not_after: str) -> List[Dict[str, Any]]:
        registers = tdx_quote.replay(EVENTS)
        return [
            {
                "tee": "tdx", "measurement": measurement().hex(), "rtmr": {str(number): value.hex() for number, value in enumerate(registers)},
                "covers": "launch", "image": GUEST, "source": "softtee reference-values (made up: there is no image behind it)", "not_after": not_after,
            }
        ]  # fmt: skip

    def collateral(self, at: datetime) -> Dict[str, bytes]:
        return {"tdx.json": self.authority.collateral(at)}
