# SPDX-License-Identifier: GPL-3.0-or-later
"""A soft attestation service in the shape of NVIDIA's: an RSA issuer, P-384 signers of two days, key sets, detached EATs."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AT = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
NONCE = bytes(range(32))
ISSUER = "https://nras.attestation.nvidia.com"
KID = "nv-eat-kid-test-1"
DEVICE_CLAIMS = {
    "measres": "success",
    "secboot": True,
    "dbgstat": "disabled",
    "hwmodel": "GH100",
    "oemid": "5703",
    "x-nvidia-gpu-arch-check": True,
    "x-nvidia-gpu-attestation-report-nonce-match": True,
    "x-nvidia-gpu-attestation-report-signature-verified": True,
    "x-nvidia-gpu-attestation-report-cert-chain": {"x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "good"},
    "x-nvidia-gpu-driver-version": "580.95.05",
    "x-nvidia-gpu-vbios-version": "96.00.9F.00.01",
    "x-nvidia-attestation-warning": None,
}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def usage(*, data: bool = False, certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(data, False, data, False, data, certificates, False, False, False)


class Service:
    """One issuer and one signer; every method takes what a negative case wants otherwise."""

    def __init__(self) -> None:
        self.root_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.issuer_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.issuer = self.certificate("NVIDIA Attestation Service GPU Intermediate 999", self.issuer_key, "Service CA", self.root_key, ca=True, days=1000)
        self.leaf = self.signer()

    def certificate(self, common_name, key, issuer_name, signer, *, ca=False, days=2, start=AT - timedelta(days=1), may=True, critical=None, digest=None):
        builder = (
            x509.CertificateBuilder().subject_name(name(common_name)).issuer_name(name(issuer_name)).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(start.replace(tzinfo=None))
            .not_valid_after((start + timedelta(days=days)).replace(tzinfo=None)).add_extension(usage(data=may and not ca, certificates=may and ca), True)
        )  # fmt: skip
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(True, None), True)
        else:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        if critical is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(critical), b"\x05\0"), True)
        return builder.sign(signer, digest or hashes.SHA256())

    def signer(self, **changes):
        options = {"common_name": "NVIDIA Attestation Service GPU GH100", "key": self.key, "issuer_name": self.issuer.subject.rfc4514_string()[3:],
                   "signer": self.issuer_key}  # fmt: skip
        return self.certificate(**{**options, **changes})

    @property
    def pin(self) -> str:
        return hashlib.sha256(self.issuer.public_bytes(serialization.Encoding.DER)).hexdigest()

    def jwks(self, leaf=None, *, kid=KID, key=None, chain=None, **changes) -> bytes:
        numbers = (key or self.key).public_key().public_numbers()
        certificates = chain if chain is not None else [leaf or self.leaf, self.issuer]
        entry = {
            "kty": "EC", "crv": "P-384", "kid": kid, "x": b64(numbers.x.to_bytes(48, "big")), "y": b64(numbers.y.to_bytes(48, "big")),
            "x5c": [base64.b64encode(one.public_bytes(serialization.Encoding.DER)).decode() for one in certificates], **changes,
        }  # fmt: skip
        return json.dumps({"keys": [entry]}).encode()

    def token(self, claims, *, header=None, key=None) -> str:
        head = {"alg": "ES384", "kid": KID, **(header or {})}
        text = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
        if head["alg"] == "none":
            return text + "."
        r, s = decode_dss_signature((key or self.key).sign(text.encode(), ec.ECDSA(hashes.SHA384())))
        return text + "." + b64(r.to_bytes(48, "big") + s.to_bytes(48, "big"))

    def claims(self, nonce=NONCE, at=AT, **more):
        now = int(at.timestamp())
        found = {"iss": ISSUER, "eat_nonce": nonce.hex(), "iat": now - 60, "nbf": now - 60, "exp": now + 3540, "jti": "1", **more}
        return {claim: value for claim, value in found.items() if value is not ...}

    def devices(self, count=1, **changes):
        """Tokens of GPUs; ``changes`` are claims (... leaves one out)."""
        options = {one: changes.pop(one) for one in ("header", "key") if one in changes}
        found = {}
        for number in range(count):
            claims = {**DEVICE_CLAIMS, "ueid": str(1000 + number), **changes}
            found["GPU-%d" % number] = self.token(self.claims(**claims), **options)
        return found

    def bundle(self, devices=None, *, submods=None, header=None, key=None, **changes) -> bytes:
        named = devices if devices is not None else self.devices()
        digests = {one: ["DIGEST", ["SHA-256", hashlib.sha256(text.encode()).hexdigest()]] for one, text in named.items()}
        claims = self.claims(**{"sub": "NVIDIA-PLATFORM-ATTESTATION", "x-nvidia-ver": "3.0", "x-nvidia-overall-att-result": True,
                                "submods": digests if submods is None else submods, **changes})  # fmt: skip
        return json.dumps([["JWT", self.token(claims, header=header, key=key)], named]).encode()
