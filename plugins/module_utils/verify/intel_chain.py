# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Intel's certificates for SGX and TDX: pinned root, its authorities and TCB signer, PCK certificates, and revocation lists.

All keys are on P-256, all signatures ECDSA with SHA-256. Everything here is independent of the quote and of time, so that what is proven
can be cached. A root in a chain is only compared: what counts is our own copy.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.checks import PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoot, TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate, RevocationList, parse_certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.pck import OID_SGX, PckExtensions, chain_to_der, parse_pck_extensions
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import ecdsa_p256_verifies, p256_key

PLATFORM, PROCESSOR = "platform", "processor"
CA_NAMES = {"Intel SGX PCK Platform CA": PLATFORM, "Intel SGX PCK Processor CA": PROCESSOR}
LEAF_NAME = "Intel SGX PCK Certificate"
TCB_SIGNING = "TCB Signing"
_DIGITAL_SIGNATURE = 0
_CRITICAL = frozenset((der.OID_BASIC_CONSTRAINTS, der.OID_KEY_USAGE))
_LEAF_CRITICAL = _CRITICAL | {OID_SGX}
_OID_CRL_NUMBER, _OID_AUTHORITY_KEY_ID = bytes.fromhex("551d14"), bytes.fromhex("551d23")
_CRL_CRITICAL = frozenset((_OID_CRL_NUMBER, _OID_AUTHORITY_KEY_ID))
# A delta list, or one for some certificates only.
_CRL_LIMITS = frozenset((bytes.fromhex("551d1b"), bytes.fromhex("551d1c")))


def signed_by(signed: Union[Certificate, RevocationList], spki: bytes) -> bool:
    """True if a certificate or revocation list bears an ECDSA P-256 signature with SHA-256 of this key."""
    if signed.signature_algorithm != der.ECDSA_SHA256:
        return False
    key = p256_key(spki)
    return key is not None and ecdsa_p256_verifies(key, signed.signature, signed.tbs)


class Authorities:
    """Certificates that stand right below a pinned root. An answer holds for exactly these bytes under exactly this root."""

    def __init__(self, roots: TrustRoots) -> None:
        self.roots = roots

    def prove(self, data: bytes, claimed_root: bytes) -> Tuple[Certificate, TrustRoot]:
        """The certificate and the pinned root that issued it. Raises FormatError: code "root-not-pinned" if the chain ends at another root,
        "pck-chain" if the link does not hold, "format" if it cannot be read."""
        root = self._root(claimed_root)
        return _below_root(data, root.certificate), root

    def _root(self, data: bytes) -> TrustRoot:
        for root in self.roots.roots:
            if root.certificate.der == data:
                return root
        certificate = parse_certificate(data)
        for root in self.roots.roots:
            # The same key under another certificate is the same root, if it is one by itself: no byte of a chain is left unread.
            if root.certificate.spki == certificate.spki and root.certificate.subject == certificate.subject and signed_by(certificate, certificate.spki):
                return root
        pinned = ", ".join(root.name for root in self.roots.roots) or "none is pinned"
        raise FormatError(
            "the chain ends at %s, which is none of the pinned roots (%s)" % (ascii(certificate.common_name), pinned), code="root-not-pinned"
        )  # fmt: skip


# Intel has a handful of them, and every chain of every machine has one.
@functools.lru_cache(maxsize=32)
def _parsed(data: bytes) -> Certificate:
    return parse_certificate(data)


def _below_root(data: bytes, root: Certificate) -> Certificate:
    """The certificate, if the root issued it. Raises FormatError."""
    certificate = _parsed(data)
    name = ascii(certificate.common_name)
    if certificate.issuer != root.subject:
        raise FormatError("%s was issued by %s, not by %s" % (name, ascii(certificate.issuer_common_name), ascii(root.common_name)), code="pck-chain")
    offence = _link_offence(data, root.der)
    if offence:
        raise FormatError("%s: %s" % (name, offence), code="pck-chain")
    return certificate


@functools.lru_cache(maxsize=32)
def _link_offence(data: bytes, root_der: bytes) -> str:
    """Why the root did not issue a certificate; empty if it did. Pure: what it says of two certificates never changes."""
    root = _parsed(root_der)
    offence = authority_offence(root, 1)
    if offence:
        return "%s: %s" % (ascii(root.common_name), offence)
    return "" if signed_by(_parsed(data), root.spki) else "its signature is not one of %s (ECDSA P-256 with SHA-256)" % ascii(root.common_name)


def authority_offence(certificate: Certificate, below: int) -> str:
    """Why a certificate is no authority with ``below`` authorities under it; empty if it is."""
    try:
        constraints = certificate.extensions.get(der.OID_BASIC_CONSTRAINTS)
        is_ca, limit = der.basic_constraints(constraints[1]) if constraints is not None else (False, None)
        if not is_ca or not certificate.may(der.KEY_CERT_SIGN):
            return "it may not issue certificates"
    except FormatError as error:
        return error.what
    if limit is not None and below > limit:
        return "it may have %d authorities below it, not %d" % (limit, below)
    return _common_offence(certificate, _CRITICAL)


def signer_offence(certificate: Certificate, critical: frozenset = _CRITICAL) -> str:  # type: ignore[type-arg]
    """Why a certificate is not one of a key that signs data; empty if it is."""
    try:
        if certificate.is_ca:
            return "it is an authority, a signer was expected"
        if not certificate.may(_DIGITAL_SIGNATURE):
            return "its key may not sign data"
    except FormatError as error:
        return error.what
    return _common_offence(certificate, critical)


def _common_offence(certificate: Certificate, critical: frozenset) -> str:  # type: ignore[type-arg]
    if p256_key(certificate.spki) is None:
        return "its key is no P-256 key"
    if not critical.issuperset(certificate.critical):
        return "a critical extension that is not known here"
    return ""


@dataclass(frozen=True)
class PckChain:
    """What is known of a PCK certificate and its path. ``proven``: every link up to a pinned root holds, and every certificate may do what
    it does. ``ca`` is "platform" or "processor". ``key`` is the leaf's. ``checks`` maps ids to outcomes."""

    leaf: Optional[Certificate]
    intermediate: Optional[Certificate]
    root: Optional[TrustRoot]
    extensions: Optional[PckExtensions]
    ca: Optional[str]
    key: Optional[Any]
    proven: bool
    checks: Dict[str, Check]

    @property
    def certificates(self) -> Tuple[Certificate, ...]:
        """Leaf, intermediate and our copy of the root, as far as they are known."""
        root = self.root.certificate if self.root else None
        return tuple([certificate for certificate in (self.leaf, self.intermediate, root) if certificate is not None])

    @property
    def cacheable(self) -> bool:
        """True if nothing failed: a cache never remembers a failure."""
        return self.proven and all(check.outcome == PASS for check in self.checks.values())


CHAIN_CHECKS = ("root-not-pinned", "pck-chain")


def build_pck_chain(pem: bytes, authorities: Authorities) -> PckChain:
    """Parse the chain as the quote has it, leaf, intermediate and root, and prove it. Never raises for bad input."""
    checks: Dict[str, Check] = {}
    leaf: Optional[Certificate] = None
    intermediate: Optional[Certificate] = None
    root: Optional[TrustRoot] = None
    extensions: Optional[PckExtensions] = None
    try:
        parts = chain_to_der(pem)
        if len(parts) != 3:
            raise FormatError("%d certificates, three were expected: PCK certificate, its authority, root" % len(parts))
        leaf = parse_certificate(parts[0])
        intermediate, root = authorities.prove(parts[1], parts[2])
        offence = _pck_offence(leaf, intermediate)
        extensions = parse_pck_extensions(leaf.extensions)
        if not offence and not signed_by(leaf, intermediate.spki):
            offence = "the signature of the PCK certificate is not one of %s (ECDSA P-256 with SHA-256)" % intermediate.common_name
    except FormatError as error:
        offence = error.what
        if error.code == "root-not-pinned":
            checks["root-not-pinned"] = failed("root-not-pinned", offence)
            checks["pck-chain"] = not_checked("pck-chain", "it leads to no pinned root")
    if root is not None:
        checks["root-not-pinned"] = passed("root-not-pinned", "%s, SPKI SHA-256 %s (%s)" % (root.name, root.spki_sha256, root.anchor))
    elif "root-not-pinned" not in checks:
        checks["root-not-pinned"] = not_checked("root-not-pinned", "the path could not be followed")
    if "pck-chain" not in checks:
        checks["pck-chain"] = failed("pck-chain", offence) if offence else passed("pck-chain", "every signature holds")
    proven = not offence
    name = intermediate.common_name if intermediate is not None else None
    return PckChain(
        leaf, intermediate, root, extensions, CA_NAMES.get(name or ""), p256_key(leaf.spki) if leaf is not None else None, proven, checks
    )  # fmt: skip


def _pck_offence(leaf: Certificate, intermediate: Certificate) -> str:
    if intermediate.common_name not in CA_NAMES:
        return "the PCK certificate's authority is %s, known are %s" % (ascii(intermediate.common_name), ", ".join(CA_NAMES))
    offence = authority_offence(intermediate, 0)
    if offence:
        return "%s: %s" % (intermediate.common_name, offence)
    if leaf.issuer != intermediate.subject:
        return "the PCK certificate was issued by %s, the next certificate is %s" % (ascii(leaf.issuer_common_name), intermediate.common_name)
    if leaf.common_name != LEAF_NAME:
        return "the leaf is %s, not an %s" % (ascii(leaf.common_name), LEAF_NAME)
    offence = signer_offence(leaf, _LEAF_CRITICAL)
    return "PCK certificate: %s" % offence if offence else ""


def prove_tcb_signer(pem: bytes, authorities: Authorities) -> Tuple[Certificate, TrustRoot]:
    """The TCB signing certificate of a chain of exactly signer and root. Raises FormatError if the chain ends in anybody else: a signature
    that leads to the root says nothing about the signer's role."""
    parts = chain_to_der(pem)
    if len(parts) != 2:
        raise FormatError("%d certificates, two were expected: TCB signing certificate, root" % len(parts))
    signer, root = authorities.prove(*parts)
    if TCB_SIGNING not in (signer.common_name or ""):
        raise FormatError("the signer is %s, not Intel's TCB signing key" % ascii(signer.common_name))
    offence = signer_offence(signer)
    if not offence and OID_SGX in signer.extensions:
        offence = "it is a PCK certificate"
    if offence:
        raise FormatError("%s: %s" % (ascii(signer.common_name), offence))
    return signer, root


def prove_crl_issuer(pem: bytes, authorities: Authorities) -> Tuple[Certificate, TrustRoot]:
    """The authority of a chain of exactly authority and root. Raises FormatError."""
    parts = chain_to_der(pem)
    if len(parts) != 2:
        raise FormatError("%d certificates, two were expected: authority of PCK certificates, root" % len(parts))
    issuer, root = authorities.prove(*parts)
    if issuer.common_name not in CA_NAMES:
        raise FormatError("the issuer is %s, known are %s" % (ascii(issuer.common_name), ", ".join(CA_NAMES)))
    offence = authority_offence(issuer, 0)
    if offence:
        raise FormatError("%s: %s" % (issuer.common_name, offence))
    return issuer, root


def crl_offence(crl: RevocationList, issuer: Certificate) -> str:
    """Why a revocation list cannot be used as that of ``issuer``, its name apart; empty if it can."""
    name = ascii(issuer.common_name)
    try:
        if not issuer.may(der.CRL_SIGN):
            return "%s may not sign revocation lists" % name
    except FormatError as error:
        return error.what
    if not signed_by(crl, issuer.spki):
        return "its signature is not one of %s" % name
    critical = [oid for oid, (is_critical, _value) in crl.extensions.items() if is_critical]
    if crl.critical_entry_extensions or not _CRL_CRITICAL.issuperset(critical) or _CRL_LIMITS.intersection(crl.extensions):
        return "it has an extension that limits its meaning"
    return "" if crl.next_update is not None else "it does not say until when it holds"


def revoked(certificates: Sequence[Certificate], crl: RevocationList) -> List[str]:
    """Names and serial numbers of the certificates that the list names."""
    return ["%s (serial %x)" % (ascii(c.common_name), c.serial) for c in certificates if c.serial in crl.serials]
