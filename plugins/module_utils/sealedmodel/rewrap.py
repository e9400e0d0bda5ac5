# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Wrapping the data key of a published model anew: who can open it changes, and not one byte of ciphertext does."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, List, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe import Recipient
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.publish import sync_directory, write_file
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.signature import sign_manifest

_NEW = ".rewrap"


@dataclass(frozen=True)
class Rewrap:
    """The one change: key ids before and after, and the manifest that comes out."""

    before: Tuple[str, ...]
    after: Tuple[str, ...]
    manifest: Manifest
    changed: bool


def planned(manifest: Manifest, key: Any, wanted: Sequence[Recipient], keep: bool, where: str) -> Rewrap:
    """``wanted`` are all who shall open it, with ``keep`` besides those who can already. Who can already stays as it is.

    Raises KeyReleaseError: jwe-recipient, jwe-wrong-key if ``key`` does not open it."""
    before = [entry["kid"] for entry in jwe.recipients_of(manifest.dek, where)]
    names = [recipient.kid for recipient in wanted]
    if len(set(names)) != len(names):
        raise KeyReleaseError("a key is named twice", where=where, code="rewrap-recipients")
    remove = [] if keep else [kid for kid in before if kid not in names]
    add = [recipient for recipient in wanted if recipient.kid not in before or not _opens(manifest, recipient, where)]
    dek = jwe.rewrap_general(manifest.dek, key, add, remove, where=where)
    after = [entry["kid"] for entry in jwe.recipients_of(dek, where)]
    return Rewrap(tuple(before), tuple(after), replace(manifest, dek=dek), dek != dict(manifest.dek))


def _opens(manifest: Manifest, recipient: Recipient, where: str) -> bool:
    """Whether the key of that name is this key. A public key cannot be asked; the names of keys in a Vault are not chosen by anybody."""
    if recipient.alg != jwe.A256KW:
        return True
    try:
        jwe.unwrap_general(manifest.dek, recipient.key, recipient.kid, where)
        return True
    except KeyReleaseError as error:
        if error.code not in ("jwe-wrong-key", "jwe-recipient"):
            raise
        return False


def write(model: str, change: Rewrap, signer: Any) -> None:
    """Put manifest and signature in place. Cut in between, the signature does not fit and every reader refuses; ``recover`` puts it right.

    Raises ModelError."""
    raw = change.manifest.to_bytes()
    parts: List[Tuple[str, bytes]] = [(tree.MANIFEST, raw), (tree.SIGNATURE, sign_manifest(raw, signer))]
    try:
        for name, data in parts:
            write_file(os.path.join(model, name + _NEW), data)
        sync_directory(model)
        _put(model)
    except OSError as error:
        raise ModelError("it cannot be written (%s)" % error.strerror, where=model, fix="Run it again", code="model-dest") from None


def recover(model: str) -> bool:
    """Finish or forget what a run that was cut left behind. Returns whether there was something. Raises ModelError."""
    left = [name for name in (tree.MANIFEST, tree.SIGNATURE) if os.path.lexists(os.path.join(model, name + _NEW))]
    try:
        if left == [tree.SIGNATURE]:
            # The manifest has its name already: the signature belongs to it.
            _put(model)
        elif left:
            # Nothing was put in place yet. The signature goes first: alone it would mean the other thing.
            for name in reversed(left):
                os.unlink(os.path.join(model, name + _NEW))
            sync_directory(model)
    except OSError as error:
        raise ModelError("what a run that was cut left cannot be put right (%s)" % error.strerror, where=model, code="model-dest") from None
    return bool(left)


def _put(model: str) -> None:
    for name in (tree.MANIFEST, tree.SIGNATURE):
        with suppress(FileNotFoundError):
            os.replace(os.path.join(model, name + _NEW), os.path.join(model, name))
    sync_directory(model)
