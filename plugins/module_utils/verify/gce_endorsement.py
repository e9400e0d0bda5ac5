# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify Google's launch endorsement of a firmware: signed by a certificate that the pinned root issued, both valid at the time.

Source: google/gce-tcb-verifier, verify/ and sign/ops/ (RSASSA-PSS, SHA-256, salt 32, for certificate and payload; the root issues the
signer directly). Google publishes no revocation list for these certificates.
Ids: endorsement-format, endorsement-root, endorsement-chain, endorsement-expired, endorsement-signature.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.checks import PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoot, TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.gce_endorsement import GceEndorsement, parse_gce_endorsement
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.result import ANCHOR_NONE, Verification
from ansible_collections.attested.ai.plugins.module_utils.verify.signatures import pss_sha256_verifies

# AlgorithmIdentifier of RSASSA-PSS with SHA-256, MGF1-SHA-256, salt 32 (RFC 4055), with and without the default trailerField.
_PSS_HASHES = (
    "06092a864886f70d01010a30%02x"
    "a00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500"
    "a203020120"
)
RSA_PSS_SHA256 = frozenset((
    bytes.fromhex("3041" + _PSS_HASHES % 0x34),
    bytes.fromhex("3046" + _PSS_HASHES % 0x39 + "a303020101"),
))  # fmt: skip
_IDS = ("endorsement-format", "endorsement-root", "endorsement-chain", "endorsement-expired", "endorsement-signature")
_DIGITAL_SIGNATURE = 0
_UNDERSTOOD = frozenset((der.OID_BASIC_CONSTRAINTS, der.OID_KEY_USAGE))


@dataclass(frozen=True)
class GceClaims:
    """What the endorsement says, to be relied on only if the verification is authentic."""

    endorsement: GceEndorsement
    root_name: Optional[str]

    def to_dict(self) -> Dict[str, Any]:
        return {"root_name": self.root_name, **self.endorsement.to_dict()}


@dataclass(frozen=True)
class _Proven:
    """What does not depend on the time: the message, its signer, its root, and the checks."""

    endorsement: GceEndorsement
    leaf: Certificate
    root: Optional[TrustRoot]
    checks: Tuple[Check, ...]

    @property
    def cacheable(self) -> bool:
        return all(check.outcome == PASS for check in self.checks)


def verify_gce_endorsement(
    data: bytes, roots: TrustRoots, at: datetime, cache: Optional[VerificationCache] = None
) -> Verification[GceClaims]:
    """Verify a serialised VMLaunchEndorsement at ``at`` (aware). Never raises for what it holds.

    Only a certificate of ``roots`` is a root, never one of the endorsement's own bundle.
    """
    key = ("gce-endorsement", bytes(data), roots.identity)
    proven = None if cache is None else cache.get(key)
    if proven is None:
        try:
            proven = _prove(parse_gce_endorsement(data), roots)
        except FormatError as error:
            rest = tuple(not_checked(check_id, "the endorsement cannot be read") for check_id in _IDS[1:])
            return Verification(False, (failed(_IDS[0], str(error)),) + rest, None, None, ANCHOR_NONE, None)
        if cache is not None and proven.cacheable:
            cache.put(key, proven)
    validity = _validity(proven, at.astimezone(timezone.utc))
    checks = proven.checks[:3] + (validity,) + proven.checks[3:]
    authentic = all(check.outcome == PASS for check in checks)
    return Verification(
        authentic=authentic,
        checks=checks,
        claims=GceClaims(proven.endorsement, proven.root.name if proven.root else None),
        not_after=min(certificate.not_after for certificate in _certificates(proven)) if authentic else None,
        anchor=proven.root.anchor if authentic and proven.root else ANCHOR_NONE,
        evidence_id=hashlib.sha256(proven.endorsement.payload).hexdigest() if authentic else None,
    )


def _certificates(proven: _Proven) -> List[Certificate]:
    return [proven.leaf] + ([proven.root.certificate] if proven.root else [])


def _prove(endorsement: GceEndorsement, roots: TrustRoots) -> _Proven:
    checks: List[Check] = [passed("endorsement-format", "signed payload of %d bytes" % len(endorsement.payload))]
    leaf = der.parse_certificate(endorsement.certificate)
    root = next(iter(roots.named(leaf.issuer)), None)
    if root is None:
        checks.append(failed("endorsement-root", "no pinned root is named %r as the signer's issuer is" % leaf.issuer_common_name))
        checks.append(not_checked("endorsement-chain", "there is no pinned root"))
    else:
        checks.append(passed("endorsement-root", "%r is pinned" % root.name))
        offence = _chain_offence(leaf, root.certificate)
        checks.append(failed("endorsement-chain", offence) if offence else passed("endorsement-chain", "the root issued %r" % leaf.common_name))
    if pss_sha256_verifies(leaf.spki, endorsement.signature, endorsement.payload):
        checks.append(passed("endorsement-signature", "RSASSA-PSS with SHA-256"))
    else:
        checks.append(failed("endorsement-signature", "the payload was not signed (RSASSA-PSS, SHA-256, salt 32) with its certificate's key"))
    return _Proven(endorsement, leaf, root, tuple(checks))


def _chain_offence(leaf: Certificate, root: Certificate) -> str:
    try:
        if root.issuer != root.subject or not root.is_ca or not root.may(der.KEY_CERT_SIGN):
            return "the root %r may not issue certificates" % root.common_name
        if leaf.is_ca or not leaf.may(_DIGITAL_SIGNATURE):
            return "the signer %r is an authority, or may not sign data" % leaf.common_name
    except FormatError as error:
        return str(error)
    if any(oid not in _UNDERSTOOD for oid in leaf.critical + root.critical):
        return "a certificate has a critical extension that is not understood"
    if leaf.signature_algorithm not in RSA_PSS_SHA256 or not pss_sha256_verifies(root.spki, leaf.signature, leaf.tbs):
        return "the signer %r was not issued (RSASSA-PSS, SHA-256, salt 32) by the root" % leaf.common_name
    return ""


def _validity(proven: _Proven, at: datetime) -> Check:
    code = "endorsement-expired"
    for certificate in _certificates(proven):
        if not certificate.not_before <= at <= certificate.not_after:
            return failed(code, "%r is valid from %s to %s" % (certificate.common_name, certificate.not_before.isoformat(), certificate.not_after.isoformat()))
    if proven.endorsement.timestamp > at.timestamp():
        return failed(code, "the endorsement was made later than %s" % at.isoformat())
    return passed(code, "valid at %s" % at.isoformat())
