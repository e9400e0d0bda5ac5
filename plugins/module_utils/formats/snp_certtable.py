# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The GUID table of certificates that the host hands over with an extended guest request (GHCB specification, "SNP Extended
Guest Request"; configfs-tsm ``auxblob``). Whatever it holds is untrusted path material."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

TABLE_MAX = 1024 * 1024
ENTRIES_MAX = 32

NAMES = {
    "63da758d-e664-4564-adc5-f4b93be8accd": "vcek",
    "a8074bc2-a25a-483e-aae6-39c045a0b8a1": "vlek",
    "4ab7b379-bbac-4fe4-a02f-05aef327c782": "ask",
    "c0b406a4-a803-4952-9743-3fb6014cd0ae": "ark",
    "92f81bc3-5811-4d3d-97ff-d19f88dc67ea": "crl",
    "9f4116cd-c503-4f5a-8f6f-fb68882f4ce2": "gce-firmware",
}
_ENTRY = struct.Struct("<16s I I")
_GUIDS = {uuid.UUID(text).bytes: name for text, name in NAMES.items()}
_BYTES = {name: guid for guid, name in _GUIDS.items()}
_TERMINATOR = bytes(16)


@dataclass(frozen=True)
class CertificateTable:
    """The entries of the table: name (or the GUID's text if it is not known) and the raw bytes, in order."""

    entries: Tuple[Tuple[str, bytes], ...]

    def get(self, name: str) -> Optional[bytes]:
        """The bytes of an entry: "vcek", "vlek", "ask", "ark", "crl", "gce-firmware" or a GUID; None if it is absent."""
        return dict(self.entries).get(name)


def parse_certtable(data: bytes, where: str = "certificate table") -> CertificateTable:
    """Parse a GUID table: entries of GUID, offset, length (24 bytes, little-endian), closed by an entry of zeros, then the data.

    Only zeros may lie in bytes that no entry covers (hosts pad to pages). Raises FormatError for a missing terminator, an
    entry that is empty, out of bounds, inside the header or overlapping another, and for a GUID that occurs twice.
    """
    data = bytes(data)
    if len(data) > TABLE_MAX:
        raise FormatError("it is %d bytes, at most %d are read" % (len(data), TABLE_MAX), where=where)
    headers: List[Tuple[str, int, int]] = []
    position = 0
    while True:
        if position + _ENTRY.size > len(data):
            raise FormatError("the list of entries is not closed", where=where)
        guid, offset, length = _ENTRY.unpack_from(data, position)
        position += _ENTRY.size
        if guid == _TERMINATOR:
            if offset or length:
                raise FormatError("the closing entry is not all zeros", where=where)
            break
        if len(headers) == ENTRIES_MAX:
            raise FormatError("more than %d entries" % ENTRIES_MAX, where=where)
        headers.append((_GUIDS.get(guid) or str(uuid.UUID(bytes=guid)), offset, length))
    entries: Dict[str, bytes] = {}
    for name, offset, length in headers:
        if name in entries:
            raise FormatError("the entry %s occurs twice" % name, where=where)
        if not length or offset < position or offset + length > len(data):
            raise FormatError("the entry %s (offset %d, length %d) is empty or out of bounds" % (name, offset, length), where=where)
        entries[name] = data[offset:offset + length]
    covered = position
    for offset, length, name in sorted((offset, length, name) for name, offset, length in headers):
        if offset < covered:
            raise FormatError("the entry %s overlaps another" % name, where=where)
        if any(data[covered:offset]):
            raise FormatError("bytes that belong to no entry before %s" % name, where=where)
        covered = offset + length
    if any(data[covered:]):
        raise FormatError("bytes that belong to no entry at the end", where=where)
    return CertificateTable(tuple(entries.items()))


def build_certtable(table: CertificateTable) -> bytes:
    """The inverse of ``parse_certtable``, without padding. For tests and for the soft TEE."""
    offset = _ENTRY.size * (len(table.entries) + 1)
    head, body = b"", b""
    for name, content in table.entries:
        head += _ENTRY.pack(_BYTES.get(name) or uuid.UUID(name).bytes, offset, len(content))
        offset += len(content)
        body += content
    return head + bytes(_ENTRY.size) + body
