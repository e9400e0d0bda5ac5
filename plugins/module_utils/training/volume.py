# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The disk with a job, as its host brings it: a tar archive that begins at the disk's first byte. Nothing is mounted.

A file system of the host's would be read by the kernel, which trusts what it mounts. An archive is read here, in a language that keeps to its buffers, and of
its many forms one is known: POSIX ustar with regular files, and folders, which are passed over. Whoever owns the disk can change it at any moment. So what is
copied counts as it was copied, and ciphertext counts where its tags hold.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import MAX_SIZE, Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tink_stream import read_exactly
from ansible_collections.attested.ai.plugins.module_utils.training.disk import BLOCK, HostDisk, bad

_ZEROS = bytes(BLOCK)
_MAGIC = b"ustar\x0000"
_OCTAL = re.compile(rb"[0-7]{1,11}[\0 ]+\Z")
_FILE, _FOLDER = (b"0", b"\0"), b"5"
_FIX = "Make it again: tar --format=ustar"


@dataclass(frozen=True)
class Member:
    """A file: where its bytes begin on the disk, and how many there are."""

    offset: int
    size: int


class Archive(HostDisk):
    """What lies on the disk, as its headers said when it was opened. Raises TrainingError on anything but a whole archive."""

    def __init__(self, path: str) -> None:
        self.members: Dict[str, Member] = {}
        super().__init__(path, os.O_RDONLY)

    def _look(self) -> None:
        self.members = self._scan(self._size)

    def read(self, name: str, most: int) -> bytes:
        """A small file, whole. Raises TrainingError."""
        member = self.members.get(name)
        if member is None or member.size > most:
            raise bad("it has no file %s" % name if member is None else "%s is longer than %d bytes" % (name, most), self.where, _FIX)
        data = bytearray(member.size)
        self.read_into(memoryview(data), member.offset)
        return bytes(data)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Raises ModelError, as files do that are read while somebody cuts them."""
        try:
            read_exactly(self._disk, buffer, offset, self.where)
        except OSError as error:
            raise ModelError("it cannot be read (%s)" % error.strerror, where=self.where, code="model-source") from None

    def unpack(self, folder: str, dest: str, most: int) -> None:
        """The files below ``folder`` into ``dest``, a new folder, if they have at most ``most`` bytes together. Raises TrainingError, OSError."""
        found = self.below(folder)
        if sum(member.size for member in found.values()) > most:
            raise bad("%s is larger than %d MB" % (folder, most >> 20), self.where, "Keep data out of the program")
        os.mkdir(dest, 0o700)
        for name, member in found.items():
            place = os.path.join(dest, *name.split("/"))
            os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
            with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as stream:
                for start in range(0, member.size, 1 << 20):
                    block = bytearray(min(1 << 20, member.size - start))
                    self.read_into(memoryview(block), member.offset + start)
                    stream.write(block)

    def below(self, folder: str) -> Dict[str, Member]:
        """Files by their names within a folder."""
        return {name[len(folder) + 1:]: member for name, member in self.members.items() if name.startswith(folder + "/")}

    def _scan(self, size: int) -> Dict[str, Member]:
        found: Dict[str, Member] = {}
        offset, count = 0, 0
        while True:
            if offset + BLOCK > size:
                raise bad("it ends before the archive does", self.where, _FIX)
            header = bytearray(BLOCK)
            read_exactly(self._disk, memoryview(header), offset, self.where)
            if header == _ZEROS:
                return found
            name, length, kind = _header(bytes(header), self.where)
            offset += BLOCK
            if kind != _FOLDER:
                if name in found:
                    raise bad("%s is there twice" % strict.quoted(name), self.where, _FIX)
                found[name] = Member(offset, length)
            offset += -(-length // BLOCK) * BLOCK
            if offset > size:
                raise bad("it ends within %s" % strict.quoted(name), self.where, "Copy it again, or make the disk as large as the archive")
            count += 1
            if count > tree.MAX_FILES:
                raise bad("it holds more than %d files" % tree.MAX_FILES, self.where)


def _header(block: bytes, where: str) -> Tuple[str, int, bytes]:
    """Name, size and kind."""
    if block[257:265] != _MAGIC:
        raise bad("it is no archive in the form ustar", where, _FIX)
    if _number(block[148:156], where) != sum(block[:148]) + 8 * 32 + sum(block[156:]):
        raise bad("the checksum of a header is wrong", where, _FIX)
    kind, size = block[156:157], _number(block[124:136], where)
    raw = block[345:500].split(b"\0", 1)[0], block[:100].split(b"\0", 1)[0]
    try:
        name = b"/".join(part for part in raw if part).decode("utf-8")
    except UnicodeDecodeError:
        raise bad("a name is not UTF-8", where, _FIX) from None
    if kind != _FOLDER and kind not in _FILE or kind == _FOLDER and size:
        raise bad("%s is neither a file nor a folder" % strict.quoted(name), where, "Leave links and other special files out")
    return tree.check_path(name.rstrip("/") if kind == _FOLDER else name, where), size, kind


def _number(field: bytes, where: str) -> int:
    text = field.lstrip(b" ")
    if not _OCTAL.match(text):
        raise bad("a number in a header is none", where, _FIX)
    return int(text.rstrip(b"\0 "), 8)


class Folder:
    """Ciphertext in the archive, read where it lies. Has the methods of ``sealedmodel.source.Directory``."""

    batch_bytes = 0

    def __init__(self, archive: Archive, folder: str) -> None:
        self._archive, self._folder = archive, folder
        self._members = archive.below(folder)

    def name(self, path: str) -> str:
        return "%s on %s" % (os.path.join(self._folder, path), self._archive.where)

    def read_small(self, path: str) -> bytes:
        return self._archive.read("%s/%s" % (self._folder, path), MAX_SIZE)

    def check(self, manifest: Manifest) -> None:
        """Exactly the files of the manifest lie there, with their sizes. Raises TrainingError."""
        found = {path: member.size for path, member in self._members.items() if path not in tree.RESERVED}
        for path in sorted(set(found) ^ set(manifest.ciphertexts)):
            raise bad("%s %s" % (strict.quoted(path), "does not belong there" if path in found else "is missing"), self.name(""), _FIX)
        for path, size in sorted(manifest.ciphertexts.items()):
            if found[path] != size:
                raise bad("it is %d bytes long, %d expected" % (found[path], size), self.name(path), _FIX)

    @contextmanager
    def open(self, path: str, size: int) -> Iterator[Any]:
        member = self._members.get(path)
        if member is None or member.size != size:
            raise bad("it is not there with %d bytes" % size, self.name(path), _FIX)
        yield _Range(self._archive, member)

    def close(self) -> None:
        """The archive stays open for the others."""


class _Range:
    """One file, for threads that each read their own part of it."""

    def __init__(self, archive: Archive, member: Member) -> None:
        self._archive, self._member = archive, member

    def read_into(self, buffer: memoryview, offset: int) -> None:
        if offset < 0 or offset + len(buffer) > self._member.size:
            raise ModelError("the file ends after %d bytes, more were asked for" % self._member.size, where=self._archive.where, code="model-source-changed")
        self._archive.read_into(buffer, self._member.offset + offset)
