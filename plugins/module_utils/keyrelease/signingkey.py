# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signing keys on the controller: PEM, EC P-256, readable by their owner only. For manifests and for the ledger."""

from __future__ import annotations

from typing import Any

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import create_secret, read_secret

_WHAT = "signing key"


def make_signing_key() -> Any:
    """An EC P-256 key that is kept nowhere."""
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def create_signing_key(path: str) -> Any:
    """Make an EC P-256 key, store it as PKCS #8 PEM with mode 0600, return the key object. Raises KeyReleaseError if the path is taken."""
    key = make_signing_key()
    from cryptography.hazmat.primitives import serialization

    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    create_secret(path, pem, _WHAT)
    return key


def load_signing_key(path: str) -> Any:
    """Read an unencrypted PEM EC key on P-256. Raises KeyReleaseError, also if group or others may open the file."""
    pem = read_secret(path, _WHAT)
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's own text is left out: it may quote the content.
        raise KeyReleaseError("it holds no unencrypted private key in PEM form", where=path, fix=_HOW, code="signing-key-form") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or keys.curve_name(key) != "P-256":
        raise KeyReleaseError("it is no EC key on P-256", where=path, fix=_HOW, code="signing-key-kind")
    return key


_HOW = "Make one: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"
