# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate authority in the shape of Intel's: root, PCK Platform CA, PCK certificates, TCB signer, revocation lists, and collateral.

Names, extensions and the signed JSON are in Intel's forms; the keys are made here, so only a verifier that was given this root accepts
them. Collateral is made anew for each moment, and holds for 30 days, as that of Intel's service does.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from softtee import der
from softtee.errors import SoftTeeError
from softtee.snp_authority import key_pem, write_private

SGX = "1.2.840.113741.1.13.1"
# Made up, and alike for all soft machines: a family of processors that Intel does not have.
FMSPC, PCEID = bytes.fromhex("50f7ee000000"), b"\0\0"
ROOT, PLATFORM, SIGNER, PCK = "Intel SGX Root CA", "Intel SGX PCK Platform CA", "Intel SGX TCB Signing", "Intel SGX PCK Certificate"
# Security versions: of the processor and the provisioning enclave, of the TDX module, of the quoting enclave.
COMPONENTS = {"current": (5, 5, 2, 2, 4, 1, 0, 5) + (0,) * 8, "old": (3, 3, 2, 2, 2, 1, 0, 3) + (0,) * 8}
PCESVN = {"current": 13, "old": 11}
MODULE_VERSION, MODULE_SVN = 1, {"current": 8, "old": 5}
TDX_COMPONENTS = {level: (svn, 0, 6) + (0,) * 13 for level, svn in (("current", 5), ("old", 3))}
QE_SVN, QE_PRODUCT = 4, 2
QE_SIGNER = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
ADVISORIES = {"platform": ["INTEL-SA-99001"], "module": ["INTEL-SA-99002"]}
EVALUATION_NUMBER = 20
WINDOW = timedelta(days=30)
_NOT_BEFORE, _NOT_AFTER = datetime(2020, 1, 1, tzinfo=timezone.utc), datetime(2045, 1, 1, tzinfo=timezone.utc)
_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
    "encipher_only", "decipher_only",
)  # fmt: skip

Pair = Tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def raw_signature(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """ECDSA with SHA-256 as r and s, 32 bytes each, big endian."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def sgx_extension(ppid: bytes, level: str = "current", fmspc: bytes = FMSPC, pceid: bytes = PCEID) -> bytes:
    """Value of the SGX extension: platform id, security versions, PCE id, FMSPC, SGX type (scalable), instance id, configuration."""

    def member(suffix: str, value: bytes) -> bytes:
        return der.sequence(der.oid("%s.%s" % (SGX, suffix)), value)

    versions = b"".join(member("2.%d" % number, der.integer(svn)) for number, svn in enumerate(COMPONENTS[level], 1))
    versions += member("2.17", der.integer(PCESVN[level])) + member("2.18", der.octets(bytes(COMPONENTS[level])))
    # Dynamic platform, cached keys, SMT.
    flags = b"".join(member("7.%d" % number, der.boolean(flag)) for number, flag in enumerate((False, True, True), 1))
    return der.sequence(
        member("1", der.octets(ppid)),
        member("2", der.sequence(versions)),
        member("3", der.octets(pceid)),
        member("4", der.octets(fmspc)),
        member("5", der.tlv(0x0A, b"\x01")),
        member("6", der.octets(ppid[::-1])),
        member("7", der.sequence(flags)),
    )


class TdxAuthority:
    """Made lazily: keys come into being with the first certificate that needs them. Thread-safe."""

    def __init__(self, directory: Optional[Path]) -> None:
        self.directory = directory
        self._pairs: Dict[str, Pair] = {}
        self._mutex = threading.RLock()

    @classmethod
    def create(cls, directory: Optional[Union[str, Path]] = None) -> TdxAuthority:
        """Open the authority kept in a directory (made when absent, mode 0700, keys 0600), or one in memory when it is None."""
        path = None if directory is None else Path(directory)
        if path is not None:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(path)

    def root(self) -> Pair:
        return self._pair("root", ROOT, None, path_length=1)

    def platform(self) -> Pair:
        return self._pair("platform", PLATFORM, self.root, path_length=0)

    def signer(self) -> Pair:
        return self._pair("signer", SIGNER, self.root)

    def pck(self, ppid: bytes, level: str = "current") -> Pair:
        """A machine's provisioning key. As on silicon, other security versions give another key."""
        name = "pck-%s-%s" % (ppid.hex(), level)
        return self._pair(name, PCK, self.platform, sgx=sgx_extension(ppid, level))

    def root_pem(self) -> str:
        return _pem(self.root())

    def chain_pem(self, ppid: bytes, level: str = "current") -> bytes:
        """PCK certificate, Platform CA, root: what stands in a quote."""
        return (_pem(self.pck(ppid, level)) + _pem(self.platform()) + _pem(self.root())).encode("ascii")

    def crl(self, kind: str, at: datetime, revoked: Sequence[int] = ()) -> bytes:
        """Revocation list (DER) of ``root`` or ``platform``."""
        key, certificate = {"root": self.root, "platform": self.platform}[kind]()
        start = _begin(at)
        builder = x509.CertificateRevocationListBuilder().issuer_name(certificate.subject).last_update(_naive(start)).next_update(_naive(start + WINDOW))
        builder = builder.add_extension(x509.CRLNumber(1), False)
        for serial in revoked:
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_naive(start)).build())
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def collateral(
        self,
        at: datetime,
        *,
        tcb_info: Optional[Mapping[str, Any]] = None,
        qe_identity: Optional[Mapping[str, Any]] = None,
        revoked: Sequence[int] = (),
        **members: Any,
    ) -> bytes:
        """A QuoteCollateralV3 object, JSON: issued an hour before ``at``. The first two options change single members of the signed
        objects, ``revoked`` are serial numbers of PCK certificates, ``members`` win over everything."""
        info = _compact({**self.tcb_info(at), **(tcb_info or {})})
        identity = _compact({**self.qe_identity(at), **(qe_identity or {})})
        signer, certificate = self.signer()
        issuers = _pem((signer, certificate)) + _pem(self.root())
        document: Dict[str, Any] = {
            "pck_crl_issuer_chain": _pem(self.platform()) + _pem(self.root()),
            "root_ca_crl": self.crl("root", at).hex(),
            "pck_crl": self.crl("platform", at, revoked).hex(),
            "tcb_info_issuer_chain": issuers,
            "tcb_info": info,
            "tcb_info_signature": raw_signature(signer, info.encode("ascii")).hex(),
            "qe_identity_issuer_chain": issuers,
            "qe_identity": identity,
            "qe_identity_signature": raw_signature(signer, identity.encode("ascii")).hex(),
        }
        return (json.dumps({**document, **members}, indent=2) + "\n").encode("ascii")

    def tcb_info(self, at: datetime) -> Dict[str, Any]:
        """The unsigned tcbInfo, id TDX, version 3: a current level and an old one, of the platform and of the module."""
        identity = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
        levels = [_level(MODULE_SVN["current"], "UpToDate"), _level(MODULE_SVN["old"], "OutOfDate", ADVISORIES["module"])]
        return {
            "id": "TDX", "version": 3, **_window(at), "fmspc": FMSPC.hex().upper(), "pceId": PCEID.hex(), "tcbType": 0,
            "tcbEvaluationDataNumber": EVALUATION_NUMBER,
            "tdxModule": identity,
            "tdxModuleIdentities": [{"id": "TDX_%02X" % MODULE_VERSION, **identity, "tcbLevels": levels}],
            "tcbLevels": [_platform_level("current", "UpToDate"), _platform_level("old", "OutOfDate", ADVISORIES["platform"])],
        }  # fmt: skip

    def qe_identity(self, at: datetime) -> Dict[str, Any]:
        """The unsigned enclaveIdentity, id TD_QE, version 2."""
        return {
            "id": "TD_QE", "version": 2, **_window(at), "tcbEvaluationDataNumber": EVALUATION_NUMBER, "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF", "attributes": "11000000000000000000000000000000", "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
            "mrsigner": QE_SIGNER.hex().upper(), "isvprodid": QE_PRODUCT, "tcbLevels": [_level(QE_SVN, "UpToDate")],
        }  # fmt: skip

    def _pair(self, name: str, subject: str, issuer: Any, path_length: Optional[int] = None, sgx: Optional[bytes] = None) -> Pair:
        with self._mutex:
            if name not in self._pairs:
                above = None if issuer is None else issuer()
                with self._locked():
                    self._pairs[name] = self._load(name) or self._make(name, subject, above, path_length, sgx)
            return self._pairs[name]

    def _load(self, name: str) -> Optional[Pair]:
        if self.directory is None or not (self.directory / (name + ".pem")).exists():
            return None
        path = self.directory / (name + ".pem")
        data = path.read_bytes()
        key = serialization.load_pem_private_key(data, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SoftTeeError("%s holds no EC key: remove it" % path)
        return key, x509.load_pem_x509_certificate(data[data.index(b"-----BEGIN CERTIFICATE") :])

    def _make(self, name: str, subject: str, issuer: Optional[Pair], path_length: Optional[int], sgx: Optional[bytes]) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        ca = path_length is not None
        usages = ("key_cert_sign", "crl_sign") if ca else ("digital_signature", "content_commitment")
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name(subject) if issuer is None else issuer[1].subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_naive(_NOT_BEFORE))
            .not_valid_after(_naive(_NOT_AFTER))
            .add_extension(x509.BasicConstraints(ca, path_length), True)
            .add_extension(x509.KeyUsage(**{usage: usage in usages for usage in _USAGES}), True)
        )
        if sgx is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(SGX), sgx), False)
        certificate = builder.sign(key if issuer is None else issuer[0], hashes.SHA256())
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


def _begin(at: datetime) -> datetime:
    return at.astimezone(timezone.utc).replace(microsecond=0) - timedelta(hours=1)


def _naive(moment: datetime) -> datetime:
    # Older releases of the library take UTC without saying so, and nothing else.
    return moment.astimezone(timezone.utc).replace(tzinfo=None)


def _window(at: datetime) -> Dict[str, str]:
    begin = _begin(at)
    return {"issueDate": _text(begin), "nextUpdate": _text(begin + WINDOW)}


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _level(svn: int, status: str, advisories: Sequence[str] = ()) -> Dict[str, Any]:
    return {"tcb": {"isvsvn": svn}, **_status(status, advisories)}


def _platform_level(level: str, status: str, advisories: Sequence[str] = ()) -> Dict[str, Any]:
    components: Dict[str, List[Dict[str, int]]] = {
        "sgxtcbcomponents": [{"svn": svn} for svn in COMPONENTS[level]],
        "tdxtcbcomponents": [{"svn": svn} for svn in TDX_COMPONENTS[level]],
    }
    return {"tcb": {**components, "pcesvn": PCESVN[level]}, **_status(status, advisories)}


def _status(status: str, advisories: Sequence[str]) -> Dict[str, Any]:
    date = "2026-05-13T00:00:00Z" if status == "UpToDate" else "2024-03-13T00:00:00Z"
    return {"tcbDate": date, "tcbStatus": status, **({"advisoryIDs": list(advisories)} if advisories else {})}


def _compact(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _name(common_name: str) -> x509.Name:
    values = (
        (NameOID.COMMON_NAME, common_name), (NameOID.ORGANIZATION_NAME, "Intel Corporation"), (NameOID.LOCALITY_NAME, "Santa Clara"),
        (NameOID.STATE_OR_PROVINCE_NAME, "CA"), (NameOID.COUNTRY_NAME, "US"),
    )  # fmt: skip
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in values])


def _pem(pair: Pair) -> str:
    return pair[1].public_bytes(serialization.Encoding.PEM).decode("ascii")
