# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole PKI in Intel's shape, collateral and quotes, with keys made on the spot: everything about them can be made wrong.

What a verifier reads, and so what a maker of such evidence must get right:

* root "Intel SGX Root CA" (CA, pathlen 1); below it "Intel SGX PCK Platform CA" or "... Processor CA" (CA, pathlen 0, certificate and CRL
  signing) and "Intel SGX TCB Signing" (no CA, digital signature); below an authority "Intel SGX PCK Certificate" (no CA, digital
  signature) with the SGX extension 1.2.840.113741.1.13.1. All keys on P-256, all signatures ECDSA with SHA-256;
* revocation lists of the root and of the authority that issued the leaf, each with nextUpdate;
* tcbInfo (id TDX, version 3) and enclaveIdentity (id TD_QE, version 2), signed as r and s over their exact text;
* quote: header 48, [type, size in version 5], TD report; signature of the attestation key over all of it; report of the quoting enclave with
  SHA-256(key, authentication data) and 32 zeros in REPORTDATA, signed with the PCK; PEM chain of three.
"""

from __future__ import annotations

import functools
import hashlib
import json
import struct
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots, trust_roots

AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
LONG_AGO, FAR = datetime(2020, 1, 1, tzinfo=timezone.utc), datetime(2045, 1, 1, tzinfo=timezone.utc)
ISSUED, UNTIL = datetime(2026, 10, 20, tzinfo=timezone.utc), datetime(2026, 11, 20, tzinfo=timezone.utc)
FMSPC, PCEID, PPID = bytes.fromhex("a0b1c2d3e4f5"), b"\0\0", bytes(range(16))
SGX = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
_SGX_OID = bytes.fromhex("2a864886f84d010d01")
COMPONENTS = (5, 5, 2, 2, 4, 1, 0, 5) + (0,) * 8
TDX_COMPONENTS = (5, 0, 6) + (0,) * 13
QE_SIGNER = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def name(common_name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Intel Corporation")])


def raw_signature(key, message):
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def point(key):
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def certificate(subject, key, issuer, issuer_key, serial, *, ca=False, pathlen=None, start=LONG_AGO, end=FAR, sgx=None, usage=None, hash_=None):
    if usage is None:
        usage = {"key_cert_sign": True, "crl_sign": True} if ca else {"digital_signature": True, "content_commitment": True}
    bits = {bit: usage.get(bit, False) for bit in (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
        "encipher_only", "decipher_only",
    )}  # fmt: skip
    builder = (
        x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key()).serial_number(serial)
        .not_valid_before(start).not_valid_after(end).add_extension(x509.BasicConstraints(ca, pathlen), True).add_extension(x509.KeyUsage(**bits), True)
    )  # fmt: skip
    if sgx is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(SGX, sgx), False)
    return builder.sign(issuer_key, hash_ or hashes.SHA256())


def crl(issuer, key, serials=(), start=ISSUED, end=UNTIL, extensions=()):
    builder = x509.CertificateRevocationListBuilder().issuer_name(name(issuer)).last_update(start).next_update(end)
    builder = builder.add_extension(x509.CRLNumber(1), False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start)
        builder = builder.add_revoked_certificate(entry.add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), False).build())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def pem(*certificates):
    return "".join(part.public_bytes(Encoding.PEM).decode() for part in certificates)


def tlv(tag, content):
    size = bytes((len(content),)) if len(content) < 0x80 else b"\x82" + len(content).to_bytes(2, "big")
    return bytes((tag,)) + size + content


def integer(value):
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def member(suffix, value):
    return tlv(0x30, tlv(6, _SGX_OID + suffix) + value)


def sgx_extension(components=COMPONENTS, pcesvn=13, fmspc=FMSPC, pceid=PCEID, ppid=PPID, configuration=(True, True, True), cpusvn=None, sgx_type=1):
    """``configuration``: dynamic platform, cached keys, SMT; None as in certificates of the Processor CA."""
    tcb = b"".join(member(bytes((2, number)), integer(svn)) for number, svn in enumerate(components, 1))
    tcb += member(b"\x02\x11", integer(pcesvn)) + member(b"\x02\x12", tlv(4, bytes(components) if cpusvn is None else cpusvn))
    parts = member(b"\x01", tlv(4, ppid)) + member(b"\x02", tlv(0x30, tcb)) + member(b"\x03", tlv(4, pceid)) + member(b"\x04", tlv(4, fmspc))
    parts += member(b"\x05", tlv(0x0A, bytes((sgx_type,))))
    if configuration is not None:
        flags = b"".join(member(bytes((7, number)), tlv(1, b"\xff" if flag else b"\0")) for number, flag in enumerate(configuration, 1))
        parts += member(b"\x06", tlv(4, bytes(16))) + member(b"\x07", tlv(0x30, flags))
    return tlv(0x30, parts)


def stamp(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def level(status="UpToDate", sgx=COMPONENTS, pcesvn=13, tdx=TDX_COMPONENTS, date="2026-05-14T00:00:00Z", advisories=()):
    found = {
        "tcb": {"sgxtcbcomponents": [{"svn": svn} for svn in sgx], "pcesvn": pcesvn, "tdxtcbcomponents": [{"svn": svn} for svn in tdx]},
        "tcbDate": date, "tcbStatus": status,
    }  # fmt: skip
    return {**found, "advisoryIDs": list(advisories)} if advisories else found


def svn_level(svn, status="UpToDate", date="2026-05-14T00:00:00Z", advisories=()):
    found = {"tcb": {"isvsvn": svn}, "tcbDate": date, "tcbStatus": status}
    return {**found, "advisoryIDs": list(advisories)} if advisories else found


def module(version=1, levels=None, mrsigner=bytes(48), attributes=bytes(8), mask=b"\xff" * 8):
    return {
        "id": "TDX_%02X" % version, "mrsigner": mrsigner.hex(), "attributes": attributes.hex(), "attributesMask": mask.hex(),
        "tcbLevels": levels or [svn_level(8), svn_level(6, "OutOfDate", "2025-01-01T00:00:00Z", ("INTEL-SA-99002",))],
    }  # fmt: skip


def tcb_info(**changes):
    info = {
        "id": "TDX", "version": 3, "issueDate": stamp(ISSUED), "nextUpdate": stamp(UNTIL), "fmspc": FMSPC.hex().upper(), "pceId": PCEID.hex(), "tcbType": 0,
        "tcbEvaluationDataNumber": 20, "tdxModule": {key: value for key, value in module().items() if key not in ("id", "tcbLevels")},
        "tdxModuleIdentities": [module(3, [svn_level(3)]), module(1)],
        "tcbLevels": [level(), level("OutOfDate", (2,) * 4 + (2, 1, 0, 2) + (0,) * 8, 5, (3, 0, 2) + (0,) * 13, "2024-01-01T00:00:00Z", ("INTEL-SA-99001",))],
    }  # fmt: skip
    info.update(changes)
    return {key: value for key, value in info.items() if value is not None}


def qe_identity(**changes):
    identity = {
        "id": "TD_QE", "version": 2, "issueDate": stamp(ISSUED), "nextUpdate": stamp(UNTIL), "tcbEvaluationDataNumber": 20, "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF", "attributes": "11000000000000000000000000000000", "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_SIGNER.hex().upper(), "isvprodid": 2, "tcbLevels": [svn_level(4), svn_level(2, "OutOfDate", advisories=("INTEL-SA-99003",))],
    }  # fmt: skip
    identity.update(changes)
    return {key: value for key, value in identity.items() if value is not None}


def td_report(svn=bytes((8, 1, 6)) + bytes(13), mrsignerseam=bytes(48), seamattributes=bytes(8), tdattributes=1 << 28, xfam=0x602E7, mrtd=b"\x11" * 48,
              mrconfigid=bytes(48), mrowner=bytes(48), mrownerconfig=bytes(48), rtmrs=(b"\x20" * 48, b"\x21" * 48, b"\x22" * 48, bytes(48)),
              reportdata=b"\x5a" * 64, mrseam=b"\x10" * 48, svn_2=None, mrservicetd=bytes(48)):  # fmt: skip
    body = svn + mrseam + mrsignerseam + seamattributes + tdattributes.to_bytes(8, "little") + xfam.to_bytes(8, "little") + mrtd
    body += mrconfigid + mrowner + mrownerconfig + b"".join(rtmrs) + reportdata
    return body if svn_2 is None else body + svn_2 + mrservicetd


def qe_report(reportdata, mrsigner=QE_SIGNER, isvprodid=2, isvsvn=4, miscselect=0, attributes=b"\x15" + bytes(7) + b"\xe7" + bytes(7)):
    fields = (b"\x08" * 16, miscselect, b"", attributes, b"\x77" * 32, b"", mrsigner, b"", isvprodid, isvsvn, b"", reportdata)
    return struct.pack("<16sI28s16s32s32s32s96sHH60s64s", *fields)


class Lab:
    """One vendor with one platform. ``ca`` is the authority of its PCK certificate: "platform" or "processor"."""

    def __init__(self, ca="platform", root_name="Intel SGX Root CA", **sgx):
        self.root_name, self.ca = root_name, ca
        self.root_key, self.ca_key, self.signer_key, self.pck_key, self.ak = [new_key() for _index in range(5)]
        self.ca_name = "Intel SGX PCK %s CA" % ca.capitalize()
        self.root = certificate(root_name, self.root_key, root_name, self.root_key, 1, ca=True, pathlen=1)
        self.ca_certificate = certificate(self.ca_name, self.ca_key, root_name, self.root_key, 0x1001, ca=True, pathlen=0)
        self.signer = certificate("Intel SGX TCB Signing", self.signer_key, root_name, self.root_key, 0x1002)
        self.pck = self.leaf(**sgx)

    def leaf(self, subject="Intel SGX PCK Certificate", serial=0x2001, extension=True, **sgx):
        """Another PCK certificate for the platform's key."""
        options = {key: sgx.pop(key) for key in ("start", "end", "usage", "hash_", "ca", "issuer", "issuer_key") if key in sgx}
        if self.ca == "processor":
            sgx.setdefault("configuration", None)
        data = sgx_extension(**sgx) if extension is True else extension
        issuer, issuer_key = options.pop("issuer", self.ca_name), options.pop("issuer_key", self.ca_key)
        return certificate(subject, self.pck_key, issuer, issuer_key, serial, sgx=data, **options)

    def roots(self) -> TrustRoots:
        return trust_roots([pem(self.root)], True, vendor=False, kind="intel")

    def chain(self):
        return pem(self.pck, self.ca_certificate, self.root)

    def collateral(self, info=None, identity=None, **changes) -> bytes:
        """``info`` and ``identity``: dict or exact text. ``changes``: members as they are to stand in the file."""
        texts = [value if isinstance(value, str) else json.dumps(value, separators=(",", ":")) for value in (info or tcb_info(), identity or qe_identity())]
        document = {
            "pck_crl_issuer_chain": pem(self.ca_certificate, self.root), "root_ca_crl": crl(self.root_name, self.root_key).hex(),
            "pck_crl": crl(self.ca_name, self.ca_key, (0x9001,)).hex(), "tcb_info_issuer_chain": pem(self.signer, self.root), "tcb_info": texts[0],
            "tcb_info_signature": raw_signature(self.signer_key, texts[0].encode()).hex(), "qe_identity_issuer_chain": pem(self.signer, self.root),
            "qe_identity": texts[1], "qe_identity_signature": raw_signature(self.signer_key, texts[1].encode()).hex(),
        }  # fmt: skip
        document.update(changes)
        return json.dumps({key: value for key, value in document.items() if value is not None}).encode()

    def quote(self, body=None, version=4, body_type=None, header=None, user_data=bytes(20), auth=bytes(range(32)), reportdata=None, qe=None, chain=None,
              outer_type=6, inner_type=5, padding=b"", ak_type=2, tee_type=0x81, vendor=QE_VENDOR, qe_key=None, ak=None,
              signed_by=None, size=None):  # fmt: skip
        body = td_report() if body is None else body
        header = header or struct.pack("<HHI4s16s20s", version, ak_type, tee_type, b"", vendor, user_data)
        if version == 5:
            header += struct.pack("<HI", body_type or (2 if len(body) == 584 else 3), len(body) if size is None else size)
        ak = ak or self.ak
        reportdata = hashlib.sha256(point(ak) + auth).digest() + bytes(32) if reportdata is None else reportdata
        report = qe_report(reportdata, **(qe or {}))
        chain = (self.chain() if chain is None else chain).encode()
        inner = report + raw_signature(qe_key or self.pck_key, report) + struct.pack("<H", len(auth)) + auth
        inner += struct.pack("<HI", inner_type, len(chain)) + chain
        signature = raw_signature(signed_by or ak, header + body) + point(ak) + struct.pack("<HI", outer_type, len(inner)) + inner
        return header + body + struct.pack("<I", len(signature)) + signature + padding


@functools.lru_cache(maxsize=None)
def lab(ca="platform") -> Lab:
    return Lab(ca)


DAY = timedelta(days=1)
