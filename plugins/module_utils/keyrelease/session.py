# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The guest's half of a release: a key of its own, in memory, for one hand-over.

A session is a directory in memory with the private key (a bare scalar), its end in session.json, and later the sealed release. It is
swept by whoever ends it, and by a watchdog process at its deadline even if the controller is gone.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe import ECDH_ES_A256KW
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import generate_ec, public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import KeyRelease, open_release
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.watchdog import start_watchdog
from ansible_collections.attested.ai.plugins.module_utils.target.memory import MemoryFs, harden_process, lock_memory, require_memory, wipe, wipe_tree

DEFAULT_DIRECTORY = "/run/attested-ai"
LIFETIME_MAX = 24 * 3600
_NAME = re.compile(r"[a-z0-9]{8,64}\Z")
_KEY_FILE, _STATE_FILE, _RELEASE_FILE = "guest.key", "session.json", "release.json"
_SCALAR = 32
_FILE_MAX = 1 << 20


@dataclass(frozen=True)
class GuestSession:
    """One session. ``path`` is its directory, ``expires_at`` (UTC) when the watchdog sweeps it."""

    name: str
    path: str
    expires_at: datetime

    def private_key(self) -> Any:
        """The guest's private key as an object of cryptography. The copy that was read is wiped."""
        require_cryptography()
        from cryptography.hazmat.primitives.asymmetric import ec

        scalar = bytearray(_read(os.path.join(self.path, _KEY_FILE), self.name))
        lock_memory(scalar)
        try:
            return ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
        except ValueError:
            raise KeyReleaseError("its key is damaged", where="session %s" % self.name, fix="Release the key again") from None
        finally:
            wipe(scalar)

    def jwk(self) -> Dict[str, str]:
        """The public key, as a KBS wraps to it."""
        return public_jwk(self.private_key(), alg=ECDH_ES_A256KW)

    def store_release(self, sealed: Mapping[str, Any], now: datetime) -> KeyRelease:
        """Keep a sealed release, after proving that it opens. The sealed form is stored, never the key."""
        release = open_release(sealed, self.private_key(), now, "release for session %s" % self.name)
        _write_new(os.path.join(self.path, _RELEASE_FILE), json.dumps(dict(sealed)).encode("utf-8"), self.name)
        return release

    def release(self, now: datetime) -> KeyRelease:
        """Open the stored release."""
        data = _read(os.path.join(self.path, _RELEASE_FILE), self.name)
        where = "release of session %s" % self.name
        return open_release(strict.loads(data, where), self.private_key(), now, where)

    def has_release(self) -> bool:
        return os.path.exists(os.path.join(self.path, _RELEASE_FILE))

    def sweep(self) -> None:
        """Overwrite and remove everything of this session. Nothing there is no error."""
        wipe_tree(self.path)


def create_session(directory: str, name: str, lifetime: int, now: datetime) -> GuestSession:
    """Make a session with a fresh P-256 key. Refused unless ``directory`` is memory that is never swapped and belongs to us alone."""
    if not 1 <= lifetime <= LIFETIME_MAX:
        raise FormatError("1 to %d seconds are allowed" % LIFETIME_MAX, where="lifetime")
    path = _session_path(directory, name)
    require_cryptography()
    prepare_directory(directory)
    sweep_expired(directory, now)
    harden_process()
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        raise KeyReleaseError("there is one of this name already", where="session %s" % name, fix="Choose another name", code="session-exists") from None
    # The watchdog is forked before there is a key, so that none is in its memory.
    start_watchdog(path, lifetime)
    session = GuestSession(name, path, datetime.fromtimestamp(int(now.timestamp()) + lifetime, timezone.utc))
    try:
        _write_new(os.path.join(path, _STATE_FILE), json.dumps({"expires_at": int(session.expires_at.timestamp())}).encode("ascii"), name)
        scalar = bytearray(generate_ec().private_numbers().private_value.to_bytes(_SCALAR, "big"))
        lock_memory(scalar)
        try:
            _write_new(os.path.join(path, _KEY_FILE), scalar, name)
        finally:
            wipe(scalar)
    except BaseException:
        session.sweep()
        raise
    return session


def load_session(directory: str, name: str) -> GuestSession:
    """Find a session. Raises KeyReleaseError if it is gone or was tampered with."""
    path = _session_path(directory, name)
    _check_ours(path, name)
    where = "session %s" % name
    state = strict.members(strict.loads(_read(os.path.join(path, _STATE_FILE), name), where), ("expires_at",), where=where)
    expires_at = state["expires_at"]
    if isinstance(expires_at, bool) or not isinstance(expires_at, int) or not 0 <= expires_at < 1 << 40:
        raise FormatError("expires_at is no time", where=where)
    return GuestSession(name, path, datetime.fromtimestamp(expires_at, timezone.utc))


def find_session(directory: str, name: str) -> Optional[GuestSession]:
    """Like load_session, but None if there is nothing of that name."""
    return load_session(directory, name) if os.path.lexists(_session_path(directory, name)) else None


def sweep_session(directory: str, name: str) -> bool:
    """Sweep a session whatever its state. Returns whether there was anything."""
    path = _session_path(directory, name)
    found = os.path.lexists(path)
    wipe_tree(path)
    return found


def prepare_directory(directory: str) -> MemoryFs:
    """Make the directory of all sessions if need be; refuse it unless it is memory and ours alone."""
    found = require_memory(directory)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        status = os.lstat(directory)
    except OSError as error:
        raise KeyReleaseError("it cannot be made: %s" % (error.strerror or error), where=directory, fix="Give a directory in memory that this user may write") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise KeyReleaseError(
            "it is not a directory that only this user may enter (owner %d, mode %04o)" % (status.st_uid, stat.S_IMODE(status.st_mode)),
            where=directory, fix="Remove it, or choose another session directory", code="session-directory",
        )
    return found


def sweep_expired(directory: str, now: datetime) -> List[str]:
    """Sweep sessions past their end, left behind when even the watchdog was killed. Returns their names."""
    swept: List[str] = []
    for entry in sorted(os.listdir(directory)):
        if not _NAME.match(entry):
            continue
        try:
            expired = load_session(directory, entry).expires_at < now
        except (FormatError, KeyReleaseError):
            # No readable end: a session is never older than LIFETIME_MAX.
            expired = _age(os.path.join(directory, entry), now) > LIFETIME_MAX
        if expired:
            sweep_session(directory, entry)
            swept.append(entry)
    return swept


def _age(path: str, now: datetime) -> float:
    try:
        return now.timestamp() - os.lstat(path).st_mtime
    except OSError:
        return 0.0


def _session_path(directory: str, name: str) -> str:
    if not isinstance(name, str) or not _NAME.match(name):
        raise FormatError("%s is not 8 to 64 lower-case letters and digits" % strict.quoted(name), where="session name")
    if not os.path.isabs(directory):
        raise FormatError("an absolute path was expected", where="session directory %s" % directory)
    return os.path.join(directory, name)


def _check_ours(path: str, name: str) -> None:
    try:
        status = os.lstat(path)
    except OSError:
        raise KeyReleaseError(
            "it is not there: it was used, swept or ran out of time", where="session %s" % name,
            fix="Run model_release again, and model_open within its lifetime", code="session-gone",
        ) from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise KeyReleaseError("it is not a directory of this user alone", where="session %s" % name, code="session-directory")


def _write_new(path: str, data: bytes, name: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as stream:
            stream.write(data)
    except FileExistsError:
        raise KeyReleaseError("%s is there already" % os.path.basename(path), where="session %s" % name, code="session-used") from None
    except OSError as error:
        raise KeyReleaseError("%s cannot be written: %s" % (os.path.basename(path), error.strerror or error), where="session %s" % name) from None


def _read(path: str, name: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            return stream.read(_FILE_MAX) or b""
    except OSError as error:
        raise KeyReleaseError(
            "%s cannot be read: %s" % (os.path.basename(path), error.strerror or error), where="session %s" % name,
            fix="Run model_release again", code="session-gone",
        ) from None


def now_utc() -> datetime:
    return datetime.fromtimestamp(time.time(), timezone.utc)
