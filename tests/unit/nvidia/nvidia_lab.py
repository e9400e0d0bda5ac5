# SPDX-License-Identifier: GPL-3.0-or-later
"""A soft authority in NVIDIA's shapes: devices with reports, manifests, OCSP responders. Every key is drawn on the spot."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from lxml import etree

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import NONVENDOR, TrustRoot, TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.formats.der import parse_certificate

AT = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
NONCE = bytes(range(32))
SHA384 = hashes.SHA384()
COMPOSITE = x509.ObjectIdentifier("2.23.133.5.4.1")
TCB_INFO = x509.ObjectIdentifier("2.23.133.5.4.1.1")
VBIOS = {"GH100": "96.00.9F.00.01", "GB100": "97.00.88.00.0F", "LS_10": "96.10.55.00.01"}
DRIVER = "580.95.05"
MODES = {"spt": 0, "mpt": 1, "ppcie": 2}


def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def raw_signature(signer: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    r, s = decode_dss_signature(signer.sign(data, ec.ECDSA(SHA384)))
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def spki(signer: ec.EllipticCurvePrivateKey) -> bytes:
    return signer.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def name(common_name: str, serial_number: str | None = None) -> x509.Name:
    parts = [] if serial_number is None else [x509.NameAttribute(NameOID.SERIAL_NUMBER, serial_number)]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COUNTRY_NAME, "US"), x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass
class Signer:
    """A certificate with its key and its issuer."""

    certificate: x509.Certificate
    key: Any
    issuer: Signer | None = None

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def path(self) -> list[Signer]:
        return [self] + ([] if self.issuer is None else self.issuer.path())


def signer_hash(signer: Signer) -> Any:
    return SHA384 if isinstance(signer.key, ec.EllipticCurvePrivateKey) else hashes.SHA256()


def issue(
    common_name: str, issuer: Signer | None, *, ca: bool = True, serial_number: str | None = None, not_before: datetime = AT - timedelta(days=400),
    not_after: datetime = FOREVER, extensions: Sequence[tuple[x509.ExtensionType, bool]] = (), usage: str = "", path_length: int | None = None,
    signing_key: Any = None, serial: int | None = None,
) -> Signer:  # fmt: skip
    own = signing_key or key()
    subject = name(common_name, serial_number)
    wanted = usage or ("sign-certificates" if ca else "sign-data")
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(own.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(not_before.replace(tzinfo=None))
        .not_valid_after(not_after.replace(tzinfo=None))
        .add_extension(x509.KeyUsage(wanted == "sign-data", False, False, False, False, wanted == "sign-certificates", False, False, False), True)
    )
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(True, path_length), True)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    signed_by = own if issuer is None else issuer.key
    digest = SHA384 if isinstance(signed_by, ec.EllipticCurvePrivateKey) else hashes.SHA256()
    return Signer(builder.sign(signed_by, digest), own, issuer)


def der(tag: int, content: bytes) -> bytes:
    length = len(content)
    size = bytes([length]) if length < 128 else b"\x81" + bytes([length]) if length < 256 else b"\x82" + length.to_bytes(2, "big")
    return bytes([tag]) + size + content


def fwid_der(digest: bytes) -> bytes:
    return der(0x30, bytes.fromhex("0609608648016503040202") + der(0x04, digest))


def composite(device_spki: bytes, digest: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(COMPOSITE, der(0x30, b"\x02\x01\x01" + device_spki + fwid_der(digest)))


def tcb_info(digest: bytes, flags: int = 0x80000001) -> x509.UnrecognizedExtension:
    members = der(0x80, b"NVIDIA") + der(0xA6, fwid_der(digest) + fwid_der(bytes(48))) + der(0x87, b"\0" + flags.to_bytes(4, "big"))
    return x509.UnrecognizedExtension(TCB_INFO, der(0x30, members))


@dataclass
class Device:
    """One GPU or switch. ``chain`` is leaf first."""

    chip: str
    chain: list[Signer]
    pdi: bytes
    fwid: bytes

    @property
    def pem(self) -> bytes:
        return b"".join(signer.certificate.public_bytes(serialization.Encoding.PEM) for signer in self.chain)


def legacy(fields: Mapping[int, bytes]) -> bytes:
    return b"".join(number.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value for number, value in fields.items())


def nvdaod(fields: Mapping[int, bytes], *, header: bytes = bytes.fromhex("4e5644414f44000002000000"), types: Mapping[int, int] | None = None) -> bytes:
    known = {37: 0x87, 20: 0x01, 3: 0x86, 6: 0x86, **(types or {})}
    words = {number: (number, known.get(number, 0x82), len(value)) for number, value in fields.items()}
    return header + b"".join(b"".join(word.to_bytes(2, "little") for word in words[number]) + value for number, value in fields.items())


def vbios_field(version: str) -> bytes:
    parts = bytes.fromhex(version.replace(".", ""))
    return parts[3::-1] + parts[4:] + bytes(3)


def gpu_fields(device: Device, *, mode: str | None = "spt", driver: str = DRIVER, vbios: str | None = None, nvdec0: bool = False,
               switches: Sequence[bytes] = (), **more: bytes) -> dict[int, bytes]:  # fmt: skip
    """The fields of a GPU's opaque data; ``more`` are fields by number, "f37" for example."""
    fields = {
        6: vbios_field(vbios or VBIOS[device.chip]), 14: bytes(4), 15: b"885\0\0\0\0\0\0", 17: b"G520\0", 18: b"0200\0", 3: driver.encode() + b"\0",
        12: bytes(256), 11: b"\xaa" if nvdec0 else b"\x55", 20: device.fwid,
    }  # fmt: skip
    if mode is not None:
        fields[21] = b"\xaa" if mode == "ppcie" else b"\x55"
        fields[36] = MODES[mode].to_bytes(2, "little")
    if switches:
        links = [switches[number % len(switches)][::-1] for number in range(18)]
        fields[22] = b"".join(links)
    fields.update({int(number[1:]): value for number, value in more.items()})
    return fields


def switch_fields(device: Device, gpus: Sequence[bytes], **more: bytes) -> dict[int, bytes]:
    fields = {6: VBIOS["LS_10"].encode(), 22: device.pdi, 12: bytes(104), 26: b"".join(gpus).ljust(64, b"\xff")[:64] + bytes(64), 23: b"\xec\0"}
    fields.update({int(number[1:]): value for number, value in more.items()})
    return fields


def measurement(index: int) -> bytes:
    """What block ``index`` (from 1) of a soft device measures."""
    return hashlib.sha384(b"block %d" % index).digest()


def spdm(signer: Any, nonce: bytes, opaque: bytes, measurements: Mapping[int, bytes], *, slot: int = 0, tail: bytes = b"") -> bytes:
    header = (51).to_bytes(2, "little") + b"\x01" + (48).to_bytes(2, "little")
    record = b"".join(bytes([index, 1]) + header + value for index, value in measurements.items())
    body = b"\x11\xe0\x01\xff" + nonce + bytes([slot]) + bytes([0x11, 0x60, 0, slot, len(measurements)]) + len(record).to_bytes(3, "little")
    body += record + bytes(reversed(range(32))) + len(opaque).to_bytes(2, "little") + opaque
    return body + raw_signature(signer, body) + tail


GPU_BLOCKS = {index: measurement(index) for index in range(1, 65)}
SWITCH_BLOCKS = {index: measurement(index) for index in range(1, 32)}
# As on real ones: driver and VBIOS manifests share the indices between them.
DRIVER_INDICES = (14, 15, 17, 18, 22, 28, 30, 32, 33, 34, 35, 36, 40, 45, 46, 49, 50, 51, 52, 53, 54)
FIRMWARE_INDICES = (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12)


def golden(indices: Sequence[int], changed: Mapping[int, Sequence[bytes]] | None = None) -> dict[int, Sequence[bytes]]:
    return {**{index: [measurement(index + 1)] for index in indices}, **(changed or {})}


def resource(index: int, digests: Sequence[bytes], active: bool) -> str:
    values = " ".join('ns2:Hash%d="%s"' % pair for pair in enumerate(digest.hex() for digest in digests))
    return '<ns0:Resource type="Measurement" index="%d" active="%s" alternatives="%d" %s name="Measurement_%d" size="48"/>' % (
        index, active, len(digests), values, index
    )  # fmt: skip


@dataclass(frozen=True)
class RimSpec:
    """What goes into a manifest. ``payload`` replaces the resources, ``text`` changes the finished document before it is signed."""

    product: str = "GH100"
    version: str = DRIVER
    edition: str = "GPU"
    active: Mapping[int, Sequence[bytes]] = field(default_factory=lambda: golden(DRIVER_INDICES))
    extra: str = ""
    size: int = 64


def rim_document(spec: RimSpec) -> str:
    rows = "\n        ".join(resource(index, spec.active.get(index, [bytes(48)]), index in spec.active) for index in range(spec.size))
    return (
        '<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:ns0="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" '
        'xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384" corpus="false" name="%s" patch="false" supplemental="false" tagId="%s" version="1.0">\n'
        '    <ns0:Entity name="Soft authority" role="softwareCreator tagCreator"/>\n'
        '    <ns0:Meta colloquialVersion="%s" edition="%s" product="%s" revision="r1"/>\n'
        "    <ns0:Payload>\n        %s\n    %s</ns0:Payload>\n</SoftwareIdentity>"
    ) % (spec.product, hashlib.sha384(repr(spec).encode()).hexdigest(), spec.version, spec.edition, spec.product, rows, spec.extra)


C14N = "http://www.w3.org/2006/12/xml-c14n11"
SIGNATURE = (
    '<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{c14n}"/>'
    '<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"/><ds:Reference URI=""><ds:Transforms>'
    '<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/><ds:Transform Algorithm="{c14n}"/></ds:Transforms>'
    '<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"/><ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>'
    "<ds:SignatureValue>{value}</ds:SignatureValue><ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo></ds:Signature>"
)


def sign_rim(document: str, signer: Signer) -> bytes:
    """Put the enveloped signature before the end tag, as NVIDIA's tags have it."""
    digest = base64.b64encode(hashlib.sha384(etree.tostring(etree.fromstring(document.encode()), method="c14n")).digest()).decode()
    certificates = "".join("<ds:X509Certificate>%s</ds:X509Certificate>" % base64.b64encode(one.der).decode() for one in signer.path())

    def finished(value: str) -> str:
        signature = SIGNATURE.format(c14n=C14N, digest=digest, value=value, certificates=certificates)
        return document.replace("</SoftwareIdentity>", signature + "</SoftwareIdentity>")

    info = next(etree.fromstring(finished("AA==").encode()).iter("{http://www.w3.org/2000/09/xmldsig#}SignedInfo"))
    value = raw_signature(signer.key, etree.tostring(info, method="c14n", with_tail=False))
    return finished(base64.b64encode(value).decode()).encode()


class NvidiaLab:
    """Two roots, and everything below them."""

    def __init__(self) -> None:
        self.device_root = issue("NVIDIA Device Identity CA", None)
        self.families = {family: issue("NVIDIA %s Identity" % family, self.device_root) for family in ("GH100", "GB100")}
        self.provisioners = {
            chip: issue("NVIDIA %s Provisioner ICA 1" % chip, self.families["GB100" if chip == "GB100" else "GH100"]) for chip in ("GH100", "GB100", "LS_10")
        }
        self.rim_root = issue("NVIDIA CoRIM signing Root CA", None)
        self.rim_ca = issue("NVIDIA Reference Value GH100 CA", self.rim_root, not_after=AT + timedelta(days=3000))
        self.rim_intermediate = issue("NVIDIA Reference Value L3 GH100 001", self.rim_ca, path_length=0, not_after=AT + timedelta(days=800))
        self.rim_signer = self.new_rim_signer()
        self.roots = self.pinned(self.device_root)
        self.rim_roots = self.pinned(self.rim_root)

    @staticmethod
    def pinned(*signers: Signer) -> TrustRoots:
        found = [parse_certificate(signer.der) for signer in signers]
        return TrustRoots(tuple(TrustRoot(one, NONVENDOR, hashlib.sha256(one.spki).hexdigest()) for one in found))

    @property
    def pem(self) -> list[str]:
        return [root.certificate.public_bytes(serialization.Encoding.PEM).decode() for root in (self.device_root, self.rim_root)]

    def new_rim_signer(self, **changes: Any) -> Signer:
        return issue("HCC RIM L4 Signer", self.rim_intermediate, **{"ca": False, "not_after": AT + timedelta(days=365), **changes})

    def device(self, chip: str = "GH100", number: int = 1, *, flags: int = 0x80000001) -> Device:
        pdi = hashlib.sha256(b"%s %d" % (chip.encode(), number)).digest()[:8]
        unit = "FSP" if chip == "LS_10" else "GSP"
        brom = issue("%s A01 %s BROM" % (chip, unit), self.provisioners[chip], serial_number=("50" if chip == "LS_10" else "41") + pdi.hex().upper())
        digest = hashlib.sha384(b"firmware").digest()
        extension = tcb_info(digest, flags) if chip == "GB100" else composite(spki(brom.key), digest)
        firmware = issue("%s A01 %s FMC LF" % (chip, unit), brom, ca=False, extensions=((extension, False),))
        return Device(chip, firmware.path(), pdi, digest)

    def gpu_report(self, device: Device, *, nonce: bytes = NONCE, versioned: bool = False, blocks: Mapping[int, bytes] | None = None, tail: bytes = b"",
                   fields: Mapping[int, bytes] | None = None, **options: Any) -> bytes:  # fmt: skip
        found = gpu_fields(device, **options) if fields is None else fields
        opaque = nvdaod(found) if versioned else legacy(found)
        return spdm(device.chain[0].key, nonce, opaque, blocks or GPU_BLOCKS, tail=tail)

    def switch_report(self, device: Device, gpus: Sequence[bytes] = (), *, nonce: bytes = NONCE, **more: bytes) -> bytes:
        return spdm(device.chain[0].key, nonce, legacy(switch_fields(device, gpus, **more)), SWITCH_BLOCKS)

    def rim(self, signer: Signer | None = None, **changes: Any) -> bytes:
        return sign_rim(rim_document(replace(RimSpec(), **changes)), signer or self.rim_signer)

    def gpu_rims(self, chip: str = "GH100", signer: Signer | None = None) -> list[bytes]:
        return [
            self.rim(signer, product=chip, active=golden(DRIVER_INDICES)),
            self.rim(signer, product=chip, version=VBIOS[chip], active=golden(FIRMWARE_INDICES)),
        ]

    def switch_rim(self, signer: Signer | None = None) -> bytes:
        return self.rim(signer, product="LS10", edition="SWITCH", version=VBIOS["LS_10"], active=golden(range(31)))

    def responder(self, issuer: Signer, **changes: Any) -> Signer:
        extensions = ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False),)
        return issue("OCSP responder", issuer, **{"ca": False, "extensions": extensions, "not_after": AT + timedelta(days=30), **changes})

    def ocsp(self, subject: Signer, *, status: str = "good", reason: x509.ReasonFlags | None = None, this: datetime = AT - timedelta(hours=1),
             until: datetime | None = AT + timedelta(hours=23), responder: Signer | None = None, delegated: bool = True, nonce: bytes | None = None,
             digest: Any = None, named: Signer | None = None, shown: Signer | None = None, by_name: bool = False) -> bytes:  # fmt: skip
        """A response about ``subject``, signed by a responder of its issuer, or by the issuer itself.

        ``named`` stands as issuer in the certificate id, ``shown`` is the certificate that comes along.
        """
        assert subject.issuer is not None
        signer = responder or (self.responder(subject.issuer) if delegated else subject.issuer)
        # The name in the certificate id is taken from the certificate.
        about = subject if named is None else issue("any", named, serial=subject.certificate.serial_number)
        kinds = {"good": ocsp.OCSPCertStatus.GOOD, "revoked": ocsp.OCSPCertStatus.REVOKED, "unknown": ocsp.OCSPCertStatus.UNKNOWN}
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=about.certificate, issuer=(named or subject.issuer).certificate, algorithm=digest or hashes.SHA1(), cert_status=kinds[status],
            this_update=this.replace(tzinfo=None), next_update=None if until is None else until.replace(tzinfo=None),
            revocation_time=this.replace(tzinfo=None) if status == "revoked" else None, revocation_reason=reason,
        ).responder_id(ocsp.OCSPResponderEncoding.HASH if delegated and not by_name else ocsp.OCSPResponderEncoding.NAME, signer.certificate)  # fmt: skip
        if delegated:
            builder = builder.certificates([(shown or signer).certificate])
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), False)
        return builder.sign(signer.key, signer_hash(signer)).public_bytes(serialization.Encoding.DER)

    def all_ocsp(self, device: Device, signers: Sequence[Signer] = ()) -> list[bytes]:
        """Good answers for certificates 1 to 3 of a device, and for the manifests' signers but their root."""
        subjects = device.chain[1:4] + [one for signer in (signers or (self.rim_signer,)) for one in signer.path()[:-1]]
        return [self.ocsp(subject) for subject in subjects]

    def system(self, gpus: int = 8, switches: int = 4, nonce: bytes = NONCE) -> tuple[list[tuple[Device, bytes]], list[tuple[Device, bytes]]]:
        """A system in protected PCIe mode: (GPUs with reports, switches with reports)."""
        gpu_devices = [self.device("GH100", number) for number in range(gpus)]
        switch_devices = [self.device("LS_10", number) for number in range(switches)]
        fabric, peers = [one.pdi for one in switch_devices], [one.pdi for one in gpu_devices]
        return (
            [(one, self.gpu_report(one, mode="ppcie", switches=fabric, nonce=nonce)) for one in gpu_devices],
            [(one, self.switch_report(one, peers, nonce=nonce)) for one in switch_devices],
        )
