# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A strict decoder of CBOR (RFC 8949): one encoding per value, the whole input, bounded.

Accepted are integers, byte and text strings, arrays, maps, tags, false, true and null, all of definite length. Lengths and numbers
must be in their shortest form (preferred serialisation, RFC 8949 section 4.1, which EAT profiles ask of attesters): a second spelling of
a map key would be a way around the check for duplicates. The order of map keys is free, since attesters write them in the order of
their tables. Floating-point numbers, undefined and other simple values occur in no token that we read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import is_integer

SIZE_MAX = 64 * 1024
# Deepest real nesting: envelope tag, map, CMW array. Inside of a token: list of components, component, list of countersigners.
DEPTH_MAX = 8
ITEMS_MAX = 4096

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_CONSTANTS = {20: False, 21: True, 22: None}


@dataclass(frozen=True)
class Tagged:
    """A value under a tag (major type 6)."""

    tag: int
    value: Any


def decode(data: bytes, where: str = "CBOR") -> Any:
    """Decode one data item that takes the whole of ``data``.

    Arrays become tuples, maps dictionaries (keys: integers and text strings), tagged values Tagged. Raises FormatError, with code
    "duplicate-claim" for a key that occurs twice in a map and "format" for everything else.
    """
    if len(data) > SIZE_MAX:
        raise FormatError("it holds %d bytes, at most %d are allowed" % (len(data), SIZE_MAX), where=where)
    reader = _Reader(bytes(data), where)
    value = reader.item(0)
    if reader.at != len(data):
        raise FormatError("%d bytes follow after the end" % (len(data) - reader.at), where=where)
    return value


class _Reader:
    """One pass over the bytes. ``at`` is the offset of the next byte."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        self.end = len(data)
        self.at = 0
        self.items = 0

    def refuse(self, what: str, code: str = "") -> FormatError:
        return FormatError("%s at offset %d" % (what, self.at), where=self.where, code=code)

    def item(self, depth: int) -> Any:
        self.items += 1
        if depth > DEPTH_MAX or self.items > ITEMS_MAX:
            raise self.refuse("nested deeper than %d levels, or more than %d values," % (DEPTH_MAX, ITEMS_MAX))
        major, argument = self.head()
        if major == _UNSIGNED:
            return argument
        if major == _BYTES:
            return self.take(argument)
        if major == _TEXT:
            return self.text(argument)
        if major == _NEGATIVE:
            return -1 - argument
        if major == _ARRAY:
            return self.array(argument, depth)
        if major == _MAP:
            return self.map(argument, depth)
        if major == _TAG:
            return Tagged(argument, self.item(depth + 1))
        return _CONSTANTS[argument]

    def head(self) -> Tuple[int, int]:
        """(major type, argument) of the next item."""
        if self.at >= self.end:
            raise self.refuse("the input ends inside of a value")
        first = self.data[self.at]
        major, argument = first >> 5, first & 0x1F
        if major == _SIMPLE:
            if argument not in _CONSTANTS:
                raise self.refuse("a floating-point number, a break or an unknown simple value")
        elif argument > 27:
            raise self.refuse("an indefinite length or a reserved form")
        self.at += 1
        if argument < 24:
            return major, argument
        size = 1 << (argument - 24)
        number = int.from_bytes(self.take(size), "big")
        # The least number that needs so many bytes: 24, 2^8, 2^16, 2^32.
        if number < (24 if size == 1 else 1 << (4 * size)):
            raise self.refuse("the number %d is not in its shortest form" % number)
        return major, number

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > self.end:
            raise self.refuse("%d bytes were announced, %d are left" % (size, self.end - self.at))
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def text(self, size: int) -> str:
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError:
            raise self.refuse("a text string that is not UTF-8 ends") from None

    def counted(self, number: int) -> None:
        """Refuse a count that the remaining bytes cannot hold before anything is made of it."""
        if number > self.end - self.at:
            raise self.refuse("%d values were announced, %d bytes are left" % (number, self.end - self.at))

    def array(self, number: int, depth: int) -> Tuple[Any, ...]:
        self.counted(number)
        return tuple([self.item(depth + 1) for _index in range(number)])

    def map(self, number: int, depth: int) -> Dict[Any, Any]:
        self.counted(number)
        result: Dict[Any, Any] = {}
        for _index in range(number):
            key = self.item(depth + 1)
            if not is_integer(key) and not isinstance(key, str):
                raise self.refuse("a map key that is neither an integer nor a text string ends")
            if key in result:
                raise self.refuse("the key %s occurs twice, the second time" % ascii(key)[:40], code="duplicate-claim")
            result[key] = self.item(depth + 1)
        return result


def head(major: int, argument: int) -> bytes:
    """The shortest initial bytes of an item of this major type."""
    if argument < 24:
        return bytes((major << 5 | argument,))
    size = next(size for size in (1, 2, 4, 8) if argument < 1 << (8 * size))
    return bytes((major << 5 | 24 + size.bit_length() - 1,)) + argument.to_bytes(size, "big")


def encode_bytes(data: bytes) -> bytes:
    """The encoding of a byte string, for what a signature covers (RFC 9052 section 4.4)."""
    return head(_BYTES, len(data)) + data
