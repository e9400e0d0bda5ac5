# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The line of containerd's configuration that names further files, edited so that every other word of the file stays."""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List

from ansible_collections.attested.ai.plugins.module_utils.kubernetes.kata import KataError
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.kata_node import toml

# Says that the whole line is ours.
_MARK = "# attested.ai"
_HEAD = "version = 3\n"
_LINE = re.compile(r"^[ \t]*imports[ \t]*=[ \t]*\[([^\[\]\n]*)\][ \t]*(#[^\n]*)?$", re.MULTILINE)
_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)


@dataclass(frozen=True)
class Edit:
    """``after`` is empty where the file held nothing but what was added."""

    before: str
    after: str
    needed: bool


def fits(text: str, where: str) -> None:
    """Beside a file of version 3, containerd 2.2 drops what one of version 2 says, in silence (2.3 does not). Raises KataError."""
    schema = toml(text, where).get("version")
    if text.strip() and schema not in (3, 4):
        raise KataError("its version is %s, and what it says of pods would be lost beside a file of version 3" % ascii(schema), where=where,
                        fix="Bring it to version 3: containerd config migrate prints it")  # fmt: skip


def covers(dump: str, target: str, where: str) -> bool:
    """Whether containerd reads ``target`` by what ``containerd config dump`` says, without a word in its own file."""
    if not dump.strip():
        return False
    return any(fnmatch.fnmatchcase(target, _absolute(one, where)) for one in _imports(toml(dump, "containerd config dump"), where))


def added(text: str, target: str, where: str) -> Edit:
    """The file with ``target`` among its imports. An empty one gets the version that containerd 2 writes. Raises KataError."""
    document = toml(text, where)
    if any(fnmatch.fnmatchcase(target, _absolute(one, where)) for one in _imports(document, where)):
        return Edit(text, text, False)
    if "imports" in document:
        match = _LINE.search(text, 0, _root_end(text))
        if match is None:
            raise _by_hand(target, where)
        inner = match.group(1).strip().rstrip(",").strip()
        line = 'imports = [%s"%s"]' % (inner + ", " if inner else "", target) + (" " + match.group(2) if match.group(2) else "")
        after = text[: match.start()] + line + text[match.end():]
    else:
        line = 'imports = ["%s"]  %s\n' % (target, _MARK)
        after = _HEAD + line if not text.strip() else line + text
    _same(document, toml(after, where), target, where)
    return Edit(text, after, True)


def removed(text: str, target: str, where: str) -> Edit:
    """Without it; a line that is ours goes as a whole. Raises KataError."""
    document = toml(text, where)
    if target not in _imports(document, where):
        return Edit(text, text, False)
    match = _LINE.search(text, 0, _root_end(text))
    if match is None:
        raise _by_hand(target, where)
    rest = [one for one in _imports(document, where) if one != target]
    if not rest and match.group(2) == _MARK:
        head, tail = text[: match.start()], text[match.end() + 1:]
        # So begins a file that was made for this line; one that was there before has the line at its beginning.
        after = "" if (head, tail) == (_HEAD, "") else head + tail
    else:
        quoted = r'(?P<before>,\s*)?(["\'])%s\2(?P<after>\s*,)?' % re.escape(target)
        words = re.sub(quoted, lambda found: "," if found.group("before") and found.group("after") else "", match.group(1))
        after = text[: match.start(1)] + words.strip() + text[match.end(1):]
    _same(toml(after, where), document, target, where)
    return Edit(text, after, True)


def _imports(document: Dict[str, Any], where: str) -> List[str]:
    found = document.get("imports", [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise KataError("imports is no list of files", where=where)
    return found


def _absolute(pattern: str, where: str) -> str:
    return pattern if os.path.isabs(pattern) else os.path.join(os.path.dirname(where), pattern)


def _root_end(text: str) -> int:
    match = _TABLE.search(text)
    return match.start() if match else len(text)


def _same(less: Dict[str, Any], more: Dict[str, Any], target: str, where: str) -> None:
    """Nothing but the import may have changed, read by the parser and not by this file."""
    ours = [one for one in more.get("imports", []) if one != target]
    plain = ({key: value for key, value in one.items() if key != "imports"} for one in (less, more))
    first, second = plain
    if less.get("imports", []) != ours or (first != second and first):
        raise _by_hand(target, where)


def _by_hand(target: str, where: str) -> KataError:
    return KataError("its imports cannot be changed safely", where=where, fix='Write the list on one line, or change it by hand: imports = ["%s"]' % target)
