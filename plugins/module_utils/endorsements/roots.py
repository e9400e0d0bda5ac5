# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Trust roots: those of the vendors, each for its own kind of evidence, and others only when they are asked for.

A root is a certificate that we hold, identified by its key. Roots that come with evidence are never roots.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.amd import load_amd_cas
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError, FormatError, PolicyError
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate, parse_certificate, pem_to_der

VENDOR = "vendor"
NONVENDOR = "nonvendor"


@dataclass(frozen=True)
class TrustRoot:
    """A pinned root certificate. ``anchor`` is "vendor" or "nonvendor", ``spki_sha256`` hexadecimal."""

    certificate: Certificate
    anchor: str
    spki_sha256: str

    @property
    def name(self) -> str:
        """commonName, for example "ARK-Milan"."""
        return self.certificate.common_name or ""


@dataclass(frozen=True)
class TrustRoots:
    """Pinned roots and the intermediates that are shipped with them (path material like any other: no trust of their own)."""

    roots: Tuple[TrustRoot, ...]
    intermediates: Tuple[Certificate, ...] = ()
    identity: Tuple[Any, ...] = field(init=False, repr=False, compare=False, default=())
    _by_subject: Dict[bytes, Tuple[TrustRoot, ...]] = field(init=False, repr=False, compare=False, default_factory=dict)
    _shipped: Dict[bytes, Certificate] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for root in self.roots:
            subject = root.certificate.subject
            self._by_subject[subject] = self._by_subject.get(subject, ()) + (root,)
        for certificate in self.intermediates:
            self._shipped[certificate.der] = certificate
        # Every byte that a cached chain depends on besides the evidence's own.
        identity = tuple((root.anchor, root.certificate.der) for root in self.roots)
        object.__setattr__(self, "identity", (identity, tuple(self._shipped)))

    def named(self, subject: bytes) -> Tuple[TrustRoot, ...]:
        """The roots whose subject is this DER name."""
        return self._by_subject.get(subject, ())

    def shipped(self, der: bytes) -> Optional[Certificate]:
        """The parsed form of a shipped intermediate, None if these bytes are not one."""
        return self._shipped.get(der)

    def is_pinned(self, certificate: Certificate) -> bool:
        """True if the certificate's key is that of a root."""
        return any(root.certificate.spki == certificate.spki for root in self.roots)


Pins = Tuple[Tuple[TrustRoot, ...], Tuple[Certificate, ...]]


def _amd() -> Pins:
    cas = load_amd_cas()
    roots = tuple(TrustRoot(ca.certificate, VENDOR, ca.spki_sha256) for ca in cas if ca.role == "ark")
    return roots, tuple(ca.certificate for ca in cas if ca.role != "ark")


def _pinned(certificates: Iterable[Certificate]) -> Pins:
    return tuple(TrustRoot(certificate, VENDOR, hashlib.sha256(certificate.spki).hexdigest()) for certificate in certificates), ()


# Imported on use: who judges one kind of evidence does not pay for the pins of the others.
def _intel() -> Pins:
    from ansible_collections.attested.ai.plugins.module_utils.endorsements.intel import load_intel_roots

    return _pinned(certificate for _role, certificate in load_intel_roots())


def _nvidia(wanted: str) -> Pins:
    from ansible_collections.attested.ai.plugins.module_utils.endorsements.nvidia import load_nvidia_roots

    return _pinned(certificate for role, certificate in load_nvidia_roots() if role == wanted)


def _gce() -> Pins:
    from ansible_collections.attested.ai.plugins.module_utils.endorsements.gce import load_gce_roots

    return _pinned(certificate for _role, certificate in load_gce_roots())


# A vendor's roots vouch for that vendor's evidence alone: Intel's are nothing to a report of AMD's.
AMD, INTEL, NVIDIA_DEVICE, NVIDIA_RIM, NVIDIA_NRAS, GCE = "amd", "intel", "nvidia-device", "nvidia-rim", "nvidia-nras", "gce"
_PINS: Mapping[str, Callable[[], Pins]] = {
    AMD: _amd,
    INTEL: _intel,
    NVIDIA_DEVICE: functools.partial(_nvidia, "device"),
    NVIDIA_RIM: functools.partial(_nvidia, "rim"),
    NVIDIA_NRAS: functools.partial(_nvidia, "nras"),
    GCE: _gce,
}


@functools.lru_cache(maxsize=None)
def _vendor(kind: str) -> Pins:
    return _PINS[kind]()


def trust_roots(pem: Sequence[str] = (), allow_nonvendor_roots: bool = False, vendor: bool = True, kind: str = AMD) -> TrustRoots:
    """The pinned roots of ``kind`` (unless ``vendor`` is false) and the root certificates in the PEM texts.

    Raises PolicyError (code "nonvendor-root") if a text holds a root that is not pinned for this kind without
    ``allow_nonvendor_roots``, and EndorsementError if a text cannot be read or a certificate is not self-issued. Self-signatures
    are not needed: the key itself is what is trusted.
    """
    known, intermediates = _vendor(kind)
    pins = {root.spki_sha256: root for root in known}
    roots: List[TrustRoot] = list(known) if vendor else []
    for index, text in enumerate(pem):
        where = "root %d" % (index + 1)
        try:
            certificates = [parse_certificate(der) for der in pem_to_der(text, where=where)]
        except FormatError as error:
            raise EndorsementError(error.what, where=where, fix="Give PEM text of root CA certificates.") from None
        for certificate in certificates:
            digest = hashlib.sha256(certificate.spki).hexdigest()
            if digest in pins:
                # Our own copy counts: names around a vendor's key are not for others to choose.
                if pins[digest] not in roots:
                    roots.append(pins[digest])
                continue
            if not allow_nonvendor_roots:
                raise PolicyError(
                    "the root %r is not one of the pinned roots (%s)" % (certificate.common_name, kind), where=where,
                    fix="Set allow_nonvendor_roots: true if evidence without a vendor's anchor is really wanted.", code="nonvendor-root",
                )  # fmt: skip
            if certificate.issuer != certificate.subject:
                raise EndorsementError(
                    "%r is no root: it was issued by %r" % (certificate.common_name, certificate.issuer_common_name),
                    where=where, fix="Give the root itself.",
                )  # fmt: skip
            if not any(root.certificate.der == certificate.der for root in roots):
                roots.append(TrustRoot(certificate, NONVENDOR, digest))
    return TrustRoots(tuple(roots), intermediates if vendor else ())


@functools.lru_cache(maxsize=64)
def _cached_roots(kind: str, pem: Tuple[str, ...], allow_nonvendor_roots: bool) -> TrustRoots:
    return trust_roots(pem, allow_nonvendor_roots, kind=kind)


def load_roots(policy: Optional[Any] = None, kind: str = AMD) -> TrustRoots:
    """The pinned roots of ``kind`` and those of a policy (attributes ``roots``, PEM texts, and ``allow_nonvendor_roots``)."""
    if policy is None:
        return _cached_roots(kind, (), False)
    return _cached_roots(kind, tuple(policy.roots), bool(policy.allow_nonvendor_roots))
