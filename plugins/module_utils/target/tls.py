# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a TLS certificate's key is called in a binding: the SHA-256 of its SubjectPublicKeyInfo."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError

FILE_MAX = 1024 * 1024
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s(.*?)-----END CERTIFICATE-----", re.DOTALL)


def spki_digest(path: str) -> str:
    """sha256:<hexadecimal> over the DER of the SubjectPublicKeyInfo of the first certificate in ``path`` (PEM or DER)."""
    from ansible_collections.attested.ai.plugins.module_utils.formats.der import spki_of_certificate

    return "sha256:" + hashlib.sha256(spki_of_certificate(read_certificate(path))).hexdigest()


def read_certificate(path: str) -> bytes:
    """The DER of the first certificate in ``path``. Raises CollectError."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(FILE_MAX + 1)
    except OSError as error:
        raise CollectError("it cannot be read (%s)" % error.strerror, where=path, fix="Correct tls_certificate", code="tls-certificate") from None
    if len(data) > FILE_MAX:
        raise CollectError("it is larger than %d bytes" % FILE_MAX, where=path, code="tls-certificate")
    if data[:1] == b"\x30":
        return data
    match = _CERTIFICATE.search(data)
    if match is None:
        raise CollectError("it holds no certificate", where=path, fix="Name a PEM or DER certificate", code="tls-certificate")
    try:
        return base64.b64decode(b"".join(match.group(1).split()), validate=True)
    except (binascii.Error, ValueError):
        raise CollectError("the base64 of its certificate is damaged", where=path, code="tls-certificate") from None
