# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""A soft key broker for each owner of the demonstration of training, on loopback, until SIGTERM.

    PYTHONPATH=tools/softkbs:.cache/collections python tools/demo/owners.py FOLDER clinic-a clinic-b

Each is told apart by a port, a TLS key and an admin of its own. FOLDER/NAME gets kbs.json (url, pin), kbs-ca.pem and admin.pem, and FOLDER/ready when all
of them answer. They believe the Soft TEE, so they protect nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import ipaddress
import json
import os
import signal
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from softkbs import snp
from softkbs.server import Server
from softkbs.service import Admin, Kbs

ISSUER, AUDIENCE = "owner.example.org", "KBS"


def write_secret(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(data)


def private_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def certificate_of(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    """Its own authority, good for one day."""
    subject, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), datetime.datetime.now(datetime.timezone.utc)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True).add_extension(identifier, False)
        .add_extension(x509.KeyUsage(True, False, False, False, False, True, True, False, False), True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip


def broker(folder: Path, name: str) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    key, admin = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    certificate = certificate_of(key, f"key broker of {name}")
    write_secret(folder / "tls.key", private_pem(key))
    write_secret(folder / "admin.pem", private_pem(admin))
    (folder / "kbs-ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    kbs = Kbs(Admin(key=admin.public_key(), issuer=ISSUER, audience=AUDIENCE))
    kbs.attestation.verifiers["snp"] = snp.verify
    server = Server(kbs, (folder / "kbs-ca.pem", folder / "tls.key"))
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    (folder / "kbs.json").write_text(json.dumps({"url": server.url, "pin": "sha256:" + hashlib.sha256(spki).hexdigest()}))
    return server


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("owner", nargs="+")
    options = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    with contextlib.ExitStack() as stack:
        for owner in options.owner:
            stack.enter_context(broker(options.folder / owner, owner).running())
        (options.folder / "pid").write_text(f"{os.getpid()}\n")
        (options.folder / "ready").touch()
        signal.sigwait((signal.SIGTERM, signal.SIGINT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
