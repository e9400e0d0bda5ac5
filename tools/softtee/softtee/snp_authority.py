# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate authority in the shape of AMD's: ARK, ASK and ASVK per product, VCEK and VLEK below them, and the ARK's CRL.

Names, extensions and signature algorithms are AMD's; the keys are made here, so only a verifier that was given this root accepts them.
The certificates are written by hand, because a builder refuses serial number 0 (which each VCEK has) and most of the negative cases.
"""

from __future__ import annotations

import base64
import fcntl
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict, Iterable, Mapping, Optional, Sequence, Tuple, Union

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from softtee import der
from softtee.snp_report import DEFAULT_TCB, default_chip_id

PRODUCTS = ("milan", "genoa", "turin")
KINDS = ("ark", "ask", "asvk")
AMD = "1.3.6.1.4.1.3704.1"
CSP_ID = "CN=soft-tee.invalid"
_SPL = {"bootloader": "3.1", "tee": "3.2", "snp": "3.3", "microcode": "3.8", "fmc": "3.9"}
# The order in which AMD's certificates carry them. Turin has FMC first and no 3.4.
_SPL_ORDER = {
    "milan": ("3.1", "3.2", "3.4", "3.5", "3.6", "3.7", "3.3", "3.8"),
    "genoa": ("3.1", "3.2", "3.4", "3.5", "3.6", "3.7", "3.3", "3.8"),
    "turin": ("3.9", "3.1", "3.2", "3.3", "3.5", "3.6", "3.7", "3.8"),
}
_PRODUCT_NAME = {("milan", "vcek"): "Milan-B0", ("genoa", "vcek"): "Genoa-B1"}
_CA_SERIAL = {"ark": 0x00000, "ask": 0x00001, "asvk": 0x00101}
# A CA that is older than any moment at which a test evaluates evidence.
CA_NOT_BEFORE = datetime(2020, 1, 1, tzinfo=timezone.utc)
CA_NOT_AFTER = datetime(2045, 1, 1, tzinfo=timezone.utc)

_SHA = {"sha256": ("2.16.840.1.101.3.4.2.1", hashes.SHA256), "sha384": ("2.16.840.1.101.3.4.2.2", hashes.SHA384)}
_PKCS1 = {"sha256": "1.2.840.113549.1.1.11", "sha384": "1.2.840.113549.1.1.12"}
PrivateKey = Union[rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey]


def subject(common_name: str) -> bytes:
    """AMD's distinguished name, attributes in AMD's order and string types."""
    return der.name(
        [
            ("2.5.4.11", "Engineering", 0x0C),
            ("2.5.4.6", "US", 0x13),
            ("2.5.4.7", "Santa Clara", 0x0C),
            ("2.5.4.8", "CA", 0x0C),
            ("2.5.4.10", "Advanced Micro Devices", 0x0C),
            ("2.5.4.3", common_name, 0x0C),
        ]
    )


def ca_name(product: str, kind: str) -> str:
    """ARK-Milan, SEV-Milan or SEV-VLEK-Milan."""
    return {"ark": "ARK-", "ask": "SEV-", "asvk": "SEV-VLEK-"}[kind] + product.capitalize()


class SnpAuthority:
    """Made lazily: a product's keys come into being with the first certificate that needs them."""

    def __init__(self, directory: Optional[Path], products: Sequence[str], rsa_bits: int) -> None:
        unknown = set(products) - set(PRODUCTS)
        if unknown:
            raise ValueError("unknown product %s: one of %s" % (", ".join(sorted(unknown)), ", ".join(PRODUCTS)))
        self.directory = directory
        self.products = tuple(products)
        self.rsa_bits = rsa_bits
        self._keys: Dict[Tuple[str, str], rsa.RSAPrivateKey] = {}
        self._certificates: Dict[Tuple[str, str], bytes] = {}

    @classmethod
    def create(cls, directory: Optional[Union[str, Path]] = None, products: Sequence[str] = PRODUCTS, rsa_bits: int = 4096) -> "SnpAuthority":
        """Open the authority kept in a directory (made when absent, mode 0700, keys 0600), or one in memory when it is None."""
        path = None if directory is None else Path(directory)
        if path is not None:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(path, products, rsa_bits)

    def key(self, product: str, kind: str) -> rsa.RSAPrivateKey:
        """Private key of ark, ask or asvk."""
        if product not in self.products or kind not in KINDS:
            raise ValueError("this authority has no %s of %s" % (kind, product))
        if (product, kind) not in self._keys:
            self._keys[product, kind] = self._load_key(product, kind)
        return self._keys[product, kind]

    def _load_key(self, product: str, kind: str) -> rsa.RSAPrivateKey:
        if self.directory is None:
            return _generate_rsa(self.rsa_bits)
        with _locked(self.directory / ("%s-%s.lock" % (product, kind))):
            path = self.directory / ("%s-%s.key" % (product, kind))
            if path.exists():
                loaded = serialization.load_pem_private_key(path.read_bytes(), None)
                if not isinstance(loaded, rsa.RSAPrivateKey):
                    raise ValueError("%s is not an RSA key: remove it" % path)
                return loaded
            fresh = _generate_rsa(self.rsa_bits)
            write_private(path, key_pem(fresh))
            return fresh

    def ca_der(self, product: str, kind: str) -> bytes:
        """Certificate of ark, ask or asvk in DER, the same bytes as long as the authority lives."""
        if (product, kind) not in self._certificates:
            self._certificates[product, kind] = self._load_certificate(product, kind)
        return self._certificates[product, kind]

    def _load_certificate(self, product: str, kind: str) -> bytes:
        # PSS signatures are salted: without the file the root would look different after each start.
        self.key(product, kind)
        if self.directory is None:
            return self._make_ca(product, kind)
        with _locked(self.directory / ("%s-%s.lock" % (product, kind))):
            path = self.directory / ("%s-%s.der" % (product, kind))
            if not path.exists():
                write_private(path, self._make_ca(product, kind))
            return path.read_bytes()

    def _make_ca(self, product: str, kind: str) -> bytes:
        constraints = der.sequence(der.boolean(True)) if kind == "ark" else der.sequence(der.boolean(True), der.integer(0))
        # keyCertSign and, for the ARK only, cRLSign.
        usage = der.bits(b"\x06", 1) if kind == "ark" else der.bits(b"\x04", 2)
        chain = "vlek" if kind == "asvk" else "vcek"
        url = "https://soft-tee.invalid/%s/v1/%s/crl" % (chain, product.capitalize())
        points = der.sequence(der.sequence(der.tlv(0xA0, der.tlv(0xA0, der.tlv(0x86, url.encode("ascii"))))))
        return build_certificate(
            serial=self.ca_serial(product, kind),
            issuer=subject(ca_name(product, "ark")),
            subject_name=subject(ca_name(product, kind)),
            public_key=self.key(product, kind).public_key(),
            not_before=CA_NOT_BEFORE,
            not_after=CA_NOT_AFTER,
            extensions=[
                der.extension("2.5.29.15", usage, True),
                der.extension("2.5.29.14", der.octets(_key_id(self.key(product, kind)))),
                der.extension("2.5.29.35", der.sequence(der.tlv(0x80, _key_id(self.key(product, "ark"))))),
                der.extension("2.5.29.19", constraints, True),
                der.extension("2.5.29.31", points),
            ],
            signer=self.key(product, "ark"),
        )

    def ca_serial(self, product: str, kind: str) -> int:
        return (PRODUCTS.index(product) + 1 << 16) + _CA_SERIAL[kind]

    def ark_der(self, product: str) -> bytes:
        return self.ca_der(product, "ark")

    def ark_pem(self, product: str) -> str:
        return pem(self.ca_der(product, "ark"))

    def intermediate_der(self, product: str, kind: str) -> bytes:
        """ASK (kind ask or vcek) or ASVK (kind asvk or vlek)."""
        return self.ca_der(product, {"vcek": "ask", "vlek": "asvk"}.get(kind, kind))

    def intermediate_pem(self, product: str, kind: str) -> str:
        return pem(self.intermediate_der(product, kind))

    def chain(self, product: str, kind: str = "vcek") -> Tuple[bytes, bytes]:
        """(ASK or ASVK, ARK) in DER."""
        return self.intermediate_der(product, kind), self.ark_der(product)

    def vcek(
        self, product: str, chip_id: Optional[bytes] = None, tcb: Optional[Mapping[str, int]] = None, **overrides: Any
    ) -> Tuple[ec.EllipticCurvePrivateKey, bytes]:
        """A chip's key and its certificate (DER) for one TCB. Overrides: see ``leaf``."""
        return self.leaf("vcek", product, default_chip_id(product) if chip_id is None else chip_id, tcb, **overrides)

    def vlek(
        self, product: str, csp_id: Optional[str] = None, tcb: Optional[Mapping[str, int]] = None, **overrides: Any
    ) -> Tuple[ec.EllipticCurvePrivateKey, bytes]:
        """A cloud provider's key and its certificate (DER) for one TCB. Overrides: see ``leaf``."""
        return self.leaf("vlek", product, None, tcb, csp_id=csp_id or CSP_ID, **overrides)

    def leaf(
        self,
        role: str,
        product: str,
        hwid: Optional[bytes],
        tcb: Optional[Mapping[str, int]] = None,
        *,
        csp_id: Optional[str] = None,
        key: Optional[ec.EllipticCurvePrivateKey] = None,
        curve: Optional[ec.EllipticCurve] = None,
        cn: Optional[str] = None,
        serial: Optional[int] = None,
        issuer: Optional[str] = None,
        issuer_name: Optional[bytes] = None,
        signer: Optional[rsa.RSAPrivateKey] = None,
        not_before: Optional[datetime] = None,
        not_after: Optional[datetime] = None,
        product_name: Optional[str] = None,
        struct_version: Optional[int] = None,
        both_extensions: bool = False,
        wrap_hwid: bool = False,
        omit: Iterable[str] = (),
        replace: Optional[Mapping[str, bytes]] = None,
        extra_extensions: Sequence[bytes] = (),
        scheme: str = "pss",
        digest: str = "sha384",
        salt: int = 48,
    ) -> Tuple[ec.EllipticCurvePrivateKey, bytes]:
        """(private key, DER) of a VCEK or VLEK.

        ``tcb`` and ``hwid`` go into the certificate as they are, so a wrong one is just another value. ``omit`` names extensions to leave
        out and ``replace`` gives the raw value of some, both by the OID's end ("3.8", "4"). ``issuer`` is ark, ask or asvk;
        ``issuer_name`` is a DER name. ``scheme`` is pss or pkcs1v15. Validity starts yesterday: 7 years for a VCEK, 1 for a VLEK.
        """
        key = key or ec.generate_private_key(curve or ec.SECP384R1())
        issuer = issuer or ("ask" if role == "vcek" else "asvk")
        not_before = not_before or _yesterday()
        not_after = not_after or not_before + timedelta(days=7 * 365 if role == "vcek" else 365)
        values = _extension_values(role, product, DEFAULT_TCB[product] if tcb is None else tcb)
        if struct_version is not None:
            values["1"] = der.integer(struct_version)
        if product_name is not None:
            values["2"] = der.ia5(product_name)
        if role == "vcek" or both_extensions:
            raw = default_chip_id(product) if hwid is None else hwid
            values["4"] = der.octets(raw) if wrap_hwid else raw
        if role == "vlek" or both_extensions:
            values["5"] = der.ia5(csp_id or CSP_ID)
        values.update(replace or {})
        left_out = set(omit)
        extensions = [der.extension("%s.%s" % (AMD, suffix), value) for suffix, value in values.items() if suffix not in left_out]
        if serial is None:
            # AMD's VCEKs all bear 0; VLEKs are counted.
            serial = 0 if role == "vcek" else int.from_bytes(os.urandom(8), "big") >> 1
        certificate = build_certificate(
            serial=serial,
            issuer=issuer_name or subject(ca_name(product, issuer)),
            subject_name=subject(cn or "SEV-" + role.upper()),
            public_key=key.public_key(),
            not_before=not_before,
            not_after=not_after,
            extensions=[*extensions, *extra_extensions],
            signer=signer or self.key(product, issuer),
            scheme=scheme,
            digest=digest,
            salt=salt,
        )
        return key, certificate

    def crl(
        self,
        product: str,
        revoked: Iterable[Union[int, str]] = (),
        *,
        this_update: Optional[datetime] = None,
        next_update: Optional[datetime] = None,
        signer: Union[str, rsa.RSAPrivateKey] = "ark",
        issuer: str = "ark",
        number: int = 1,
        scheme: str = "pss",
        digest: str = "sha384",
        salt: int = 48,
    ) -> bytes:
        """A CRL in DER. ``revoked`` holds serial numbers or the names ask and asvk; a ``signer`` other than ark makes a forged one."""
        this_update = this_update or _yesterday()
        next_update = next_update or this_update + timedelta(days=90)
        serials = [self.ca_serial(product, entry) if isinstance(entry, str) else entry for entry in revoked]
        entries = [der.sequence(der.integer(serial), der.time(this_update)) for serial in serials]
        tbs = der.sequence(
            der.integer(1),
            signature_algorithm(scheme, digest, salt),
            subject(ca_name(product, issuer)),
            der.time(this_update),
            der.time(next_update),
            der.sequence(*entries) if entries else b"",
            der.tlv(0xA0, der.sequence(der.extension("2.5.29.20", der.integer(number)))),
        )
        key = self.key(product, signer) if isinstance(signer, str) else signer
        return sign_tbs(tbs, key, scheme, digest, salt)


def build_certificate(
    *,
    serial: int,
    issuer: bytes,
    subject_name: bytes,
    public_key: Union[rsa.RSAPublicKey, ec.EllipticCurvePublicKey],
    not_before: datetime,
    not_after: datetime,
    extensions: Sequence[bytes],
    signer: rsa.RSAPrivateKey,
    scheme: str = "pss",
    digest: str = "sha384",
    salt: int = 48,
) -> bytes:
    """An X.509 v3 certificate in DER, signed by an RSA key."""
    tbs = der.sequence(
        der.tlv(0xA0, der.integer(2)),
        der.integer(serial),
        signature_algorithm(scheme, digest, salt),
        issuer,
        der.sequence(der.time(not_before), der.time(not_after)),
        subject_name,
        public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        der.tlv(0xA3, der.sequence(*extensions)) if extensions else b"",
    )
    return sign_tbs(tbs, signer, scheme, digest, salt)


def signature_algorithm(scheme: str, digest: str, salt: int) -> bytes:
    if scheme == "pkcs1v15":
        return der.sequence(der.oid(_PKCS1[digest]), der.null())
    if scheme != "pss":
        raise ValueError("unknown signature scheme %s" % scheme)
    hash_algorithm = der.sequence(der.oid(_SHA[digest][0]), der.null())
    mask = der.sequence(der.oid("1.2.840.113549.1.1.8"), hash_algorithm)
    # 20 is the default, which DER leaves out.
    salt_field = b"" if salt == 20 else der.tlv(0xA2, der.integer(salt))
    parameters = der.sequence(der.tlv(0xA0, hash_algorithm), der.tlv(0xA1, mask), salt_field)
    return der.sequence(der.oid("1.2.840.113549.1.1.10"), parameters)


def sign_tbs(tbs: bytes, key: rsa.RSAPrivateKey, scheme: str, digest: str, salt: int) -> bytes:
    algorithm = _SHA[digest][1]()
    pad: padding.AsymmetricPadding = padding.PSS(padding.MGF1(algorithm), salt) if scheme == "pss" else padding.PKCS1v15()
    return der.sequence(tbs, signature_algorithm(scheme, digest, salt), der.bits(key.sign(tbs, pad, algorithm)))


def pem(certificate: bytes, label: str = "CERTIFICATE") -> str:
    text = base64.b64encode(certificate).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label, "\n".join(lines), label)


def key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def write_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 in one step, so that a crash leaves the old one or the new one."""
    temporary = path.with_name(".%s.%d" % (path.name, os.getpid()))
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    os.replace(temporary, path)


def _extension_values(role: str, product: str, tcb: Mapping[str, int]) -> Dict[str, bytes]:
    values = {
        "1": der.integer(1 if product == "turin" else 0),
        "2": der.ia5(_PRODUCT_NAME.get((product, role), product.capitalize())),
    }
    levels = {_SPL[component]: value for component, value in tcb.items()}
    for suffix in _SPL_ORDER[product]:
        values[suffix] = der.integer(levels.get(suffix, 0))
    return values


def _generate_rsa(size: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=size)


def _key_id(key: rsa.RSAPrivateKey) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1))
    return digest.finalize()[:20]


def _yesterday() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0) - timedelta(days=1)


class _locked:
    """Two processes that start at once must not make two different roots."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def __exit__(self, *details: object) -> None:
        os.close(self.descriptor)
