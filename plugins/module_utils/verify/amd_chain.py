# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The certificate chain of a SEV-SNP report: VCEK or VLEK, ASK or ASVK, pinned ARK, and the ARK's revocation list.

Everything here is independent of the report and of time, so that a proven chain can be cached.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.checks import PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import VENDOR, TrustRoot, TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate, RevocationList, parse_certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_vek import KNOWN, VekExtensions, parse_vek_extensions
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import RSA_BITS, p384_key, rsa_key, signed_by

# Path material beyond this many certificates is not looked at: each one may cost two signature verifications.
SUPPLIED_MAX = 8

VCEK, VLEK = "vcek", "vlek"
LEAF_ROLES = {"SEV-VCEK": VCEK, "SEV-VLEK": VLEK}
ROOT_NAMES = {"ARK-Milan": "milan", "ARK-Genoa": "genoa", "ARK-Turin": "turin"}
ISSUER_NAMES = {
    "SEV-Milan": ("milan", VCEK), "SEV-Genoa": ("genoa", VCEK), "SEV-Turin": ("turin", VCEK),
    "SEV-VLEK-Milan": ("milan", VLEK), "SEV-VLEK-Genoa": ("genoa", VLEK), "SEV-VLEK-Turin": ("turin", VLEK),
}  # fmt: skip
_STRUCT_VERSIONS = {"milan": 0, "genoa": 0, "turin": 1}
_HWID_SIZES = {"milan": 64, "genoa": 64, "turin": 8}
_CA_CRITICAL = frozenset((der.OID_BASIC_CONSTRAINTS, der.OID_KEY_USAGE))
_LEAF_CRITICAL = _CA_CRITICAL | KNOWN
_OID_CRL_NUMBER = bytes.fromhex("551d14")
_OID_AUTHORITY_KEY_ID = bytes.fromhex("551d23")
# A delta list, or one for some certificates only. Critical by the book; one that is not means no less.
_CRL_LIMITS = frozenset((bytes.fromhex("551d1b"), bytes.fromhex("551d1c")))
_CRL_CRITICAL = frozenset((_OID_CRL_NUMBER, _OID_AUTHORITY_KEY_ID))


@dataclass(frozen=True)
class Chain:
    """What is known of a leaf certificate and its path.

    ``proven``: the leaf's signature leads to a pinned root. ``checks`` maps ids to outcomes. ``leaf`` is None if it cannot be
    parsed, ``vek`` if its extensions cannot; ``key`` is the leaf's P-384 key or None. ``crl`` is set if it was given and its
    signature is the root's. ``role`` and ``issuer_role`` are "vcek" or "vlek", None for any other name.
    """

    leaf: Optional[Certificate]
    vek: Optional[VekExtensions]
    key: Optional[Any]
    role: Optional[str]
    intermediate: Optional[Certificate]
    issuer_product: Optional[str]
    issuer_role: Optional[str]
    root: Optional[TrustRoot]
    root_product: Optional[str]
    proven: bool
    crl: Optional[RevocationList]
    checks: Dict[str, Check]

    @property
    def cacheable(self) -> bool:
        """True if nothing failed: a cache never remembers a failure."""
        return self.proven and all(check.outcome == PASS for check in self.checks.values())


def build_chain(vek: bytes, supplied: Sequence[bytes], roots: TrustRoots, crl: Optional[bytes]) -> Chain:
    """Parse the leaf, find and prove its path, judge the leaf's profile and the revocation list. Never raises for bad input."""
    checks: Dict[str, Check] = {}
    try:
        leaf = parse_certificate(vek)
    except FormatError as error:
        checks["vek-profile"] = failed("vek-profile", "the VCEK or VLEK cannot be read: %s" % error.what)
        return Chain(None, None, None, None, None, None, None, None, None, False, None, checks)
    intermediate, root, proven = _find_path(leaf, supplied, roots, checks)
    issuer_product, issuer_role = ISSUER_NAMES.get((intermediate and intermediate.common_name) or "", (None, None))
    root_product = ROOT_NAMES.get(root.name) if root else None
    role = LEAF_ROLES.get(leaf.common_name or "")

    key = p384_key(leaf.spki)
    checks["vek-key-type"] = (
        passed("vek-key-type", "the key is on P-384") if key is not None else failed("vek-key-type", "the key is no P-384 key")
    )
    extensions = None
    try:
        extensions = parse_vek_extensions(leaf.extensions)
        offence = _profile_offence(leaf, extensions, role)
    except FormatError as error:
        offence = error.what
    checks["vek-profile"] = failed("vek-profile", offence) if offence else passed("vek-profile", "the extensions are those of a %s" % (role or "").upper())
    revocation = None
    if crl is not None:
        revocation = _judge_crl(crl, intermediate, root, checks)
    return Chain(
        leaf, extensions, key, role, intermediate, issuer_product, issuer_role, root, root_product, proven, revocation, checks
    )  # fmt: skip


def _find_path(
    leaf: Certificate, supplied: Sequence[bytes], roots: TrustRoots, checks: Dict[str, Check]
) -> Tuple[Optional[Certificate], Optional[TrustRoot], bool]:
    """Find leaf <- intermediate <- pinned root. Returns (intermediate, root, leaf signature proven)."""
    # Only a certificate that holds this name can bear it: the limit is not used up by others.
    given = _parse_supplied([data for data in supplied if leaf.issuer in data], roots)
    candidates = [c for c in given if c.subject == leaf.issuer and c.issuer != c.subject]
    candidates += [c for c in roots.intermediates if c.subject == leaf.issuer and c not in candidates]
    second_best: Optional[Tuple[Certificate, TrustRoot]] = None
    strangers: List[Certificate] = []
    for candidate in candidates:
        shipped = roots.shipped(candidate.der) is not None
        root = None
        for known in roots.named(candidate.issuer):
            spki = known.certificate.spki
            if _shipped_link(candidate.der, spki) if shipped else signed_by(candidate, spki):
                root = known
                break
        if root is None:
            strangers.append(candidate)
        elif signed_by(leaf, candidate.spki):
            _judge_authorities(candidate, root, checks)
            checks["vek-signature"] = passed("vek-signature", "signed by %s" % candidate.common_name)
            return candidate, root, True
        elif second_best is None:
            second_best = candidate, root

    stranger = next((c for c in strangers if signed_by(leaf, c.spki)), None)
    if second_best is not None and stranger is None:
        _judge_authorities(second_best[0], second_best[1], checks)
        checks["vek-signature"] = failed(
            "vek-signature", "the certificate's signature is not one of %s (RSASSA-PSS, SHA-384)" % second_best[0].common_name
        )  # fmt: skip
        return second_best[0], second_best[1], False

    name = leaf.issuer_common_name
    if stranger is None and strangers:
        stranger = strangers[0]
    if stranger is None:
        checks["root-not-pinned"] = failed("root-not-pinned", "no path to a pinned root")
        checks["chain"] = failed("chain", "no certificate of the issuer %s was given or is shipped" % ascii(name))
    else:
        checks["root-not-pinned"] = failed(
            "root-not-pinned", "%s was not issued by a pinned root (it names %s)" % (ascii(name), ascii(stranger.issuer_common_name))
        )  # fmt: skip
        if roots.named(stranger.issuer):
            checks["chain"] = failed(
                "chain", "the signature of %s is not one of the pinned %s" % (ascii(name), ascii(stranger.issuer_common_name))
            )  # fmt: skip
    checks["vek-signature"] = not_checked("vek-signature", "its issuer is not proven")
    return None, None, False


@functools.lru_cache(maxsize=32)
def _shipped_link(certificate: bytes, spki: bytes) -> bool:
    """AMD's own six intermediates under AMD's roots: proven once per process. The key is every byte that goes in."""
    return signed_by(parse_certificate(certificate), spki)


def _parse_supplied(supplied: Sequence[bytes], roots: TrustRoots) -> List[Certificate]:
    """Parse the path material; what cannot be read is no use, and no reason to refuse a path that holds without it."""
    parsed: List[Certificate] = []
    for data in supplied[:SUPPLIED_MAX]:
        certificate = roots.shipped(data)
        if certificate is None:
            try:
                certificate = parse_certificate(data)
            except FormatError:
                continue
        parsed.append(certificate)
    return parsed


def _judge_authorities(intermediate: Certificate, root: TrustRoot, checks: Dict[str, Check]) -> None:
    checks["root-not-pinned"] = passed("root-not-pinned", "%s, SPKI SHA-256 %s (%s)" % (root.name, root.spki_sha256, root.anchor))
    if root.name not in ROOT_NAMES:
        offence = "the root's name %s is none of %s" % (ascii(root.name), ", ".join(ROOT_NAMES))
    elif (intermediate.common_name or "") not in ISSUER_NAMES:
        offence = "the name %s is none of %s" % (ascii(intermediate.common_name), ", ".join(ISSUER_NAMES))
    else:
        offence = _ca_offence(root.certificate, root.anchor) or _ca_offence(intermediate, root.anchor)
    if offence:
        checks["chain"] = failed("chain", offence)
    else:
        checks["chain"] = passed("chain", "%s was issued by %s" % (intermediate.common_name, root.name))


def _ca_offence(certificate: Certificate, anchor: str) -> str:
    """Why a certificate is no CA certificate of AMD's profile; empty if it is."""
    name = ascii(certificate.common_name)
    try:
        if not certificate.is_ca or not certificate.may(der.KEY_CERT_SIGN):
            return "%s may not issue certificates" % name
    except FormatError as error:
        return "%s: %s" % (name, error.what)
    if certificate.signature_algorithm not in der.RSA_PSS_SHA384:
        return "%s is not signed with RSASSA-PSS, SHA-384, salt 48" % name
    key = rsa_key(certificate.spki)
    if key is None or (anchor == VENDOR and key.key_size != RSA_BITS):
        return "%s has no RSA key of %d bits" % (name, RSA_BITS)
    if not _CA_CRITICAL.issuperset(certificate.critical):
        return "%s has a critical extension that is not known here" % name
    return ""


def _profile_offence(leaf: Certificate, vek: VekExtensions, role: Optional[str]) -> str:
    """Why a leaf is no VCEK or VLEK; empty if it is. Raises FormatError for malformed extensions."""
    if role is None:
        return "the name %s is neither SEV-VCEK nor SEV-VLEK" % ascii(leaf.common_name)
    if leaf.is_ca:
        return "the certificate is one of an authority"
    if not _LEAF_CRITICAL.issuperset(leaf.critical):
        return "a critical extension that is not known here"
    if vek.hwid is not None and vek.csp_id is not None:
        return "it names a chip (HWID) and a provider (CSP_ID)"
    if role == VCEK and vek.hwid is None:
        return "a VCEK without HWID"
    if role == VLEK and vek.csp_id is None:
        return "a VLEK without CSP_ID"
    if vek.product is not None:
        if vek.struct_version != _STRUCT_VERSIONS[vek.product]:
            return "structVersion %d does not fit %s" % (vek.struct_version, vek.product)
        if vek.hwid is not None and len(vek.hwid) != _HWID_SIZES[vek.product]:
            return "a HWID of %d bytes does not fit %s" % (len(vek.hwid), vek.product)
    return ""


def _judge_crl(
    data: bytes, intermediate: Optional[Certificate], root: Optional[TrustRoot], checks: Dict[str, Check]
) -> Optional[RevocationList]:
    """Judge what does not depend on time; returns the list if it is usable."""
    if root is None or intermediate is None:
        for check_id in ("crl-signature", "ask-revoked"):
            checks[check_id] = not_checked(check_id, "no pinned root issued this chain")
        return None
    try:
        crl = der.parse_crl(data)
        offence = _crl_offence(crl, root)
    except FormatError as error:
        offence = error.what
    if offence:
        checks["crl-signature"] = failed("crl-signature", "the revocation list cannot be used: %s" % offence)
        checks["ask-revoked"] = not_checked("ask-revoked", "the revocation list cannot be used")
        return None
    checks["crl-signature"] = passed("crl-signature", "signed by %s" % root.name)
    revoked = [c for c in (intermediate, root.certificate) if c.serial in crl.serials]
    if revoked:
        checks["ask-revoked"] = failed("ask-revoked", "%s (serial %d) is revoked" % (ascii(revoked[0].common_name), revoked[0].serial))
    else:
        checks["ask-revoked"] = passed("ask-revoked", "neither %s nor %s is revoked" % (intermediate.common_name, root.name))
    return crl


def _crl_offence(crl: RevocationList, root: TrustRoot) -> str:
    if crl.issuer != root.certificate.subject:
        return "it was issued by %s, not by %s" % (ascii(der.common_name(crl.issuer)), root.name)
    if not root.certificate.may(der.CRL_SIGN):
        return "%s may not sign revocation lists" % root.name
    if not signed_by(crl, root.certificate.spki):
        return "its signature is not one of %s" % root.name
    critical = [oid for oid, (is_critical, _value) in crl.extensions.items() if is_critical]
    if crl.critical_entry_extensions or not _CRL_CRITICAL.issuperset(critical) or _CRL_LIMITS.intersection(crl.extensions):
        return "it has an extension that limits its meaning"
    return ""
