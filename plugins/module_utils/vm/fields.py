# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reading a description strictly: each field has a type and a form, unknown fields are errors."""

from __future__ import annotations

import re
from typing import Any, List, Mapping, Optional, Pattern, Sequence, Set, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
# Commas and blanks mean something to QEMU, quotes and percent signs to systemd.
PATH = re.compile(r"/[A-Za-z0-9/_.+:@~-]{1,200}\Z")
BDF = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]\Z")
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
WORDS = re.compile(r"[ -~]*\Z")


class Fields:
    """The members of one mapping. done() at the end finds those that nobody asked for."""

    def __init__(self, given: Any, where: str) -> None:
        if not isinstance(given, Mapping):
            raise FormatError("it is no dictionary", where=where)
        self.given: Mapping[Any, Any] = given
        self.where = where
        self.seen: Set[str] = set()

    def _get(self, name: str) -> Any:
        self.seen.add(name)
        return self.given.get(name)

    def place(self, name: str) -> str:
        return "%s.%s" % (self.where, name) if self.where else name

    def number(self, name: str, low: int, high: int, default: Optional[int] = None) -> int:
        value = self._get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, str)) or not re.match(r"(0x[0-9a-fA-F]+|[0-9]+)\Z", str(value)):
            raise FormatError("%s is no number" % ascii(value)[:40], where=self.place(name))
        number = int(str(value), 0) if str(value).startswith("0x") else int(value)
        if not low <= number <= high:
            raise FormatError("%d is not between %d and %d" % (number, low, high), where=self.place(name))
        return number

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise FormatError("%s is neither true nor false" % ascii(value)[:40], where=self.place(name))
        return value

    def text(self, name: str, form: Pattern[str], default: Optional[str] = None) -> str:
        value = self._get(name)
        if (value is None or value == "") and default is not None:
            return default
        if not isinstance(value, str) or not form.match(value):
            raise FormatError("%s does not have the form that is needed" % ascii(value)[:60], where=self.place(name), fix="It must match %s" % form.pattern)
        if form is PATH and "/../" in value + "/":
            raise FormatError("%s goes up" % value, where=self.place(name), fix="Give the path itself")
        return str(value)

    def choice(self, name: str, choices: Sequence[str], default: Optional[str] = None) -> str:
        value = self._get(name)
        if value is None and default is not None:
            return default
        if value not in choices:
            raise FormatError("%s is none of %s" % (ascii(value)[:40], ", ".join(choices)), where=self.place(name))
        return str(value)

    def listed(self, name: str) -> Tuple[Any, ...]:
        value = self._get(name)
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)):
            raise FormatError("it is no list", where=self.place(name))
        return tuple(value)

    def done(self) -> None:
        unknown: List[str] = sorted(ascii(name) for name in self.given if name not in self.seen)
        if unknown:
            raise FormatError("unknown: %s" % ", ".join(unknown)[:120], where=self.where, fix="Known are %s" % ", ".join(sorted(self.seen)))
