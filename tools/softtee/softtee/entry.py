# SPDX-License-Identifier: GPL-3.0-or-later
"""One configfs-tsm entry: what drivers/virt/coco/guest/report.c of Linux keeps per directory, without the file system around it."""

from __future__ import annotations

import errno
import os
import threading
import uuid
from typing import Callable, Dict, Optional

from softtee.machine import Evidence

INBLOB_MAX = 64
PRIVLEVEL_MAX = 3
_WRAP = 2**64

# Attribute modes as configfs shows them.
ATTRIBUTES: Dict[str, int] = {
    "inblob": 0o200,
    "outblob": 0o444,
    "auxblob": 0o444,
    "manifestblob": 0o444,
    "provider": 0o444,
    "generation": 0o444,
    "privlevel": 0o200,
    "privlevel_floor": 0o444,
    "service_provider": 0o200,
    "service_guid": 0o200,
    "service_manifest_version": 0o200,
}
# The drivers of TDX and CCA show these and no others.
PLAIN = ("inblob", "outblob", "provider", "generation")
# Shortest request that a provider takes: the SEV and TDX drivers take exactly 64 bytes, the CCA driver 32 to 64.
SHORTEST = {"sev_guest": 64, "tdx_guest": 64, "arm_cca_guest": 32}
BLOBS = ("outblob", "auxblob", "manifestblob")
# Answers a request: (report data, VMPL, behaviour).
Provider = Callable[[bytes, int, str], Evidence]


def fail(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Entry:
    """Thread-safe. Every failure is an OSError with the number that the kernel gives."""

    def __init__(
        self, provider: Provider, take: Callable[[], str], peek: Callable[[], str], floor: int = 0, name: str = "sev_guest"
    ) -> None:
        """``take`` and ``peek`` give the misbehaviour in force; ``take`` also counts the request."""
        self._provider = provider
        self._take = take
        self._peek = peek
        self._floor = floor
        self._name = name
        self.attributes = ATTRIBUTES if name == "sev_guest" else {attribute: ATTRIBUTES[attribute] for attribute in PLAIN}
        self._lock = threading.RLock()
        self._inblob = b""
        self._privlevel = floor
        self._service: Optional[bytes] = None
        self.write_generation = 0
        self.read_generation = 0
        self._evidence: Optional[Evidence] = None

    def write(self, name: str, data: bytes) -> None:
        """A whole attribute."""
        with self._lock:
            if name == "inblob":
                self._write_inblob(data)
            elif name == "privlevel":
                level = _number(data)
                if not self._floor <= level <= PRIVLEVEL_MAX:
                    raise fail(errno.EINVAL)
                self._advance()
                self._privlevel = level
            elif name == "service_provider":
                # The kernel takes any name; the driver refuses it when the report is read.
                self._advance()
                self._service = data[:-1] if data.endswith(b"\n") else data
            elif name == "service_guid":
                self._advance()
                _guid(data)
            elif name == "service_manifest_version":
                _number(data)
                self._advance()
            else:
                raise fail(errno.EACCES)

    def _write_inblob(self, data: bytes) -> None:
        if not 0 < len(data) <= INBLOB_MAX:
            raise fail(errno.EINVAL)
        # Only looked at: it is the report's reading that counts.
        if self._peek() == "stale-generation":
            # The request is lost: what was answered before (zeros at first) is answered again.
            self._inblob = self._inblob or bytes(INBLOB_MAX)
            self._evidence = None
            return
        self._advance()
        self._inblob = data

    def _advance(self) -> None:
        # The counter must never come round to a value at which a report was read.
        if (self.write_generation + 1) % _WRAP == self.read_generation:
            raise fail(errno.EBUSY)
        self.write_generation = (self.write_generation + 1) % _WRAP

    def read(self, name: str) -> bytes:
        """A whole attribute."""
        with self._lock:
            if name == "provider":
                return self._name.encode("ascii") + b"\n"
            if name == "generation":
                return b"%d\n" % self.write_generation
            if name == "privlevel_floor":
                return b"%d\n" % self._floor
            if name not in BLOBS:
                raise fail(errno.EACCES)
            evidence = self._report()
            return {"outblob": evidence.report, "auxblob": evidence.table, "manifestblob": b""}[name]

    def _report(self) -> Evidence:
        if not self._inblob:
            raise fail(errno.EINVAL)
        if self._evidence is not None and self.read_generation == self.write_generation:
            return self._evidence
        if len(self._inblob) < SHORTEST[self._name]:
            raise fail(errno.EINVAL)
        # This machine has no SVSM to ask.
        if self._service is not None:
            raise fail(errno.ENXIO if self._service == b"svsm" else errno.EINVAL)
        behaviour = self._take()
        if behaviour == "busy":
            raise fail(errno.EBUSY)
        if behaviour == "torn":
            self._advance()
            self._inblob = os.urandom(INBLOB_MAX)
        self._evidence = self._provider(self._inblob, self._privlevel, behaviour)
        self.read_generation = self.write_generation
        return self._evidence


def _number(data: bytes) -> int:
    """kstrtouint with base 0: decimal, 0x and 0 prefixes, one newline at the end."""
    text = data.decode("ascii", "replace")
    text = text[:-1] if text.endswith("\n") else text
    try:
        if text.strip() != text or "_" in text or text.startswith("-"):
            raise ValueError(text)
        octal = len(text) > 1 and text.startswith("0") and text.isdigit()
        value = int(text, 8 if octal else 0)
    except ValueError:
        raise fail(errno.EINVAL) from None
    if value >= 2**32:
        raise fail(errno.ERANGE)
    return value


def _guid(data: bytes) -> None:
    text = data.decode("ascii", "replace").rstrip("\n")
    try:
        if text and str(uuid.UUID(text)) != text.lower():
            raise ValueError(text)
    except ValueError:
        raise fail(errno.EINVAL) from None
