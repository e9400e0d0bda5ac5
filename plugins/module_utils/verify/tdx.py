# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify Intel TDX quotes: is the quote authentic, what TCB is behind it, and does it belong to the challenge?

Pure: bytes, collateral, roots, time and the expected report data are arguments. Policy (TCB status, debug, measurements, ...) is not
judged here; the claims carry what it needs. Every check has a stable id, and a check that could not be made says so.

Ids, in the order of telling: format, version, ak-type, tee-type, qe-vendor, body-type, body-size, cert-type, trailing-data (each of these ends
the verification); root-not-pinned, pck-chain, pck-validity; collateral-missing, fmspc-mismatch, pceid-mismatch, collateral-format,
crl-signature, crl-issuer, tcb-signer-role, tcb-signer-revoked, tcb-info-signature, qe-identity-signature, tcb-info-id, qe-identity-id,
collateral-not-yet-valid, collateral-expired, pck-ca-revoked, pck-revoked; qe-report-signature, ak-binding, quote-signature; qe-identity,
module-identity, module-mrsigner, module-attributes, module-tcb-not-supported, tcb-not-supported; report-data-mismatch.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_quote import TdxQuote, parse_quote
from ansible_collections.attested.ai.plugins.module_utils.verify import tdx_collateral, tdx_tcb
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.intel_chain import CHAIN_CHECKS, Authorities, PckChain, build_pck_chain
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import ecdsa_p256_raw_verifies, p256_point
from ansible_collections.attested.ai.plugins.module_utils.verify.result import ANCHOR_NONE, UNCHECKED, Unchecked, Verification
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx_claims import TdxClaims
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx_collateral import ProvenCollateral
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx_platform import judge_collateral
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx_tcb import TcbEvaluation

__all__ = ["UNCHECKED", "BINDING", "TdxClaims", "Verification", "verify_tdx"]

REPORT_DATA_SIZE = 64
FORMAT_CHECKS = ("format", "version", "ak-type", "tee-type", "qe-vendor", "body-type", "body-size", "cert-type", "trailing-data")

# Failures of these do not touch authenticity: freshness is the caller's challenge, and a platform or module that is below
# every level that Intel names is a genuine one that nobody vouches for any more.
BINDING = frozenset(("report-data-mismatch", "tcb-not-supported", "module-tcb-not-supported"))
# Without these passed nothing is authentic.
_MANDATORY = frozenset(FORMAT_CHECKS + CHAIN_CHECKS + tdx_collateral.CHECKS + tdx_collateral.TIMED + (
    "pck-validity", "collateral-missing", "fmspc-mismatch", "pceid-mismatch", "pck-ca-revoked", "pck-revoked", "qe-report-signature", "ak-binding",
    "quote-signature", "qe-identity", "module-identity", "module-mrsigner", "module-attributes",
))  # fmt: skip
# Collateral that is missing, unusable or for another platform leaves open whether the quote is authentic; so does a key that was withdrawn:
# nobody can tell who signed.
_UNDECIDED = frozenset(tdx_collateral.CHECKS + tdx_collateral.TIMED + (
    "collateral-missing", "fmspc-mismatch", "pceid-mismatch", "pck-ca-revoked", "pck-revoked", "module-identity",
))  # fmt: skip

_FORMAT_OK = (
    passed("format", "every length is in bounds and nothing is left over"),
    passed("version", "version 4"),
    passed("ak-type", "ECDSA P-256"),
    passed("tee-type", "TDX"),
    passed("qe-vendor", "Intel"),
    passed("body-type", "TDX 1.0"),
    passed("body-size", "584 bytes"),
    passed("cert-type", "report of the quoting enclave, PCK chain"),
    passed("trailing-data", "nothing but zeros after the end"),
)
_BY_BODY = {
    2: (passed("body-type", "TDX 1.0"), passed("body-size", "584 bytes")),
    3: (passed("body-type", "TDX 1.5"), passed("body-size", "648 bytes")),
}
_VERSIONS = {4: passed("version", "version 4"), 5: passed("version", "version 5")}


def verify_tdx(
    quote: bytes,
    collateral: Sequence[bytes],
    roots: TrustRoots,
    at: datetime,
    expected_report_data: Union[bytes, Unchecked],
    cache: Optional[VerificationCache] = None,
) -> Verification[TdxClaims]:
    """Verify one quote as received (versions 4 and 5, bodies of TDX 1.0 and 1.5).

    ``collateral`` are raw JSON objects with the members of QuoteCollateralV3, any number: the one for the quote's FMSPC and authority
    is used; of several that which is proven and current, with the highest evaluation number, the youngest. ``roots`` are Intel's pins (and a
    policy's own). ``at`` is the evaluation time (aware). ``expected_report_data`` are 1 to 64 bytes, padded with zeros to 64 here, or
    UNCHECKED, which leaves the check "report-data-mismatch" visibly not checked. With a ``cache`` proven PCK chains and collateral are not
    proven again; times, the quoting enclave's report and the quote always are.

    The TCB status is a claim, not a failure: only policy knows which to accept. Bad evidence and unusable collateral never raise.
    AttestedError with code "argument" means that the call itself is wrong.
    """
    at, expected = _arguments(at, expected_report_data)
    try:
        parsed = parse_quote(quote)
    except FormatError as error:
        return Verification(False, (failed(error.code if error.code in FORMAT_CHECKS else "format", error.what),), None, None, ANCHOR_NONE, None)
    authorities = Authorities(roots)
    chain = _chain(parsed.certification_data, authorities, cache)
    checks: List[Check] = list(_FORMAT_OK)
    checks[1] = _VERSIONS[parsed.version]
    checks[5], checks[6] = _BY_BODY[parsed.body_type]
    _judge_chain(chain, at, checks)
    proof = judge_collateral(chain, collateral, authorities, at, cache, checks)
    evidence_id = _judge_signatures(parsed, chain, checks)
    # A status of a quote that does not hold, or by collateral of another time, would be none.
    holds = evidence_id is not None and all(check.outcome != FAIL for check in checks)
    tcb = _judge_tcb(parsed, chain, proof if holds else None, cache, checks)
    checks.append(_judge_report_data(parsed, expected))
    root = chain.root if chain.proven else None
    return Verification(
        authentic=_authentic(checks),
        checks=tuple(checks),
        claims=_claims(parsed, chain, proof, tcb),
        not_after=_not_after(chain, proof),
        anchor=root.anchor if root else ANCHOR_NONE,
        evidence_id=evidence_id,
    )


def _arguments(at: Any, expected: Any) -> Tuple[datetime, Optional[bytes]]:
    """Check what the caller, not the evidence, must get right."""
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise AttestedError("the evaluation time must be a datetime with a time zone", where="verify_tdx", code="argument")
    if expected is UNCHECKED:
        return at.astimezone(timezone.utc), None
    if not isinstance(expected, (bytes, bytearray)) or not 1 <= len(expected) <= REPORT_DATA_SIZE:
        raise AttestedError(
            "the expected report data must be 1 to %d bytes" % REPORT_DATA_SIZE, where="verify_tdx",
            fix="Pass UNCHECKED if freshness is really not to be checked.", code="argument",
        )  # fmt: skip
    return at.astimezone(timezone.utc), bytes(expected).ljust(REPORT_DATA_SIZE, b"\0")


def _chain(pem: bytes, authorities: Authorities, cache: Optional[VerificationCache]) -> PckChain:
    key = ("tdx-pck", pem, authorities.roots.identity)
    found: Optional[PckChain] = cache.get(key) if cache is not None else None
    if found is None:
        found = build_pck_chain(pem, authorities)
        if cache is not None and found.cacheable:
            cache.put(key, found)
    return found


_VALIDITY_OK = passed("pck-validity", "all certificates are valid at this time")


def _judge_chain(chain: PckChain, at: datetime, checks: List[Check]) -> None:
    checks.extend([chain.checks[name] for name in CHAIN_CHECKS])
    for certificate in chain.certificates:
        if not certificate.not_before <= at <= certificate.not_after:
            checks.append(failed("pck-validity", "at %s %s is not valid: it is from %s to %s" % (
                at.isoformat(), ascii(certificate.common_name), certificate.not_before.isoformat(), certificate.not_after.isoformat()
            )))  # fmt: skip
            return
    checks.append(_VALIDITY_OK if chain.proven else not_checked("pck-validity", "the chain is not proven"))


_QE_SIGNED = passed("qe-report-signature", "the quoting enclave's report is signed with the PCK")
_AK_BOUND = passed("ak-binding", "the quoting enclave's report names the attestation key")
_QUOTE_SIGNED = passed("quote-signature", "signed with the attestation key")


def _judge_signatures(quote: TdxQuote, chain: PckChain, checks: List[Check]) -> Optional[str]:
    """Append the checks of the three links from the PCK to the quote; returns the evidence id if all hold. A failure always shows; a success
    counts only if everything above it is proven."""
    report = quote.qe_report
    links = []
    signed = chain.key is not None and ecdsa_p256_raw_verifies(chain.key, quote.qe_report_signature, report.raw)
    links.append((_QE_SIGNED, signed, "the quoting enclave's report was not signed with the PCK certificate's key"))
    bound = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest() + bytes(32)
    offence = "REPORTDATA of the quoting enclave is %s, for this attestation key it must be %s" % (report.reportdata.hex(), bound.hex())
    links.append((_AK_BOUND, hmac.compare_digest(bound, report.reportdata), offence))
    key = p256_point(quote.attestation_key)
    verifies = key is not None and ecdsa_p256_raw_verifies(key, quote.signature, quote.signed)
    offence = "header and body were not signed with the attestation key" if key is not None else "the attestation key is no point of P-256"
    links.append((_QUOTE_SIGNED, verifies, offence))
    above = chain.proven
    for good, holds, offence in links:
        if not holds:
            checks.append(failed(good.id, offence))
        elif above:
            checks.append(good)
        else:
            checks.append(not_checked(good.id, "it holds, but under a key that is not proven"))
        above = above and holds
    return hashlib.sha256(quote.attestation_key + quote.signed).hexdigest() if above else None


_TCB_CHECKS = ("qe-identity", "module-identity", "module-mrsigner", "module-attributes", "module-tcb-not-supported", "tcb-not-supported")


def _judge_tcb(
    quote: TdxQuote, chain: PckChain, proof: Optional[ProvenCollateral], cache: Optional[VerificationCache], checks: List[Check]
) -> Optional[TcbEvaluation]:
    if proof is None or proof.tcb_info is None or proof.qe_identity is None or chain.extensions is None:
        checks.extend([not_checked(name, "quote and collateral do not hold, so there is no status") for name in _TCB_CHECKS])
        return None
    body, report, pck = quote.body, quote.qe_report, chain.extensions
    # All that the evaluation looks at. Machines of one kind and state are many, and come to the same.
    key = (
        "tdx-tcb", proof.sha256, body.tee_tcb_svn, body.tee_tcb_svn_2, body.mrsignerseam, body.seamattributes, pck.components, pck.cpusvn, pck.pcesvn,
        report.mrsigner, report.isvprodid, report.isvsvn, report.miscselect, report.attributes,
    )  # fmt: skip
    known: Optional[Tuple[TcbEvaluation, List[Check]]] = cache.get(key) if cache is not None else None
    if known is not None:
        checks.extend(known[1])
        return known[0]
    found: Dict[str, Check] = {}
    tcb = tdx_tcb.evaluate(body, report, pck, proof.tcb_info, proof.qe_identity, found)
    told = [found[name] for name in _TCB_CHECKS]
    checks.extend(told)
    if cache is not None and proof.sha256 is not None and tcb.status is not None:
        cache.put(key, (tcb, told))
    return tcb


_REPORT_DATA_OK = passed("report-data-mismatch", "REPORTDATA is what was expected")


def _judge_report_data(quote: TdxQuote, expected: Optional[bytes]) -> Check:
    if expected is None:
        return not_checked("report-data-mismatch", "the caller opted out: freshness and binding are not checked")
    if hmac.compare_digest(expected, quote.body.reportdata):
        return _REPORT_DATA_OK
    return failed("report-data-mismatch", "REPORTDATA is not what was expected: another nonce, or another binding")


def _authentic(checks: Sequence[Check]) -> Optional[bool]:
    """True only if every mandatory check passed; None if it failed only where nothing could be judged."""
    broken = {check.id for check in checks if check.outcome == FAIL} - BINDING
    if broken - _UNDECIDED:
        return False
    if broken:
        return None
    return _MANDATORY <= {check.id for check in checks if check.outcome == PASS}


def _claims(quote: TdxQuote, chain: PckChain, proof: Optional[ProvenCollateral], tcb: Optional[TcbEvaluation]) -> TdxClaims:
    leaf = chain.leaf if chain.proven else None
    root = chain.root if chain.proven else None
    return TdxClaims(
        quote=quote,
        pck=chain.extensions if chain.proven else None,
        ca=chain.ca if chain.proven else None,
        tcb=tcb,
        tcb_evaluation_data_number=proof.tcb_info.evaluation_number if proof is not None and proof.tcb_info else None,
        qe_evaluation_data_number=proof.qe_identity.evaluation_number if proof is not None and proof.qe_identity else None,
        collateral_issued=proof.issued if proof is not None else None,
        collateral_sha256=proof.sha256 if proof is not None else None,
        pck_sha256=hashlib.sha256(leaf.der).hexdigest() if leaf else None,
        root_name=root.name if root else None,
        root_spki_sha256=root.spki_sha256 if root else None,
    )


def _not_after(chain: PckChain, proof: Optional[ProvenCollateral]) -> Optional[datetime]:
    if not chain.proven:
        return None
    ends = [certificate.not_after for certificate in chain.certificates]
    if proof is not None and proof.not_after is not None:
        ends.append(proof.not_after)
    return min(ends)
