# SPDX-License-Identifier: GPL-3.0-or-later
"""Firmware images with the tables that OVMF has at its end, for TDX and for SEV-SNP, everything about them to be made wrong."""

from __future__ import annotations

import struct
from uuid import UUID

FOOTER, TDX, SEV, RESET = [UUID(text).bytes_le for text in (
    "96b582de-1fb2-45f7-baea-a366c55a082d", "e47a6535-984a-4798-865e-4685a7bf8ec2", "dc886566-984a-4798-a75e-5585a7bf67cc",
    "00f771de-1a7e-4fcb-890e-68c77e2fb44e",
)]  # fmt: skip
SIZE = 0x20000
# (offset and size in the image, address and size in memory, type, attributes)
SECTIONS = ((0x4000, 0x1C000, 0xFFFE4000, 0x1C000, 0, 1), (0, 0x4000, 0xFFFE0000, 0x4000, 1, 0), (0, 0, 0x810000, 0x2000, 3, 0), (0, 0, 0x809000, 0x1000, 2, 0))


def entry(guid, data):
    return data + struct.pack("<H16s", len(data) + 18, guid)


def image(sections=SECTIONS, signature=b"TDVF", version=1, count=None, length=None, entries=None, footer=FOOTER, total=None, size=SIZE):
    """``size`` bytes, the metadata 1 KiB before the end."""
    body = bytearray((number * 7) % 251 for number in range(size))
    metadata = b"".join(struct.pack("<IIQQII", *section) for section in sections)
    metadata = struct.pack("<4sIII", signature, 16 + len(metadata) if length is None else length, version, len(sections) if count is None else count) + metadata
    place = size - 1024
    body[place : place + len(metadata)] = metadata
    sev = struct.pack("<4sIII", b"ASEV", 16 + 2 * 12, 1, 2) + struct.pack("<III", 0x800000, 0x9000, 1) + struct.pack("<III", 0x80A000, 0x1000, 2)
    body[size - 512 : size - 512 + len(sev)] = sev
    if entries is None:
        entries = entry(TDX, struct.pack("<I", 1024)) + entry(SEV, struct.pack("<I", 512)) + entry(RESET, struct.pack("<I", 0xFFFFB004))
    table = entries + struct.pack("<H16s", len(entries) + 18 if total is None else total, footer)
    body[size - 32 - len(table) : size - 32] = table
    return bytes(body)
