# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Programs for UEFI (PE32+): their sections, and the digest by which firmware measures them.

Sources: Microsoft's PE format, "Attribute certificate table" and the process of hashing in "Windows Authenticode Portable Executable Signature
Format". Integers are little-endian. Nothing here trusts a number of the file: each is held against the file's size first.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Dict, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

IMAGE_MAX = 1024 * 1024 * 1024
SECTIONS_MAX = 96
ALGORITHMS = ("sha256", "sha384")
_PE32, _PE32_PLUS = 0x10B, 0x20B
# Where the checksum, the number of directories and the fifth directory (certificates) stand in the optional header.
_CHECKSUM = 64
_DIRECTORIES = {_PE32: 92, _PE32_PLUS: 108}
_CERTIFICATES = 4
_COFF = struct.Struct("<HHIIIHH")
_SECTION = struct.Struct("<8sIIIIIIHHI")


def _bad(what: str) -> FormatError:
    return FormatError(what, where="PE image", fix="Give a program for UEFI, such as a unified kernel image")


@dataclass(frozen=True)
class Section:
    """One section: ``size`` bytes of memory, of which ``stored`` are in the file from ``offset`` on."""

    name: str
    size: int
    offset: int
    stored: int

    def content(self, image: bytes) -> bytes:
        """What is in memory once the image was loaded."""
        return image[self.offset : self.offset + min(self.size, self.stored)].ljust(self.size, b"\0")


@dataclass(frozen=True)
class PeImage:
    """What of an image matters for measuring it. ``checksum``, ``directory`` and ``certificates`` say what is left out: (offset, length)."""

    sections: Tuple[Section, ...]
    headers: int
    checksum: Tuple[int, int]
    directory: Tuple[int, int]
    certificates: Tuple[int, int]

    def by_name(self) -> Dict[str, Section]:
        """The sections by their names. Of several with one name the first, as systemd's stub does for its base profile."""
        found: Dict[str, Section] = {}
        for section in self.sections:
            found.setdefault(section.name, section)
        return found


def parse_pe(image: bytes) -> PeImage:
    """Raises FormatError for anything that is no well-formed PE32 or PE32+ image."""
    if not 64 <= len(image) <= IMAGE_MAX or image[:2] != b"MZ":
        raise _bad("it does not begin as one")
    start = int.from_bytes(image[0x3C:0x40], "little")
    if start < 64 or start + 4 + _COFF.size + 2 > len(image) or image[start : start + 4] != b"PE\0\0":
        raise _bad("its header points at no PE signature")
    _machine, count, _time, _symbols, _symbol_count, optional_size, _flags = _COFF.unpack_from(image, start + 4)
    optional = start + 4 + _COFF.size
    table = optional + optional_size
    if not 1 <= count <= SECTIONS_MAX or table + count * _SECTION.size > len(image):
        raise _bad("it names %d sections in %d bytes" % (count, len(image)))
    magic = int.from_bytes(image[optional : optional + 2], "little")
    directories = _DIRECTORIES.get(magic)
    if directories is None:
        raise _bad("its optional header is of the kind 0x%x" % magic)
    if optional_size < directories + 4:
        raise _bad("its optional header has %d bytes" % optional_size)
    headers = int.from_bytes(image[optional + 60 : optional + 64], "little")
    if not table + count * _SECTION.size <= headers <= len(image):
        raise _bad("its headers take %d bytes" % headers)
    numbers = int.from_bytes(image[optional + directories : optional + directories + 4], "little")
    entry = optional + directories + 4 + _CERTIFICATES * 8
    directory, certificates = (headers, 0), (len(image), 0)
    if numbers > _CERTIFICATES:
        if entry + 8 > table:
            raise _bad("its table of directories is cut short")
        offset, length = struct.unpack_from("<II", image, entry)
        directory, certificates = (entry, 8), (offset, length) if length else (len(image), 0)
        if offset + length > len(image) or (length and offset < headers):
            raise _bad("its certificates lie outside of it")
    sections = tuple(_section(image, table + index * _SECTION.size) for index in range(count))
    return PeImage(sections, headers, (optional + _CHECKSUM, 4), directory, certificates)


def _section(image: bytes, position: int) -> Section:
    name, size, _address, stored, offset = _SECTION.unpack_from(image, position)[:5]
    text = name.rstrip(b"\0")
    if not all(0x21 <= byte <= 0x7E for byte in text):
        raise _bad("the name of a section is not printable")
    if stored and (offset + stored > len(image) or offset < position):
        raise _bad("section %s lies outside of it" % text.decode("ascii"))
    if size > IMAGE_MAX:
        raise _bad("section %s takes %d bytes of memory" % (text.decode("ascii"), size))
    return Section(text.decode("ascii"), size, offset, stored)


def authenticode(image: bytes, algorithm: str = "sha384") -> bytes:
    """The digest under which firmware measures the image when it starts it: all of it but checksum and certificates. Raises FormatError."""
    if algorithm not in ALGORITHMS:
        raise FormatError("%s is none of %s" % (ascii(algorithm)[:20], ", ".join(ALGORITHMS)), where="algorithm")
    pe = parse_pe(image)
    view = memoryview(image)
    digest: Any = hashlib.new(algorithm)
    position = 0
    for offset, length in sorted((pe.checksum, pe.directory)):
        digest.update(view[position:offset])
        position = offset + length
    digest.update(view[position : pe.headers])
    hashed = pe.headers
    for section in sorted((section for section in pe.sections if section.stored), key=lambda section: section.offset):
        digest.update(view[section.offset : section.offset + section.stored])
        hashed += section.stored
    if hashed < len(image) - pe.certificates[1]:
        digest.update(view[hashed : len(image) - pe.certificates[1]])
    return bytes(digest.digest())
