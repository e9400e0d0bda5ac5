# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the controller has to offer: a model whose manifest is signed by whom we expect, and its data key."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe import unwrap_general
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import AnyKek
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.modelkey import ModelKey
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import KeyRelease
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import MAX_SIZE, Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.signature import verify_manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tree import MANIFEST, SIGNATURE


@dataclass(frozen=True)
class Offer:
    """A verified manifest, its signer, and the key-encryption key that opens its data key."""

    manifest: Manifest
    signer: t.Mapping[str, str]
    kek: AnyKek

    def release(self, minimum_release: int, evidence_digest: str, not_after: datetime) -> KeyRelease:
        """The data key with its context, ready to be sealed."""
        return self.model_key(minimum_release).key_release(evidence_digest, not_after)

    def model_key(self, minimum_release: int, agreement: str = "", tag_key: bytes = b"") -> ModelKey:
        """The data key with what it may be used for: models, or jobs of one agreement."""
        manifest = self.manifest
        return ModelKey(manifest.model_id, manifest.release, minimum_release, manifest.key_id, self.signer, self._data_key(), agreement, tag_key)

    def prove(self) -> None:
        """Raise unless the data key opens: better told before a guest is asked."""
        self._data_key()

    def _data_key(self) -> bytes:
        where = f"data key of {self.manifest.model_id} release {self.manifest.release}"
        key = unwrap_general(self.manifest.dek, self.kek.key, where=where)
        if len(key) != 32:
            raise KeyReleaseError("it has %d bytes, 32 are needed" % len(key), where=where)
        return key


def load_offer(model: str, load_kek: t.Callable[[], AnyKek], signer: t.Mapping[str, str]) -> Offer:
    """Read the encrypted model's manifest, verify who signed it, and only then load the key-encryption key."""
    offer = Offer(signed_manifest(model, signer), signer, load_kek())
    offer.prove()
    return offer


def signed_manifest(model: str, signer: t.Mapping[str, str]) -> Manifest:
    """The manifest of an encrypted model, if this key signed it. Raises ModelError, FormatError."""
    raw = _read(os.path.join(model, MANIFEST), MAX_SIZE)
    verify_manifest(raw, _read(os.path.join(model, SIGNATURE), 1 << 16), signer, os.path.join(model, SIGNATURE))
    return Manifest.parse(raw, os.path.join(model, MANIFEST))


def minimum_release(manifest: Manifest, asked: int | None, remembered: int) -> int:
    """The lowest release that the guest may open: what was asked for or the manifest's own, never below what is remembered."""
    if asked is not None and asked > manifest.release:
        raise ModelError(
            f"the manifest is of release {manifest.release}, minimum_release asks for {asked}",
            where=manifest.model_id,
            fix="Publish a newer release",
            code="model-rollback",
        )
    if remembered > manifest.release:
        raise ModelError(
            f"the manifest is of release {manifest.release}, but release {remembered} was the lowest allowed before", where=manifest.model_id,
            fix="Use the newer model; to go back to older content, publish it under a higher release number", code="model-rollback",
        )
    return max(manifest.release if asked is None else asked, remembered)


def _read(path: str, limit: int) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(limit + 1)
    except OSError as error:
        raise ModelError(
            "it cannot be read: %s" % (error.strerror or error), where=path, fix="Encrypt the model with attested.ai.model_encrypt first"
        ) from None
