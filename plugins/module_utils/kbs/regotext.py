# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Small pieces of Rego text, and a look at Rego that somebody else wrote.

What a policy of ours says comes as data into it, quoted as JSON, so that no text of a user becomes a rule.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, Iterable, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError

# regorus, the engine of Trustee, reads no longer lines and no larger files.
LINE_MAX = 1024
LINES_MAX = 20000
POLICY_MAX = 1 << 20
_COMMENT_MAX = 400
PACKAGE = re.compile(r"^\s*package\s+([A-Za-z_][\w.]*)\s*$", re.MULTILINE)
_PIECES = re.compile(r'#[^\n]*|"(?:[^"\\\n]|\\.)*"|`[^`]*`|[{}()\[\]]|"|`|[^#"`{}()\[\]]+')
_CLOSES = {"}": "{", ")": "(", "]": "["}
_NIBBLES = "0123456789abcdef"


def literal(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def one_of(place: str, values: Iterable[Any]) -> str:
    """The expression that ``place`` is one of ``values``; an empty list lets nothing through."""
    found = sorted({literal(value) for value in values})
    if not found:
        return "false"
    if len(found) == 1:
        return "%s == %s" % (place, found[0])
    whole = "%s in {%s}" % (place, ", ".join(found))
    return whole if len(whole) < 140 else "%s in {\n    %s,\n  }" % (place, ",\n    ".join(found))


def rule(head: str, lines: Sequence[str]) -> str:
    return "%s if {\n%s\n}" % (head, "\n".join("  " + line for line in lines))


def bits(place: str, size: int, required: int, forbidden: int) -> List[str]:
    """Expressions that hold if the little-endian hexadecimal text at ``place`` (``size`` bytes) has all required and no forbidden bit."""
    lines = []
    for index in range(2 * size):
        # Two digits a byte, the higher half first.
        shift = 8 * (index // 2) + (4 if index % 2 == 0 else 0)
        need, ban = required >> shift & 15, forbidden >> shift & 15
        if need or ban:
            lines.append(one_of("substring(%s, %d, 1)" % (place, index), [_NIBBLES[value] for value in range(16) if value & need == need and not value & ban]))
    return lines


def until(moment: datetime) -> str:
    """The expression that it is not yet ``moment``."""
    return "time.now_ns() < %d" % (int(moment.timestamp()) * 10**9)


def comment(text: str) -> str:
    """One line; whatever is in it stays a comment."""
    return "# " + " ".join("".join(letter if " " <= letter <= "~" else " " for letter in text).split())[:_COMMENT_MAX]


def check(text: str, rules: Sequence[str], where: str) -> List[str]:
    """Refuse what cannot be a policy of this kind: Trustee 0.21 takes everything and then fails at each request. Returns remarks.

    This is no parser of Rego: it looks at the package, at the rules that must be there, and whether brackets and quotes close.
    """
    if len(text.encode("utf-8")) > POLICY_MAX:
        raise KbsError("it is larger than %d bytes" % POLICY_MAX, where=where, code="kbs-policy-text")
    if text.count("\n") >= LINES_MAX:
        raise KbsError("it has more than %d lines, which is what the engine of Trustee reads" % LINES_MAX, where=where, code="kbs-policy-text")
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > LINE_MAX:
            raise KbsError("line %d has %d characters, the engine of Trustee reads %d" % (number, len(line), LINE_MAX), where=where, fix="Break the line",
                           code="kbs-policy-text")
    bare, opened = without_strings(text, where)
    if opened:
        raise KbsError("%s of line %d is not closed" % opened, where=where, code="kbs-policy-text")
    package = PACKAGE.search(bare)
    if package is None or package.group(1) != "policy":
        raise KbsError("it is not of the package policy", where=where, fix="Begin it with: package policy", code="kbs-policy-text")
    for name in rules:
        if not re.search(r"^(?:default\s+)?%s\b" % re.escape(name), bare, re.MULTILINE):
            fix = "Policies of the web that define allowed never allow anything" if name == "allow" else ""
            raise KbsError("it has no rule %s, which is what is asked for" % name, where=where, fix=fix, code="kbs-policy-text")
    return _remarks(bare, rules)


def _remarks(bare: str, rules: Sequence[str]) -> List[str]:
    found = []
    if "allow" in rules and not re.search(r"^default\s+allow\s*:?=\s*false\b", bare, re.MULTILINE):
        found.append("there is no default allow := false")
    if re.search(r"^default\s+allow\s*:?=\s*true\b", bare, re.MULTILINE):
        found.append("its default is to allow: every guest that attests gets everything")
    if "allow" in rules and "input" not in bare:
        found.append("it does not look at the attestation result: every guest that attests gets what it allows")
    elif "allow" in rules and "init_data" not in bare:
        found.append("it does not look at the init-data: any workload on an accepted machine gets what it allows")
    return found


def without_strings(text: str, where: str) -> Tuple[str, Optional[Tuple[str, int]]]:
    """(the text without comments and strings, the bracket that stays open and its line)."""
    kept: List[str] = []
    stack: List[Tuple[str, int]] = []
    line = 1
    for piece in _PIECES.findall(text):
        if piece in ('"', "`"):
            raise KbsError("the quote of line %d is not closed" % line, where=where, code="kbs-policy-text")
        if piece in _CLOSES.values():
            stack.append((piece, line))
        elif piece in _CLOSES:
            if not stack or stack[-1][0] != _CLOSES[piece]:
                raise KbsError("%s in line %d closes nothing" % (piece, line), where=where, code="kbs-policy-text")
            stack.pop()
        kept.append(" " if piece[0] in '#"`' else piece)
        line += piece.count("\n")
    return "".join(kept), stack[-1] if stack else None
