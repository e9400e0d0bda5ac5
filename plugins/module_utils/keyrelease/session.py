# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A session of one guest: a directory in memory with a private key that a release is sealed to, gone at its deadline.

``<directory>/<session>`` (0700) holds ``state.json`` (deadline), ``key`` (private scalar, 32 bytes big-endian) and ``release.jwe``, each 0600.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe, watchdog
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import KeyRelease, open_release
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import read_secret, replace_file, write_new
from ansible_collections.attested.ai.plugins.module_utils.target.memory import MemoryFs, harden_process, lock_memory, require_memory, wipe, wipe_tree

DEFAULT_DIRECTORY = "/run/attested-ai"
LIFETIME_MIN, LIFETIME_MAX = 1, 86400
KEY, RELEASE, STATE = "key", "release.jwe", "state.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_LEFT_OVER = re.compile(r"(key|release\.jwe|state\.json)\.[0-9a-f]{12}\.new\Z")
_SCHEMA = "attested.ai/guest-session/1"
# A directory without a readable state holds no key yet; after this long nobody is going to finish it.
_UNFINISHED_SECONDS = 60


@dataclass(frozen=True)
class GuestSession:
    """One session that is there, complete and not expired. ``deadline`` is on the boot clock, ``expires_at`` is Unix time."""

    path: str
    name: str
    deadline: float
    expires_at: int

    def private_key(self) -> Any:
        """The EC P-256 private key object. Raises KeyReleaseError."""
        scalar = bytearray(read_secret(os.path.join(self.path, KEY), "session key", 64))
        try:
            return keys.private_ec(bytes(scalar))
        finally:
            wipe(scalar)

    def jwk(self) -> Dict[str, str]:
        """The public key, as it is bound into evidence and wrapped to."""
        return keys.public_jwk(self.private_key(), jwe.ECDH)

    def stored_release(self) -> Optional[Dict[str, Any]]:
        """The release as it was stored (ciphertext), None if there is none yet."""
        path = os.path.join(self.path, RELEASE)
        return jwe.parse_json(read_secret(path, "release"), path) if os.path.lexists(path) else None

    def release(self) -> KeyRelease:
        """Open the stored release. Raises KeyReleaseError: release-missing, release-expired, jwe-wrong-key ..."""
        sealed = self.stored_release()
        if sealed is None:
            raise KeyReleaseError(
                "no key was released to this session", where=self.path, fix="Release one with attested.ai.model_release", code="release-missing"
            )
        return self.open(sealed)

    def open(self, sealed: Mapping[str, Any]) -> KeyRelease:
        """Prove that a release was made for this session and is still valid."""
        found = open_release(sealed, self.private_key())
        found.check_time(datetime.now(timezone.utc))
        return found

    def store_release(self, sealed: Mapping[str, Any]) -> None:
        """Keep a release that ``open`` accepts. Raises KeyReleaseError."""
        self.open(sealed)
        try:
            replace_file(os.path.join(self.path, RELEASE), jcs.canonicalize(dict(sealed)))
        except OSError as error:
            raise KeyReleaseError("the release cannot be stored (%s)" % error.strerror, where=self.path, code="session-write") from None

    def sweep(self) -> None:
        """Overwrite and remove everything of this session. Raises AttestedError if something is left."""
        sweep_session(os.path.dirname(self.path), self.name)


def check_name(session: str) -> str:
    """Return the name if it is a plain file name of up to 64 letters, digits, dots, dashes, underscores."""
    if not _NAME.match(session):
        raise KeyReleaseError(
            "%s is no session name" % strict.quoted(session),
            where="session",
            fix="Use letters, digits, dots, dashes, underscores, at most 64, the first a letter or digit",
            code="session-name",
        )
    return session


def load_session(directory: str, session: str) -> GuestSession:
    """The session that is there. Raises KeyReleaseError: session-missing, session-expired (then it is swept), session-unsafe."""
    found = find_session(directory, session)
    if found is None:
        raise KeyReleaseError(
            "there is no session %s" % session, where=directory, fix="Make one with attested.ai.guest_key. It may have expired", code="session-missing"
        )
    if found.deadline <= watchdog.boot_clock():
        found.sweep()
        raise KeyReleaseError("the session %s has expired" % session, where=directory, fix="Make a new one with attested.ai.guest_key", code="session-expired")
    require_memory(found.path)
    return found


def find_session(directory: str, session: str) -> Optional[GuestSession]:
    """The session if it is there and complete, expired or not."""
    path = os.path.join(directory, check_name(session))
    if not os.path.lexists(path):
        return None
    try:
        _check_directory(directory)
        _check_directory(path)
    except FileNotFoundError:
        # The watchdog was faster.
        return None
    if not os.path.lexists(os.path.join(path, KEY)):
        return None
    deadline, expires_at = _read_state(path)
    return GuestSession(path, session, deadline, expires_at)


def sweep_session(directory: str, session: str) -> None:
    """Overwrite and remove what there is of a session, also if it is incomplete, expired or unreadable. Raises AttestedError.

    A directory that holds anything else is none: it is left alone, whatever a task says."""
    path = os.path.join(directory, check_name(session))
    strangers = _strangers(path)
    if strangers:
        raise KeyReleaseError(
            "it holds %s, so it is no session and was left alone" % strict.quoted(strangers[0]),
            where=path,
            fix="Correct the session and its directory",
            code="session-unsafe",
        )
    wipe_tree(path)


def create_session(directory: str, session: str, lifetime: int) -> GuestSession:
    """Make directory, watchdog and key, in this order. ``lifetime`` in seconds. The caller holds ``locked``. Raises AttestedError."""
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric import ec

    path = os.path.join(directory, check_name(session))
    harden_process()
    try:
        os.mkdir(path, 0o700)
    except OSError as error:
        raise KeyReleaseError("the session cannot be made (%s)" % error.strerror, where=path, code="session-write") from None
    try:
        require_memory(path)
        made = GuestSession(path, session, watchdog.boot_clock() + lifetime, int(time.time()) + lifetime)
        write_new(os.path.join(path, STATE), jcs.canonicalize({"schema": _SCHEMA, "deadline_ms": int(made.deadline * 1000), "expires_at": made.expires_at}))
        watchdog.start(path, made.deadline)
        scalar = bytearray(ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(32, "big"))
        lock_memory(scalar)
        try:
            write_new(os.path.join(path, KEY), scalar)
        finally:
            wipe(scalar)
        return made
    except BaseException as error:
        wipe_tree(path)
        if isinstance(error, OSError):
            raise KeyReleaseError("the session cannot be written (%s)" % error.strerror, where=path, code="session-write") from None
        raise


def stale_sessions(directory: str) -> List[str]:
    """Names of sessions past their deadline, and of ones that nobody finished."""
    try:
        _check_directory(directory)
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in names if _NAME.match(name) and _is_stale(os.path.join(directory, name))]


def prepare_directory(directory: str) -> MemoryFs:
    """Make ``directory`` (0700) unless it is there; check that it is ours and in memory. Raises AttestedError."""
    check_place(directory)
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise KeyReleaseError(
            "the directory cannot be made (%s)" % error.strerror,
            where=directory,
            fix="Run as root (become: true), or give a directory whose parent is yours",
            code="session-write",
        ) from None
    _check_directory(directory)
    return require_memory(directory)


def check_place(directory: str) -> MemoryFs:
    """What ``prepare_directory`` would find, without making anything."""
    if not os.path.isabs(directory) or "\0" in directory:
        raise KeyReleaseError("an absolute path was expected", where=directory, code="session-directory")
    if os.path.lexists(directory):
        _check_directory(directory)
    return require_memory(directory)


@contextmanager
def locked(directory: str) -> Iterator[None]:
    """One call at a time changes the sessions of a directory. The lock ends with the process."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise KeyReleaseError("the directory cannot be opened (%s)" % error.strerror, where=directory, code="session-directory") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_directory(path: str) -> None:
    try:
        status = os.lstat(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise KeyReleaseError("it cannot be looked at (%s)" % error.strerror, where=path, code="session-unsafe") from None
    if not stat.S_ISDIR(status.st_mode):
        raise KeyReleaseError("it is not a directory", where=path, fix="Remove it, and find out who made it", code="session-unsafe")
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise KeyReleaseError(
            "it belongs to uid %d with mode %04o, uid %d and 0700 were expected" % (status.st_uid, stat.S_IMODE(status.st_mode), os.geteuid()),
            where=path,
            fix="Give a directory that is yours alone, and the same become to every task of the session",
            code="session-unsafe",
        )


def _read_state(path: str) -> Tuple[float, int]:
    place = os.path.join(path, STATE)
    state = strict.members(strict.loads(read_secret(place, "session state", 4096), place), ("schema", "deadline_ms", "expires_at"), where=place)
    numbers = (state["deadline_ms"], state["expires_at"])
    if state["schema"] != _SCHEMA or any(isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53 for value in numbers):
        raise KeyReleaseError("it is no state of a session", where=place, fix="Remove the session with state=absent", code="session-state")
    return state["deadline_ms"] / 1000.0, state["expires_at"]


def _strangers(path: str) -> List[str]:
    """Names in a directory that no session has. What is no directory, or cannot be listed, has none."""
    if os.path.islink(path):
        return []
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return []
    # A writer that was killed leaves <name>.<random>.new behind.
    return [name for name in names if name not in (KEY, RELEASE, STATE) and not _LEFT_OVER.match(name)]


def _is_stale(path: str) -> bool:
    try:
        _check_directory(path)
        if _strangers(path):
            return False
        return _read_state(path)[0] <= watchdog.boot_clock()
    except AttestedError as error:
        # What is not ours is left alone; what is ours and unreadable was never finished.
        return error.code != "session-unsafe" and _age(path) > _UNFINISHED_SECONDS
    except OSError:
        return False


def _age(path: str) -> float:
    try:
        return time.time() - os.lstat(path).st_mtime
    except OSError:
        return 0.0
