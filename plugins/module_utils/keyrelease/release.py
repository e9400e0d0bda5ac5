# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a guest is handed: a data key and the context without which it must not be used, sealed to the guest's attested key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Dict, Mapping

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import load_public

SCHEMA = "attested.ai/key-release/1"
KEY_SIZE = 32
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class KeyRelease:
    """``key`` is 32 bytes. ``minimum_release`` is the lowest release of the model that the guest may open with it, ``manifest_signer``
    the public JWK whose signature the manifest must bear, ``not_after`` (UTC) the end of the hand-over, not of the key."""

    model_id: str
    release: int
    minimum_release: int
    key_id: str
    manifest_signer: Mapping[str, str]
    evidence_digest: str
    not_after: datetime
    key: bytes = field(repr=False)

    def to_json(self) -> bytes:
        """Canonical JSON. It holds the key: it may only be sealed."""
        return jcs.canonicalize({
            "schema": SCHEMA,
            "model_id": self.model_id,
            "release": self.release,
            "minimum_release": self.minimum_release,
            "key": {"kty": "oct", "kid": self.key_id, "k": strict.encode_base64url(self.key)},
            "manifest_signer": dict(self.manifest_signer),
            "evidence_digest": self.evidence_digest,
            "not_after": self.not_after.astimezone(timezone.utc).strftime(_TIME),
        })

    @classmethod
    def from_json(cls, data: bytes, where: str = "key release") -> KeyRelease:
        """Read one strictly. Error messages never hold the key."""
        names = ("schema", "model_id", "release", "minimum_release", "key", "manifest_signer", "evidence_digest", "not_after")
        members = strict.members(strict.loads(data, where), names, where=where)
        if members["schema"] != SCHEMA:
            raise FormatError("the schema %s is not %s" % (strict.quoted(members["schema"]), SCHEMA), where=where)
        key = strict.members(members["key"], ("kty", "kid", "k"), where=where + " key")
        if key["kty"] != "oct":
            raise FormatError("the key is not of type oct", where=where)
        load_public(members["manifest_signer"], where + " manifest_signer")
        return cls(
            model_id=check_model_id(members["model_id"], where + " model_id"),
            release=check_release(members["release"], where + " release"),
            minimum_release=check_release(members["minimum_release"], where + " minimum_release"),
            key_id=strict.text_of(key["kid"], where + " kid", limit=256),
            manifest_signer={str(name): str(value) for name, value in members["manifest_signer"].items()},
            evidence_digest=strict.decode_hex(members["evidence_digest"], where + " evidence_digest", 32).hex(),
            not_after=_time(members["not_after"], where + " not_after"),
            key=strict.decode_base64url(key["k"], where + " key", KEY_SIZE, KEY_SIZE),
        )


def seal(release: KeyRelease, guest_jwk: Mapping[str, Any]) -> Dict[str, str]:
    """Encrypt a release to the guest's key, in the form that a KBS answers with."""
    recipient = {name: value for name, value in guest_jwk.items() if name != "alg"}
    return jwe.wrap_flattened(release.to_json(), recipient)


def open_release(sealed: Any, private_key: Any, now: datetime, where: str = "key release") -> KeyRelease:
    """Open a release with the guest's key. Raises KeyReleaseError if it is of another key or past its time."""
    release = KeyRelease.from_json(jwe.unwrap_flattened(sealed, private_key, where), where)
    if now > release.not_after:
        raise KeyReleaseError("it was to be used until %s" % release.not_after.strftime(_TIME), where=where, fix="Release the key again", code="release-expired")
    return release


def check_model_id(value: Any, where: str = "model_id") -> str:
    """Return ``value`` if it is a model id: 1 to 128 letters, digits, dots, dashes and underscores."""
    if not isinstance(value, str) or not _MODEL_ID.match(value):
        raise FormatError("%s is not 1 to 128 letters, digits, '.', '_' or '-', beginning with a letter or digit" % strict.quoted(value), where=where)
    return value


def check_release(value: Any, where: str = "release") -> int:
    """Return ``value`` if it is a release number, from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= jcs.MAX_INTEGER:
        raise FormatError("a whole number from 1 was expected", where=where)
    return value


def _time(value: Any, where: str) -> datetime:
    try:
        return datetime.strptime(strict.text_of(value, where, limit=20), _TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        raise FormatError("a time of the form 2026-01-31T12:00:00Z was expected", where=where) from None
