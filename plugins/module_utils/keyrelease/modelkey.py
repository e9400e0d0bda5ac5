# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a key broker gives to a guest: the data key of one model release, with what it may be used for. The guest takes signer and minimum from nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import KeyRelease

SCHEMA = "attested.ai/model-key/1"
SIZE_MAX = 16384
_MEMBERS = ("schema", "model_id", "release", "minimum_release", "key", "key_id", "manifest_signer")
_FOR_JOB = ("agreement", "tag_key")


@dataclass(frozen=True)
class ModelKey:
    """See KeyRelease for the members. With ``agreement``, its SHA-256, it is for jobs of that one only, whose results are tagged with ``tag_key``."""

    model_id: str
    release: int
    minimum_release: int
    key_id: str
    manifest_signer: Mapping[str, str]
    key: bytes = field(repr=False)
    agreement: str = ""
    tag_key: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        # The rest is checked by what is made of it, in which the numbers are compared first.
        for name in ("release", "minimum_release"):
            if not strict.is_integer(getattr(self, name)):
                raise KeyReleaseError("%s is no whole number" % name, code="model-key-form")

    def to_json(self) -> bytes:
        """Canonical JSON, with the key in it."""
        for_job = {"agreement": self.agreement, "tag_key": strict.encode_base64url(self.tag_key)} if self.agreement else {}
        return jcs.canonicalize(
            {
                **for_job,
                "schema": SCHEMA,
                "model_id": self.model_id,
                "release": self.release,
                "minimum_release": self.minimum_release,
                "key": strict.encode_base64url(self.key),
                "key_id": self.key_id,
                "manifest_signer": dict(self.manifest_signer),
            }
        )

    @classmethod
    def from_json(cls, data: bytes, where: str, agreement: str = "") -> ModelKey:
        """Read it strictly. Raises KeyReleaseError (model-key-form, model-key-purpose); no message shows the content.

        A key for jobs of one agreement is refused by whoever does not ask for that one, and a key for models by whoever asks for one."""
        found = cls._read(data, where)
        if found.agreement != agreement:
            what = "jobs of the agreement %s" % found.agreement if found.agreement else "models"
            wanted = "jobs of the agreement %s" % agreement if agreement else "models"
            raise KeyReleaseError("it is a key for %s, asked for is one for %s" % (what, wanted), where=where, code="model-key-purpose",
                                  fix="Store it with attested.ai.kbs_model_key in a resource of its own, for jobs with agreement and result_key")
        return found

    @classmethod
    def _read(cls, data: bytes, where: str) -> ModelKey:
        try:
            if len(data) > SIZE_MAX:
                raise KeyReleaseError("it is %d bytes long" % len(data))
            obj = strict.members(strict.loads(data), _MEMBERS, _FOR_JOB)
            if obj["schema"] != SCHEMA:
                raise KeyReleaseError("its schema is %s" % strict.quoted(obj["schema"]))
            values = {name: obj[name] for name in _MEMBERS[1:] if name != "key"}
            if any(name in obj for name in _FOR_JOB):
                # Both or none.
                strict.members(obj, _MEMBERS + _FOR_JOB)
                strict.decode_hex(obj["agreement"], "agreement", 32)
                values.update(agreement=obj["agreement"], tag_key=strict.decode_base64url(obj["tag_key"], "tag_key", 32, 32))
            return cls(key=strict.decode_base64url(obj["key"], "key", 32, 32), **values)
        except AttestedError as error:
            # What a JSON error quotes may be part of a key.
            what = "it is no JSON" if "JSON" in error.what else error.what
            raise KeyReleaseError("it is no key of a model (%s)" % what, where=where, code="model-key-form",
                                  fix="Store it with attested.ai.kbs_model_key: a key alone does not say what it may open") from None

    def key_release(self, evidence_digest: str, not_after: datetime, least: int = 1, signer: Optional[Mapping[str, str]] = None) -> KeyRelease:
        """As a guest opens a model with it. ``least`` and ``signer`` are what the guest was told besides.

        Raises KeyReleaseError (release-too-old, model-signer) and FormatError."""
        if signer is not None and keys.jwk_thumbprint(signer) != keys.jwk_thumbprint(self.manifest_signer):
            raise KeyReleaseError("it is for models that another key signed", where="key of %s" % strict.quoted(self.model_id), code="model-signer",
                                  fix="Compare the signer with the one that the key was stored for")
        return KeyRelease(
            model_id=self.model_id, release=self.release, minimum_release=max(self.minimum_release, least), key=self.key, key_id=self.key_id,
            manifest_signer=self.manifest_signer, evidence_digest=evidence_digest, not_after=not_after,
        )
