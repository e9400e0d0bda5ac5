# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS with a certificate that is made at start and is gone with the process; only its public half is ever written to a file."""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
import ssl


def make_identity(host: str) -> tuple[ssl.SSLContext, bytes]:
    """A context ready to serve ``host`` (an address) and localhost, and the certificate in PEM form for clients that shall accept it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    # Of two authorities of one name a client would try the first only.
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"management controller {secrets.token_hex(4)} under test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host)), x509.DNSName("localhost")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(names, critical=False).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = certificate.public_bytes(Encoding.PEM)
    # OpenSSL takes keys from files only; this one has no name in any file system.
    with os.fdopen(os.memfd_create("tls-key", os.MFD_CLOEXEC), "wb") as stream:
        stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem)
        stream.flush()
        context.load_cert_chain(f"/proc/self/fd/{stream.fileno()}")
    return context, pem
