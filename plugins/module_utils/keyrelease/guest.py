# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the module guest_key does: decide once, then report or act. Check mode, diff and ``changed`` come from the same plan."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import session as sessions
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import watchdog
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe import jwk_thumbprint
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import format_time
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.session import GuestSession


@dataclass(frozen=True)
class Wish:
    """The options of the module."""

    session: str
    state: str = "present"
    directory: str = sessions.DEFAULT_DIRECTORY
    lifetime: int = 900
    release: Optional[Mapping[str, Any]] = None


@dataclass(frozen=True)
class Plan:
    """What has to happen: names of stale sessions to sweep, and whether to sweep, make or fill the session."""

    stale: Tuple[str, ...]
    sweep: bool
    make: bool
    store: bool
    before: Tuple[str, ...]
    after: Tuple[str, ...]

    @property
    def changed(self) -> bool:
        return bool(self.stale) or self.sweep or self.make or self.store


def apply(wish: Wish, check_mode: bool) -> Dict[str, Any]:
    """The return values of the module. Raises AttestedError."""
    sessions.check_name(wish.session)
    if not sessions.LIFETIME_MIN <= wish.lifetime <= sessions.LIFETIME_MAX:
        raise KeyReleaseError(
            "%d is not between %d and %d seconds" % (wish.lifetime, sessions.LIFETIME_MIN, sessions.LIFETIME_MAX), where="lifetime", code="lifetime"
        )
    exists = os.path.lexists(wish.directory)
    if wish.state == "present":
        place = sessions.check_place(wish.directory) if check_mode else sessions.prepare_directory(wish.directory)
        result: Dict[str, Any] = {"filesystem": place.kind}
    else:
        result = {}
        if not exists:
            return _outcome(wish, Plan((), False, False, False, (), ()), None)
    if check_mode and not exists:
        return dict(_outcome(wish, _plan(wish), None), **result)
    with sessions.locked(wish.directory):
        plan = _plan(wish)
        found = sessions.find_session(wish.directory, wish.session) if wish.state == "present" and not (plan.sweep or plan.make) else None
        if not check_mode:
            found = _act(wish, plan, found)
    return dict(_outcome(wish, plan, found), **result)


def _plan(wish: Wish) -> Plan:
    path = os.path.join(wish.directory, wish.session)
    before = _names(path)
    stale = tuple(name for name in sessions.stale_sessions(wish.directory) if name != wish.session)
    if wish.state == "absent":
        return Plan(stale, os.path.lexists(path), False, False, before, ())
    found = sessions.find_session(wish.directory, wish.session)
    if found is not None and found.deadline > watchdog.boot_clock():
        store = wish.release is not None and _is_new(found, wish.release)
        return Plan(stale, False, False, store, before, tuple(sorted(set(before) | ({sessions.RELEASE} if store else set()))))
    if wish.release is not None:
        raise KeyReleaseError(
            "there is no session %s to store the release in" % wish.session,
            where=wish.directory,
            fix="It expired or was never made. Make it, attest its key, and release to that",
            code="session-missing",
        )
    return Plan(stale, os.path.lexists(path), True, False, before, (sessions.KEY, sessions.STATE))


def _is_new(found: GuestSession, release: Mapping[str, Any]) -> bool:
    # Proved here, so that check mode refuses what the real run would refuse.
    found.open(release)
    stored = found.stored_release()
    return stored is None or jcs.canonicalize(stored) != jcs.canonicalize(dict(release))


def _act(wish: Wish, plan: Plan, found: Optional[GuestSession]) -> Optional[GuestSession]:
    for name in plan.stale:
        sessions.sweep_session(wish.directory, name)
    if plan.sweep:
        sessions.sweep_session(wish.directory, wish.session)
    if plan.make:
        return sessions.create_session(wish.directory, wish.session, wish.lifetime)
    if plan.store and found is not None and wish.release is not None:
        found.store_release(wish.release)
    return found


def _names(path: str) -> Tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(path)))
    except OSError:
        return ()


def _outcome(wish: Wish, plan: Plan, found: Optional[GuestSession]) -> Dict[str, Any]:
    result: Dict[str, Any] = {
        "changed": plan.changed,
        "session": wish.session,
        "swept": list(plan.stale),
        "diff": {"before": _view(plan.before, plan.stale), "after": _view(plan.after, ())},
    }
    if found is not None:
        jwk = found.jwk()
        expires = format_time(datetime.fromtimestamp(found.expires_at, timezone.utc))
        result.update(jwk=jwk, thumbprint=jwk_thumbprint(jwk), expires_at=expires)
    return result


def _view(files: Tuple[str, ...], stale: Tuple[str, ...]) -> Dict[str, List[str]]:
    """Names only: this is what a diff may show of a session."""
    return {"files": list(files), "stale_sessions": list(stale)}
