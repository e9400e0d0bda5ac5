# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An EROFS file system of given files, as bytes of its metadata and places of its data: arithmetic only, nothing is read.

Uncompressed (weights do not compress), blocks of 4096 bytes, 64-byte inodes, everything owned by root and readable, times zero. So the image is a
function of names, sizes and content alone, and no second copy of the model is ever written to be packed. Source: Documentation/filesystems/erofs.rst
and the on-disk structures that it describes. Checked with fsck.erofs and with kernels.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass, field
from typing import Dict, List, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError

BLOCK = 4096
_SUPER_OFFSET = 1024
_MAGIC = 0xE0F5E1E2
_SLOT = 32
# Version 1 (64 bytes), data in blocks of its own.
_INODE_FORMAT = 1
_REGULAR, _DIRECTORY = 1, 2
_FILE_MODE, _DIRECTORY_MODE = stat.S_IFREG | 0o444, stat.S_IFDIR | 0o555
_DIRENT = struct.Struct("<QHBB")
_INODE = struct.Struct("<HHHHQIIIIQII16x")
_SUPER = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB23x")


@dataclass(frozen=True)
class Extent:
    """Where the content of a file lies: ``offset`` in the image, a multiple of 4096. The rest of its last block is zeros."""

    path: str
    offset: int
    size: int


@dataclass(frozen=True)
class Image:
    """``head`` are the first bytes of the image, ``extents`` follow in their order, ``size`` is that of all, in bytes."""

    head: bytes = field(repr=False)
    extents: Tuple[Extent, ...]
    size: int


class _Directory:
    def __init__(self) -> None:
        self.directories: Dict[str, _Directory] = {}
        self.files: Dict[str, int] = {}
        self.number = 0


def build(files: Sequence[Tuple[str, int]], identity: bytes) -> Image:
    """Lay out ``files`` (relative path, size). ``identity`` (16 bytes) is the UUID of the file system. Raises ModelError if it grows too large."""
    root = _Directory()
    for path, size in files:
        *parents, name = path.split("/")
        place = root
        for part in parents:
            place = place.directories.setdefault(part, _Directory())
        place.files[name] = size
    plan = _Plan(root)
    return plan.image(identity)


class _Plan:
    """Numbers first, places second, bytes last."""

    def __init__(self, root: _Directory) -> None:
        self._order: List[Tuple[str, _Directory, _Directory]] = []
        self._files: List[Tuple[str, int, int]] = []
        self._next = 1
        self._collect("", root, root)

    def _collect(self, prefix: str, here: _Directory, parent: _Directory) -> None:
        here.number = self._take()
        self._order.append((prefix, here, parent))
        for name in sorted(here.directories, key=_raw):
            self._collect(prefix + name + "/", here.directories[name], here)

    def _take(self) -> int:
        number, self._next = self._next, self._next + 1
        return number

    def image(self, identity: bytes) -> Image:
        numbers: Dict[str, int] = {}
        for prefix, here, _parent in self._order:
            for name in sorted(here.files, key=_raw):
                numbers[prefix + name] = self._take()
                self._files.append((prefix + name, here.files[name], numbers[prefix + name]))
        blocks = {prefix: _directory_blocks(_entries(prefix, here, parent, numbers)) for prefix, here, parent in self._order}
        # Block 0 holds the superblock. Inode n lies in slots 2n and 2n + 1, so that inode 0 is never one.
        cursor = 1 + _blocks(self._next * 2 * _SLOT)
        inodes, directories = bytearray(self._next * 2 * _SLOT), bytearray()
        for prefix, here, _parent in self._order:
            content = blocks[prefix]
            _put(inodes, here.number, _DIRECTORY_MODE, len(content), cursor, 2 + len(here.directories))
            directories += content + bytes(-len(content) % BLOCK)
            cursor += _blocks(len(content))
        extents = []
        for path, size, number in self._files:
            _put(inodes, number, _FILE_MODE, size, cursor, 1)
            extents.append(Extent(path, cursor * BLOCK, size))
            cursor += _blocks(size)
        if cursor >= 1 << 32:
            raise ModelError("it does not fit into the 16 TiB that an image can have", fix="Use profile files", code="model-image-size")
        head = _superblock(identity, cursor, len(self._order) + len(self._files)) + bytes(inodes) + bytes(-len(inodes) % BLOCK) + bytes(directories)
        return Image(head, tuple(extents), cursor * BLOCK)


def _superblock(identity: bytes, blocks: int, inodes: int) -> bytes:
    # Root is inode 1, in slot 2. No checksum: dm-verity covers this block as all others.
    made = _SUPER.pack(_MAGIC, 0, 0, 12, 0, 2, inodes, 0, 0, blocks, 1, 0, identity, b"", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    return bytes(_SUPER_OFFSET) + made + bytes(BLOCK - _SUPER_OFFSET - len(made))


def _put(inodes: bytearray, number: int, mode: int, size: int, block: int, links: int) -> None:
    _INODE.pack_into(inodes, number * 2 * _SLOT, _INODE_FORMAT, 0, mode, 0, size, block, number, 0, 0, 0, 0, links)


def _entries(prefix: str, here: _Directory, parent: _Directory, numbers: Dict[str, int]) -> List[Tuple[bytes, int, int]]:
    found = [(b".", here.number, _DIRECTORY), (b"..", parent.number, _DIRECTORY)]
    found += [(_raw(name), child.number, _DIRECTORY) for name, child in here.directories.items()]
    found += [(_raw(name), numbers[prefix + name], _REGULAR) for name in here.files]
    # The kernel searches by bytes, in halves.
    return sorted(found)


def _directory_blocks(entries: List[Tuple[bytes, int, int]]) -> bytes:
    """Each block: its entries, then their names. Every block but the last is full, so that the length tells where the last name ends."""
    made, used = bytearray(), 0
    batch: List[Tuple[bytes, int, int]] = []
    for entry in entries:
        needed = _DIRENT.size + len(entry[0])
        if used + needed > BLOCK:
            made += _directory_block(batch) + bytes(-used % BLOCK)
            batch, used = [], 0
        batch.append(entry)
        used += needed
    return bytes(made + _directory_block(batch))


def _directory_block(batch: List[Tuple[bytes, int, int]]) -> bytes:
    heads, names = bytearray(), bytearray()
    for name, number, kind in batch:
        heads += _DIRENT.pack(2 * number, len(batch) * _DIRENT.size + len(names), kind, 0)
        names += name
    return bytes(heads + names)


def _raw(name: str) -> bytes:
    return name.encode("utf-8")


def _blocks(size: int) -> int:
    return -(-size // BLOCK)
