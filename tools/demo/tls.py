# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""TLS 1.3 for the demo: a key that never has a name in any file system, and a client that trusts one attested public key only."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import ssl
from dataclasses import dataclass

HOST = "127.0.0.1"


class PinError(Exception):
    """The server's public key is not the attested one."""


@dataclass(frozen=True)
class ServerIdentity:
    """A context ready to serve, the certificate (PEM) for the evidence, and the digest of its public key."""

    context: ssl.SSLContext
    certificate_pem: bytes
    spki: str


def spki_digest(certificate_der: bytes) -> str:
    """``sha256:<hex>`` over the certificate's SubjectPublicKeyInfo in DER, the form that the evidence binds."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_der_x509_certificate(certificate_der).public_key()
    return "sha256:" + hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def make_server_identity(lifetime: datetime.timedelta = datetime.timedelta(days=1)) -> ServerIdentity:
    """A fresh EC P-256 key and its self-signed certificate.

    OpenSSL takes keys from files only. The file is an anonymous one in memory (memfd_create(2)): it has no path that another process
    could open, and it is gone as soon as the key is loaded.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "attested.ai demo service")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + lifetime)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    pem = certificate.public_bytes(Encoding.PEM)
    with os.fdopen(os.memfd_create("tls-key", os.MFD_CLOEXEC), "wb") as stream:
        stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem)
        stream.flush()
        context.load_cert_chain(f"/proc/self/fd/{stream.fileno()}")
    return ServerIdentity(context, pem, spki_digest(certificate.public_bytes(Encoding.DER)))


def client_context() -> ssl.SSLContext:
    """TLS 1.3 only. Names and issuers are not looked at: check_pin() decides, on the attested key and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def check_pin(connection: ssl.SSLSocket, expected: str) -> None:
    """Call it after the handshake and before the first byte of the request. Raises PinError."""
    certificate = connection.getpeercert(binary_form=True)
    found = spki_digest(certificate) if certificate else "no certificate"
    if not hmac.compare_digest(found, expected):
        raise PinError(f"the server's key {found} is not the attested key {expected}; nothing was sent to it")
