# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""RFC 8785 canonical JSON, for the values that this collection hashes and signs.

Floating-point numbers are refused: nothing we sign holds one, and their shortest form is where implementations differ.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

# RFC 8785 section 3.2.2.3 takes numbers as IEEE 754 doubles: beyond this range integers stop being exact.
MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 64


def canonicalize(value: Any) -> bytes:
    """Return the canonical UTF-8 bytes of ``value``.

    ``value`` is built of dict (with str keys), list, tuple, str, bool, int within +-(2**53 - 1) and None, nested at most MAX_DEPTH deep.
    Raises FormatError on any other type, on an integer out of range and on a lone surrogate (RFC 8785 section 3.2.2.2).
    """
    parts: List[str] = []
    _write(value, parts, 0)
    try:
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError("a string holds a lone surrogate, which has no canonical JSON form") from None


def _write(value: Any, parts: List[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise FormatError("the value is nested deeper than %d levels" % MAX_DEPTH)
    # bool is a subclass of int: it has to be recognised first.
    if value is None:
        parts.append("null")
    elif isinstance(value, bool):
        parts.append("true" if value else "false")
    elif isinstance(value, str):
        parts.append(_string(value))
    elif isinstance(value, int):
        parts.append(_integer(value))
    elif isinstance(value, dict):
        _write_object(value, parts, depth)
    elif isinstance(value, (list, tuple)):
        _write_array(value, parts, depth)
    else:
        raise FormatError("a %s has no canonical JSON form here" % type(value).__name__)


def _write_object(value: Dict[Any, Any], parts: List[str], depth: int) -> None:
    for name in value:
        if not isinstance(name, str):
            raise FormatError("an object has a member name of type %s, a string was expected" % type(name).__name__)
    parts.append("{")
    # RFC 8785 section 3.2.3 orders by UTF-16 code units, which for characters beyond the BMP differs from Python's code point order.
    for index, name in enumerate(sorted(value, key=_utf16)):
        parts.append("," if index else "")
        parts.append(_string(name))
        parts.append(":")
        _write(value[name], parts, depth + 1)
    parts.append("}")


def _write_array(value: Any, parts: List[str], depth: int) -> None:
    parts.append("[")
    for index, element in enumerate(value):
        parts.append("," if index else "")
        _write(element, parts, depth + 1)
    parts.append("]")


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-be", "surrogatepass")


def _string(text: str) -> str:
    # json escapes exactly as RFC 8785 section 3.2.2.2 asks (\b \t \n \f \r, \u00xx in lower case) once ensure_ascii is off.
    return json.dumps(text, ensure_ascii=False)


def _integer(value: int) -> str:
    if not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise FormatError("an integer lies outside +-(2**53 - 1), where JSON numbers are exact")
    return "%d" % value
