# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate authority in the shape of NVIDIA's: device chains of five certificates, signed manifests, OCSP responses.

Names, extensions and formats are NVIDIA's; the keys are made here, so only a verifier that was given these roots accepts them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from softtee import der, nvidia_report, nvidia_rim
from softtee.errors import SoftTeeError
from softtee.snp_authority import key_pem, write_private

CHIPS = {"hopper": "GH100", "blackwell": "GB100", "ls10": "LS_10"}
KINDS = {"gpu": ("hopper", "blackwell"), "switch": ("ls10",)}
_NOT_BEFORE = datetime(2020, 1, 1, tzinfo=timezone.utc)
_NO_EXPIRY = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
_CA_END = datetime(2053, 1, 1, tzinfo=timezone.utc)
_SHA384_OID = "2.16.840.1.101.3.4.2.2"
# TCG DICE: CompositeDeviceID on Hopper and LS10, DiceTcbInfo on Blackwell.
_COMPOSITE, _TCB_INFO = "2.23.133.5.4.1", "2.23.133.5.4.1.1"
# OperationalFlags of DiceTcbInfo: bit 0 notConfigured, which genuine devices have, and bit 3 debug.
_FLAGS, _FLAG_DEBUG = 0x80000001, 0x10000000
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Entity:
    """A certificate, its key, and who issued it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    issuer: Optional[Entity] = None

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def path(self) -> List[Entity]:
        """This one and all above it, root last."""
        return [self] + ([] if self.issuer is None else self.issuer.path())


@dataclass(frozen=True)
class SoftDevice:
    """One GPU or switch. ``pdi`` (8 bytes) is how devices call each other, ``fwid`` (48 bytes) the digest of its firmware."""

    kind: str
    arch: str
    index: int
    leaf: Entity
    pdi: bytes
    fwid: bytes

    @property
    def chain_pem(self) -> bytes:
        """The five certificates, leaf first, as NVML gives them."""
        return "".join(entity.pem for entity in self.leaf.path()).encode("ascii")

    @property
    def uuid(self) -> uuid.UUID:
        return uuid.uuid5(uuid.NAMESPACE_URL, "soft-tee:" + self.pdi.hex())

    @property
    def identity(self) -> str:
        """SHA-256 (hexadecimal) of the device key's SubjectPublicKeyInfo: what a policy's nvidia.devices names."""
        return hashlib.sha256(_spki(self.leaf.path()[1].key)).hexdigest()


class NvidiaAuthority:
    """Made lazily: keys come into being with the first device or manifest that needs them."""

    def __init__(self, directory: Optional[Path]) -> None:
        self.directory = directory
        self._entities: Dict[str, Entity] = {}
        # Threads that ask at once get the same device; taken again while an issuer is made.
        self._mutex = threading.RLock()

    @classmethod
    def create(cls, directory: Optional[Union[str, Path]] = None) -> NvidiaAuthority:
        """Open the authority kept in a directory (made when absent, mode 0700, keys 0600), or one in memory when it is None."""
        path = None if directory is None else Path(directory)
        if path is not None:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(path)

    def device(self, kind: str, arch: str, index: int, *, foreign: bool = False, debug: bool = False) -> SoftDevice:
        """The GPU or switch with a number, the same as long as the authority lives.

        ``foreign`` gives a genuine device of another machine; ``debug`` (Blackwell) one whose firmware certificate tells of debugging.
        """
        if arch not in KINDS.get(kind, ()):
            raise SoftTeeError("there is no %s of %s: gpu of hopper or blackwell, switch of ls10" % (kind, arch))
        chip, unit = CHIPS[arch], "FSP" if kind == "switch" else "GSP"
        name = "%s-%s%d" % (chip, "foreign-" if foreign else "", index)
        brom = self._entity(name, "%s A01 %s BROM" % (chip, unit), lambda: self._provisioner(chip), serial=True)
        # The device's own serial number: a byte for its kind, then the PDI.
        pdi = bytes.fromhex(str(brom.certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)[0].value))[1:]
        fwid = hashlib.sha384(b"soft firmware of " + chip.encode("ascii")).digest()
        extension = _tcb_info(fwid, _FLAGS | (_FLAG_DEBUG if debug else 0)) if arch == "blackwell" else _composite(brom.key, fwid)
        leaf = self._entity(name + ("-debug" if debug else "") + "-leaf", "%s A01 %s FMC LF" % (chip, unit), lambda: brom, ca=False, extensions=(extension,))
        return SoftDevice(kind, arch, index, leaf, pdi, fwid)

    def report(
        self,
        device: SoftDevice,
        nonce: bytes,
        *,
        mode: str = "spt",
        peers: Sequence[bytes] = (),
        versioned: Optional[bool] = None,
        wrong_nonce: bool = False,
        debug: bool = False,
        secure_boot: bool = True,
        wrong_measurement: bool = False,
        old_vbios: bool = False,
        bad_signature: bool = False,
    ) -> bytes:
        """SPDM request and response over ``nonce`` (32 bytes), spoilt as asked.

        ``mode`` is spt, mpt or ppcie. ``peers`` are the PDIs of the switches on a GPU's links, or of a switch's GPUs. ``versioned`` chooses
        NVDAOD over legacy opaque data; by default Blackwell has it. ``debug`` and no ``secure_boot`` change what the device measures.
        """
        if len(nonce) != 32:
            raise SoftTeeError("the nonce has %d bytes, 32 are needed" % len(nonce))
        changed = {}
        for spoilt, index, state in (
            (debug, nvidia_report.DEBUG_INDEX, "debug"),
            (not secure_boot, nvidia_report.SECURE_BOOT_INDEX, "insecure"),
            (wrong_measurement, nvidia_report.CHANGED_INDEX, "changed"),
        ):
            if spoilt:
                changed[index] = state
        bios = (nvidia_report.OLD_VBIOS if old_vbios else nvidia_report.VBIOS)[device.arch]
        if device.kind == "gpu":
            fields = nvidia_report.gpu_fields(device.arch, device.fwid, mode, bios, peers)
        else:
            fields = nvidia_report.switch_fields(device.pdi, bios, peers)
        opaque = nvidia_report.opaque(fields, device.arch == "blackwell" if versioned is None else versioned)
        answered = hashlib.sha256(b"another nonce" + nonce).digest() if wrong_nonce else nonce
        report = nvidia_report.build(device.leaf.key, answered, opaque, nvidia_report.measurements(device.kind, device.arch, changed))
        return report[:-1] + bytes((report[-1] ^ 1,)) if bad_signature else report

    def rims(self) -> List[bytes]:
        """The manifests of every driver, VBIOS and switch BIOS that the soft devices have, the old ones as well."""
        found = []
        for arch in KINDS["gpu"]:
            found.append(self._rim(arch, "gpu", nvidia_report.DRIVER, nvidia_report.DRIVER_INDICES))
            for versions in (nvidia_report.VBIOS, nvidia_report.OLD_VBIOS):
                found.append(self._rim(arch, "gpu", versions[arch], nvidia_report.FIRMWARE_INDICES))
        for versions in (nvidia_report.VBIOS, nvidia_report.OLD_VBIOS):
            found.append(self._rim("ls10", "switch", versions["ls10"], range(nvidia_report.BLOCKS["switch"])))
        return found

    def ocsp(self, at: datetime, devices: Sequence[SoftDevice] = (), hold: Sequence[SoftDevice] = (), revoked: Sequence[SoftDevice] = ()) -> List[bytes]:
        """Responses that hold from an hour before ``at`` for a day: for the manifests' signers and for certificates 1 to 3 of ``devices``.

        The device certificates of those in ``hold`` are on hold, of those in ``revoked`` revoked for good.
        """
        answers: Dict[bytes, Tuple[Entity, str]] = {}
        for device in [*devices, *hold, *revoked]:
            path = device.leaf.path()
            for entity in path[1:4]:
                answers.setdefault(entity.der, (entity, "good"))
        for group, status in ((hold, "hold"), (revoked, "revoked")):
            for device in group:
                entity = device.leaf.path()[1]
                answers[entity.der] = (entity, status)
        for entity in self._rim_signer().path()[:-1]:
            answers[entity.der] = (entity, "good")
        return [self._answer(entity, status, at) for entity, status in answers.values()]

    def roots_pem(self) -> str:
        """Both roots: of devices and of manifests."""
        return self._device_root().pem + self._rim_root().pem

    def _device_root(self) -> Entity:
        return self._entity("device-root", "NVIDIA Device Identity CA")

    def _rim_root(self) -> Entity:
        return self._entity("rim-root", "NVIDIA CoRIM signing Root CA", end=_CA_END)

    def _provisioner(self, chip: str) -> Entity:
        family = self._entity("family-%s" % chip, "NVIDIA %s Identity" % ("GB100" if chip == "GB100" else "GH100"), self._device_root)
        return self._entity("provisioner-%s" % chip, "NVIDIA %s Provisioner ICA 1" % chip, lambda: family)

    def _rim_signer(self) -> Entity:
        authority = self._entity("rim-l2", "NVIDIA Reference Value Soft CA", self._rim_root, end=_CA_END)
        intermediate = self._entity("rim-l3", "NVIDIA Reference Value L3 Soft 001", lambda: authority, end=_CA_END)
        return self._entity("rim-l4", "HCC RIM L4 Signer", lambda: intermediate, ca=False, end=_now() + 730 * _DAY)

    def _rim(self, arch: str, kind: str, version: str, indices: Sequence[int]) -> bytes:
        text = nvidia_rim.document(
            product=CHIPS[arch].replace("_", ""),
            version=version,
            edition=kind.upper(),
            active={index: (nvidia_report.measurement(arch, index),) for index in indices},
            rows=nvidia_report.BLOCKS[kind],
        )
        signer = self._rim_signer()
        return nvidia_rim.sign(text, signer.key, [entity.der for entity in signer.path()])

    def _answer(self, subject: Entity, status: str, at: datetime) -> bytes:
        issuer = subject.issuer
        assert issuer is not None
        name = "ocsp-" + hashlib.sha256(issuer.der).hexdigest()[:16]
        usage = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]),)
        responder = self._entity(name, "Soft OCSP responder", lambda: issuer, ca=False, end=_CA_END, extensions=usage)
        begin = at.astimezone(timezone.utc).replace(microsecond=0, tzinfo=None) - timedelta(hours=1)
        bad = status != "good"
        reason = {"hold": x509.ReasonFlags.certificate_hold, "revoked": x509.ReasonFlags.key_compromise}.get(status)
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=subject.certificate,
            issuer=issuer.certificate,
            algorithm=hashes.SHA1(),  # what NVIDIA's service and its clients name certificates by
            cert_status=ocsp.OCSPCertStatus.REVOKED if bad else ocsp.OCSPCertStatus.GOOD,
            this_update=begin,
            next_update=begin + _DAY,
            revocation_time=begin if bad else None,
            revocation_reason=reason,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate).certificates([responder.certificate])
        return builder.sign(responder.key, hashes.SHA384()).public_bytes(serialization.Encoding.DER)

    def _entity(
        self,
        name: str,
        common_name: str,
        issuer: Any = None,
        *,
        ca: bool = True,
        end: datetime = _NO_EXPIRY,
        serial: bool = False,
        extensions: Sequence[Any] = (),
    ) -> Entity:
        with self._mutex:
            if name not in self._entities:
                above = None if issuer is None else issuer()
                with self._locked():
                    key, certificate = self._load(name) or self._make(name, common_name, above, ca, end, serial, extensions)
                self._entities[name] = Entity(certificate, key, above)
            return self._entities[name]

    def _load(self, name: str) -> Optional[Tuple[ec.EllipticCurvePrivateKey, x509.Certificate]]:
        if self.directory is None or not (self.directory / (name + ".pem")).exists():
            return None
        data = (self.directory / (name + ".pem")).read_bytes()
        key = serialization.load_pem_private_key(data, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SoftTeeError("%s holds no EC key: remove it" % (self.directory / (name + ".pem")))
        return key, x509.load_pem_x509_certificate(data[data.index(b"-----BEGIN CERTIFICATE") :])

    def _make(
        self, name: str, common_name: str, issuer: Optional[Entity], ca: bool, end: datetime, serial: bool, extensions: Sequence[Any]
    ) -> Tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = ec.generate_private_key(ec.SECP384R1())
        attributes = [x509.NameAttribute(NameOID.COUNTRY_NAME, "US"), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if serial:
            number = ("50" if common_name.startswith("LS_10") else "41") + os.urandom(8).hex().upper()
            attributes.insert(0, x509.NameAttribute(NameOID.SERIAL_NUMBER, number))
        subject = x509.Name(attributes)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOT_BEFORE.replace(tzinfo=None))
            .not_valid_after(end.replace(tzinfo=None))
            .add_extension(x509.KeyUsage(not ca, False, False, False, False, ca, False, False, False), True)
        )
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(True, None), True)
        for extension in extensions:
            builder = builder.add_extension(extension, False)
        certificate = builder.sign(key if issuer is None else issuer.key, hashes.SHA384())
        if self.directory is not None:
            write_private(self.directory / (name + ".pem"), key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
        return key, certificate

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Two processes that start at once must not make two different roots."""
        if self.directory is None:
            yield
            return
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)


def _spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _fwid(digest: bytes) -> bytes:
    return der.sequence(der.oid(_SHA384_OID), der.octets(digest))


def _composite(device: ec.EllipticCurvePrivateKey, digest: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(_COMPOSITE), der.sequence(der.integer(1), _spki(device), _fwid(digest)))


def _tcb_info(digest: bytes, flags: int) -> x509.UnrecognizedExtension:
    fields = der.sequence(der.tlv(0x80, b"NVIDIA"), der.tlv(0xA6, _fwid(digest)), der.tlv(0x87, b"\0" + flags.to_bytes(4, "big")))
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(_TCB_INFO), fields)
