# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Private keys in files of the controller: made with mode 0600, refused when others can read them."""

from __future__ import annotations

import os
import stat
from typing import Any

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import curve_of, generate_ec

_SIZE_MAX = 64 * 1024


def read_private(path: str, what: str) -> bytes:
    """The bytes of a secret file that only its owner may read."""
    try:
        with open(path, "rb") as stream:
            status = os.fstat(stream.fileno())
            data = stream.read(_SIZE_MAX + 1)
    except OSError as error:
        raise KeyReleaseError("it cannot be read: %s" % (error.strerror or error), where="%s %s" % (what, path)) from None
    if not stat.S_ISREG(status.st_mode) or not 0 < len(data) <= _SIZE_MAX:
        raise KeyReleaseError("it is no regular file of 1 to %d bytes" % _SIZE_MAX, where="%s %s" % (what, path))
    if status.st_mode & 0o077:
        raise KeyReleaseError(
            "group or others may read it (mode %04o)" % stat.S_IMODE(status.st_mode), where="%s %s" % (what, path),
            fix="Run: chmod 0600 %s" % path, code="key-readable",
        )
    return data


def write_private(path: str, data: bytes, what: str) -> None:
    """Write a new secret file, mode 0600. An existing file is never replaced."""
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise KeyReleaseError("it cannot be written: %s" % (error.strerror or error), where="%s %s" % (what, path)) from None


def create_signing_key(path: str, curve: str = "P-256") -> Any:
    """Make an EC private key and write it as PEM (PKCS #8)."""
    require_cryptography()
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = generate_ec(curve)
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "signing key")
    return key


def load_signing_key(path: str) -> Any:
    """Load an EC private key on P-256 or P-384 from a PEM file."""
    require_cryptography()
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = read_private(path, "signing key")
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        raise KeyReleaseError("it is not an unencrypted PEM private key", where="signing key %s" % path) from None
    if getattr(getattr(key, "curve", None), "name", "") not in ("secp256r1", "secp384r1"):
        raise KeyReleaseError(
            "it is not an EC key on P-256 or P-384", where="signing key %s" % path,
            fix="Make one: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
        )
    curve_of(key)
    return key
