# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The AttributeRegistry of a BIOS (Redfish DSP2046): which attributes there are, which values they take, and when they can be written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted

Value = Union[str, int, float, bool, None]
Values = Mapping[str, Value]

ATTRIBUTES_MAX = 20000
# Properties that close an attribute, and what to call that.
CLOSING = {"ReadOnly": "read-only", "Hidden": "hidden", "GrayOut": "grayed out", "Immutable": "immutable"}
# How many properties of others one may depend on, directly or not: each is a step deeper.
_CHAIN = 64
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})", re.ASCII)

# Properties of attributes as far as they are decided for some values; None while one is being decided.
_Flags = Dict[Tuple[str, str], Optional[bool]]


@dataclass(frozen=True)
class Attribute:
    """``flags`` are the closing properties that the registry gives it from the start. ``values`` are pairs of name and display name."""

    name: str
    display: str
    kind: str
    flags: Mapping[str, bool]
    values: Tuple[Tuple[str, str], ...] = ()
    lower: Optional[int] = None
    upper: Optional[int] = None
    step: Optional[int] = None


@dataclass(frozen=True)
class Term:
    attribute: str
    property: str
    condition: str
    value: Value
    joined_by_or: bool


@dataclass(frozen=True)
class Dependency:
    """If the terms hold, ``property`` of ``attribute`` becomes ``value``."""

    attribute: str
    property: str
    value: Value
    terms: Tuple[Term, ...]


@dataclass(frozen=True)
class Registry:
    attributes: Mapping[str, Attribute]
    dependencies: Mapping[Tuple[str, str], Tuple[Dependency, ...]]


def same(left: Value, right: Value) -> bool:
    """Values as services compare them: 1, 1.0 and "1" are one value, true and "true" as well; null is none."""
    if left is None or right is None:
        return left is right
    return _plain(left) == _plain(right)


def spelled(registry: Optional[Registry], values: Dict[str, Value]) -> Dict[str, Value]:
    """The values as the registry spells them: a BIOS may show another case, or what its menu shows."""
    if registry is None:
        return values
    return {name: _spelled(registry.attributes.get(name), value) for name, value in values.items()}


def _spelled(attribute: Optional[Attribute], value: Value) -> Value:
    if attribute is None or attribute.kind != "Enumeration" or any(name == value for name, _title in attribute.values):
        return value
    if any(same(name, value) for name, _title in attribute.values):
        return value
    text = str(value).lower()
    for match in ([name for name, _title in attribute.values if name.lower() == text], [name for name, title in attribute.values if title.lower() == text]):
        if len(match) == 1:
            return match[0]
    return value


def holds(registry: Registry, dependency: Dependency, values: Values, flags: Optional[_Flags] = None) -> bool:
    """Whether the terms hold for these values, from left to right; a term that cannot be decided does not. ``flags`` keeps what was decided."""
    flags = {} if flags is None else flags
    result: Optional[bool] = None
    for term in dependency.terms:
        one = _term_holds(registry, term, values, flags)
        result = one if result is None else (result or one) if term.joined_by_or else (result and one)
    return bool(result)


def closed_by(registry: Registry, name: str, values: Values, observed: Optional[Values] = None) -> str:
    """Why the attribute could not be written if these were the applied values; empty if it could.

    Some services state in the registry what is so now, others what is so from the start. With ``observed``, the values that are applied
    now, ``values`` are a guess at later: then a property that a dependency explains now is not held to be there for ever.
    """
    attribute = registry.attributes.get(name)
    if attribute is None:
        return "not in the registry"
    flags: _Flags = {}
    for prop, word in CLOSING.items():
        dependencies = registry.dependencies.get((name, prop), ())
        verdicts = [dependency for dependency in dependencies if holds(registry, dependency, values, flags)]
        closing = next((dependency for dependency in verdicts if dependency.value is True), None)
        if closing is not None:
            return "%s while %s" % (word, describe(closing))
        if verdicts or not attribute.flags.get(prop, False):
            continue
        if observed is None or not any(dependency.value is True and holds(registry, dependency, observed) for dependency in dependencies):
            return "%s, the registry does not say until when" % word
    return ""


def describe(dependency: Dependency) -> str:
    """The terms for people, such as: EnableTdx is not 'Enabled'."""
    words = {"EQU": "is", "NEQ": "is not", "GTR": ">", "GEQ": ">=", "LSS": "<", "LEQ": "<="}
    parts: List[str] = []
    for term in dependency.terms:
        joint = (" or " if term.joined_by_or else " and ") if parts else ""
        subject = term.attribute if term.property == "CurrentValue" else "%s of %s" % (term.property, term.attribute)
        parts.append("%s%s %s %s" % (joint, subject, words.get(term.condition, term.condition), quoted(term.value)))
    return "".join(parts)


def _term_holds(registry: Registry, term: Term, values: Values, flags: _Flags) -> bool:
    found: Value
    if term.property == "CurrentValue":
        if term.attribute not in values and term.attribute not in registry.attributes:
            return False
        # One that is hidden has a value that nobody may see: surely not the one that opens others.
        found = values.get(term.attribute)
    elif term.property in CLOSING:
        found = _flag(registry, term.attribute, term.property, values, flags)
        if found is None:
            return False
    else:
        return False
    if term.condition in ("EQU", "NEQ"):
        return same(found, term.value) == (term.condition == "EQU")
    left, right = _plain(found), _plain(term.value)
    if not isinstance(left, (int, float)) or not isinstance(right, (int, float)):
        return False
    return {"GTR": left > right, "GEQ": left >= right, "LSS": left < right, "LEQ": left <= right}.get(term.condition, False)


def _flag(registry: Registry, name: str, prop: str, values: Values, flags: _Flags) -> Optional[bool]:
    """Whether an attribute has a closing property for these values. None where that leads back to itself. Decided once: rules of a registry may lead to
    each other any number of times."""
    if (name, prop) in flags:
        return flags[name, prop]
    if len(flags) > _CHAIN:
        return None
    flags[name, prop] = None
    attribute = registry.attributes.get(name)
    dependencies = registry.dependencies.get((name, prop), ())
    verdicts = [bool(dependency.value) for dependency in dependencies if holds(registry, dependency, values, flags)]
    flags[name, prop] = verdicts[-1] if verdicts else bool(attribute and attribute.flags.get(prop))
    return flags[name, prop]


def _plain(value: Value) -> Union[str, int, float, None]:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in ("true", "false"):
            return text.lower()
        return int(text) if _INTEGER.fullmatch(text) else text
    return value


def parse_registry(document: Any, where: str) -> Registry:
    """Read a registry of a service that may be wrong. What has not the right type is left out; what has no form at all is an error."""
    entries = document.get("RegistryEntries") if isinstance(document, dict) else None
    raw = entries.get("Attributes") if isinstance(entries, dict) else None
    if not isinstance(raw, list):
        raise RedfishError(
            "it is no registry of BIOS attributes: it has no list RegistryEntries.Attributes",
            where=where,
            fix="Update the firmware of the management controller",
            code="redfish-registry",
        )
    if len(raw) > ATTRIBUTES_MAX:
        raise RedfishError("it lists %d attributes, at most %d are read" % (len(raw), ATTRIBUTES_MAX), where=where, code="redfish-registry")
    attributes: Dict[str, Attribute] = {}
    for entry in raw:
        attribute = _attribute(entry)
        if attribute is not None:
            attributes[attribute.name] = attribute
    dependencies: Dict[Tuple[str, str], List[Dependency]] = {}
    listed = entries.get("Dependencies") if isinstance(entries, dict) else None
    for entry in (listed if isinstance(listed, list) else [])[:ATTRIBUTES_MAX]:
        dependency = _dependency(entry)
        if dependency is not None:
            dependencies.setdefault((dependency.attribute, dependency.property), []).append(dependency)
    return Registry(attributes, {key: tuple(value) for key, value in dependencies.items()})


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    # What would move a terminal has no place in a message, and no BIOS needs it.
    return value if isinstance(value, str) and len(value) <= 1024 and value.isprintable() else ""


def _number(entry: Mapping[str, Any], key: str) -> Optional[int]:
    value = entry.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _scalar(value: Any) -> Value:
    return value if isinstance(value, (str, int, float, bool)) else None


def _attribute(entry: Any) -> Optional[Attribute]:
    if not isinstance(entry, dict) or not _text(entry, "AttributeName"):
        return None
    listed = entry.get("Value")
    values = tuple(
        (_text(value, "ValueName"), _text(value, "ValueDisplayName"))
        for value in (listed if isinstance(listed, list) else [])
        if isinstance(value, dict) and _text(value, "ValueName")
    )
    flags = {prop: True for prop in CLOSING if entry.get(prop) is True}
    kind = _text(entry, "Type") or "String"
    return Attribute(
        _text(entry, "AttributeName"),
        _text(entry, "DisplayName"),
        kind,
        flags,
        values,
        _number(entry, "LowerBound"),
        _number(entry, "UpperBound"),
        _number(entry, "ScalarIncrement"),
    )


def _dependency(entry: Any) -> Optional[Dependency]:
    rule = entry.get("Dependency") if isinstance(entry, dict) else None
    if not isinstance(rule, dict) or entry.get("Type", "Map") != "Map":
        return None
    listed = rule.get("MapFrom")
    terms = tuple(
        Term(
            _text(term, "MapFromAttribute"),
            _text(term, "MapFromProperty") or "CurrentValue",
            _text(term, "MapFromCondition"),
            _scalar(term.get("MapFromValue")),
            _text(term, "MapTerms").upper() == "OR",
        )
        for term in (listed if isinstance(listed, list) else [])
        if isinstance(term, dict)
    )
    target = _text(rule, "MapToAttribute") or _text(entry, "DependencyFor")
    if not terms or not target:
        return None
    return Dependency(target, _text(rule, "MapToProperty"), _scalar(rule.get("MapToValue")), terms)
