# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write TOML 1.0, as much of it as a key broker's configuration needs. The standard library only reads it."""

from __future__ import annotations

import json
import re
from typing import Any, List, Mapping, Sequence

from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted
from ansible_collections.attested.ai.plugins.module_utils.trustee.problem import TrusteeError

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


def dumps(document: Mapping[str, Any]) -> str:
    """Keys with plain values first, then tables, then arrays of tables: what comes after the first table would belong to that."""
    lines: List[str] = []
    _table(lines, (), document)
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(lines: List[str], path: Sequence[str], table: Mapping[str, Any]) -> None:
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping) and not _is_tables(value)}
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    if path and (plain or not inner):
        lines += ["", "[%s]" % _path(path)]
    lines += ["%s = %s" % (_key(key), _value(value, (*path, key))) for key, value in plain.items()]
    for key, value in inner.items():
        _table(lines, (*path, key), value)
    for key, value in table.items():
        if _is_tables(value):
            for one in value:
                lines += ["", "[[%s]]" % _path((*path, key))]
                lines += ["%s = %s" % (_key(name), _value(item, (*path, key, name))) for name, item in one.items()]


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Tables) for one in value)


class Tables(dict):  # type: ignore[type-arg]
    """One table of an array of tables; other dictionaries in lists are written inline."""


def _value(value: Any, path: Sequence[str]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        if not value.isascii() or not value.isprintable():
            raise TrusteeError("%s has characters that have no place there" % quoted(value), where=".".join(path), code="trustee-config")
        # A string of JSON with printable ASCII in it is one of TOML.
        return json.dumps(value)
    if isinstance(value, (list, tuple)):
        return "[%s]" % ", ".join(_value(one, path) for one in value)
    if isinstance(value, Mapping):
        return "{ %s }" % ", ".join("%s = %s" % (_key(key), _value(item, (*path, key))) for key, item in value.items())
    raise TrusteeError("a %s cannot be written" % type(value).__name__, where=".".join(path), code="trustee-config")


def _path(path: Sequence[str]) -> str:
    return ".".join(_key(part) for part in path)


def _key(key: str) -> str:
    if not _BARE.match(key):
        raise TrusteeError("%s is no name of a setting" % quoted(key), code="trustee-config")
    return key
