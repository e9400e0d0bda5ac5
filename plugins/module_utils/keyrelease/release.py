# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a guest is handed: the data key of one model release, together with what it may be used for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Dict, Mapping

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys

SCHEMA = "attested.ai/key-release/1"
_MEMBERS = ("schema", "model_id", "release", "minimum_release", "key", "key_id", "manifest_signer", "evidence_digest", "not_after")
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_TIME_TEXT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
_RELEASE_MAX = 2**53 - 1


@dataclass(frozen=True)
class KeyRelease:
    """A data key (32 bytes) and its context.

    ``manifest_signer``: public EC JWK that must have signed the manifest. ``minimum_release``: lowest release that the relying party still
    accepts. ``evidence_digest``: SHA-256 (hex) of the evidence it was released to. ``not_after``: aware UTC, whole seconds.
    """

    model_id: str
    release: int
    minimum_release: int
    key: bytes = field(repr=False)
    key_id: str
    manifest_signer: Mapping[str, str]
    evidence_digest: str
    not_after: datetime

    def __post_init__(self) -> None:
        where = "key release"
        for name in ("model_id", "key_id"):
            if not strict.text_of(getattr(self, name), "%s %s" % (where, name), 256):
                raise FormatError("it is empty", where="%s %s" % (where, name))
        for name in ("release", "minimum_release"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _RELEASE_MAX:
                raise FormatError("a whole number from 1 was expected", where="%s %s" % (where, name))
        if not isinstance(self.key, bytes) or len(self.key) != 32:
            raise FormatError("32 bytes were expected", where=where + " key")
        keys.check_public_jwk(self.manifest_signer, keys.SIGNATURE_CURVES, where + " manifest_signer")
        strict.decode_hex(self.evidence_digest, where + " evidence_digest", 32)
        if not isinstance(self.not_after, datetime) or self.not_after.utcoffset() is None or self.not_after.microsecond:
            raise FormatError("a time with its zone and without fractions of a second was expected", where=where + " not_after")
        if self.release < self.minimum_release:
            raise KeyReleaseError("release %d of %s is below the minimum release %d" % (self.release, strict.quoted(self.model_id), self.minimum_release),
                                  where=where, fix="Serve the newer release", code="release-too-old")

    def to_json(self) -> bytes:
        """Canonical JSON, with the key in it: only ever to be encrypted."""
        return jcs.canonicalize(self._members())

    @classmethod
    def from_json(cls, text: bytes) -> KeyRelease:
        """Read ``to_json()`` strictly. Raises FormatError or KeyReleaseError; no message shows the key."""
        return cls._of(_load(text, _MEMBERS))

    def check_time(self, at: datetime) -> None:
        """Raise KeyReleaseError (release-expired) if ``at`` is later than ``not_after``."""
        if at > self.not_after:
            raise KeyReleaseError("it was valid until %s" % format_time(self.not_after), where="key release", fix="Attest again", code="release-expired")

    def _members(self) -> Dict[str, Any]:
        return {
            "schema": SCHEMA, "model_id": self.model_id, "release": self.release, "minimum_release": self.minimum_release,
            "key": strict.encode_base64url(self.key), "key_id": self.key_id, "manifest_signer": dict(self.manifest_signer),
            "evidence_digest": self.evidence_digest, "not_after": format_time(self.not_after),
        }

    @classmethod
    def _of(cls, obj: Mapping[str, Any]) -> KeyRelease:
        where = "key release"
        if obj["schema"] != SCHEMA:
            raise FormatError("the schema is %s, %s was expected" % (strict.quoted(obj["schema"]), SCHEMA), where=where)
        return cls(
            model_id=obj["model_id"], release=obj["release"], minimum_release=obj["minimum_release"],
            key=strict.decode_base64url(obj["key"], where + " key", 32, 32), key_id=obj["key_id"], manifest_signer=obj["manifest_signer"],
            evidence_digest=obj["evidence_digest"], not_after=parse_time(obj["not_after"], where + " not_after"),
        )


def seal(release: KeyRelease, guest_jwk: Mapping[str, Any]) -> Dict[str, str]:
    """Encrypt to the attested key of one guest session: a flattened JWE. The thumbprint of that key travels inside."""
    content = dict(release._members(), guest_key=jwe.jwk_thumbprint(guest_jwk))
    return jwe.wrap_flattened(jcs.canonicalize(content), guest_jwk)


def open_release(sealed: Any, private_key: Any) -> KeyRelease:
    """Decrypt and check that it was made for this key. Raises KeyReleaseError or FormatError."""
    obj = dict(_load(jwe.unwrap_flattened(sealed, private_key, "release"), _MEMBERS + ("guest_key",)))
    if obj.pop("guest_key") != jwe.jwk_thumbprint(keys.public_jwk(private_key)):
        raise KeyReleaseError("it was made for another session", where="release", fix="Release to the key of this session", code="release-other-session")
    return KeyRelease._of(obj)


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC, whole seconds: 2026-01-31T12:00:00Z."""
    return moment.astimezone(timezone.utc).strftime(_TIME)


def parse_time(text: Any, where: str) -> datetime:
    """Read ``format_time()``; no other spelling is taken."""
    value = strict.text_of(text, where, 20)
    try:
        if not _TIME_TEXT.match(value):
            raise ValueError(value)
        return datetime.strptime(value, _TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        raise FormatError("a time like 2026-01-31T12:00:00Z was expected", where=where) from None


def _load(text: bytes, names: Any) -> Mapping[str, Any]:
    try:
        value = strict.loads(text, "key release")
    except FormatError as error:
        # What stands in there is secret: the position that a JSON error shows is, its text is not.
        raise FormatError(error.what.split(":")[0] if "JSON" in error.what else error.what, where="key release") from None
    return strict.members(value, names, where="key release")
