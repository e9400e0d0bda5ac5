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

KINDS = ("good", "self-signed", "wrong-name", "expired")


def make_identity(kind: str = "good") -> tuple[ssl.SSLContext, bytes, bytes]:
    """A context ready to serve loopback, the authority that clients shall trust in PEM form, and an empty revocation list of it in DER form.

    self-signed: another authority has signed. wrong-name: it is for another machine. expired: it was good yesterday."""
    if kind not in KINDS:
        raise ValueError(f"no such certificate {kind!r}; there are {', '.join(KINDS)}")
    key, authority, name = _authority()
    signer, issuer = (_authority()[::2]) if kind == "self-signed" else (key, name)
    now = datetime.datetime.now(datetime.timezone.utc)
    served = ec.generate_private_key(ec.SECP256R1())
    end = now - datetime.timedelta(days=1) if kind == "expired" else now + datetime.timedelta(days=1)
    names: list[x509.GeneralName] = [x509.DNSName("pccs.example.com")]
    if kind != "wrong-name":
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "soft PCCS")])).issuer_name(issuer)
    builder = builder.public_key(served.public_key()).serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=2))
    certificate = builder.not_valid_after(end).add_extension(x509.SubjectAlternativeName(names), critical=False).sign(signer, hashes.SHA256())
    crl = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(now).next_update(now + datetime.timedelta(days=30))
    for _number in range(8):
        crl = crl.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(x509.random_serial_number()).revocation_date(now).build())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # OpenSSL takes keys from files only; this one has no name in any file system.
    with os.fdopen(os.memfd_create("tls-key", os.MFD_CLOEXEC), "wb") as stream:
        stream.write(served.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM))
        stream.flush()
        context.load_cert_chain(f"/proc/self/fd/{stream.fileno()}")
    return context, authority.public_bytes(Encoding.PEM), crl.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate, x509.Name]:
    key = ec.generate_private_key(ec.SECP256R1())
    # Of two authorities of one name a client would try the first only.
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"soft PCCS authority {secrets.token_hex(4)}")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=3)).not_valid_after(now + datetime.timedelta(days=3))
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).add_extension(usage, critical=True)
    return key, builder.sign(key, hashes.SHA256()), name
