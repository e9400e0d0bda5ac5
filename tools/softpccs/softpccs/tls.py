# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of the PCCS, good ones and others, and the revocation list of their authority."""

from __future__ import annotations

import datetime
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from loopback import tls

KINDS = ("good", "self-signed", "wrong-name", "expired")


def make_identity(kind: str = "good") -> tuple[ssl.SSLContext, bytes, bytes]:
    """A context ready to serve loopback, the authority that clients shall trust in PEM form, and a revocation list of it in DER form.

    self-signed: another authority has signed. wrong-name: it is for another machine. expired: it was good yesterday."""
    if kind not in KINDS:
        raise ValueError(f"no such certificate {kind!r}; there are {', '.join(KINDS)}")
    key, authority, name = _authority()
    signer, issuer = (_authority()[::2]) if kind == "self-signed" else (key, name)
    now = datetime.datetime.now(datetime.timezone.utc)
    served = ec.generate_private_key(ec.SECP256R1())
    end = now - datetime.timedelta(days=1) if kind == "expired" else now + datetime.timedelta(days=1)
    builder = tls.certificate(served, tls.named("soft PCCS"), now - datetime.timedelta(days=2), end, issuer)
    names = ("pccs.example.com",) if kind == "wrong-name" else ("localhost", "127.0.0.1")
    crl = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(now).next_update(now + datetime.timedelta(days=30))
    for _number in range(8):
        crl = crl.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(x509.random_serial_number()).revocation_date(now).build())
    context, _pem = tls.serving(served, builder.add_extension(tls.alternatives(*names), critical=False), signer)
    return context, authority.public_bytes(Encoding.PEM), crl.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate, x509.Name]:
    key, name = ec.generate_private_key(ec.SECP256R1()), tls.named("soft PCCS authority")
    now = datetime.datetime.now(datetime.timezone.utc)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    builder = tls.certificate(key, name, now - datetime.timedelta(days=3), now + datetime.timedelta(days=3))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).add_extension(usage, critical=True)
    return key, builder.sign(key, hashes.SHA256()), name
