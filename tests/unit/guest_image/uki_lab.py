# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs for UEFI, made by hand, and a second way to count what firmware and stubs measure."""

from __future__ import annotations

import hashlib
import struct

ALIGN = 512


def pe(sections: list[tuple[str, bytes]], certificates: bytes = b"", slack: int = 0, tail: bytes = b"") -> bytes:
    """A PE32+ image with these sections in this order. ``slack``: bytes by which each is longer in the file than in memory."""
    count = len(sections)
    optional = struct.pack("<HBBIIIII", 0x20B, 1, 0, 0, 0, 0, 0x1000, 0x1000) + struct.pack("<QII", 0x140000000, 0x1000, ALIGN) + bytes(16)
    headers = -(-(64 + 4 + 20 + 240 + 40 * count) // ALIGN) * ALIGN
    optional += struct.pack("<II", 0x100000, headers) + struct.pack("<I", 0xDEADBEEF) + struct.pack("<HH", 10, 0) + bytes(32)
    optional += struct.pack("<II", 0, 16)
    body, table, offset, address = b"", b"", headers, 0x1000
    for name, content in sections:
        stored = content + b"\xcc" * slack
        padded = stored.ljust(-(-len(stored) // ALIGN) * ALIGN, b"\0")
        table += struct.pack("<8sIIIIIIHHI", name.encode(), len(content), address, len(padded), offset, 0, 0, 0, 0, 0x40000040)
        body, offset, address = body + padded, offset + len(padded), address + -(-max(len(content), 1) // 0x1000) * 0x1000
    directories = [(0, 0)] * 16
    if certificates:
        directories[4] = (offset + len(tail), len(certificates))
    optional += b"".join(struct.pack("<II", *entry) for entry in directories)
    head = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, count, 0, 0, 0, len(optional), 0x22E) + optional + table
    return head.ljust(headers, b"\0") + body + tail + certificates


def uki(cmdline: str = "ro quiet roothash=" + "ab" * 32, initrd: bytes = b"initrd" * 100, **more: bytes) -> bytes:
    parts = [(".osrel", b"ID=debian\n"), (".cmdline", cmdline.encode()), (".uname", b"6.12"), (".initrd", initrd), (".linux", b"kernel" * 300)]
    return pe([(".text", b"stub"), *parts, *[("." + name, content) for name, content in more.items()]])


def extended(algorithm: str, *measured: bytes) -> str:
    """A register after these were measured, each as its digest."""
    register = bytes(hashlib.new(algorithm).digest_size)
    for data in measured:
        register = hashlib.new(algorithm, register + hashlib.new(algorithm, data).digest()).digest()
    return register.hex()
