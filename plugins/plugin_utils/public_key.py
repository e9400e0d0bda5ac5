# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Public keys as task options: a JWK, or a file with a JWK or PEM."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import SIGNATURE_CURVES, curve_name, load_public_ec, public_jwk
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs, plain


def public_key(value: t.Any, action: t.Any) -> dict[str, str]:
    """The public JWK (kty, crv, x, y) of a signer."""
    return read_public_key(value, Inputs.of_action(action))


def read_public_key(value: t.Any, inputs: Inputs) -> dict[str, str]:
    """The same, with the reader of the task's files."""
    if isinstance(value, str):
        where = f"public key {value}"
        data = inputs.read(value, "public key")
        if data.lstrip().startswith(b"-----BEGIN PUBLIC KEY-----"):
            return _from_pem(data, where)
        jwk = strict.loads(data, where)
    else:
        where, jwk = "public key", plain(value, "public key")
    return public_jwk(load_public_ec(jwk, SIGNATURE_CURVES, where))


def _from_pem(data: bytes, where: str) -> dict[str, str]:
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise FormatError("it is not a PEM public key", where=where) from None
    if not curve_name(key):
        raise FormatError("it is no EC key", where=where, fix="Give the public half of an EC signing key")
    return public_jwk(key)
