# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""AMD's key distribution service (KDS interface specification): VCEKs by chip and TCB, CA chains and revocation lists by product.

What is served is proven before it is kept: the certificate must lead to a pinned root and name the chip and the TCB that were asked for.
Asked for are only certificates that can be had: a VLEK comes from the cloud provider, with the evidence or as a file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import List, Mapping, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL
from ansible_collections.attested.ai.plugins.module_utils.endorsements.client import Client
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import VENDOR, TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Piece, file_name, format_time
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.der import RevocationList, parse_certificate, parse_crl, pem_to_der
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import SIGNING_KEY_VLEK, SnpReport
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_tcb import PRODUCTS, TcbVersion
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_vek import parse_vek_extensions
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted
from ansible_collections.attested.ai.plugins.module_utils.verify.amd_chain import build_chain
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import signed_by

URL = "https://kdsintf.amd.com"
_SHORT = {"fmc": "fmc", "bootloader": "bl", "tee": "tee", "snp": "snp", "microcode": "ucode"}
TCB_NAMES = ("reported", "committed", "current")


@dataclass(frozen=True)
class Vcek:
    """The certificate of one chip at one TCB. ``hwid`` is 64 bytes, on Turin 8."""

    product: str
    hwid: bytes
    tcb: TcbVersion

    @property
    def path(self) -> str:
        return "amd/vek/%s/%s-%s.der" % (self.product, chip_name(self.hwid), tcb_name(self.tcb))

    @property
    def about(self) -> str:
        return "VCEK of the %s chip %s at %s" % (self.product, chip_name(self.hwid), self.tcb)

    def url(self, base: str) -> str:
        levels = "&".join("%sSPL=%d" % (_SHORT[name], value) for name, value in self.tcb.components())
        return "%s/vcek/v1/%s/%s?%s" % (base, self.product.capitalize(), self.hwid.hex(), levels)


def chip_name(hwid: bytes) -> str:
    """The first half of the chip's identity as policies spell it (machines.allow): SHA-256 of the 64 bytes of CHIP_ID."""
    return hashlib.sha256(hwid.ljust(64, b"\0")).hexdigest()[:32]


def tcb_name(tcb: TcbVersion) -> str:
    """For file names, for example "bl4-tee0-snp24-ucode219"."""
    return "-".join("%s%d" % (_SHORT[name], value) for name, value in tcb.components())


def product_of(name: str) -> str:
    """The line that KDS knows a product by. Raises EndorsementError."""
    product = {"bergamo": "genoa", "siena": "genoa"}.get(name.lower(), name.lower())
    if product not in PRODUCTS:
        raise EndorsementError("%s is not one of %s" % (quoted(name), ", ".join(PRODUCTS)), where="product")
    return product


def vceks_of_report(report: SnpReport, tcbs: Sequence[str] = ("reported",)) -> List[Vcek]:
    """What is needed for a report: nothing if a VLEK signed it, or if it names no chip or no product that can be asked for."""
    if report.product is None or report.signing_key == SIGNING_KEY_VLEK or report.chip_id_masked:
        return []
    hwid = report.chip_id[:8] if report.product == "turin" else report.chip_id
    try:
        known = report.tcb(report.product)
    except FormatError:
        return []
    found = [Vcek(report.product, hwid, getattr(known, name)) for name in tcbs]
    return [vcek for position, vcek in enumerate(found) if vcek not in found[:position]]


def fetch_vcek(client: Client, base: str, wanted: Vcek, roots: TrustRoots, supplied: Sequence[bytes]) -> Tuple[Piece, str]:
    """The certificate and where it came from. ``supplied`` are CA certificates besides those that are shipped (DER)."""
    url = wanted.url(base)
    piece = vek_piece(client.get(url).body, roots, supplied, url)
    if piece.path != wanted.path:
        raise EndorsementError("the service sent the %s, asked was for the %s" % (piece.about, wanted.about), where=url, code="collateral-answer")
    return piece, url


def needs_chain(product: str, roots: TrustRoots) -> bool:
    """True if there is a root for this product whose intermediates are not shipped."""
    return any(root.anchor != VENDOR and root.name == "ARK-" + product.capitalize() for root in roots.roots)


def chain_path(product: str, role: str = "vcek") -> str:
    return "amd/chain/SEV-%s%s.pem" % ("VLEK-" if role == "vlek" else "", product.capitalize())


def fetch_chain(client: Client, base: str, product: str, roots: TrustRoots, role: str = "vcek") -> Tuple[Piece, str]:
    url = "%s/%s/v1/%s/cert_chain" % (base, role, product.capitalize())
    piece = chain_piece(client.get(url).body, roots, url)
    if piece.path != chain_path(product, role):
        raise EndorsementError("the service sent the %s" % piece.about, where=url, code="collateral-answer")
    return piece, url


def fetch_crl(client: Client, base: str, product: str, roots: TrustRoots, at: datetime) -> Tuple[Piece, str]:
    url = "%s/vcek/v1/%s/crl" % (base, product.capitalize())
    piece = crl_piece(client.get(url).body, roots, url)
    if piece.path != crl_path(product):
        raise EndorsementError("the service sent the %s, asked was for that of %s" % (piece.about, product), where=url, code="collateral-answer")
    if piece.expires_at is not None and piece.expires_at <= at:
        raise EndorsementError("the service sent a list that ended at %s" % format_time(piece.expires_at), where=url, code="collateral-answer")
    return piece, url


def crl_path(product: str) -> str:
    return "amd/crl/%s.der" % product


def vek_piece(data: bytes, roots: TrustRoots, supplied: Sequence[bytes], where: str) -> Piece:
    """A VCEK or VLEK that leads to a pinned root. Raises EndorsementError (code "collateral-answer") for anything else."""
    proven = build_chain(data, supplied, roots, None)
    offence = next((check for check in proven.checks.values() if check.outcome == FAIL), None)
    if offence is not None or not proven.proven or proven.leaf is None or proven.vek is None:
        raise EndorsementError(
            "it is no VCEK or VLEK under a pinned root (%s)" % (offence.detail if offence else "not proven"), where=where,
            fix="Roots of your own need roots and allow_nonvendor_roots in the policy", code="collateral-answer",
        )  # fmt: skip
    leaf, vek, product = proven.leaf, proven.vek, proven.root_product
    if product is None or vek.product != product or proven.issuer_product != product or proven.issuer_role != proven.role:
        raise EndorsementError("the certificate and its authorities are not of one product and kind", where=where, code="collateral-answer")
    tcb = _tcb_of(vek.tcb, product, where)
    if vek.hwid is not None:
        wanted = Vcek(product, vek.hwid, tcb)
        return Piece("amd-vek", wanted.path, data, wanted.about, leaf.not_before, leaf.not_after)
    path = "amd/vek/%s/vlek-%s-%s.der" % (product, hashlib.sha256(leaf.spki).hexdigest()[:32], tcb_name(tcb))
    return Piece("amd-vek", path, data, "VLEK of %s (%s) at %s" % (vek.csp_id, product, tcb), leaf.not_before, leaf.not_after)


def chain_piece(data: bytes, roots: TrustRoots, where: str) -> Piece:
    """PEM text with an ASK or ASVK (its ARK may follow) that a pinned root issued. Raises EndorsementError."""
    try:
        certificates = [parse_certificate(der) for der in pem_to_der(data.decode("ascii", "replace"), where=where)]
    except FormatError as error:
        raise EndorsementError("it is no chain of certificates (%s)" % error.what, where=where, code="collateral-answer") from None
    for certificate in certificates:
        issuers = roots.named(certificate.issuer) if certificate.issuer != certificate.subject else ()
        if any(signed_by(certificate, root.certificate.spki) for root in issuers):
            name = certificate.common_name or ""
            ends = min(c.not_after for c in certificates)
            return Piece("amd-chain", "amd/chain/%s.pem" % file_name(name), data, "CA certificates of %s" % name, certificate.not_before, ends)
    raise EndorsementError(
        "no pinned root issued any of its %d certificates" % len(certificates), where=where,
        fix="Roots of your own need roots and allow_nonvendor_roots in the policy", code="collateral-answer",
    )  # fmt: skip


def crl_piece(data: bytes, roots: TrustRoots, where: str) -> Piece:
    """A revocation list (DER) that a pinned ARK signed. Raises EndorsementError."""
    try:
        crl: RevocationList = parse_crl(data)
    except FormatError as error:
        raise EndorsementError("it is no revocation list (%s)" % error.what, where=where, code="collateral-answer") from None
    root = next((root for root in roots.named(crl.issuer) if signed_by(crl, root.certificate.spki)), None)
    product = root.name[len("ARK-"):].lower() if root is not None and root.name.startswith("ARK-") else ""
    if root is None or product not in PRODUCTS:
        raise EndorsementError("no pinned root of AMD's signed this list", where=where, code="collateral-answer",
                               fix="Roots of your own need roots and allow_nonvendor_roots in the policy")  # fmt: skip
    return Piece("amd-crl", crl_path(product), data, "revocation list of %s" % root.name, crl.this_update, crl.next_update)


def _tcb_of(values: Mapping[str, int], product: str, where: str) -> TcbVersion:
    try:
        return TcbVersion(values["fmc"] if product == "turin" else None, values["bootloader"], values["tee"], values["snp"], values["microcode"])
    except KeyError as error:
        raise EndorsementError("the certificate does not state the TCB component %s" % error, where=where, code="collateral-answer") from None


def is_vek(der: bytes) -> bool:
    """True if these bytes look like a VCEK or VLEK, of whomever."""
    try:
        parse_vek_extensions(parse_certificate(der).extensions)
    except FormatError:
        return False
    return True
