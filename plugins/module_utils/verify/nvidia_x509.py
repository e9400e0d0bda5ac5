# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificate paths as NVIDIA has them: all keys on P-384, all signatures ECDSA with SHA-384, ordered from the leaf to the root.

The root in a path is only looked up: what counts is our own copy of the pinned root with that key. Time is not judged here.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoot, TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import ecdsa_p384_verifies, p384_key

# The whole AlgorithmIdentifier of ecdsa-with-SHA384 (RFC 5758): it has no parameters.
ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
DIGITAL_SIGNATURE = 0
OID_EXTENDED_KEY_USAGE = bytes.fromhex("551d25")
_SCALAR_MAX = 49
# The leaf, and what issued it, belong to one device or one signer; what stands above belongs to many.
_SHARED_FROM = 2
_KNOWN_CRITICAL = frozenset((der.OID_BASIC_CONSTRAINTS, der.OID_KEY_USAGE))


@dataclass(frozen=True)
class Path:
    """A path from a leaf to a pinned root. ``certificates`` ends with our copy of the root if there is one. The offences are empty
    where all is well: ``root_offence`` tells that no pinned root is at its end, ``chain_offence`` that a link does not hold,
    ``profile_offence`` that a certificate is not what its place needs."""

    certificates: Tuple[Certificate, ...]
    root: Optional[TrustRoot]
    root_offence: str = ""
    chain_offence: str = ""
    profile_offence: str = ""

    @property
    def proven(self) -> bool:
        """True if every signature up to a pinned root holds and every certificate may do what it does."""
        return self.root is not None and not (self.root_offence or self.chain_offence or self.profile_offence)


def scalars(signature: bytes) -> Tuple[int, int]:
    """(r, s) of a DER ECDSA-Sig-Value of P-384; (0, 0), which no signature is, if it is not one."""
    try:
        position, end = der.whole(signature, der.SEQUENCE)
        r_start, r_end = der.expect(signature, position, end, der.INTEGER)
        s_start, s_end = der.expect(signature, r_end, end, der.INTEGER)
    except FormatError:
        return 0, 0
    if s_end != end:
        return 0, 0
    return _scalar(signature[r_start:r_end]), _scalar(signature[s_start:s_end])


def _scalar(content: bytes) -> int:
    if not content or len(content) > _SCALAR_MAX or content[0] > 0x7F or len(content) > 1 and not content[0] and content[1] < 0x80:
        return 0
    return int.from_bytes(content, "big")


def signed_with(key: Optional[Any], algorithm: bytes, signature: bytes, message: bytes) -> bool:
    """True if ``signature`` (DER) is one of ``message`` under a key from ``p384_key``, and ``algorithm`` says ECDSA with SHA-384."""
    if key is None or algorithm != ECDSA_SHA384:
        return False
    r, s = scalars(signature)
    return ecdsa_p384_verifies(key, r, s, message)


def issued_by(certificate: Certificate, issuer: Certificate, shared: bool = False) -> bool:
    """True if the names match and the certificate bears a signature of the issuer's key.

    ``shared`` tells that many devices have this certificate above them: the answer is then remembered, by every byte that goes in.
    """
    if certificate.issuer != issuer.subject:
        return False
    verifies = _shared_link if shared else _link
    return verifies(issuer.spki, certificate.signature_algorithm, certificate.signature, certificate.tbs)


def _link(spki: bytes, algorithm: bytes, signature: bytes, tbs: bytes) -> bool:
    return signed_with(p384_key(spki), algorithm, signature, tbs)


_shared_link = functools.lru_cache(maxsize=128)(_link)


def prove_path(certificates: Sequence[Certificate], roots: TrustRoots) -> Path:
    """Judge a path of at least two certificates, leaf first, whose last is the root that it claims."""
    claimed = certificates[-1]
    root = next((known for known in roots.roots if known.certificate.spki == claimed.spki), None)
    if root is None:
        name = ascii(claimed.common_name)
        return Path(tuple(certificates), None, root_offence="the path ends at %s, whose key is none of the pinned roots' (%s)" % (
            name, ", ".join(ascii(known.name) for known in roots.roots) or "none is pinned"
        ))  # fmt: skip
    path = tuple(certificates[:-1]) + (root.certificate,)
    return Path(path, root, chain_offence=_chain_offence(path), profile_offence=_profile_offence(path))


def _chain_offence(path: Sequence[Certificate]) -> str:
    for place, (certificate, issuer) in enumerate(zip(path, path[1:])):
        if certificate.issuer != issuer.subject:
            return "%s was issued by %s, the next certificate is %s" % (
                ascii(certificate.common_name), ascii(certificate.issuer_common_name), ascii(issuer.common_name)
            )  # fmt: skip
        if not issued_by(certificate, issuer, shared=place >= _SHARED_FROM):
            return "the signature of %s is not one of %s (ECDSA P-384 with SHA-384)" % (ascii(certificate.common_name), ascii(issuer.common_name))
    return ""


def _profile_offence(path: Sequence[Certificate]) -> str:
    for place, certificate in enumerate(path):
        name = ascii(certificate.common_name)
        try:
            offence = _leaf_offence(certificate) if place == 0 else _authority_offence(certificate, place - 1)
        except FormatError as error:
            offence = error.what
        if not offence and p384_key(certificate.spki) is None:
            offence = "its key is no P-384 key"
        if not offence and not _KNOWN_CRITICAL.issuperset(certificate.critical):
            offence = "a critical extension that is not known here"
        if offence:
            return "%s: %s" % (name, offence)
    return ""


def _leaf_offence(certificate: Certificate) -> str:
    if certificate.is_ca:
        return "it is an authority, a signer was expected"
    if OID_EXTENDED_KEY_USAGE in certificate.extensions:
        # A responder of the same authority could sign as well; NVIDIA's signers and devices bear no such extension.
        return "its key is for something else (extended key usage)"
    return "" if certificate.may(DIGITAL_SIGNATURE) else "its key may not sign data"


def _authority_offence(certificate: Certificate, below: int) -> str:
    """``below`` is how many other authorities stand between it and the leaf."""
    constraints = certificate.extensions.get(der.OID_BASIC_CONSTRAINTS)
    is_ca, limit = der.basic_constraints(constraints[1]) if constraints is not None else (False, None)
    if not is_ca or not certificate.may(der.KEY_CERT_SIGN):
        return "it may not issue certificates"
    return "it may have %d authorities below it, not %d" % (limit, below) if limit is not None and below > limit else ""


def validity_offence(certificates: Sequence[Certificate], at: datetime) -> str:
    """Which certificate is not valid at ``at``; empty if all are."""
    for certificate in certificates:
        if not certificate.not_before <= at <= certificate.not_after:
            return "%s is valid from %s to %s" % (ascii(certificate.common_name), certificate.not_before.isoformat(), certificate.not_after.isoformat())
    return ""


def has_extended_usage(certificate: Certificate, usage: bytes) -> bool:
    """True if extendedKeyUsage is there and names ``usage`` (content bytes of the OID)."""
    extension = certificate.extensions.get(OID_EXTENDED_KEY_USAGE)
    if extension is None:
        return False
    try:
        position, end = der.whole(extension[1], der.SEQUENCE)
        while position < end:
            start, position = der.expect(extension[1], position, end, der.OID)
            if extension[1][start:position] == usage:
                return True
    except FormatError:
        return False
    return False
