# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide what is to be stored at a KBS, do it in order, and say exactly how far it came.

A KBS gives nothing back to an admin. Whether it still is the one that we filled is seen by a marker: a reference value of a name that no policy reads, with
a random value that the state remembers. A KBS that lost its storage, or another one at the same address, does not have it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kbs.admin import AdminClient
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.state import State

MARKER = "attested-ai-state"
STORE, REPLACE, DELETE, NONE = "store", "replace", "delete", "none"
_WORDS = {STORE: "stored", REPLACE: "replaced", DELETE: "deleted", NONE: "unchanged"}


@dataclass(frozen=True)
class Wanted:
    """Content at a place of a kind; None: nothing shall be there."""

    kind: str
    name: str
    content: Optional[bytes]


@dataclass(frozen=True)
class Change:
    """What is to be done at one KBS, and why. ``before`` and ``after`` are digests made with the state's key."""

    url: str
    wanted: Wanted
    action: str
    reason: str
    before: Optional[str]
    after: Optional[str]
    # None until it was tried; for DELETE whether it had been there.
    found: Optional[bool] = None

    @property
    def place(self) -> str:
        return "%s %s" % (self.wanted.kind, self.wanted.name)

    def to_dict(self) -> Dict[str, Any]:
        action = self.action if self.found is not False else NONE
        return {"kbs": self.url, "kind": self.wanted.kind, "name": self.wanted.name, "action": _WORDS[action], "reason": self.reason, "before": self.before,
                "after": self.after}  # fmt: skip


class HalfDone(KbsError):
    """Something failed after something else was done."""

    def __init__(self, cause: AttestedError, done: Sequence[Change], left: Sequence[Change]) -> None:
        told = "%d of %d changes were made before (%s); not made: %s" % (
            len(done), len(done) + len(left), _listed(done) or "none", _listed(left))  # fmt: skip
        self.cause = cause
        super().__init__("%s. %s" % (str(cause).rstrip("."), told), fix="Mend the cause and run it again: it goes on from here", code=cause.code)
        self.done = tuple(done)
        self.left = tuple(left)


def recognise(url: str, client: AdminClient, state: State, use_marker: bool) -> str:
    """Whether the KBS is the one that the state knows: empty if it is, else why what the state says of it does not count."""
    known = state.marker(url)
    if known is None:
        return "nothing is known of this KBS"
    if not use_marker:
        return ""
    seen = client.reference_value(MARKER)
    if seen == [known]:
        return ""
    return "it has lost its storage, or is another one" if seen in (None, []) else "its marker is that of another state"


def planned(url: str, wanted: Sequence[Wanted], state: State, forgotten: str, force: bool) -> List[Change]:
    """One change per wish, those that change nothing included."""
    changes = []
    for wish in wanted:
        before = None if forgotten else state.known(url, wish.kind, wish.name)
        if wish.content is None:
            # Only the KBS knows whether it is there: it is asked to delete it.
            changes.append(Change(url, wish, DELETE, "it shall not be there", before, None))
            continue
        after = state.digest(url, wish.kind, wish.name, wish.content)
        if before is not None and before == after and not force:
            changes.append(Change(url, wish, NONE, "it was stored before", before, after))
        elif before is None:
            changes.append(Change(url, wish, STORE, forgotten or "it was not stored by us", before, after))
        else:
            changes.append(Change(url, wish, REPLACE, "force" if before == after else "its content differs", before, after))
    return changes


def begin(url: str, client: AdminClient, state: State, use_marker: bool) -> None:
    """Put a marker of ours, before anything else is stored: what is noted afterwards belongs to this KBS."""
    marker = os.urandom(16).hex()
    if use_marker:
        client.set_reference_values({MARKER: [marker]})
    state.begin(url, marker)
    state.save()


def apply(changes: Sequence[Change], act: Callable[[Change], bool], state: State) -> List[Change]:
    """Do each change that changes something, and note it at once. Raises HalfDone. ``act`` returns whether there was something to change."""
    told: List[Change] = []
    done: List[Change] = []
    pending = [change for change in changes if change.action != NONE]
    for change in changes:
        if change.action == NONE:
            told.append(change)
            continue
        place = (change.url, change.wanted.kind, change.wanted.name)
        try:
            # First forgotten: if what follows breaks off, nobody knows what is there.
            if state.known(*place) is not None:
                state.note(*place, None)
                state.save()
            finished = replace(change, found=act(change))
            if change.wanted.content is not None:
                state.note(*place, state.digest(*place, change.wanted.content))
                state.save()
        except AttestedError as error:
            raise HalfDone(error, done, pending[len(done):]) from None
        done.append(finished)
        told.append(finished)
    return told


def changed(changes: Sequence[Change]) -> bool:
    return any(change.action != NONE and change.found is not False for change in changes)


def diff(changes: Sequence[Change]) -> Tuple[str, str]:
    """(before, after), by digests: content is never shown."""
    before, after = [], []
    for change in changes:
        line = "%s %s: " % (change.url, change.place)
        before.append(line + (change.before or "not known"))
        after.append(line + (change.after or ("absent" if change.wanted.content is None else "new")))
    return "\n".join(before) + "\n", "\n".join(after) + "\n"


def _listed(changes: Sequence[Change]) -> str:
    names = ["%s at %s" % (change.place, change.url) for change in changes]
    return ", ".join(names[:8]) + (" and %d more" % (len(names) - 8) if len(names) > 8 else "")
