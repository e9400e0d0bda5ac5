# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS with certificates that are made at start and are gone with the process; only public halves are ever written to files."""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def named(text: str) -> x509.Name:
    """Of two authorities of one name a client would try the first only: no two have the same."""
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{text} {secrets.token_hex(4)}")])


def alternatives(*names: str) -> x509.SubjectAlternativeName:
    """For names of machines, and addresses."""
    return x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names])


def certificate(key: ec.EllipticCurvePrivateKey, subject: x509.Name, begin: datetime.datetime, end: datetime.datetime,
                issuer: x509.Name | None = None) -> x509.CertificateBuilder:  # fmt: skip
    """To be completed and signed; ``issuer`` is the subject itself unless it is named."""
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject).public_key(key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)


def serving(key: ec.EllipticCurvePrivateKey, builder: x509.CertificateBuilder, signer: ec.EllipticCurvePrivateKey) -> tuple[ssl.SSLContext, bytes]:
    """A context that serves with ``key``, and its certificate in PEM form."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)
    # OpenSSL takes keys from files only; this one has no name in any file system.
    with os.fdopen(os.memfd_create("tls-key", os.MFD_CLOEXEC), "wb") as stream:
        stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem)
        stream.flush()
        context.load_cert_chain(f"/proc/self/fd/{stream.fileno()}")
    return context, pem
