# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What each owner did to a line that is edited in place, so that it can be taken back, and what each wants, so that nobody takes it from another."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Dict, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.system import System
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.words import Wish

RECORDS = "/var/lib/attested-ai/kernel-cmdline"
_KEYS = ("added", "removed", "present", "absent")


@dataclass(frozen=True)
class Record:
    """``added`` and ``removed`` were so by this owner's hand. ``present`` and ``absent`` are its wish, which others may have fulfilled."""

    added: Tuple[str, ...] = ()
    removed: Tuple[str, ...] = ()
    applied: bool = True
    present: Tuple[str, ...] = ()
    absent: Tuple[str, ...] = ()

    def wants(self, word: str) -> bool:
        return word in self.present

    def refuses(self, word: str) -> bool:
        return Wish("", self.present, self.absent).unwanted(word)

    def undone(self, words: Sequence[str], others: Mapping[str, "Record"]) -> Tuple[str, ...]:
        """The line without what this owner did, as far as no other owner wants it so."""
        kept = [word for word in words if word not in self.added or any(other.wants(word) for other in others.values())]
        back = [word for word in self.removed if word not in kept and not any(other.refuses(word) for other in others.values())]
        return tuple(kept + back)

    def heirs(self, others: Mapping[str, "Record"], keeps: Wish) -> Dict[str, "Record"]:
        """Other owners' records with what passes to them, because they want it too and this owner, who now wants ``keeps``, does not any more."""
        changed: Dict[str, Record] = {}
        for word in self.added:
            heir = next((owner for owner, other in sorted(others.items()) if other.wants(word)), None)
            if heir is not None and word not in keeps.present:
                known = changed.get(heir, others[heir])
                changed[heir] = replace(known, added=tuple(dict.fromkeys([*known.added, word])))
        for word in self.removed:
            heir = next((owner for owner, other in sorted(others.items()) if other.refuses(word)), None)
            if heir is not None and not keeps.unwanted(word):
                known = changed.get(heir, others[heir])
                changed[heir] = replace(known, removed=tuple(dict.fromkeys([*known.removed, word])))
        return {owner: record for owner, record in changed.items() if record != others[owner]}

    def text(self) -> str:
        return json.dumps({**{key: list(getattr(self, key)) for key in _KEYS}, "applied": self.applied}, indent=2) + "\n"


def record_path(owner: str) -> str:
    return "%s/%s.json" % (RECORDS, owner)


def read_record(system: System, owner: str) -> Optional[Record]:
    text = system.read(record_path(owner))
    if text is None:
        return None
    try:
        data = json.loads(text)
        # Records of earlier versions have no wish.
        words = [tuple(data[key] if key in ("added", "removed") else data.get(key, ())) for key in _KEYS]
        if not all(isinstance(word, str) for listed in words for word in listed) or not isinstance(data["applied"], bool):
            raise ValueError
        return Record(words[0], words[1], data["applied"], words[2], words[3])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise HostError(
            "it is no record of ours", where=record_path(owner), fix="See what the kernel command line shall be, set it, and remove the file",
        ) from None  # fmt: skip


def read_others(system: System, owner: str) -> Dict[str, Record]:
    found: Dict[str, Record] = {}
    for name in system.listdir(RECORDS):
        other = name[: -len(".json")]
        record = read_record(system, other) if name.endswith(".json") and other != owner else None
        if record is not None:
            found[other] = record
    return found
