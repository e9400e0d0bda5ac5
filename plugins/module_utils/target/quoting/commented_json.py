# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""JSON with comments, as QCNL and PCCS read it: parsed strictly, and edited by key so that everything else keeps its bytes.

QCNL's reader (RapidJSON) takes // and /* */ comments, PCCS's (JSON5) a comma after the last member as well. Only members of the outermost object are edited.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

SIZE_MAX = 1 << 20
# What may stand between tokens: white space and comments. A comment that does not end is left over, and found as garbage.
_SPACE = re.compile(r"(?:[ \t\r\n]|//[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_SCALAR = re.compile(r"-?[0-9][0-9.eE+-]*|true|false|null")


class _Removed:
    def __repr__(self) -> str:
        return "REMOVED"


REMOVED = _Removed()


@dataclass(frozen=True)
class Member:
    """One member of the outermost object: where its key begins, and where its value begins and ends."""

    key: str
    start: int
    value_start: int
    end: int
    value: Any


@dataclass(frozen=True)
class Document:
    """``commas`` has the place of the comma after each member, -1 where there is none. ``open`` is behind {, ``close`` before }."""

    members: Tuple[Member, ...]
    commas: Tuple[int, ...]
    open: int
    close: int

    @property
    def values(self) -> Dict[str, Any]:
        return {member.key: member.value for member in self.members}


def parse(text: str, where: str = "", trailing_comma: bool = False) -> Dict[str, Any]:
    """The members. Raises FormatError with the line."""
    return read(text, where, trailing_comma).values


def read(text: str, where: str = "", trailing_comma: bool = False) -> Document:
    if len(text) > SIZE_MAX:
        raise FormatError("it is larger than %d characters" % SIZE_MAX, where=where, code="config-invalid")
    reader = _Reader(text, where, trailing_comma)
    try:
        return reader.document()
    except RecursionError:
        raise reader.error(0, "it is nested too deeply") from None


def edit(text: str, changes: Mapping[str, Any], where: str = "", trailing_comma: bool = False) -> str:
    """The text with these members set, or taken away (REMOVED). Members that hold the value already are left as they are."""
    for key, value in changes.items():
        document = read(text, where, trailing_comma)
        text = _edited(text, document, key, value)
    result = read(text, where, trailing_comma).values
    for key, value in changes.items():
        if (key in result) if value is REMOVED else (key not in result or not same(result[key], value)):
            raise FormatError("%s could not be set in it" % key, where=where, fix="Set it by hand", code="config-invalid")
    return text


def same(left: Any, right: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def _edited(text: str, document: Document, key: str, value: Any) -> str:
    index = next((number for number, member in enumerate(document.members) if member.key == key), -1)
    if index < 0:
        return text if value is REMOVED else _inserted(text, document, key, value)
    member = document.members[index]
    if value is REMOVED:
        return _removed(text, document, index)
    if same(member.value, value):
        return text
    return text[: member.value_start] + json.dumps(value) + text[member.end :]


def _inserted(text: str, document: Document, key: str, value: Any) -> str:
    new = "%s: %s" % (json.dumps(key), json.dumps(value))
    if not document.members:
        return text[: document.open] + "\n  " + new + ("" if text[document.open :].startswith("\n") else "\n") + text[document.open :]
    last = document.members[-1]
    line = text.rfind("\n", 0, last.start) + 1
    indent = re.match(r"[ \t]*", text[line : last.start])
    space = "\n" + (indent.group() if indent else "") if line else " "
    comma = document.commas[-1]
    if comma >= 0:
        return text[: comma + 1] + space + new + "," + text[comma + 1 :]
    return text[: last.end] + "," + space + new + text[last.end :]


def _removed(text: str, document: Document, index: int) -> str:
    """Without the member and one of the commas beside it. Comments stay: they may be about something else."""
    member = document.members[index]
    cuts = [(member.start, member.end)]
    before = document.commas[index - 1] if index > 0 else -1
    # Some write the comma in front, at the beginning of a member's line.
    in_front = before >= 0 and "\n" not in text[before : member.start]
    if before >= 0 and (in_front or document.commas[index] < 0):
        cuts.append((before, before + 1))
    elif document.commas[index] >= 0:
        cuts.append((document.commas[index], document.commas[index] + 1))
    for start, end in sorted(cuts, reverse=True):
        text = text[:start] + text[end:]
    # A line that held nothing else goes, too.
    line = text.rfind("\n", 0, min(cuts)[0]) + 1
    end = text.find("\n", line)
    if end >= 0 and not text[line:end].strip():
        text = text[:line] + text[end + 1 :]
    return text


class _Reader:
    def __init__(self, text: str, where: str, trailing_comma: bool) -> None:
        self._text, self._where, self._trailing = text, where, trailing_comma

    def error(self, place: int, what: str) -> FormatError:
        line = self._text.count("\n", 0, place) + 1
        return FormatError("line %d: %s" % (line, what), where=self._where, fix="Correct it, or take the file that the package ships", code="config-invalid")

    def _skip(self, place: int) -> int:
        match = _SPACE.match(self._text, place)
        return match.end() if match else place

    def _expect(self, place: int, character: str) -> int:
        if self._text[place : place + 1] != character:
            raise self.error(place, "%s was expected" % character)
        return place + 1

    def document(self) -> Document:
        start = self._expect(self._skip(0), "{")
        members, commas, close = self._members(start)
        if self._skip(close + 1) != len(self._text):
            raise self.error(close + 1, "something follows the object")
        return Document(members, commas, start, close)

    def _members(self, place: int) -> Tuple[Tuple[Member, ...], Tuple[int, ...], int]:
        members: List[Member] = []
        commas: List[int] = []
        open_ = place
        while True:
            place = self._skip(place)
            if place >= len(self._text):
                raise self.error(open_, "the object that begins here has no end")
            if self._text[place : place + 1] == "}":
                if commas and commas[-1] >= 0 and not self._trailing:
                    raise self.error(place, "a comma stands before }")
                return tuple(members), tuple(commas), place
            if commas and commas[-1] < 0:
                raise self.error(place, "a comma or } was expected")
            start = place
            key, place = self._string(place)
            if any(member.key == key for member in members):
                raise self.error(start, "%s is there twice" % ascii(key))
            place = self._skip(self._expect(self._skip(place), ":"))
            value, end = self._value(place)
            members.append(Member(key, start, place, end, value))
            after = self._skip(end)
            commas.append(after if self._text[after : after + 1] == "," else -1)
            place = after + 1 if commas[-1] >= 0 else after

    def _string(self, place: int) -> Tuple[str, int]:
        match = _STRING.match(self._text, place)
        if match is None:
            raise self.error(place, "a text in double quotes was expected")
        try:
            return str(json.loads(match.group())), match.end()
        except ValueError:
            raise self.error(place, "this text is no JSON") from None

    def _value(self, place: int) -> Tuple[Any, int]:
        character = self._text[place : place + 1]
        if character == '"':
            return self._string(place)
        if character == "{":
            members, _commas, close = self._members(place + 1)
            return {member.key: member.value for member in members}, close + 1
        if character == "[":
            return self._list(place + 1)
        match = _SCALAR.match(self._text, place)
        try:
            return json.loads(match.group() if match else ""), match.end() if match else place
        except ValueError:
            raise self.error(place, "a value was expected") from None

    def _list(self, place: int) -> Tuple[List[Any], int]:
        items: List[Any] = []
        comma = True
        while True:
            place = self._skip(place)
            if self._text[place : place + 1] == "]":
                if items and comma and not self._trailing:
                    raise self.error(place, "a comma stands before ]")
                return items, place + 1
            if not comma:
                raise self.error(place, "a comma or ] was expected")
            value, place = self._value(place)
            items.append(value)
            place = self._skip(place)
            comma = self._text[place : place + 1] == ","
            place += 1 if comma else 0
