# SPDX-License-Identifier: GPL-3.0-or-later
"""Just enough DER to write certificates and CRLs that a library's builder refuses to write (serial number 0, broken on purpose)."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Iterable, Tuple

Name = Iterable[Tuple[str, str, int]]


def tlv(tag: int, *parts: bytes) -> bytes:
    """One element: tag, definite length, contents (the parts joined)."""
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def sequence(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def integer(value: int) -> bytes:
    """INTEGER of a non-negative value; 0x80 and above get the leading zero byte that keeps them positive."""
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    first, second, *rest = (int(part) for part in dotted.split("."))
    body = b""
    for arc in [first * 40 + second, *rest]:
        digits = [arc & 0x7F]
        while arc > 0x7F:
            arc >>= 7
            digits.insert(0, 0x80 | (arc & 0x7F))
        body += bytes(digits)
    return tlv(0x06, body)


def octets(value: bytes) -> bytes:
    return tlv(0x04, value)


def bits(value: bytes, unused: int = 0) -> bytes:
    return tlv(0x03, bytes([unused]), value)


def boolean(value: bool) -> bytes:
    return tlv(0x01, b"\xff" if value else b"\x00")


def null() -> bytes:
    return b"\x05\x00"


def ia5(text: str) -> bytes:
    return tlv(0x16, text.encode("ascii"))


def time(moment: datetime) -> bytes:
    """UTCTime up to 2049, GeneralizedTime after it (RFC 5280, 4.1.2.5). The moment must carry a time zone."""
    moment = moment.astimezone(timezone.utc)
    if moment.year < 2050:
        return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode("ascii"))
    return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode("ascii"))


def name(attributes: Name) -> bytes:
    """A distinguished name of (type OID, text, string tag), one attribute per RDN, in this order."""
    return sequence(*(tlv(0x31, sequence(oid(kind), tlv(tag, text.encode("utf-8")))) for kind, text, tag in attributes))


def extension(dotted: str, value: bytes, critical: bool = False) -> bytes:
    return sequence(oid(dotted), boolean(True) if critical else b"", octets(value))
