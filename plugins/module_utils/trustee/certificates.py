# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Authorities and certificates of a key broker: EC P-256, SHA-256, with an authority of its own, so that renewal changes nothing that guests have pinned."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import re
from typing import Any, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted
from ansible_collections.attested.ai.plugins.module_utils.trustee.demo_keys import KNOWN, SUBJECTS
from ansible_collections.attested.ai.plugins.module_utils.trustee.problem import TrusteeError

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\Z")
# Clocks of guests may be behind ours.
_BEFORE = datetime.timedelta(minutes=10)


def new_ec_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def new_admin_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return ed25519.Ed25519PrivateKey.generate()


def private_pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    return bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))


def public_pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    return bytes(key.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))


def certificate_pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    return bytes(certificate.public_bytes(s.Encoding.PEM))


def fingerprint(public: Any) -> str:
    """SHA-256 of SubjectPublicKeyInfo, in hexadecimal."""
    from cryptography.hazmat.primitives import serialization as s

    return hashlib.sha256(public.public_bytes(s.Encoding.DER, s.PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def load_private(pem: bytes, where: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise TrusteeError("it holds no unencrypted private key in PEM form", where=where, fix="Remove it, and a new one is made", code="trustee-key") from None


def load_chain(pem: bytes, where: str) -> List[Any]:
    """All certificates, at least one."""
    from cryptography import x509

    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", pem, re.DOTALL)
    try:
        found = [x509.load_pem_x509_certificate(block) for block in blocks]
    except ValueError:
        found = []
    if not found:
        raise TrusteeError("it holds no certificate in PEM form", where=where, code="trustee-certificate")
    return found


def refuse_demo(public: Any, where: str, certificates: Sequence[Any] = ()) -> None:
    """Raises TrusteeError for a key that others have."""
    known = KNOWN.get(fingerprint(public))
    fix = "Remove it, and a new one is made"
    if known:
        raise TrusteeError("everybody has this key: it is in %s" % known, where=where, fix=fix, code="trustee-demo-key")
    for certificate in certificates:
        for name in (certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()):
            if any(part in name for part in SUBJECTS):
                raise TrusteeError("%s is a certificate of Trustee's demo setup" % quoted(name), where=where, fix=fix, code="trustee-demo-key")


def check_names(names: Sequence[str]) -> Tuple[str, ...]:
    """Names of hosts and addresses for a certificate. Raises TrusteeError."""
    for name in names:
        if not _is_address(name) and not _NAME.match(name):
            raise TrusteeError("%s is no name of a host and no address" % quoted(name), where="names", code="trustee-name")
    if not names:
        raise TrusteeError("a certificate needs the names under which it is reached", where="names", code="trustee-name")
    return tuple(names)


def authority(common_name: str, key: Any, now: datetime.datetime, days: int) -> Any:
    name = _name(common_name)
    return _build(key.public_key(), name, name, key, now, days, True, ())


def issue(common_name: str, public: Any, names: Sequence[str], ca: Any, ca_key: Any, now: datetime.datetime, days: int) -> Any:
    return _build(public, _name(common_name), ca.subject, ca_key, now, days, False, names)


def names_of(certificate: Any) -> List[str]:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return sorted([*found.get_values_for_type(x509.DNSName), *(str(one) for one in found.get_values_for_type(x509.IPAddress))])


def ends(certificate: Any) -> datetime.datetime:
    """Not after, with its time zone; cryptography before 42 gives it without one."""
    found: datetime.datetime = getattr(certificate, "not_valid_after_utc", None) or certificate.not_valid_after.replace(tzinfo=datetime.timezone.utc)
    return found


def begins(certificate: Any) -> datetime.datetime:
    found: datetime.datetime = getattr(certificate, "not_valid_before_utc", None) or certificate.not_valid_before.replace(tzinfo=datetime.timezone.utc)
    return found


def signed_by(certificate: Any, ca: Any) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        ca.public_key().verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(certificate.signature_hash_algorithm))
    except (InvalidSignature, TypeError, ValueError, AttributeError):
        return False
    return bool(certificate.issuer == ca.subject)


def _name(common_name: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _build(public: Any, subject: Any, issuer: Any, signer: Any, now: datetime.datetime, days: int, is_ca: bool, names: Sequence[str]) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    path: Optional[int] = 0 if is_ca else None
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public).serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE).not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
        .add_extension(x509.KeyUsage(not is_ca, False, False, False, False, is_ca, is_ca, False, False), True)
    )  # fmt: skip
    if names:
        found = [x509.IPAddress(ipaddress.ip_address(name)) if _is_address(name) else x509.DNSName(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(found), False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    return builder.sign(signer, hashes.SHA256())
