# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The disk that checkpoints are left on, by an image without a login: slots of one size, written in turn, each a tar archive from its first byte.

There is one slot more than checkpoints are kept. A slot begins with zeros while it is written, which is an archive with nothing in it; its first block comes
last. So whenever the power is cut, the other slots are whole, and this one is either whole or empty.

Where the slots are depends on how many are kept. So from the first checkpoint on the disk's last block bears a mark, by which a disk in use is known
whatever the next agreement says.
"""

from __future__ import annotations

import os
import tarfile
from typing import List

from ansible_collections.attested.ai.plugins.module_utils.target import memory
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import CHECKPOINTS
from ansible_collections.attested.ai.plugins.module_utils.training.delivery import Writer, plain, write_at
from ansible_collections.attested.ai.plugins.module_utils.training.disk import BLOCK, HostDisk, bad
from ansible_collections.attested.ai.plugins.module_utils.training.kept import Seal

# The two blocks that end an archive.
_HEAD = 2 * BLOCK
_LEAST = 4 * BLOCK
_MARK = b"attested.ai checkpoints\n".ljust(BLOCK, b"\0")
_FIX = "Give the guest a new disk for checkpoints, of zeros"


def slot_size(size: int, keep: int) -> int:
    return size // (keep + 1) // BLOCK * BLOCK


class Slots(HostDisk):
    """Has the methods of ``kept.Folder``. ``staging`` is a folder in memory that is not there yet. Raises TrainingError."""

    def __init__(self, path: str, keep: int, staging: str) -> None:
        self._keep, self._staging, self._next, self._slot = keep, staging, 0, 0
        super().__init__(path, os.O_RDWR)

    def _look(self) -> None:
        self._slot = slot_size(self._size, self._keep)
        if self._slot < _LEAST:
            raise bad("it has %d bytes, at least %d are needed" % (self._size, _LEAST * (self._keep + 1)), self.where, _FIX)
        looked_at = [(start, _LEAST) for start in self._starts()] + [(self._end, BLOCK)]
        if any(os.pread(self._disk, size, start).strip(b"\0") for start, size in looked_at):
            raise bad("something lies on it", self.where, "Keep what is there. " + _FIX)

    def _starts(self) -> List[int]:
        return [index * self._slot for index in range(self._keep + 1)]

    @property
    def _end(self) -> int:
        """Of the last slot, at most: there the mark is."""
        return (self._size // BLOCK - 1) * BLOCK

    def look(self) -> None:
        """That was done when it was opened."""

    def prepare(self) -> None:
        """Nothing has to be made."""

    def put(self, number: int, seal: Seal) -> None:
        """In the place of the oldest. Raises OSError, AttestedError; then the newest others are there."""
        try:
            seal(self._staging)
            start = self._starts()[self._next]
            end = min(start + self._slot, self._end)
            write_at(self._disk, _MARK, self._end)
            os.fsync(self._disk)
            write_at(self._disk, bytes(_HEAD), start)
            os.fsync(self._disk)
            writer = _Held(self._disk, start, end, self.where, "the checkpoint does not fit into a slot of %d bytes" % (end - start))
            with tarfile.open(fileobj=writer, mode="w|", bufsize=1 << 20, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
                archive.add(self._staging, "%s/%d" % (CHECKPOINTS, number), filter=plain)
            writer.finish()
            self._next = (self._next + 1) % (self._keep + 1)
        finally:
            # Ciphertext only, in memory that the job needs.
            memory.wipe_tree(self._staging, overwrite=False)


class _Held(Writer):
    """Keeps the first two blocks back."""

    def __init__(self, disk: int, offset: int, end: int, where: str, full: str) -> None:
        super().__init__(disk, offset, end, where, full)
        self._start, self._head = offset, b""

    def write(self, data: bytes) -> int:
        if len(self._head) == _HEAD:
            return super().write(data)
        missing = _HEAD - len(self._head)
        self._head += bytes(data[:missing])
        self._offset = self._start + len(self._head)
        if len(data) > missing:
            super().write(data[missing:])
        return len(data)

    def finish(self) -> None:
        """Each step is one block, and each leaves an archive: nothing in it, nothing in it, all in it."""
        os.fsync(self._disk)
        for start in (BLOCK, 0):
            write_at(self._disk, self._head[start:start + BLOCK], self._start + start)
            os.fsync(self._disk)
