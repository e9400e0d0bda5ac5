# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""model-manifest.jws: a flattened JWS with detached payload (RFC 7515 section 7.2.2 and appendix F) over the manifest's bytes."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jws

_MAX_SIZE = 4096


def sign_manifest(manifest: bytes, key: Any) -> bytes:
    """Sign with an EC private key; returns the content of the signature file."""
    return jcs.canonicalize(jws.sign_detached(manifest, key))


def verify_manifest(manifest: bytes, signature: bytes, signer: Mapping[str, Any], where: str = "model-manifest.jws") -> None:
    """Raise ModelError(code=model-signature) unless ``signature`` is over exactly these bytes by the key of the JWK ``signer``."""
    try:
        if len(signature) > _MAX_SIZE:
            raise FormatError("it is longer than %d bytes" % _MAX_SIZE, where=where)
        jws.verify_detached(strict.loads(signature, where), manifest, dict(signer), where=where)
    except AttestedError as error:
        raise ModelError(
            "the manifest's signature is not accepted: %s" % error.what,
            where=where,
            fix="Use the model as its publisher signed it, or name the right signer",
            code="model-signature",
        ) from None
