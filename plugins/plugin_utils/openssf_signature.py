# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""OpenSSF Model Signing over the ciphertext: made and checked by its own package, so that everybody's tools can check it without any key."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, DependencyError, FormatError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import load_signing_key
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import tree

_MAX_SIZE = 64 << 20


def require_library() -> t.Any:
    """The package model_signing. Raises DependencyError."""
    try:
        import model_signing
        from model_signing import hashing, signing, verifying  # noqa: F401  # pylint: disable=unused-import
    except ImportError as error:
        fix = "Install model-signing and pyOpenSSL for the Python that runs Ansible"
        raise DependencyError(f"OpenSSF model signing needs a Python package ({error})", fix=fix) from None
    return model_signing


def sign(directory: str, key_path: str) -> None:
    """Write ``model.sig`` over everything else in ``directory``. Raises ModelError."""
    library = require_library()
    load_signing_key(key_path)
    target = os.path.join(directory, tree.BESIDE)
    if os.path.lexists(target):
        os.unlink(target)
    try:
        config = library.signing.Config().use_elliptic_key_signer(private_key=key_path)
        config.set_hashing_config(_hashing(library, target)).sign(directory, target)
    except (ValueError, OSError) as error:
        raise ModelError(f"it cannot be signed ({error})", where=directory, code="model-openssf") from None


def problem(directory: str, key_path: str, content: bool) -> str:
    """Why ``model.sig`` is not the signature of what lies there, or "". Without ``content`` only names and the manifest are compared."""
    target = os.path.join(directory, tree.BESIDE)
    if not os.path.lexists(target):
        return "there is no model.sig"
    if not content:
        return _outdated(directory, target)
    # Not on paths that need no signature.
    from cryptography.hazmat.primitives import serialization

    library = require_library()
    public = load_signing_key(key_path).public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with tempfile.NamedTemporaryFile() as file:
        file.write(public)
        file.flush()
        try:
            config = library.verifying.Config().use_elliptic_key_verifier(public_key=file.name)
            config.set_hashing_config(_hashing(library, target)).verify(directory, target)
        except Exception as error:  # pylint: disable=broad-except
            # The package raises what its parts raise. Whatever it is, the signature was not accepted.
            return f"model.sig does not verify ({str(error).splitlines()[0][:200] if str(error) else type(error).__name__})"
    return ""


def _hashing(library: t.Any, target: str) -> t.Any:
    return library.hashing.Config().use_file_serialization().set_ignored_paths(paths=[target], ignore_git_paths=False)


def _outdated(directory: str, target: str) -> str:
    try:
        with open(target, "rb") as stream:
            bundle = strict.loads(stream.read(_MAX_SIZE), tree.BESIDE)
        statement = strict.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]), tree.BESIDE)
        signed = {resource["name"]: resource["digest"] for resource in statement["predicate"]["resources"]}
        with open(os.path.join(directory, tree.MANIFEST), "rb") as stream:
            manifest = hashlib.sha256(stream.read()).hexdigest()
        there = {file.path for file in tree.walk(directory)} - {tree.BESIDE}
    except (OSError, FormatError, AttestedError, LookupError, TypeError, ValueError) as error:
        return f"model.sig cannot be read ({type(error).__name__})"
    if signed.get(tree.MANIFEST) != manifest:
        return "model.sig is over another manifest"
    return "" if set(signed) == there else "model.sig is over other files"
