# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Strict readers for the documents that people write: policies and reference values.

Every refusal is a PolicyError that names the path inside the document, the offending key and the nearest key that exists.
"""

from __future__ import annotations

import difflib
import re
from datetime import datetime, timezone
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, TypeVar

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, PolicyError

T = TypeVar("T")

LIST_MAX = 4096
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_HEX = re.compile(r"[0-9a-f]+\Z")


def show(value: Any) -> str:
    """A short printable form of a value that somebody else wrote."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def kind(value: Any) -> str:
    """The JSON name of the type of a value."""
    for types, name in (((bool,), "a boolean"), ((int,), "a number"), ((str,), "a string"), ((Mapping,), "a mapping"), ((list, tuple), "a list")):
        if isinstance(value, types):
            return name
    return "null" if value is None else "a " + type(value).__name__


def nearest(name: Any, known: Sequence[str]) -> str:
    """Advice for an unknown name: the closest known one, or all of them."""
    close = difflib.get_close_matches(str(name)[:64].lower(), list(known), n=1, cutoff=0.6)
    return "Did you mean '%s'?" % close[0] if close else "Known are: %s" % ", ".join(known)


class Section:
    """One mapping of a document. ``path`` is where it lies, "" for the top. Unknown keys are refused on construction."""

    def __init__(self, obj: Any, known: Sequence[str], document: str, path: str = "") -> None:
        self.document = document
        self.path = path
        if not isinstance(obj, Mapping):
            raise PolicyError("a mapping was expected, this is %s" % kind(obj), where=self.where())
        for key in obj:
            if not isinstance(key, str) or key not in known:
                raise PolicyError("unknown key %s" % show(key), where=self.where(), fix=nearest(key, known), code="policy-unknown-key")
        self._obj = obj

    def where(self, key: str = "") -> str:
        path = ".".join(part for part in (self.path, key) if part)
        return "%s, %s" % (self.document, path) if path else self.document

    def __contains__(self, key: str) -> bool:
        return key in self._obj

    def raw(self, key: str, default: Any = None) -> Any:
        return self._obj.get(key, default)

    def refuse(self, key: str, what: str, fix: str = "") -> PolicyError:
        return PolicyError(what, where=self.where(key), fix=fix)

    def required(self, key: str) -> Any:
        if key not in self._obj:
            raise self.refuse("", "the key '%s' is missing" % key)
        return self._obj[key]

    def boolean(self, key: str, default: bool) -> bool:
        value = self.raw(key, default)
        if not isinstance(value, bool):
            raise self.refuse(key, "true or false was expected, this is %s: %s" % (kind(value), show(value)))
        return value

    def integer(self, key: str, default: int, maximum: int) -> int:
        return check_integer(self.raw(key, default), maximum, self.where(key))

    def text(self, key: str, default: Optional[str] = None, limit: int = 512) -> str:
        value = self.required(key) if default is None else self.raw(key, default)
        return check_text(value, self.where(key), limit)

    def choice(self, key: str, default: str, choices: Sequence[str]) -> str:
        return check_choice(self.raw(key, default), choices, self.where(key))

    def listed(self, key: str, default: Sequence[Any], read: Callable[[Any, str], T], keep_order: bool = False) -> Tuple[T, ...]:
        """A list whose items ``read(value, where)`` reads. Items that occur twice are refused; sorted, unless ``keep_order``."""
        value = self.raw(key, list(default))
        if not isinstance(value, (list, tuple)):
            raise self.refuse(key, "a list was expected, this is %s: %s" % (kind(value), show(value)))
        if len(value) > LIST_MAX:
            raise self.refuse(key, "%d items, at most %d are allowed" % (len(value), LIST_MAX))
        items: List[T] = []
        for index, item in enumerate(value):
            read_item = read(item, "%s[%d]" % (self.where(key), index))
            if read_item in items:
                raise self.refuse(key, "%s occurs twice" % show(item))
            items.append(read_item)
        return tuple(items) if keep_order else tuple(sorted(items))  # type: ignore[type-var]

    def choices(self, key: str, default: Sequence[str], choices: Sequence[str]) -> Tuple[str, ...]:
        return self.listed(key, default, lambda value, where: check_choice(value, choices, where))

    def optional_list(self, key: str, read: Callable[[Any, str], T]) -> Optional[Tuple[T, ...]]:
        """None, which means "not asked", or a list with at least one item."""
        if self.raw(key) is None:
            return None
        items = self.listed(key, (), read)
        if not items:
            raise self.refuse(key, "an empty list allows nothing", fix="Name at least one value, or leave the key out")
        return items


def check_integer(value: Any, maximum: int, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
        raise PolicyError("a whole number from 0 to %d was expected, this is %s" % (maximum, show(value)), where=where)
    return int(value)


def check_text(value: Any, where: str, limit: int = 512) -> str:
    if not isinstance(value, str):
        raise PolicyError("a string was expected, this is %s: %s" % (kind(value), show(value)), where=where, fix="Put it into quotes")
    if not value.strip() or len(value) > limit:
        raise PolicyError("a string of 1 to %d characters was expected, this one has %d" % (limit, len(value)), where=where)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise PolicyError("the string holds a lone surrogate", where=where) from None
    return str(value)


def check_choice(value: Any, choices: Sequence[str], where: str) -> str:
    if not isinstance(value, str) or value not in choices:
        raise PolicyError("%s is not one of %s" % (show(value), ", ".join(choices)), where=where)
    return str(value)


def check_hex(size: int) -> Callable[[Any, str], str]:
    """A reader of lower-case hexadecimal strings of ``size`` bytes."""

    def read(value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise PolicyError("%d hexadecimal digits were expected, this is %s" % (2 * size, kind(value)), where=where, fix="Put the digits into quotes")
        if len(value) != 2 * size or not _HEX.match(value):
            raise PolicyError("%d lower-case hexadecimal digits were expected, this is %s" % (2 * size, show(value)), where=where)
        return str(value)

    return read


def parse_time(value: Any, where: str) -> datetime:
    """An RFC 3339 time with its offset -> aware UTC datetime. Raises FormatError."""
    match = _RFC3339.match(value) if isinstance(value, str) else None
    if match:
        year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
        offset = match.group(8)
        try:
            naive = datetime(year, month, day, hour, minute, second, int((match.group(7) or "0").ljust(6, "0")[:6]))
            if offset in "Zz":
                return naive.replace(tzinfo=timezone.utc)
            return naive.replace(tzinfo=datetime.strptime(offset, "%z").tzinfo).astimezone(timezone.utc)
        except (ValueError, OverflowError):
            pass
    raise FormatError("%s is not a time of the form 2027-01-31T00:00:00Z" % show(value), where=where, fix="Put it into quotes and give the offset, Z for UTC")


def format_time(moment: datetime) -> str:
    """An aware datetime -> RFC 3339 in UTC, whole seconds (rounded down)."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def merged(defaults: Mapping[str, Any], overlay: Mapping[str, Any]) -> Dict[str, Any]:
    """``overlay`` on top of ``defaults``, one level of nested mappings deep."""
    result = dict(defaults)
    for key, value in overlay.items():
        under = result.get(key)
        result[key] = dict(under, **value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return result
