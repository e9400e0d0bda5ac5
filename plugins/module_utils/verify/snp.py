# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify AMD SEV-SNP evidence: is the report authentic, and does it belong to the certificate and to the challenge?

Pure: bytes, roots, time and the expected report data are arguments. Policy (debug, VMPL 0, TCB floors, measurements, ...) is not
judged here; the claims carry what it needs. Every check has a stable id, and a check that could not be made says so.

Ids, in the order of telling: format, version-unsupported, unsigned, signature-algorithm, host-requested-report,
product-unknown, product-mismatch, vek-missing, root-not-pinned, chain, vek-signature, key-role, vek-profile, vek-key-type,
vek-expired (validity of all certificates, too early included), crl-signature, crl-expired, ask-revoked, report-signature,
vek-tcb-mismatch, vek-hwid-mismatch, chip-id-masked, tcb-inconsistent, report-data-mismatch.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timezone
from typing import Any, List, Optional, Sequence, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import snp_report
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import SnpReport, TcbSet
from ansible_collections.attested.ai.plugins.module_utils.verify.amd_chain import VCEK, VLEK, Chain, build_chain
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import P384_ORDER, ecdsa_p384_verifies
from ansible_collections.attested.ai.plugins.module_utils.verify.result import (
    ANCHOR_NONE,
    UNCHECKED,
    SnpClaims,
    Unchecked,
    Verification,
)

__all__ = ["UNCHECKED", "BINDING", "SnpClaims", "Verification", "verify_snp"]

_ROLES = {snp_report.SIGNING_KEY_VCEK: VCEK, snp_report.SIGNING_KEY_VLEK: VLEK}
_VMPL_MAX = 3

# Failures of these do not touch authenticity: freshness is the caller's challenge, and a masked CHIP_ID is for policy to allow.
BINDING = frozenset(("report-data-mismatch", "chip-id-masked"))
# Without these passed nothing is authentic. The hardware id is compared only under a VCEK that is not masked.
_MANDATORY = frozenset((
    "format", "version-unsupported", "unsigned", "signature-algorithm", "host-requested-report", "product-unknown",
    "product-mismatch", "root-not-pinned", "chain", "vek-signature", "key-role", "vek-profile", "vek-key-type", "vek-expired",
    "report-signature", "vek-tcb-mismatch", "tcb-inconsistent",
))  # fmt: skip
# A revocation list that cannot be used leaves open whether the evidence is authentic.
_UNDECIDED = frozenset(("crl-signature", "crl-expired", "vek-missing"))

_FORMAT_OK = passed("format", "1184 bytes, reserved regions are zero")
_HOST_OK = passed("host-requested-report", "the guest asked for the report")
_ALGORITHM_OK = passed("signature-algorithm", "ECDSA P-384 with SHA-384")
_PRODUCT_IDS = ("product-unknown", "product-mismatch")
_LEAF_IDS = (
    "root-not-pinned", "chain", "vek-signature", "key-role", "vek-profile", "vek-key-type", "vek-expired",
    "crl-signature", "crl-expired", "ask-revoked", "report-signature", "vek-tcb-mismatch", "vek-hwid-mismatch",
)  # fmt: skip


def verify_snp(
    report: bytes,
    vek: Optional[bytes],
    chain: Sequence[bytes],
    roots: TrustRoots,
    at: datetime,
    expected_report_data: Union[bytes, Unchecked],
    crl: Optional[bytes] = None,
    cache: Optional[VerificationCache] = None,
) -> Verification[SnpClaims]:
    """Verify one attestation report as received (SEV-SNP ABI, versions 2 to 5).

    ``vek`` is the VCEK or VLEK in DER, None if there is none (then nothing can be judged). ``chain`` holds certificates in DER that
    came along: only path material, roots among them are ignored, the shipped ASK and ASVK are tried too. ``at`` is the
    evaluation time (aware). ``expected_report_data`` are 1 to 64 bytes, padded with zeros to 64 here, or UNCHECKED, which leaves the
    check "report-data-mismatch" visibly not checked. ``crl`` is the ARK's revocation list in DER; without it revocation is not
    checked. With a ``cache`` proven chains are not proven again; validity and the report always are.

    Bad evidence never raises. AttestedError with code "argument" means that the call itself is wrong.
    """
    at, expected = _arguments(at, expected_report_data)
    try:
        parsed = snp_report.parse_report(report)
    except FormatError as error:
        return Verification(False, (failed(error.code, error.what),), None, None, ANCHOR_NONE, None)

    found = None if vek is None else _chain(bytes(vek), tuple([bytes(c) for c in chain]), roots, None if crl is None else bytes(crl), cache)
    checks: List[Check] = [_FORMAT_OK, passed("version-unsupported", "version %d" % parsed.version)]
    _judge_key_info(parsed, checks)
    product = _judge_product(parsed, found, checks)
    tcb = _decode_tcb(parsed, product, checks)
    evidence_id = None
    if found is None:
        checks.append(failed("vek-missing", "no VCEK or VLEK was given"))
        checks.extend(not_checked(check_id, "no VCEK or VLEK was given") for check_id in _LEAF_IDS)
    else:
        evidence_id = _judge_leaf(parsed, found, product, tcb, at, crl is not None, checks)
    _judge_tcb_order(tcb, checks)
    _judge_report_data(parsed, expected, checks)

    proven = found is not None and found.proven
    return Verification(
        authentic=_authentic(checks),
        checks=tuple(checks),
        claims=_claims(parsed, product, tcb, found),
        not_after=_not_after(found) if proven else None,
        anchor=found.root.anchor if found is not None and proven and found.root else ANCHOR_NONE,
        evidence_id=evidence_id,
    )


def _arguments(at: Any, expected: Any) -> Tuple[datetime, Optional[bytes]]:
    """Check what the caller, not the evidence, must get right."""
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise AttestedError("the evaluation time must be a datetime with a time zone", where="verify_snp", code="argument")
    if expected is UNCHECKED:
        return at.astimezone(timezone.utc), None
    if not isinstance(expected, (bytes, bytearray)) or not 1 <= len(expected) <= 64:
        raise AttestedError(
            "the expected report data must be 1 to 64 bytes", where="verify_snp",
            fix="Pass UNCHECKED if freshness is really not to be checked.", code="argument",
        )  # fmt: skip
    return at.astimezone(timezone.utc), bytes(expected).ljust(64, b"\0")


def _chain(vek: bytes, supplied: Tuple[bytes, ...], roots: TrustRoots, crl: Optional[bytes], cache: Optional[VerificationCache]) -> Chain:
    if cache is None:
        return build_chain(vek, supplied, roots, crl)
    key = (vek, supplied, crl, roots.identity)
    found = cache.get(key)
    if found is None:
        found = build_chain(vek, supplied, roots, crl)
        if found.cacheable:
            cache.put(key, found)
    return found


def _judge_key_info(report: SnpReport, checks: List[Check]) -> None:
    role = _ROLES.get(report.signing_key)
    if report.mask_chip_key:
        checks.append(failed("unsigned", "the host masked the chip key, so the report is not signed"))
    elif role is None:
        checks.append(failed("unsigned", "the signing key is %d, neither VCEK (0) nor VLEK (1)" % report.signing_key))
    else:
        checks.append(passed("unsigned", "signed with the %s" % role.upper()))
    if report.signature_algorithm != snp_report.ECDSA_P384_SHA384:
        checks.append(failed("signature-algorithm", "algorithm %d is not 1 (ECDSA P-384 with SHA-384)" % report.signature_algorithm))
    elif not (0 < report.signature_r < P384_ORDER and 0 < report.signature_s < P384_ORDER):
        checks.append(failed("signature-algorithm", "R or S of the signature is out of range"))
    else:
        checks.append(_ALGORITHM_OK)
    if report.vmpl > _VMPL_MAX:
        checks.append(failed("host-requested-report", "VMPL 0x%x: the host asked for this report, not the guest" % report.vmpl))
    else:
        checks.append(_HOST_OK)


def _judge_product(report: SnpReport, chain: Optional[Chain], checks: List[Check]) -> Optional[str]:
    """The product by CPUID, or for version 2, which has none, by a proven leaf certificate."""
    stated = chain.vek.product if chain is not None and chain.vek is not None else None
    if report.cpuid is not None:
        product = report.product
        if product is None:
            checks.append(failed("product-unknown", "CPUID family 0x%x model 0x%x is no known product" % report.cpuid[:2]))
    else:
        product = stated if chain is not None and chain.proven else None
        if chain is None or (not chain.proven and stated is not None):
            checks.append(not_checked("product-unknown", "version 2 names no product, and no certificate is proven"))
        elif product is None:
            checks.append(failed("product-unknown", "neither the report nor the certificate names a known product"))
    if product is not None:
        checks.append(passed("product-unknown", product))
    if chain is None or chain.leaf is None:
        checks.append(not_checked("product-mismatch", "there is no certificate to compare with"))
        return product
    # Names of a chain that is not proven can disagree, but their agreement says nothing.
    named = [("certificate", stated)]
    if chain.root is not None:
        named += [("issuer", chain.issuer_product), ("root", chain.root_product)]
    reference = product if product is not None else stated
    wrong = ["the %s is for %s" % (who, value or "an unknown product") for who, value in named if value != reference or value is None]
    if wrong:
        checks.append(failed("product-mismatch", "the report is for %s, %s" % (reference or "an unknown product", ", ".join(wrong))))
    elif not chain.proven or product is None:
        checks.append(not_checked("product-mismatch", "the certificate is not proven"))
    else:
        checks.append(passed("product-mismatch", "report, certificate and authorities are for %s" % product))
    return product


def _decode_tcb(report: SnpReport, product: Optional[str], checks: List[Check]) -> Optional[TcbSet]:
    if product is None:
        return None
    try:
        return report.tcb(product)
    except FormatError as error:
        # Only version 2 comes here: the parser could not know the layout.
        checks[0] = failed("format", error.what)
        return None


def _judge_leaf(
    report: SnpReport, chain: Chain, product: Optional[str], tcb: Optional[TcbSet], at: datetime, with_crl: bool, checks: List[Check]
) -> Optional[str]:
    """Append the checks that need the leaf certificate; returns the evidence id if the report's signature holds."""
    for check_id in ("root-not-pinned", "chain", "vek-signature"):
        checks.append(chain.checks.get(check_id) or not_checked(check_id, "the path could not be followed"))
    trusted = chain.proven
    if chain.leaf is None:
        checks.append(chain.checks["vek-profile"])
        checks.extend(not_checked(check_id, "the certificate cannot be read") for check_id in _LEAF_IDS if check_id not in _SEEN_WITHOUT_LEAF)
        return None

    def judge(check_id: str, offence: str, detail: str) -> None:
        """A failure always shows; a success counts only if the certificate is proven."""
        if offence:
            checks.append(failed(check_id, offence))
        elif trusted:
            checks.append(passed(check_id, detail))
        else:
            checks.append(not_checked(check_id, "it holds, but for a certificate that is not proven"))

    role = _ROLES.get(report.signing_key)
    offence = ""
    if role is None or chain.role != role or (chain.root is not None and chain.issuer_role != role):
        offence = "the report names a %s, the certificate is a %s, its issuer signs %s" % (
            (role or "?").upper(), (chain.role or "?").upper(), (chain.issuer_role or "?").upper() + "s"
        )  # fmt: skip
    judge("key-role", offence, "report, certificate and issuer are of the %s kind" % (role or "").upper())
    for check_id in ("vek-profile", "vek-key-type"):
        check = chain.checks[check_id]
        judge(check_id, check.detail if check.outcome == FAIL else "", check.detail)
    judge("vek-expired", _validity_offence(chain, at), "all certificates are valid at %s" % at.isoformat())
    _judge_revocation(chain, at, with_crl, checks)

    signed = chain.key is not None and ecdsa_p384_verifies(chain.key, report.signature_r, report.signature_s, report.signed_region)
    judge("report-signature", "" if signed else "the report was not signed with this certificate's key", "signed with the certificate's key")
    judge("vek-tcb-mismatch", _tcb_offence(chain, tcb), "the certificate is for REPORTED_TCB")
    if role == VLEK:
        checks.append(not_checked("vek-hwid-mismatch", "a VLEK names the provider, not the chip"))
        checks.append(not_checked("chip-id-masked", "a VLEK names the provider, not the chip"))
    elif report.chip_id_masked:
        checks.append(not_checked("vek-hwid-mismatch", "CHIP_ID is masked"))
        checks.append(failed("chip-id-masked", "CHIP_ID is masked, so the report is not bound to the certificate's chip"))
    else:
        hwid = chain.vek.hwid if chain.vek is not None else None
        matches = hwid is not None and hmac.compare_digest(hwid.ljust(64, b"\0"), report.chip_id)
        judge("vek-hwid-mismatch", "" if matches else "CHIP_ID is not the certificate's HWID", "CHIP_ID is the certificate's HWID")
        checks.append(passed("chip-id-masked", "CHIP_ID is there"))
    if not signed or not trusted:
        return None
    return hashlib.sha256(chain.leaf.spki + report.signed_region).hexdigest()


_SEEN_WITHOUT_LEAF = frozenset(("root-not-pinned", "chain", "vek-signature", "vek-profile"))


def _validity_offence(chain: Chain, at: datetime) -> str:
    certificates = [chain.leaf, chain.intermediate, chain.root.certificate if chain.root else None]
    for certificate in certificates:
        if certificate is not None and not certificate.not_before <= at <= certificate.not_after:
            return "%s is valid from %s to %s" % (
                ascii(certificate.common_name), certificate.not_before.isoformat(), certificate.not_after.isoformat()
            )  # fmt: skip
    return ""


def _judge_revocation(chain: Chain, at: datetime, with_crl: bool, checks: List[Check]) -> None:
    if not with_crl:
        for check_id in ("crl-signature", "crl-expired", "ask-revoked"):
            checks.append(not_checked(check_id, "no revocation list was given"))
        return
    checks.append(chain.checks["crl-signature"])
    crl = chain.crl
    if crl is None:
        checks.append(not_checked("crl-expired", "the revocation list cannot be used"))
    elif crl.next_update is None or not crl.this_update <= at <= crl.next_update:
        until = crl.next_update.isoformat() if crl.next_update else "no stated end"
        checks.append(failed("crl-expired", "the revocation list is valid from %s to %s" % (crl.this_update.isoformat(), until)))
        if chain.checks["ask-revoked"].outcome == PASS:
            checks.append(not_checked("ask-revoked", "the revocation list is not current"))
            return
    else:
        checks.append(passed("crl-expired", "current until %s" % crl.next_update.isoformat()))
    # An old list that names the authority still proves that it was revoked.
    checks.append(chain.checks["ask-revoked"])


def _tcb_offence(chain: Chain, tcb: Optional[TcbSet]) -> str:
    """Compare the certificate's TCB with REPORTED_TCB: every component, none missing, nothing in the reserved ones."""
    if chain.vek is None or tcb is None:
        return "the TCB of the certificate or of the report cannot be read"
    stated = dict(chain.vek.tcb)
    if stated.get("fmc") == 0 and tcb.reported.fmc is None:
        del stated["fmc"]
    if chain.vek.reserved:
        return "a reserved TCB component of the certificate is not zero"
    reported = tcb.reported.to_dict()
    if stated == reported:
        return ""
    names = [name for name in ("fmc", "bootloader", "tee", "snp", "microcode") if stated.get(name) != reported.get(name)]
    return "; ".join(
        "%s: certificate %s, report %s" % (name, stated.get(name, "has none"), reported.get(name, "has none")) for name in names
    )  # fmt: skip


def _judge_tcb_order(tcb: Optional[TcbSet], checks: List[Check]) -> None:
    if tcb is None:
        checks.append(not_checked("tcb-inconsistent", "the product, and so the layout of the TCB, is not known"))
        return
    for high_name, high, low_name, low in (
        ("COMMITTED", tcb.committed, "REPORTED", tcb.reported),
        ("CURRENT", tcb.current, "COMMITTED", tcb.committed),
        ("CURRENT", tcb.current, "LAUNCH", tcb.launch),
    ):
        below = high.below(low)
        if below:
            checks.append(failed("tcb-inconsistent", "%s_TCB is below %s_TCB in %s" % (high_name, low_name, ", ".join(below))))
            return
    checks.append(_TCB_ORDER_OK)


_TCB_ORDER_OK = passed("tcb-inconsistent", "REPORTED <= COMMITTED <= CURRENT, LAUNCH <= CURRENT")


def _judge_report_data(report: SnpReport, expected: Optional[bytes], checks: List[Check]) -> None:
    if expected is None:
        checks.append(not_checked("report-data-mismatch", "the caller opted out: freshness and binding are not checked"))
    elif hmac.compare_digest(expected, report.report_data):
        checks.append(passed("report-data-mismatch", "REPORT_DATA is what was expected"))
    else:
        checks.append(failed("report-data-mismatch", "REPORT_DATA is not what was expected: another nonce, or another binding"))


def _authentic(checks: Sequence[Check]) -> Optional[bool]:
    """True only if every mandatory check passed; None if it failed only where nothing could be judged."""
    broken = {check.id for check in checks if check.outcome == FAIL} - BINDING
    if broken - _UNDECIDED:
        return False
    if broken:
        return None
    return _MANDATORY <= {check.id for check in checks if check.outcome == PASS}


def _claims(report: SnpReport, product: Optional[str], tcb: Optional[TcbSet], chain: Optional[Chain]) -> SnpClaims:
    proven = chain if chain is not None and chain.proven else None
    leaf = proven.leaf if proven else None
    vek = proven.vek if proven else None
    root = proven.root if proven else None
    return SnpClaims(
        report=report,
        product=product,
        key_role=_ROLES.get(report.signing_key),
        tcb=tcb,
        hwid=vek.hwid if vek else None,
        csp_id=vek.csp_id if vek else None,
        chip_id_sha256=None if report.chip_id_masked else hashlib.sha256(report.chip_id).hexdigest(),
        vek_sha256=hashlib.sha256(leaf.der).hexdigest() if leaf else None,
        root_name=root.name if root else None,
        root_spki_sha256=root.spki_sha256 if root else None,
    )


def _not_after(chain: Optional[Chain]) -> Optional[datetime]:
    if chain is None or chain.leaf is None or chain.intermediate is None or chain.root is None:
        return None
    ends = [chain.leaf.not_after, chain.intermediate.not_after, chain.root.certificate.not_after]
    if chain.crl is not None and chain.crl.next_update is not None:
        ends.append(chain.crl.next_update)
    return min(ends)
