# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The disk that a guest without a login leaves its results on: a tar archive again, whose first file says how the job ended.

It belongs to the host: what gets here is ciphertext, and a status without anything that an owner keeps to itself. The status is written last. Until then the
disk begins with zeros, which is an archive with nothing in it. A disk on which something lies is not written to, so that no start takes results away.
"""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from typing import Any, Dict

from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.training.disk import BLOCK, HostDisk, bad
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError

SCHEMA = "attested.ai/training-status/1"
STATUS, RESULTS = "status.json", "results"
# The status with its header, and behind it the two blocks that end an archive.
_HEAD, _LEAST = 2 * BLOCK, 4 * BLOCK
_FIX = "Give the guest a new disk for results, of zeros"


@dataclass(frozen=True)
class Status:
    """How a job ended: ``error`` is the code of a failure, or empty. ``warning`` is one of a job that came to its end, but for something."""

    job: str = ""
    agreement: str = ""
    error: str = ""
    warning: str = ""

    def to_bytes(self) -> bytes:
        members = {"schema": SCHEMA, "job": self.job, "agreement": self.agreement, "error": self.error}
        return jcs.canonicalize(dict(members, warning=self.warning) if self.warning else members) + b"\n"


class Disk(HostDisk):
    """Raises TrainingError if it cannot be written to, or something lies on it."""

    def __init__(self, path: str) -> None:
        super().__init__(path, os.O_RDWR)

    def _look(self) -> None:
        if self._size < _LEAST:
            raise bad("it has %d bytes, at least %d are needed" % (self._size, _LEAST), self.where, _FIX)
        if os.pread(self._disk, _LEAST, 0).strip(b"\0"):
            raise bad("something lies on it", self.where, "Keep what is there. " + _FIX)

    def write_results(self, folder: str) -> None:
        """What lies in ``folder``. Raises TrainingError if there is no room for all of it; then nothing of it counts."""
        try:
            writer = Writer(self._disk, _HEAD, self._size, self.where, "the results do not fit into its %d bytes" % self._size)
            with tarfile.open(fileobj=writer, mode="w|", bufsize=1 << 20, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
                archive.add(folder, RESULTS, filter=plain)
            os.fsync(self._disk)
        except OSError as error:
            raise bad("it cannot be written (%s)" % error.strerror, self.where, _FIX) from None

    def write_status(self, status: Status, results: bool) -> None:
        """``results``: whether those that were written count. Raises TrainingError."""
        data = status.to_bytes()
        entry = plain(tarfile.TarInfo(STATUS))
        entry.size = len(data)
        try:
            if not results:
                write_at(self._disk, bytes(_LEAST - _HEAD), _HEAD)
                os.fsync(self._disk)
            write_at(self._disk, entry.tobuf(tarfile.USTAR_FORMAT) + data.ljust(BLOCK, b"\0"), 0)
            os.fsync(self._disk)
        except OSError as error:
            raise bad("it cannot be written (%s)" % error.strerror, self.where, _FIX) from None


class Writer:
    """What tarfile writes to: from one place of the disk on, and never past ``end``, which a file in the place of a disk does not have. ``full`` says so."""

    def __init__(self, disk: int, offset: int, end: int, where: str, full: str) -> None:
        self._disk, self._offset, self._end, self._where, self._full = disk, offset, end, where, full

    def write(self, data: bytes) -> int:
        if self._offset + len(data) > self._end:
            raise TrainingError(self._full, where=self._where, fix="Give the guest a larger disk, and run the job again", code="training-volume-full")
        write_at(self._disk, data, self._offset)
        self._offset += len(data)
        return len(data)


def write_at(disk: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(disk, view, offset)
        view, offset = view[count:], offset + count


def plain(entry: Any) -> Any:
    """Nothing of this guest but names and contents."""
    values: Dict[str, Any] = {"mtime": 0, "uid": 0, "gid": 0, "uname": "", "gname": "", "mode": 0o755 if entry.isdir() else 0o644}
    for name, value in values.items():
        setattr(entry, name, value)
    return entry
