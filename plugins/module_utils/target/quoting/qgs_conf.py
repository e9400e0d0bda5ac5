# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""/etc/qgs.conf as QGS reads it (DCAP, server_main.cpp): blanks count nowhere, # begins a line that is no setting, unknown names are passed over,
the last of several counts. What QGS would refuse to start with is refused here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

SOCKET = "/var/run/tdx-qgs/qgs.socket"
PORT_MAX, THREADS_MAX = 65535, 255
_LIMITS = {"port": PORT_MAX, "number_threads": THREADS_MAX}


@dataclass(frozen=True)
class QgsConf:
    """Without ``port`` QGS listens on its Unix socket."""

    port: Optional[int]
    threads: Optional[int]


def parse(text: str, where: str = "") -> QgsConf:
    """Raises FormatError for what makes QGS end at once, or take another port than a person reads."""
    found: Dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, sign, value = _setting(line)
        if not sign:
            continue
        if not name:
            raise FormatError(
                "line %d: there is no name before =" % number, where=where, fix="Remove the line: QGS does not start with it", code="config-invalid"
            )
        if name not in _LIMITS:
            continue
        if name in found:
            raise FormatError("line %d: %s is there twice" % (number, name), where=where, fix="Leave one of them", code="config-invalid")
        if not re.match(r"[0-9]{1,9}\Z", value, re.ASCII) or int(value) > _LIMITS[name]:
            what = "line %d: %s is %s, which is no number from 0 to %d" % (number, name, ascii(value[:40]), _LIMITS[name])
            raise FormatError(what, where=where, fix="Correct it: QGS does not start with it", code="config-invalid")
        found[name] = int(value)
    return QgsConf(found.get("port"), found.get("number_threads"))


def edit(text: str, changes: Mapping[str, Optional[str]]) -> str:
    """The text with these settings: the first line of a name is replaced, further ones go, a new one comes last; None takes all of a name away."""
    lines: List[str] = []
    written = set()
    for line in text.splitlines():
        name, sign, value = _setting(line)
        if not sign or name not in changes:
            lines.append(line)
            continue
        wanted = changes[name]
        if wanted is not None and name not in written:
            lines.append(line if value == wanted else "%s = %s" % (name, wanted))
            written.add(name)
    lines += ["%s = %s" % (name, value) for name, value in changes.items() if value is not None and name not in written]
    return "".join(line + "\n" for line in lines)


def values(text: str) -> Dict[str, str]:
    """All settings, the last of each name."""
    found = [_setting(line) for line in text.splitlines()]
    return {name: value for name, sign, value in found if sign and name}


def _setting(line: str) -> "tuple[str, str, str]":
    bare = re.sub(r"\s", "", line)
    return ("", "", "") if not bare or bare.startswith("#") else bare.partition("=")
