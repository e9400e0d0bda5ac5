# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Strict readers of JSON text, base64 and hexadecimal text: one spelling per value, everything else is refused."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*\Z")
_HEX = re.compile(r"[0-9a-f]*\Z")


def loads(text: Union[str, bytes], where: str = "") -> Any:
    """Parse JSON text (str, or UTF-8 bytes). Raises FormatError on duplicate members, NaN, infinities and too deep nesting."""
    if isinstance(text, (bytes, bytearray)):
        try:
            text = bytes(text).decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError("it is not UTF-8 text", where=where) from None

    def pairs(members: List[Tuple[str, Any]]) -> Dict[str, Any]:
        result = dict(members)
        if len(result) != len(members):
            names = [name for name, _value in members]
            raise FormatError("the member %s occurs twice" % quoted(next(name for name in names if names.count(name) > 1)), where=where)
        return result

    def constant(name: str) -> Any:
        raise FormatError("%s is no JSON number" % name, where=where)

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError:
        raise FormatError("the JSON is nested too deeply", where=where) from None
    except ValueError as error:
        raise FormatError("it is not JSON (%s)" % error, where=where) from None


def quoted(name: Any) -> str:
    """A short, printable form of a name that somebody else chose."""
    return ascii(name if isinstance(name, str) else str(name))[:66]


def members(obj: Any, required: Sequence[str], optional: Iterable[str] = (), where: str = "") -> Mapping[str, Any]:
    """Return ``obj`` if it is a mapping with every required and no unknown member, else raise FormatError."""
    # A dict is asked for first: asking for a Mapping alone costs more than the rest of it.
    if not isinstance(obj, (dict, Mapping)):
        raise FormatError("it is a %s, an object was expected" % type(obj).__name__, where=where)
    known = list(required) + list(optional)
    for name in obj:
        if name not in known:
            raise FormatError("unknown member %s, known are %s" % (quoted(name), ", ".join(known)), where=where)
    for name in required:
        if name not in obj:
            raise FormatError("the member %s is missing" % name, where=where)
    return obj


def text_of(value: Any, where: str, limit: int = 1024) -> str:
    """Return ``value`` if it is a string of at most ``limit`` characters."""
    if not isinstance(value, str):
        raise FormatError("it is a %s, a string was expected" % type(value).__name__, where=where)
    if len(value) > limit:
        raise FormatError("it is %d characters long, at most %d are allowed" % (len(value), limit), where=where)
    return value


def decode_base64(value: Any, where: str, minimum: int = 0, maximum: int = 1 << 20) -> bytes:
    """Decode canonical standard base64 (with padding) to ``minimum``..``maximum`` bytes."""
    text = text_of(value, where, limit=(maximum + 2) // 3 * 4)
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise FormatError("it is not standard base64", where=where) from None
    # Unused bits that are not zero, or stray padding, would give several spellings of one value.
    if base64.b64encode(data).decode("ascii") != text:
        raise FormatError("it is not canonical base64", where=where)
    return _sized(data, where, minimum, maximum)


def decode_base64url(value: Any, where: str, minimum: int = 0, maximum: int = 1 << 20) -> bytes:
    """Decode canonical base64url without padding (RFC 7515 section 2) to ``minimum``..``maximum`` bytes."""
    text = text_of(value, where, limit=(maximum + 2) // 3 * 4)
    if not _BASE64URL.match(text):
        raise FormatError("it is not base64url without padding", where=where)
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise FormatError("it is not base64url without padding", where=where) from None
    if encode_base64url(data) != text:
        raise FormatError("it is not canonical base64url", where=where)
    return _sized(data, where, minimum, maximum)


def decode_hex(value: Any, where: str, size: int) -> bytes:
    """Decode lower-case hexadecimal text of exactly ``size`` bytes."""
    text = text_of(value, where, limit=2 * size)
    if len(text) != 2 * size or not _HEX.match(text):
        raise FormatError("%d lower-case hexadecimal digits were expected" % (2 * size), where=where)
    return bytes.fromhex(text)


def encode_base64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def encode_base64url(data: bytes) -> str:
    """base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _sized(data: bytes, where: str, minimum: int, maximum: int) -> bytes:
    if not minimum <= len(data) <= maximum:
        raise FormatError("it holds %d bytes, %d to %d are allowed" % (len(data), minimum, maximum), where=where)
    return data


def is_integer(value: Any) -> bool:
    """True for a whole number; a boolean, which Python counts as one, is none."""
    return isinstance(value, int) and not isinstance(value, bool)
