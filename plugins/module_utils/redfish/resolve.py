# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From settings that people know to attributes and values that one BIOS knows. Nothing is written that the registry does not name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import List, Mapping, Optional, Set, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.redfish.maps import STATES, Goal, Names, Setting, Vendor, load_settings, load_state
from ansible_collections.attested.ai.plugins.module_utils.redfish.registry import Attribute, Registry, Value, Values, same

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_CANDIDATES = 12
# What changes the platform's keys or their registration, under whatever name a vendor gives it.
_KEYS = re.compile(r"sgx.*factoryreset|autompregistration|(?:sgx|mp).*autoregistration")
# What YAML reads as true and false where no quotes are.
_WORDS = {True: ("On", "Enabled", "Enable", "Yes", "True"), False: ("Off", "Disabled", "Disable", "No", "False")}


@dataclass(frozen=True)
class Want:
    """``attribute`` shall have ``value``. ``how`` the name was found: exact, suffixed, spelling, display or given."""

    attribute: str
    value: Value
    setting: str = ""
    how: str = "given"
    mark: str = ""


@dataclass(frozen=True)
class Unresolved:
    setting: str
    reason: str
    candidates: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Desired:
    """``overrides`` replace the goals of reference settings (null leaves one alone), ``names`` pin their attributes, ``attributes`` are added."""

    state: Optional[str]
    overrides: Mapping[str, Value]
    names: Mapping[str, str]
    attributes: Mapping[str, Value]
    keys_confirmed: bool = False


def normal(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def find_attribute(registry: Registry, vendor: Vendor, names: Tuple[str, ...], display: Tuple[str, ...]) -> Tuple[Tuple[str, ...], str]:
    """The attributes that may be meant, and how they were found; more than one is for a person to choose from."""
    known = registry.attributes
    exact = tuple(name for name in names if name in known)
    if exact:
        return exact, "exact"
    if vendor.suffix is not None:
        suffixed = tuple(name for name in known if any(name.startswith(stem) and vendor.suffix.match(name[len(stem) :]) for stem in names))
        if suffixed:
            return suffixed, "suffixed"
    wanted = {normal(name) for name in names}
    spelled = tuple(name for name in known if normal(name) in wanted or (vendor.suffix is not None and normal(vendor.suffix.sub("", name)) in wanted))
    if spelled:
        return spelled, "spelling"
    titles = {normal(title) for title in display}
    return tuple(name for name, attribute in known.items() if attribute.display and normal(attribute.display) in titles), "display"


def candidates(registry: Registry, setting: Setting, names: Tuple[str, ...]) -> Tuple[str, ...]:
    """Attributes that share words with the setting, the nearest first: what a person would look through."""
    words: Set[str] = set()
    for text in (setting.about, *setting.display, *names):
        words.update(
            word for word in re.findall(r"[a-z]{3,}", re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower()) if word not in ("the", "and", "that", "enable")
        )
    scored = []
    for attribute in registry.attributes.values():
        text = normal(attribute.name) + " " + attribute.display.lower()
        score = sum(word in text for word in words)
        if score:
            scored.append((-score, attribute.name))
    return tuple(name for _score, name in sorted(scored)[:_CANDIDATES])


def resolve(registry: Registry, current: Values, vendor: Vendor, desired: Desired) -> Tuple[Tuple[Want, ...], Tuple[Unresolved, ...]]:
    """What shall be, in the words of this BIOS, and which settings it does not seem to have. Raises RedfishError where a required one lacks."""
    settings = load_settings()
    _check_names(desired, settings)
    wants: List[Want] = []
    missing: List[Unresolved] = []
    for step in load_state(desired.state) if desired.state else ():
        known = vendor.settings.get(step.setting)
        goal = known.goals.get(desired.state or "", step.goal) if known else step.goal
        if step.setting in desired.overrides:
            override = desired.overrides[step.setting]
            goal = Goal() if override is None else Goal(_WORDS[override] if isinstance(override, bool) else (str(override),))
        if not goal:
            continue
        found = _want(registry, current, vendor, settings[step.setting], known, goal, desired)
        if isinstance(found, Want):
            wants.append(found)
        elif step.required or step.setting in desired.overrides:
            raise _lacking(found, vendor)
        elif known or settings[step.setting].mark != "unverified":
            # One that a single vendor has is no lack elsewhere.
            missing.append(found)
    for name, value in desired.attributes.items():
        wants = [want for want in wants if want.attribute != name]
        wants.append(Want(name, _given(registry, name, value)))
    _check_keys(wants, vendor, desired, settings, registry)
    if desired.state == "none":
        # What the BIOS does not show cannot be on.
        missing += [Unresolved(want.setting or want.attribute, "not shown now", (want.attribute,)) for want in wants if want.attribute not in current]
        wants = [want for want in wants if want.attribute in current]
    return tuple({want.attribute: want for want in wants}.values()), tuple(missing)


def _want(registry: Registry, current: Values, vendor: Vendor, setting: Setting, known: Optional[Names], goal: Goal, desired: Desired) -> "Want | Unresolved":
    names = known.names if known else ()
    if setting.name in desired.names:
        names = (desired.names[setting.name],)
        found, how = tuple(name for name in names if name in registry.attributes), "given"
    else:
        found, how = find_attribute(registry, vendor, names, setting.display)
    if len(found) > 1:
        return Unresolved(setting.name, "several attributes match", found)
    if not found:
        return Unresolved(setting.name, "no attribute of this name", candidates(registry, setting, names + (known.names if known else ())))
    attribute = registry.attributes[found[0]]
    value, reason = choose_value(attribute, goal, current.get(attribute.name))
    if reason:
        return Unresolved(setting.name, "%s: %s" % (attribute.name, reason), (attribute.name,))
    return Want(attribute.name, value, setting.name, how, known.mark if known else setting.mark)


def choose_value(attribute: Attribute, goal: Goal, now: Value) -> Tuple[Value, str]:
    """The value in this attribute's own spelling, or why there is none. What satisfies already stays."""
    if goal.at_least:
        minimum = _size(goal.at_least)
        if minimum is not None and (_size(now) or -1) >= minimum:
            return now, ""
        if attribute.kind == "Enumeration":
            sizes = sorted(
                (size, name) for name, size in ((name, _size(name)) for name, _title in attribute.values) if size is not None and size >= (minimum or 0)
            )
            return (sizes[0][1], "") if sizes else (None, "no value of at least %s, it knows %s" % (goal.at_least, _known(attribute)))
        if attribute.kind == "Integer" and minimum is not None:
            return _typed(attribute, _next(attribute, minimum))
        return _typed(attribute, goal.at_least)
    for text in goal.accepted:
        value, reason = _typed(attribute, text)
        if not reason:
            return value, ""
    return None, reason


def _next(attribute: Attribute, minimum: int) -> int:
    """The smallest number from ``minimum`` on that the attribute takes, as far as its lower bound and its steps go."""
    lower, step = attribute.lower or 0, attribute.step or 1
    return lower if minimum <= lower else lower + -(-(minimum - lower) // max(step, 1)) * max(step, 1)


def _typed(attribute: Attribute, text: Value) -> Tuple[Value, str]:
    if attribute.kind == "Enumeration":
        for word in _WORDS[text] if isinstance(text, bool) else (str(text),):
            value, reason = _enumerated(attribute, word)
            if not reason:
                return value, ""
        return None, reason if not isinstance(text, bool) else "YAML read it as %s; put it in quotes. It knows %s" % (text, _known(attribute))
    if attribute.kind == "Integer":
        size = _size(text)
        if size is None or isinstance(text, bool):
            return None, "it takes an integer, not %r" % (text,)
        if (attribute.lower is not None and size < attribute.lower) or (attribute.upper is not None and size > attribute.upper):
            return None, "%d is not within %s and %s" % (size, attribute.lower, attribute.upper)
        if attribute.step and (size - (attribute.lower or 0)) % attribute.step:
            return None, "%d is no multiple of %d above %d" % (size, attribute.step, attribute.lower or 0)
        return size, ""
    if attribute.kind == "Boolean":
        word = str(text).lower()
        truth = {"true": True, "enabled": True, "false": False, "disabled": False}.get(word)
        return (truth, "") if truth is not None else (None, "it takes true or false, not %r" % (text,))
    if attribute.kind == "Password" or "password" in attribute.name.lower() and attribute.kind == "String":
        return None, "it is a password; those are set by other means than attributes"
    if isinstance(text, bool):
        return None, "YAML read it as %s; put it in quotes" % text
    return str(text), ""


def _enumerated(attribute: Attribute, text: str) -> Tuple[Value, str]:
    names = [name for name, _title in attribute.values]
    if text in names:
        return text, ""
    # A vendor may repeat the attribute's name in front of each value; people write what the menu shows.
    for match in (
        [name for name in names if name == attribute.name + text],
        [name for name, title in attribute.values if title and title.lower() == text.lower()],
        [name for name in names if normal(name) in (normal(text), normal(attribute.name + text))],
    ):
        if len(match) == 1:
            return match[0], ""
    return None, "it has no value %r, it knows %s" % (text, _known(attribute))


def _given(registry: Registry, name: str, value: Value) -> Value:
    attribute = registry.attributes.get(name)
    if attribute is None:
        near = [known for known in registry.attributes if normal(name) in normal(known) or normal(known) in normal(name)][:_CANDIDATES]
        raise RedfishError(
            "this BIOS has no such attribute",
            where="attributes.%s" % name,
            fix="Similar names: %s" % ", ".join(near) if near else "Look the name up in its registry",
            code="redfish-attribute",
        )
    typed, reason = _typed(attribute, value)
    if reason:
        raise RedfishError(reason, where="attributes.%s" % name, code="redfish-value")
    return typed


def _known(attribute: Attribute) -> str:
    return ", ".join(name for name, _title in attribute.values[:_CANDIDATES]) or "none"


def _size(value: Value) -> Optional[int]:
    """'2G', '128 MB', 7 or '7' as a number."""
    if isinstance(value, bool) or value is None:
        return None
    match = re.match(r"\s*([0-9]{1,15})\s*([KMGT]?)(?:i?B)?\s*\Z", str(value), re.ASCII | re.IGNORECASE)
    return int(match.group(1)) * _UNITS[match.group(2).upper()] if match else None


def _lacking(found: Unresolved, vendor: Vendor) -> RedfishError:
    return RedfishError(
        "%s (%s)" % (found.reason, vendor.name), where="setting %s" % found.setting,
        fix=("Name the right one with names: {%s: ...}; candidates are %s" % (found.setting, ", ".join(found.candidates)))
        if found.candidates else "This machine may not have it: see its manual, and update its BIOS",
        code="redfish-unresolved",
    )  # fmt: skip


def _check_names(desired: Desired, settings: Mapping[str, Setting]) -> None:
    for option, given in (("overrides", desired.overrides), ("names", desired.names)):
        unknown = sorted(set(given) - set(settings))
        if unknown:
            raise RedfishError("no such setting, known are %s" % ", ".join(settings), where="%s.%s" % (option, unknown[0]), code="redfish-setting")
        # What the desired state does not speak of would be ignored in silence.
        unused = sorted(set(given) - {step.setting for step in (load_state(desired.state) if desired.state else ())})
        if unused:
            raise RedfishError(
                "the state %s has no such setting" % (desired.state or "(none given)"),
                where="%s.%s" % (option, unused[0]),
                fix="Leave it out, or give its attribute under attributes; states are %s" % ", ".join(STATES),
                code="redfish-setting",
            )


def _check_keys(wants: List[Want], vendor: Vendor, desired: Desired, settings: Mapping[str, Setting], registry: Registry) -> None:
    """Settings that make new platform keys, or spend the manifest, are refused unless confirmed: they cannot be taken back."""
    guarded = {
        name for name, attribute in registry.attributes.items() if any(_KEYS.search(normal(text)) for text in (name, attribute.display))
    }  # fmt: skip
    for setting in settings.values():
        if setting.keys:
            known = vendor.settings.get(setting.name)
            guarded.update(find_attribute(registry, vendor, known.names if known else (), setting.display)[0])
    for want in wants:
        off = same(want.value, "Disabled") or same(want.value, "Off") or want.value is False
        if (want.attribute in guarded or (want.setting and settings[want.setting].keys)) and not off and not desired.keys_confirmed:
            raise RedfishError(
                "it changes the platform's keys or spends its registration manifest, which cannot be undone",
                where=want.attribute,
                fix="Save the manifest first, then set keys_confirm",
                code="redfish-unconfirmed",
            )
