# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a store up to date: ask for what is missing or about to expire, and for nothing else.

Each thing is asked for once, however many guests need it, also when several processes work on one store. An answer is kept only if it proves
itself and is not older than what is there; a failure never takes away what is good.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.client import Client
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Entry, Piece, Store, format_time
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError

GATES = ".gates"
# What became of one need. The last three mean that the store does not have what is wanted.
FRESH, ADDED, REPLACED, UNCHANGED, KEPT, PLANNED, MISSING, EXPIRED, REFUSED = (
    "fresh", "added", "replaced", "unchanged", "kept", "planned", "missing", "expired", "refused",
)  # fmt: skip
BAD = (MISSING, EXPIRED, REFUSED)
CHANGED = (ADDED, REPLACED)


@dataclass(frozen=True)
class Need:
    """Something that a store should hold at ``path``. ``get`` asks for it: (piece, address); raises EndorsementError."""

    path: str
    kind: str
    about: str
    get: Callable[[Client], Tuple[Piece, str]]


@dataclass(frozen=True)
class Outcome:
    """What became of a need: ``status`` is one of the words above, ``detail`` says why in words, ``code`` for programs (empty where
    nothing is wrong). ``before`` and ``after`` are the entries, None where there is none."""

    path: str
    kind: str
    about: str
    status: str
    detail: str = ""
    code: str = ""
    before: Optional[Entry] = None
    after: Optional[Entry] = None

    def to_dict(self) -> Dict[str, Any]:
        entry = self.after or self.before
        return {
            "path": self.path,
            "kind": self.kind,
            "about": self.about if entry is None else entry.about,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "source": None if entry is None else entry.source,
            "sha256": None if entry is None else entry.sha256,
            "fetched_at": None if entry is None else format_time(entry.fetched_at),
            "issued_at": None if entry is None or entry.issued_at is None else format_time(entry.issued_at),
            "expires_at": None if entry is None or entry.expires_at is None else format_time(entry.expires_at),
        }


@dataclass(frozen=True)
class Mode:
    """``at`` is now. What expires within ``margin`` is asked for again, but never before three quarters of its life are over; with
    ``force`` everything is. ``ask`` false means that nothing is asked: a check run, or offline."""

    at: datetime
    margin: timedelta = timedelta(days=7)
    force: bool = False
    ask: bool = True
    offline: bool = False


def due(entry: Entry, mode: Mode) -> bool:
    """True if an entry is to be asked for again."""
    if entry.expires_at is None:
        return False
    life = entry.expires_at - entry.issued_at if entry.issued_at is not None else 4 * mode.margin
    return mode.at >= entry.expires_at - min(mode.margin, life / 4)


def refresh(
    needs: Sequence[Need], store: Store, client: Optional[Client], mode: Mode, parallel: int = 4, tell: Callable[[int, int], None] = lambda done, total: None
) -> List[Outcome]:
    """The outcome of each need, in order, each path once. ``tell(done, total)`` is called after each that was asked for."""
    unique = list({need.path: need for need in needs}.values())
    states = [_state(need, store, mode) for need in unique]
    open_needs = [need for need, state in zip(unique, states) if state is None]
    if not mode.ask or client is None or not open_needs:
        return [state or _not_asked(need, store, mode) for need, state in zip(unique, states)]
    asked: Dict[str, Outcome] = {}
    with ThreadPoolExecutor(max_workers=max(1, min(parallel, len(open_needs)))) as pool:
        for outcome in pool.map(lambda need: _ask(need, store, client, mode), open_needs):
            asked[outcome.path] = outcome
            tell(len(asked), len(open_needs))
    return [state or asked[need.path] for need, state in zip(unique, states)]


def _state(need: Need, store: Store, mode: Mode) -> Optional[Outcome]:
    """The outcome if nothing is to be asked for, else None."""
    entry = store.index().entries.get(need.path)
    if entry is None or mode.force or due(entry, mode) or not store.intact(entry):
        return None
    return Outcome(need.path, need.kind, need.about, FRESH, before=entry)


def _not_asked(need: Need, store: Store, mode: Mode) -> Outcome:
    entry = store.index().entries.get(need.path)
    if not mode.offline:
        return Outcome(need.path, need.kind, need.about, PLANNED, "it would be asked for", before=entry)
    return _without_answer(need, store, entry, mode, "offline: it is not asked for", "collateral-offline")


def _without_answer(need: Need, store: Store, entry: Optional[Entry], mode: Mode, detail: str, code: str) -> Outcome:
    """What is there has to do, as long as it holds."""
    if entry is None or not store.intact(entry):
        return Outcome(need.path, need.kind, need.about, MISSING, detail, code)
    if entry.expires_at is not None and entry.expires_at <= mode.at:
        return Outcome(need.path, need.kind, need.about, EXPIRED, "%s; what is there ended at %s" % (detail, format_time(entry.expires_at)), code, entry)
    return Outcome(need.path, need.kind, need.about, KEPT, detail, "" if mode.offline else code, entry)


def _ask(need: Need, store: Store, client: Client, mode: Mode) -> Outcome:
    entry: Optional[Entry] = store.index().entries.get(need.path)
    lock = os.path.join(store.root, GATES, "need-" + hashlib.sha256(need.path.encode("ascii")).hexdigest()[:16])
    try:
        with client.hold(lock, need.path):
            entry = store.index().entries.get(need.path)
            # Another process may have been faster: what it has asked for since we began is not asked for again.
            if entry is not None and store.intact(entry) and (_asked_since(lock, client.started) or not mode.force and not due(entry, mode)):
                return Outcome(need.path, need.kind, need.about, FRESH, before=entry)
            piece, source = need.get(client)
            outcome = _keep(need, piece, piece.entry(source, client.now()), entry, store)
            _mark_asked(lock)
            return outcome
    except AttestedError as error:
        outcome = _without_answer(need, store, entry, mode, str(error), error.code)
        refused = error.code == "collateral-answer" and outcome.status == MISSING
        return replace(outcome, status=REFUSED) if refused else outcome


def _keep(need: Need, piece: Piece, after: Entry, before: Optional[Entry], store: Store) -> Outcome:
    if before is not None and store.intact(before):
        if before.sha256 == after.sha256:
            return Outcome(need.path, need.kind, need.about, UNCHANGED, "the service has nothing newer", before=before)
        if before.issued_at is not None and after.issued_at is not None and after.issued_at < before.issued_at:
            detail = "the service sent an older one, issued at %s; kept is that of %s" % (format_time(after.issued_at), format_time(before.issued_at))
            return Outcome(need.path, need.kind, need.about, KEPT, detail, "collateral-older", before)
    store.put([(piece, after)])
    return Outcome(need.path, need.kind, need.about, REPLACED if before is not None else ADDED, before=before, after=after)


def _asked_since(lock: str, moment: float) -> bool:
    try:
        status = os.stat(lock)
    except OSError:
        return False
    return status.st_size > 0 and status.st_mtime >= moment


def _mark_asked(lock: str) -> None:
    with contextlib.suppress(OSError), open(lock, "w", encoding="ascii") as stream:
        stream.write("asked\n")
