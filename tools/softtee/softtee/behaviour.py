# SPDX-License-Identifier: GPL-3.0-or-later
"""How the soft TEE misbehaves: a file in the state directory that is read on each request."""

from __future__ import annotations

import json
import os
import secrets
import threading
from pathlib import Path
from typing import Tuple

from softtee.errors import SoftTeeError
from softtee.nvidia_socket import BEHAVIOURS as GPU_BEHAVIOURS
from softtee.snp_authority import write_private

FILE = "behaviour.json"
BEHAVIOURS = {
    "none": "behave well",
    "debug": "the guest was launched with debugging allowed (SEV-SNP: POLICY bit 19, TDX: TDATTRIBUTES.DEBUG); CCA: the platform is in debug state",
    "wrong-measurement": "another guest image was launched",
    "old-tcb": "the machine runs old firmware, and has the certificate that goes with it (CCA: firmware that no reference value knows)",
    "old-module": "the machine runs an old TDX module",
    "replay": "always give the first report ever made, whatever was asked",
    "stale-generation": "the counter stands still, and the report answers an earlier request",
    "torn": "another writer changes the request between the write and the read",
    "busy": "EBUSY on reading the report (3 times unless --count says otherwise)",
    "empty": "a report of 0 bytes",
    "bad-signature": "one bit of the report's signature is flipped",
    "vmpl1": "the report was asked for from VMPL 1",
    "foreign-chip": "the certificate belongs to another chip than the report",
    "other-machine": "consistent evidence of another machine under the same root (what a relay would give)",
    "no-provider": "mkdir fails with ENXIO, as on a machine that is no TEE",
    **{name: text for name, text in GPU_BEHAVIOURS.items() if name != "none"},
}
# What only some TEEs can do.
ONLY = {"vmpl1": ("sev-snp",), "foreign-chip": ("sev-snp",), "old-module": ("tdx",)}
GPU_PREFIX = "gpu-"


def check_possible(name: str, tee: str, gpus: bool) -> None:
    """Raises SoftTeeError when the guest cannot do this."""
    if tee not in ONLY.get(name, (tee,)):
        raise SoftTeeError("%s is nothing that %s could do, only %s" % (name, tee, " and ".join(ONLY[name])))
    if name.startswith(GPU_PREFIX) and not gpus:
        raise SoftTeeError("%s needs a GPU, and this guest has none: serve with --gpus" % name)


def set_behaviour(state: Path, name: str, count: int = 0) -> None:
    """Switch; ``count`` requests are spoilt, 0 means all (for busy: 3)."""
    if name not in BEHAVIOURS:
        raise SoftTeeError("unknown misbehaviour %s: one of %s" % (name, ", ".join(BEHAVIOURS)))
    if count < 0:
        raise SoftTeeError("the count is %d: 0 means always" % count)
    if count and name.startswith(GPU_PREFIX):
        raise SoftTeeError("%s has no count: a GPU is asked several questions for each report" % name)
    count = count or (3 if name == "busy" else 0)
    write_private(state / FILE, json.dumps({"behaviour": name, "count": count, "id": secrets.token_hex(8)}).encode("ascii"))


class Behaviour:
    """What applies to the request at hand. Thread-safe: a counted misbehaviour spoils exactly so many requests."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        self._lock = threading.Lock()
        self._used: Tuple[str, int] = ("", 0)

    def peek(self) -> str:
        """The name that is set, without using up a request."""
        return self._current(use=False)

    def take(self) -> str:
        return self._current(use=True)

    def of_gpus(self) -> str:
        """What applies to the GPUs: none, unless one of theirs is set."""
        name = self.peek()
        return name if name.startswith(GPU_PREFIX) else "none"

    def _current(self, use: bool) -> str:
        with self._lock:
            try:
                setting = json.loads(self._path.read_text("ascii"))
                name, count, identity = setting["behaviour"], int(setting["count"]), setting["id"]
            except (OSError, ValueError, KeyError, TypeError):
                return "none"
            if name not in BEHAVIOURS:
                return "none"
            used = self._used[1] if self._used[0] == identity else 0
            if count and used >= count:
                return "none"
            if use:
                self._used = (identity, used + 1)
            return str(name)


def ensure_directory(state: Path) -> Path:
    """The state directory, absolute, made when absent; it holds private keys, so nobody else may read it."""
    state = Path(os.path.abspath(state))
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SoftTeeError("the state directory %s cannot be made: %s" % (state, error.strerror)) from None
    if not os.access(state, os.R_OK | os.W_OK | os.X_OK):
        raise SoftTeeError("the state directory %s is not yours to write: name another with --state" % state)
    if state.stat().st_mode & 0o077:
        raise SoftTeeError("the state directory %s will hold private keys, but others may enter it: chmod 700 %s" % (state, state))
    return state
