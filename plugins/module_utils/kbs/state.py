# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What we know of a KBS that tells nothing back: digests of what was stored there, kept beside on the controller.

The file shows nothing of a secret, for its digests are made with a key of their own (state file + ".key", mode 0600); and it shows tampering, for the whole
of it is authenticated with the same key. An older copy of the file put in its place is not noticed: that is what ``force`` is for.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import re
from typing import Any, Dict, Iterator, Optional

from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import create_secret, read_secret, replace_file

SCHEMA = "attested.ai/kbs-state/1"
KEY_SUFFIX, LOCK_SUFFIX = ".key", ".lock"
RESOURCE, RESOURCE_POLICY, ATTESTATION_POLICY = "resource", "resource-policy", "attestation-policy"
KINDS = (RESOURCE, RESOURCE_POLICY, ATTESTATION_POLICY)
_STATE_MAX = 8 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_WHAT = "key of the state"


class State:
    """The document of one file. Changes are written by ``save`` only."""

    def __init__(self, path: str, key: Optional[bytes], kbs: Dict[str, Dict[str, Any]]) -> None:
        self.path = path
        self._key = key
        self._kbs = kbs

    @classmethod
    def read(cls, path: str, create_key: bool) -> State:
        """Raises KbsError if the file was changed by somebody else, KeyReleaseError if its key is not to be used."""
        key = _key(path + KEY_SUFFIX, create_key and not os.path.lexists(path))
        try:
            with open(path, "rb") as stream:
                data = stream.read(_STATE_MAX + 1)
        except FileNotFoundError:
            return cls(path, key, {})
        except OSError as error:
            raise KbsError("it cannot be read (%s)" % error.strerror, where=path, code="kbs-state-unreadable") from None
        if key is None:
            raise KbsError("the state is there, its key %s is not" % (path + KEY_SUFFIX), where=path,
                           fix="Bring the key back; or remove the state, then everything is stored again", code="kbs-state-key")
        return cls.parse(path, key, data)

    @classmethod
    def parse(cls, path: str, key: bytes, data: bytes) -> State:
        """``path`` names it in errors. Raises KbsError, FormatError."""
        document = strict.members(strict.loads(data, path), ("schema", "kbs", "mac"), where=path)
        body = {"schema": document["schema"], "kbs": document["kbs"]}
        if not isinstance(document["mac"], str) or not hmac.compare_digest(document["mac"].encode("ascii", "replace"), _mac(key, body)):
            raise KbsError("somebody else changed it, or it is of another key", where=path,
                           fix="Do not believe it: remove it, then everything is stored again", code="kbs-state-tampered")
        if body["schema"] != SCHEMA:
            raise KbsError("its schema is %s, not %s" % (strict.quoted(body["schema"]), SCHEMA), where=path, code="kbs-state-form")
        return cls(path, key, body["kbs"])

    def digest(self, url: str, kind: str, name: str, data: bytes) -> str:
        """Of content at its place; without the key it tells nothing, not even that two places hold the same. Empty where there is no key yet."""
        if self._key is None:
            return ""
        place = jcs.canonicalize([url, kind, name])
        return hmac.new(_derived(self._key, b"digest"), len(place).to_bytes(4, "big") + place + data, hashlib.sha256).hexdigest()

    def known(self, url: str, kind: str, name: str) -> Optional[str]:
        """The digest of what was stored last, None if we stored nothing."""
        found = self._kbs.get(url, {}).get(kind, {}).get(name)
        return found if isinstance(found, str) and _DIGEST.match(found) else None

    def names(self, url: str, kind: str) -> Dict[str, str]:
        return dict(self._kbs.get(url, {}).get(kind, {}))

    def note(self, url: str, kind: str, name: str, digest: Optional[str]) -> None:
        """Remember a digest, or with None that there is nothing."""
        entries = self._kbs.setdefault(url, {}).setdefault(kind, {})
        if digest is None:
            entries.pop(name, None)
        else:
            entries[name] = digest

    def marker(self, url: str) -> Optional[str]:
        found = self._kbs.get(url, {}).get("marker")
        return found if isinstance(found, str) else None

    def begin(self, url: str, marker: str) -> None:
        """A KBS of which nothing is known: what we knew of the one at this address before counts no more."""
        self._kbs[url] = {"marker": marker}

    def save(self) -> None:
        if self._key is None:
            raise KbsError("there is no key of the state", where=self.path, code="kbs-state-key")
        body = {"schema": SCHEMA, "kbs": self._kbs}
        try:
            replace_file(self.path, jcs.canonicalize(dict(body, mac=_mac(self._key, body).decode("ascii"))) + b"\n")
        except OSError as error:
            raise KbsError("it cannot be written (%s)" % error.strerror, where=self.path, fix="What was stored at the KBS since is stored again next time",
                           code="kbs-state-unwritable") from None


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Let one task at a time have the state: what two of them note at once would be half lost."""
    lock = path + LOCK_SUFFIX
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise KbsError("it cannot be written (%s)" % error.strerror, where=lock, fix="Give another path as state_path", code="kbs-state-unwritable") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _key(path: str, create: bool) -> Optional[bytes]:
    if create and not os.path.lexists(path):
        create_secret(path, os.urandom(32).hex().encode("ascii") + b"\n", _WHAT)
    if not os.path.lexists(path):
        return None
    return strict.decode_hex(read_secret(path, _WHAT).decode("ascii", "replace").strip(), path, 32)


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.new(key, b"attested.ai/kbs-state/1 " + purpose, hashlib.sha256).digest()


def _mac(key: bytes, body: Dict[str, Any]) -> bytes:
    return hmac.new(_derived(key, b"mac"), jcs.canonicalize(body), hashlib.sha256).hexdigest().encode("ascii")
