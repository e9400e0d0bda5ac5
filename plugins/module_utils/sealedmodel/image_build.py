# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Making the encrypted image of a model without root, device mapper or mkfs: two passes over the files, nothing in clear on the way.

The first pass hashes the data, the second encrypts data and tree: the key depends on the root hash, so that one pass cannot do. Between them the
tree lies in the output, unencrypted: digests under a secret salt. Memory is one chunk per process, whatever the size of the model.
"""

from __future__ import annotations

import bisect
import hashlib
import os
import uuid as uuids
from typing import Any, Callable, Optional, Sequence

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import emwp, erofs, tree, verity, workers
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import ImageEntry
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tink_stream import read_exactly, write_exactly
from ansible_collections.attested.ai.plugins.module_utils.target.memory import wipe

# 1024 blocks: their digests are whole blocks of the tree.
CHUNK = 4 << 20
HEADER = emwp.SECTOR
_DIFFERS = "model-differs"


class Plaintext:
    """The data area of the image as bytes at offsets, read from the model's files. Closes what it opened at the end of a ``with``."""

    def __init__(self, src: str, files: Sequence[tree.SourceFile], identity: bytes) -> None:
        self.image = erofs.build([(file.path, file.size) for file in files], identity)
        self._src = src
        self._files = {file.path: file for file in files}
        self._starts = [extent.offset for extent in self.image.extents]
        self._root = os.open(src, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open = ("", -1)

    def __enter__(self) -> Plaintext:
        return self

    def __exit__(self, *_ignored: Any) -> None:
        for descriptor in (self._root, self._open[1]):
            if descriptor >= 0:
                os.close(descriptor)
        self._root, self._open = -1, ("", -1)

    def fill(self, buffer: memoryview, offset: int) -> None:
        """Bytes ``offset`` ... of the image; zeros behind its end. Raises ModelError if a file is no longer what it was."""
        end = offset + len(buffer)
        head = self.image.head[offset:end]
        buffer[: len(head)] = head
        position = offset + len(head)
        while position < end:
            index = bisect.bisect_right(self._starts, position) - 1
            length, extent = end - position, self.image.extents[index] if index >= 0 else None
            if extent is not None and position < extent.offset + extent.size:
                length = min(length, extent.offset + extent.size - position)
                place = buffer[position - offset : position - offset + length]
                read_exactly(self._file(extent.path), place, position - extent.offset, os.path.join(self._src, extent.path))
            else:
                following = self._starts[index + 1] if index + 1 < len(self._starts) else end
                length = min(length, following - position)
                buffer[position - offset : position - offset + length] = bytes(length)
            position += length

    def require_same(self) -> None:
        """Raise ModelError unless all files still are what they were when the list was made."""
        for file in self._files.values():
            self._close()
            self._file(file.path)

    def _file(self, path: str) -> int:
        if self._open[0] != path:
            self._close()
            descriptor = tree.open_beneath(self._root, path, self._src)
            self._open = (path, descriptor)
            try:
                tree.require_same(self._files[path], os.fstat(descriptor), os.path.join(self._src, path))
            except AttestedError:
                self._close()
                raise
        return self._open[1]

    def _close(self) -> None:
        if self._open[1] >= 0:
            os.close(self._open[1])
        self._open = ("", -1)


class ImageEngine:
    """Hashes, encrypts and compares one image with ``processes`` processes. ``progress`` gets bytes: each is counted once in each pass."""

    def __init__(
        self, src: str, files: Sequence[tree.SourceFile], uuid: str, salt: bytes, processes: int = 2, progress: Optional[workers.Advance] = None
    ) -> None:
        self._src, self._files = src, files
        self._identity = uuids.UUID(uuid).bytes
        self._hasher = verity.Hasher(salt)
        self._progress = progress
        self.geometry = verity.Geometry(erofs.build([(file.path, file.size) for file in files], self._identity).size // erofs.BLOCK)
        self.size = self.geometry.size
        self._processes = max(1, min(processes, -(-self.size // CHUNK)))

    def hash(self, output: int) -> str:
        """Write the tree, in clear, to its place in ``output``; returns the root hash in hexadecimal."""
        first, data = self.geometry.levels[0], self.geometry.hash_offset

        def work(number: int, advance: workers.Advance) -> None:
            buffer = memoryview(bytearray(min(CHUNK, data)))
            with self._plaintext() as plain:
                for offset in range(number * CHUNK, data, self._processes * CHUNK):
                    part = buffer[: min(CHUNK, data - offset)]
                    plain.fill(part, offset)
                    digests = self._hasher.blocks(part)
                    write_exactly(output, memoryview(digests), first.offset + offset // verity.FAN)
                    advance(len(part))

        os.ftruncate(output, self.size)
        workers.share(self._processes, work, self._progress)
        return self._climb(output)

    def _climb(self, output: int) -> str:
        """The levels above the first, from bottom to top."""
        levels = self.geometry.levels
        buffer = memoryview(bytearray(CHUNK))
        for below, above in zip(levels, levels[1:]):
            size = below.blocks * verity.BLOCK
            for offset in range(0, size, CHUNK):
                part = buffer[: min(CHUNK, size - offset)]
                read_exactly(output, part, below.offset + offset, self._src)
                write_exactly(output, memoryview(self._hasher.blocks(part)), above.offset + offset // verity.FAN)
        top = buffer[: verity.BLOCK]
        read_exactly(output, top, levels[-1].offset, self._src)
        return self._hasher.digest(top).hex()

    def encrypt(self, output: int, key: Any) -> str:
        """Encrypt everything to ``output``, where hash() left the tree. Returns the SHA-256 of the first sector, and fails if a file has changed."""

        def step(offset: int, expected: memoryview) -> None:
            cipher.encrypt(expected, offset)
            write_exactly(output, expected, offset)

        cipher = emwp.SectorCipher(key)
        self._each(output, step)
        with self._plaintext() as plain:
            plain.require_same()
        os.fsync(output)
        header = bytearray(HEADER)
        read_exactly(output, memoryview(header), 0, self._src)
        return hashlib.sha256(header).hexdigest()

    def same(self, clear_tree: int, sealed: int, key: Any) -> bool:
        """Whether ``sealed`` decrypts to exactly the files, with the tree that hash() left in ``clear_tree``. Writes nothing."""

        def step(offset: int, expected: memoryview) -> None:
            found = memoryview(bytearray(len(expected)))
            read_exactly(sealed, found, offset, self._src)
            cipher.decrypt(found, offset)
            if found != expected:
                raise ModelError("the image differs", where=str(offset), code=_DIFFERS)

        cipher = emwp.SectorCipher(key)
        try:
            self._each(clear_tree, step)
        except ModelError as error:
            if error.code == _DIFFERS:
                return False
            raise
        return True

    def _each(self, clear_tree: int, step: Callable[[int, memoryview], None]) -> None:
        """Call step(offset, plaintext of the chunk there) for all of the image; the step may overwrite it."""
        data, count = self.geometry.hash_offset, self._processes

        def work(number: int, advance: workers.Advance) -> None:
            buffer = memoryview(bytearray(min(CHUNK, self.size)))
            with self._plaintext() as plain:
                for offset in range(number * CHUNK, self.size, count * CHUNK):
                    part = buffer[: min(CHUNK, self.size - offset)]
                    plain.fill(part, offset)
                    if offset + len(part) > data:
                        begin = max(0, data - offset)
                        read_exactly(clear_tree, part[begin:], offset + begin, self._src)
                    step(offset, part)
                    advance(len(part))

        workers.share(count, work, self._progress)

    def _plaintext(self) -> Plaintext:
        return Plaintext(self._src, self._files, self._identity)


def build(src: str, files: Sequence[tree.SourceFile], path: str, dek: Any, model_id: str, release: int, processes: int,
          progress: Optional[workers.Advance] = None) -> ImageEntry:
    """Write the encrypted image of ``files`` to the new file ``path``. On failure there is none."""
    uuid = str(uuids.uuid4())
    engine = ImageEngine(src, files, uuid, emwp.salt(emwp.identity(dek, model_id, release)), processes, progress)
    output = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        root_hash = engine.hash(output)
        key = image_key(dek, model_id, release, root_hash, uuid)
        try:
            header = engine.encrypt(output, key)
        finally:
            wipe(key)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(output)
    return ImageEntry(tree.IMAGE, engine.size, engine.geometry.hash_offset, root_hash, uuid, header)


def image_key(dek: Any, model_id: str, release: int, root_hash: str, uuid: str) -> bytearray:
    """The key of dm-crypt for one image. The caller wipes it."""
    master = emwp.master_key(dek, model_id, release)
    try:
        return emwp.volume_key(master, root_hash, uuid)
    finally:
        wipe(master)


def matches(src: str, files: Sequence[tree.SourceFile], directory: str, entry: ImageEntry, dek: Any, model_id: str, release: int, scratch: int,
            processes: int = 2, progress: Optional[workers.Advance] = None) -> bool:
    """Whether the published image decrypts to exactly ``files``. ``scratch`` is an empty file for the tree."""
    engine = ImageEngine(src, files, entry.uuid, emwp.salt(emwp.identity(dek, model_id, release)), processes, progress)
    if engine.size != entry.size or engine.hash(scratch) != entry.root_hash:
        return False
    sealed = os.open(os.path.join(directory, entry.path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    key = image_key(dek, model_id, release, entry.root_hash, entry.uuid)
    try:
        return os.fstat(sealed).st_size == entry.size and engine.same(scratch, sealed, key)
    finally:
        wipe(key)
        os.close(sealed)
