# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is known of the vendors' BIOS settings: data files, read strictly."""

from __future__ import annotations

import pkgutil
import re
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Pattern, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict

VENDORS = ("asrock", "cisco", "dell", "hpe", "lenovo", "nvidia", "supermicro")
STATES = ("tdx", "snp", "none")
# verified: read in the named source; agreed: several independent sources; conflict: they contradict each other; unverified: hearsay.
MARKS = ("verified", "agreed", "conflict", "unverified")


@dataclass(frozen=True)
class Goal:
    """What a setting shall be: one of the spellings ``accepted``, or at least the number ``at_least``. Neither: it is left alone."""

    accepted: Tuple[str, ...] = ()
    at_least: str = ""

    def __bool__(self) -> bool:
        return bool(self.accepted or self.at_least)


@dataclass(frozen=True)
class Setting:
    """A reference setting. ``display`` are names that people read; with ``keys`` it changes the platform's keys or their registration."""

    name: str
    about: str
    display: Tuple[str, ...]
    mark: str
    source: str
    keys: bool = False
    note: str = ""


@dataclass(frozen=True)
class Step:
    """One line of a desired state."""

    setting: str
    goal: Goal
    required: bool


@dataclass(frozen=True)
class Names:
    """What a vendor calls one setting, and the goals that differ there, by desired state."""

    names: Tuple[str, ...]
    goals: Mapping[str, Goal]
    mark: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class Vendor:
    """``settings_path`` is where pending settings lie below Bios if the service does not say. With ``jobs`` they need a job to be applied."""

    key: str
    name: str
    match: Tuple[str, ...]
    settings_path: str
    settings: Mapping[str, Names]
    suffix: Optional[Pattern[str]] = None
    jobs: bool = False
    note: str = ""


def _document(name: str, schema: str) -> Mapping[str, Any]:
    raw = pkgutil.get_data(__name__, "data/%s.json" % name)
    if raw is None:
        raise RedfishError("the data file is missing", where=name, fix="Install the collection again", code="redfish-data")
    document: Mapping[str, Any] = strict.loads(raw, name)
    if document.get("schema") != schema:
        raise RedfishError("unknown schema %r" % (document.get("schema"),), where=name, code="redfish-data")
    return document


def _goal(entry: Mapping[str, Any]) -> Goal:
    return Goal(tuple(entry.get("is", ())), str(entry.get("at_least", "")))


def load_settings() -> Mapping[str, Setting]:
    """All reference settings by their name."""
    return {
        name: Setting(name, entry["about"], tuple(entry["names"]), entry["mark"], entry["source"], bool(entry.get("keys")), entry.get("note", ""))
        for name, entry in _document("settings", "attested.ai/bios-settings/1")["settings"].items()
    }


def load_state(state: str) -> Tuple[Step, ...]:
    """The steps of a desired state, in their order."""
    lines = _document("settings", "attested.ai/bios-settings/1")["states"][state]
    return tuple(Step(line["setting"], _goal(line), bool(line.get("required"))) for line in lines)


def load_vendor(key: str) -> Vendor:
    document = _document(key, "attested.ai/bios-vendor/1")
    settings: Dict[str, Names] = {}
    for name, entry in document["settings"].items():
        goals = {state: _goal(entry[state]) for state in STATES if state in entry}
        settings[name] = Names(tuple(entry["names"]), goals, entry["mark"], entry["source"], entry.get("note", ""))
    suffix = document.get("suffix")
    return Vendor(
        key, document["name"], tuple(document["match"]), document["settings_path"], settings,
        re.compile(suffix + r"\Z") if suffix else None, bool(document.get("jobs")), document.get("note", ""),
    )  # fmt: skip


def vendor_of(claims: Sequence[str]) -> Vendor:
    """The vendor that the first of these texts names (manufacturer of the system first, then what the service says of itself)."""
    vendors = [load_vendor(key) for key in VENDORS]
    for claim in claims:
        words = " ".join(re.findall(r"[a-z0-9]+", claim.lower()[:256]))
        for vendor in vendors:
            # The short name of AMI must not be found inside of another word.
            if any(re.search(r"(?:\A| )%s" % re.escape(word) + (r"(?: |\Z)" if len(word) < 4 else ""), words) for word in vendor.match):
                return vendor
    raise RedfishError(
        "nothing is known of this vendor (%s)" % (", ".join(strict.quoted(claim) for claim in claims if claim) or "it names none"),
        where="vendor", fix="Set vendor to the one whose names it uses, one of %s" % ", ".join(VENDORS), code="redfish-vendor",
    )  # fmt: skip
