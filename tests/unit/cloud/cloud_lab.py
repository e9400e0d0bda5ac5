# SPDX-License-Identifier: GPL-3.0-or-later
"""A laboratory that makes Azure evidence and Google's endorsements with any one thing wrong."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import trust_roots
from ansible_collections.attested.ai.plugins.module_utils.formats import strict, tpm2
from ansible_collections.attested.ai.plugins.module_utils.formats.azure_evidence import AzureEvidence

REPOSITORY = Path(__file__).resolve().parents[3]
if str(REPOSITORY / "tools" / "softtee") not in sys.path:
    sys.path.insert(0, str(REPOSITORY / "tools" / "softtee"))

from softtee.snp_authority import SnpAuthority  # noqa: E402
from softtee.snp_report import build_report, sign_report  # noqa: E402

AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
NONCE = bytes(range(48)) + bytes(16)
VM_ID = "911B0EF8-9DBA-48B0-B275-4E4DF2D39252"
PCRS = tuple(bytes([number]) * 32 for number in range(24))


def number(value: int) -> str:
    return strict.encode_base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def jwk(key: Any) -> dict:
    public = key.public_key().public_numbers()
    head = {"kid": "HCLAkPub", "key_ops": ["sign"]}
    if isinstance(key, rsa.RSAPrivateKey):
        return {**head, "kty": "RSA", "e": number(public.e), "n": number(public.n)}
    size = key.curve.key_size // 8
    x, y = (strict.encode_base64url(value.to_bytes(size, "big")) for value in (public.x, public.y))
    return {**head, "kty": "EC", "crv": {256: "P-256", 384: "P-384"}[key.curve.key_size], "x": x, "y": y}


def runtime_json(ak: Any, user_data: bytes = bytes(64), secure_boot: Any = True, keys: Any = None, **members: Any) -> bytes:
    claims = {
        "keys": [jwk(ak)] if keys is None else keys,
        "vm-configuration": {"console-enabled": True, "secure-boot": secure_boot, "tpm-enabled": True, "vmUniqueId": VM_ID},
        "user-data": user_data.hex().upper(),
    }  # fmt: skip
    claims.update(members)
    return json.dumps(claims, separators=(",", ":")).encode()


def build_hcl(hardware: bytes, runtime: bytes, kind: int = 2, size: int = 2600, version: int = 1) -> bytes:
    head = struct.pack("<4sIII16x", b"HCLA", version, 0x4D4 + len(runtime), 2) + hardware.ljust(1184, b"\0")
    return (head + struct.pack("<IIIII", 20 + len(runtime), 1, kind, 1, len(runtime)) + runtime).ljust(size, b"\0")


def build_quote(extra: bytes, values: Any = PCRS, selected: Any = None, digest: Any = None, magic: int = 0xFF544347, kind: int = 0x8018,
                algorithm: int = tpm2.ALG_SHA256, selections: Any = None, hash_name: str = "sha256", safe: int = 1) -> bytes:
    selected = tuple(range(24)) if selected is None else selected
    digest = hashlib.new(hash_name, b"".join(values)).digest() if digest is None else digest
    signer = b"\0\x0b" + bytes(32)
    body = struct.pack(">IHH", magic, kind, len(signer)) + signer + struct.pack(">H", len(extra)) + extra
    body += struct.pack(">QIIBQ", 123456, 3, 0, safe, 0x2020031200120003)
    body += tpm2.pcr_selection(algorithm, selected) if selections is None else selections
    return body + struct.pack(">H", len(digest)) + digest


def sign_quote(key: Any, message: bytes, scheme: str = "plain", digest: Any = None) -> bytes:
    digest = digest or hashes.SHA256()
    code = {"sha256": tpm2.ALG_SHA256, "sha384": tpm2.ALG_SHA384}[digest.name]
    if scheme == "ecdsa":
        r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
        return tpm2.build_signature(tpm2.Signature(tpm2.ALG_ECDSA, code, r=r, s=s))
    if scheme == "rsapss":
        value = key.sign(message, padding.PSS(padding.MGF1(digest), padding.PSS.MAX_LENGTH), digest)
        return tpm2.build_signature(tpm2.Signature(tpm2.ALG_RSAPSS, code, value))
    value = key.sign(message, padding.PKCS1v15(), digest)
    return value if scheme == "plain" else tpm2.build_signature(tpm2.Signature(tpm2.ALG_RSASSA, code, value))


class AzureLab:
    """One machine: a chip under a soft authority, and an attestation key."""

    def __init__(self) -> None:
        self.authority = SnpAuthority.create(None, products=("genoa",), rsa_bits=2048)
        self.roots_pem = [self.authority.ark_pem("genoa")]
        self.roots = trust_roots(self.roots_pem, allow_nonvendor_roots=True, vendor=False)
        self.key, self.vcek = self.authority.vcek("genoa", not_before=datetime(2026, 1, 1, tzinfo=timezone.utc))
        self.path = (self.authority.intermediate_der("genoa", "ask"),)
        self.ak = rsa.generate_private_key(65537, 2048)
        self.other = rsa.generate_private_key(65537, 2048)

    def crl(self, *revoked: str, start: datetime = AT - timedelta(days=1)) -> bytes:
        return self.authority.crl("genoa", revoked, this_update=start)

    def report(self, runtime: bytes, **fields: Any) -> bytes:
        fields.setdefault("report_data", hashlib.sha256(runtime).digest())
        return bytes(sign_report(build_report("genoa", **fields), self.key))

    def hcl(self, runtime: Any = None, size: int = 2600, **fields: Any) -> bytes:
        runtime = runtime_json(self.ak) if runtime is None else runtime
        return build_hcl(self.report(runtime, **fields), runtime, size=size)

    def evidence(self, nonce: bytes = NONCE[:48], hcl: Any = None, message: Any = None, signature: Any = None, values: Any = PCRS,
                 version: int = 1, vcek: Any = None, **quote: Any) -> bytes:
        message = build_quote(nonce, values, **quote) if message is None else message
        signature = sign_quote(self.ak, message) if signature is None else signature
        hcl = self.hcl() if hcl is None else hcl
        return AzureEvidence("az-snp-vtpm", version, hcl, message, signature, tuple(values), self.vcek if vcek is None else vcek).to_json()


def tag(field: int, kind: int) -> bytes:
    return varint(field << 3 | kind)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def blob(field: int, data: bytes) -> bytes:
    return tag(field, 2) + varint(len(data)) + data


def integer(field: int, value: int) -> bytes:
    return tag(field, 0) + varint(value)


class GoogleLab:
    """A root like Google's, a signer under it, and endorsements."""

    def __init__(self) -> None:
        self.root_key, self.key = (rsa.generate_private_key(65537, 2048) for _which in range(2))
        self.root = self.certificate("GCE-cc-tcb-root", "GCE-cc-tcb-root", self.root_key, self.root_key, ca=True)
        self.leaf = self.certificate("GCE-uefi-signing-key", "GCE-cc-tcb-root", self.key, self.root_key)
        self.root_pem = x509.load_der_x509_certificate(self.root).public_bytes(Encoding.PEM).decode()
        self.roots = trust_roots([self.root_pem], allow_nonvendor_roots=True, kind="gce")

    @staticmethod
    def certificate(name: str, issuer: str, key: Any, by: Any, ca: bool = False, start: datetime = AT - timedelta(days=100), days: int = 1000,
                    pss: bool = True, usage: bool = True, salt: int = 32, critical: bool = False) -> bytes:
        builder = x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(start + timedelta(days=days))
        builder = builder.add_extension(x509.BasicConstraints(ca, None), True)
        builder = builder.add_extension(x509.KeyUsage(usage and not ca, False, False, False, False, usage and ca, usage and ca, False, False), True)
        if critical:
            builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\0"), True)
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), salt) if pss else padding.PKCS1v15()
        return builder.sign(by, hashes.SHA256(), rsa_padding=scheme).public_bytes(Encoding.DER)

    def payload(self, measurement: bytes, tee: str = "sev-snp", svn: int = 7, leaf: Any = None, bundle: Any = None, timestamp: int = 1760000000,
                more: bytes = b"", digest: bytes = b"\x11" * 48) -> bytes:
        if tee == "sev-snp":
            golden = blob(7, integer(1, svn) + blob(2, integer(1, 4) + blob(2, measurement)) + blob(3, bytes(16)) + blob(4, bytes(16)) + integer(5, 0x30000))
        else:
            golden = blob(8, integer(1, svn) + blob(2, integer(1, 16) + blob(3, measurement)))
        bundle = self.root_pem.encode() if bundle is None else bundle
        head = blob(1, integer(1, timestamp)) + integer(2, 123456) + blob(4, self.leaf if leaf is None else leaf) + blob(5, digest)
        return head + blob(6, bundle) + golden + more

    def sign(self, payload: bytes, key: Any = None, salt: int = 32) -> bytes:
        signature = (key or self.key).sign(payload, padding.PSS(padding.MGF1(hashes.SHA256()), salt), hashes.SHA256())
        return blob(1, payload) + blob(2, signature)

    def endorsement(self, measurement: bytes, **members: Any) -> bytes:
        return self.sign(self.payload(measurement, **members))
