# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Settings in the configuration files of QGS, QCNL and PCCS: set by key, everything else left as it is, and given back later as they were.

Pure: texts in, texts out. The record says what each key was before it was set, and a digest of what it was set to: what somebody else has changed
since is not given back. Of secrets nothing is recorded but the digest.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, HostError
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import commented_json, qgs_conf

QGS, QCNL, PCCS = "qgs", "qcnl", "pccs"
STYLES = (QGS, QCNL, PCCS)
_SCHEMA = "attested.ai/dcap-config/1"
_MASK = "***"
# Shown to nobody, whoever has set them: keys of PCCS, and its data base with the password.
_SECRET = {PCCS: frozenset(("ApiKey", "UserTokenHash", "AdminTokenHash", "mysql"))}
# What PCCS ships where a secret goes.
_EMPTY_SECRET = ""


@dataclass(frozen=True)
class Change:
    """``record`` is None when nothing of ours is left. ``before`` and ``after`` are for people: secrets are masked in them."""

    text: str
    record: Optional[str]
    before: str
    after: str
    changed: bool


def plan(text: str, record: Optional[str], style: str, settings: Mapping[str, Any], secrets: Mapping[str, str], present: bool, where: str = "") -> Change:
    """A setting of None is taken away. Raises FormatError where the file cannot be read, HostError for what cannot be set."""
    if set(settings) & set(secrets):
        raise HostError("%s is a setting and a secret" % ascii(sorted(set(settings) & set(secrets))[0]), where="settings", code="config-options")
    known = _read_record(record, where)
    current = _values(text, style, where)
    wanted: Dict[str, Any] = {**settings, **secrets} if present else {}
    _check(wanted, style)
    changes: Dict[str, Any] = {}
    for key, entry in known.items():
        # Given back, unless it is wanted still, or somebody else has set it since.
        if key not in wanted and _digest(current.get(key, None)) == entry["set"]:
            changes[key] = _EMPTY_SECRET if entry["secret"] else entry.get("before")
    changes.update(wanted)
    after = _edit(text, style, changes, where)
    kept = {}
    for key, value in wanted.items():
        secret = key in secrets
        before = known[key].get("before") if key in known else None if secret else current.get(key)
        kept[key] = {"set": _digest(value), "secret": secret, "before": None if secret else before}
    written = json.dumps({"schema": _SCHEMA, "path": where, "keys": kept}, indent=2, sort_keys=True) + "\n" if kept else None
    masked = set(secrets) | _SECRET.get(style, frozenset()) | {key for key, entry in known.items() if entry["secret"]}
    shown = _shown(text, style, masked, where, ""), _shown(after, style, masked, where, " (another)" if _differ(text, after, style, masked, where) else "")
    return Change(after, written, shown[0], shown[1], after != text or (written or "") != (record or ""))


def secret_values(style: str, settings: Mapping[str, Any]) -> "set[str]":
    """What is secret of settings, whether or not it was given as such: whole values, and of a group (``mysql``) its passwords."""
    found = {settings[key] for key in _SECRET.get(style, frozenset()) & set(settings) if isinstance(settings[key], str)}
    groups = [settings[key] for key in _SECRET.get(style, frozenset()) & set(settings) if isinstance(settings[key], dict)]
    found.update(str(value) for group in groups for name, value in group.items() if "password" in str(name).lower())
    return found - {""}


def _check(wanted: Mapping[str, Any], style: str) -> None:
    for key, value in wanted.items():
        plain = value is None or isinstance(value, (str, int))
        if style == QGS and (not plain or isinstance(value, bool) or any(sign in "%s%s" % (key, value) for sign in "=\n#")):
            raise HostError("%s is no plain value" % ascii(key), where="settings", code="config-options")


def _values(text: str, style: str, where: str) -> Dict[str, Any]:
    if style == QGS:
        return dict(qgs_conf.values(text))
    return commented_json.parse(text, where, trailing_comma=style == PCCS)


def _edit(text: str, style: str, changes: Mapping[str, Any], where: str) -> str:
    if style == QGS:
        after = qgs_conf.edit(text, {key: None if value is None else str(value) for key, value in changes.items()})
        qgs_conf.parse(after, where)
        return after if qgs_conf.values(after) != qgs_conf.values(text) else text
    marked = {key: commented_json.REMOVED if value is None else value for key, value in changes.items()}
    return commented_json.edit(text, marked, where, trailing_comma=style == PCCS)


def _digest(value: Any) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return hashlib.sha256(json.dumps(text, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def _differ(before: str, after: str, style: str, masked: "set[str]", where: str) -> bool:
    left, right = _values(before, style, where), _values(after, style, where)
    return any(left.get(key) != right.get(key) for key in masked)


def _shown(text: str, style: str, masked: "set[str]", where: str, note: str) -> str:
    current = _values(text, style, where)
    return _edit(text, style, {key: _MASK + note for key in masked if current.get(key)}, where)


def _read_record(record: Optional[str], where: str) -> Dict[str, Dict[str, Any]]:
    if record is None:
        return {}
    try:
        document = json.loads(record)
        keys = document["keys"]
        if document["schema"] != _SCHEMA or not all(set(entry) == {"set", "secret", "before"} for entry in keys.values()):
            raise ValueError
        return dict(keys)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FormatError("the record of what was set in it is damaged", where=where, fix="Remove the record; what it was before is then not known",
                          code="record-invalid") from None  # fmt: skip


def record_name(path: str) -> str:
    """A name for the record of the file at ``path``."""
    return "%s-%s.json" % (path.rsplit("/", 1)[-1].lstrip(".") or "config", hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:12])
