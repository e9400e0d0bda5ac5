# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""MRTD of a TD from the image of its firmware (TDVF): what the VMM adds and measures before the TD runs.

Sources: Intel TDX Virtual Firmware Design Guide (344991), "TDVF descriptor" and "TDVF metadata"; Intel TDX module ABI (348551), TDH.MEM.PAGE.ADD
and TDH.MR.EXTEND. Integers are little-endian. MRTD is SHA-384 over blocks of 128 bytes: one for each page that is added, and three for
each 256 bytes that are measured.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Tuple
from uuid import UUID

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

IMAGE_MAX = 64 * 1024 * 1024
PAGE, CHUNK = 4096, 256
SECTIONS_MAX = 64
MEMORY_MAX = 256 * 1024 * 1024
MR_EXTEND, PAGE_AUG = 1, 2
TYPES = {0: "BFV", 1: "CFV", 2: "TD_HOB", 3: "TempMem", 4: "PermMem", 5: "Payload", 6: "PayloadParam"}
# In which order a VMM adds and measures the pages of one section: QEMU with Linux's own interface page by page, others all pages first.
ORDERS = ("page", "section")

_FOOTER = UUID("96b582de-1fb2-45f7-baea-a366c55a082d").bytes_le
_METADATA = UUID("e47a6535-984a-4798-865e-4685a7bf8ec2").bytes_le
# The table of GUIDed entries ends 32 bytes before the end of the image, where the reset vector stands.
_TABLE_END = 32
_ENTRY = struct.Struct("<H16s")
_DESCRIPTOR = struct.Struct("<4sIII")
_SECTION = struct.Struct("<IIQQII")
_ADD, _EXTEND = b"MEM.PAGE.ADD".ljust(16, b"\0"), b"MR.EXTEND".ljust(16, b"\0")


def _bad(what: str) -> FormatError:
    return FormatError(what, where="TDVF image")


@dataclass(frozen=True)
class Section:
    """One part of the TD's first memory. ``offset`` and ``size`` are in the image, ``address`` and ``memory`` in the TD; all in bytes."""

    offset: int
    size: int
    address: int
    memory: int
    type: int
    attributes: int

    @property
    def name(self) -> str:
        return TYPES.get(self.type, "type %d" % self.type)

    @property
    def measured(self) -> bool:
        """True if the content enters MRTD, not only the fact that the page is there."""
        return bool(self.attributes & MR_EXTEND)

    @property
    def added(self) -> bool:
        """True if the pages are added before the TD is sealed."""
        return not self.attributes & PAGE_AUG


def parse_tdvf(image: bytes) -> Tuple[Section, ...]:
    """Read the metadata of a TDVF image. Raises FormatError if there is none, as in firmware without TDX, or if it is malformed."""
    if not _TABLE_END < len(image) <= IMAGE_MAX:
        raise _bad("it is %d bytes, %d to %d are read" % (len(image), _TABLE_END + 1, IMAGE_MAX))
    position = len(image) - _metadata_offset(image)
    if not 0 <= position <= len(image) - _DESCRIPTOR.size:
        raise _bad("the metadata's offset points outside of the image")
    signature, length, version, count = _DESCRIPTOR.unpack_from(image, position)
    if signature != b"TDVF" or version != 1:
        raise _bad("at byte %d is no TDVF metadata of version 1" % position)
    if not 1 <= count <= SECTIONS_MAX or length != _DESCRIPTOR.size + count * _SECTION.size or position + length > len(image):
        raise _bad("the metadata names %d sections in %d bytes" % (count, length))
    sections = tuple(Section(*_SECTION.unpack_from(image, position + _DESCRIPTOR.size + index * _SECTION.size)) for index in range(count))
    for index, section in enumerate(sections):
        _check(section, "section %d (%s)" % (index, section.name), len(image))
    if sum(section.memory for section in sections) > MEMORY_MAX:
        raise _bad("its sections take more than %d bytes" % MEMORY_MAX)
    return sections


def _metadata_offset(image: bytes) -> int:
    """The distance of the metadata from the end of the image, as the table of GUIDed entries tells it."""
    end = len(image) - _TABLE_END
    if end < _ENTRY.size:
        raise _bad("it is too short for a table of entries")
    total, guid = _ENTRY.unpack_from(image, end - _ENTRY.size)
    if guid != _FOOTER:
        raise _bad("it has no table of GUIDed entries at its end, so it is no OVMF image")
    start = end - total
    if start < 0 or total < _ENTRY.size:
        raise _bad("its table of entries is %d bytes long" % total)
    position = end - _ENTRY.size
    while position - _ENTRY.size >= start:
        size, guid = _ENTRY.unpack_from(image, position - _ENTRY.size)
        if size < _ENTRY.size or position - size < start:
            raise _bad("an entry of its table is %d bytes long" % size)
        if guid == _METADATA:
            if size != _ENTRY.size + 4:
                raise _bad("the entry of the TDX metadata is %d bytes long" % size)
            return int.from_bytes(image[position - size : position - size + 4], "little")
        position -= size
    raise _bad("its table names no TDX metadata: the firmware was built without TDX")


def _check(section: Section, name: str, image_size: int) -> None:
    if section.offset + section.size > image_size:
        raise FormatError("%s ends outside of the image" % name, where="TDVF image", fix="Give the whole firmware, code and variables in one file")
    if section.address % PAGE or section.memory % PAGE or not section.memory or section.memory > MEMORY_MAX:
        raise _bad("%s takes %d bytes at 0x%x, which are no whole pages" % (name, section.memory, section.address))
    if section.size > section.memory:
        raise _bad("%s has more bytes in the image (%d) than in memory (%d)" % (name, section.size, section.memory))
    if section.measured and not section.added:
        raise _bad("%s is measured and not added" % name)
    if section.attributes & ~(MR_EXTEND | PAGE_AUG):
        raise _bad("%s has unknown attributes (0x%x)" % (name, section.attributes))


def mrtd(image: bytes, order: str = "page") -> bytes:
    """MRTD (48 bytes) of a TD that starts with this image. ``order``: one of ORDERS, what the VMM does. Raises FormatError."""
    if order not in ORDERS:
        raise _bad("the order %s is none of %s" % (ascii(order)[:20], ", ".join(ORDERS)))
    digest = hashlib.sha384()
    for section in parse_tdvf(image):
        if not section.added:
            continue
        data = image[section.offset : section.offset + section.size].ljust(section.memory, b"\0") if section.measured else b""
        for page in range(0, section.memory, PAGE):
            _update(digest, _ADD, section.address + page)
            if section.measured and order == "page":
                _extend(digest, section.address + page, data[page : page + PAGE])
        if section.measured and order == "section":
            _extend(digest, section.address, data)
    return digest.digest()


def _update(digest: Any, name: bytes, address: int) -> None:
    digest.update((name + address.to_bytes(8, "little")).ljust(128, b"\0"))


def _extend(digest: Any, address: int, data: bytes) -> None:
    for offset in range(0, len(data), CHUNK):
        _update(digest, _EXTEND, address + offset)
        digest.update(data[offset : offset + CHUNK])
