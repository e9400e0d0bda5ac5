# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The keys of a server, made in its memory when it starts and never anywhere else: one for TLS, one that requests are encrypted to."""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl
from dataclasses import dataclass, field
from typing import Any, Dict

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.formats.der import spki_of_certificate
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys

# Longer than a server runs between two updates of its software. Nobody looks at it: the evidence says which key is good, not a date.
LIFETIME = datetime.timedelta(days=3650)


@dataclass(frozen=True)
class Identity:
    """A TLS context that is ready to serve, its certificate, and the key that requests are encrypted to."""

    context: ssl.SSLContext = field(repr=False)
    certificate_pem: bytes
    spki: str
    recipient: Any = field(repr=False)
    jwk: Dict[str, str]


def spki_digest(certificate: bytes) -> str:
    """sha256:<hexadecimal> of the public key in a certificate (DER), as evidence names it."""
    return "sha256:" + hashlib.sha256(spki_of_certificate(certificate)).hexdigest()


def make_identity(name: str) -> Identity:
    """Fresh EC P-256 keys, and a self-signed certificate for the first of them. Raises DependencyError without cryptography.

    OpenSSL takes keys from files only. The file is an anonymous one in memory (memfd_create(2)): it has no path that another process could open, and it is
    gone as soon as the key is loaded.
    """
    require_cryptography()
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Tickets would let a key that was made for one connection open another one.
    context.num_tickets = 0
    pem = certificate.public_bytes(Encoding.PEM)
    with os.fdopen(os.memfd_create("tls-key", os.MFD_CLOEXEC), "wb") as stream:
        stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem)
        stream.flush()
        context.load_cert_chain("/proc/self/fd/%d" % stream.fileno())
    recipient = ec.generate_private_key(ec.SECP256R1())
    return Identity(context, pem, spki_digest(certificate.public_bytes(Encoding.DER)), recipient, keys.public_jwk(recipient, jwe.ECDH))


def client_context() -> ssl.SSLContext:
    """TLS 1.3 only. Names and issuers are not looked at: whoever uses it compares the key with the attested one before the first byte is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
