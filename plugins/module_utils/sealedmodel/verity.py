# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The hash tree of dm-verity, format 1: SHA-256 over salt and block, blocks of 4096 bytes, 128 digests to a block. Arithmetic and hashing only.

Levels lie from the root's down to the one above the data, each padded with zeros to whole blocks. Source: Documentation/admin-guide/
device-mapper/verity.rst. Before the tree EMWP leaves one block for a superblock of veritysetup, which nobody reads: it stays zero.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, List, Tuple

BLOCK = 4096
DIGEST = 32
FAN = BLOCK // DIGEST


@dataclass(frozen=True)
class Level:
    """``offset`` in bytes from the beginning of the image; ``count`` digests."""

    offset: int
    count: int

    @property
    def blocks(self) -> int:
        return -(-self.count // FAN)


@dataclass(frozen=True)
class Geometry:
    """Where the tree over ``data_blocks`` blocks lies behind them."""

    data_blocks: int

    @property
    def hash_offset(self) -> int:
        """EMWP's hash offset: the end of the data. The tree begins one block later."""
        return self.data_blocks * BLOCK

    @property
    def hash_start_block(self) -> int:
        return self.data_blocks + 1

    @property
    def levels(self) -> Tuple[Level, ...]:
        """From the one above the data up to the one with one block."""
        counts: List[int] = []
        count = self.data_blocks
        while count > 1:
            counts.append(count)
            count = -(-count // FAN)
        made: List[Level] = []
        offset = self.hash_start_block * BLOCK
        for number in reversed(counts):
            made.append(Level(offset, number))
            offset += made[-1].blocks * BLOCK
        return tuple(reversed(made))

    @property
    def size(self) -> int:
        """Of data and tree together, in bytes."""
        return (self.hash_start_block + sum(level.blocks for level in self.levels)) * BLOCK


class Hasher:
    """Digests of blocks under one salt."""

    def __init__(self, salt: bytes) -> None:
        self._begun = hashlib.sha256(salt)

    def digest(self, block: Any) -> bytes:
        hashing = self._begun.copy()
        hashing.update(block)
        return hashing.digest()

    def blocks(self, data: memoryview) -> bytes:
        """The digests of all blocks of ``data``, one behind the other, padded to whole blocks."""
        found = b"".join([self.digest(data[start : start + BLOCK]) for start in range(0, len(data), BLOCK)])
        return found + bytes(-len(found) % BLOCK)
