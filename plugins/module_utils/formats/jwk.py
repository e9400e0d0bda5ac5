# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""RFC 7638 thumbprints of public keys, without any cryptographic library."""

from __future__ import annotations

import hashlib
from typing import Any, Mapping

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict

_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """The RFC 7638 SHA-256 thumbprint (base64url) of an EC or RSA key. Raises FormatError on other keys."""
    names = _MEMBERS.get(str(jwk.get("kty")))
    if names is None or not all(isinstance(jwk.get(name), str) for name in names):
        raise FormatError("it is no EC or RSA key in JWK form", where="JWK")
    return strict.encode_base64url(hashlib.sha256(jcs.canonicalize({name: str(jwk[name]) for name in names})).digest())
