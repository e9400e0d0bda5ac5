# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify the measurement report of an NVIDIA GPU or NVSwitch: is it authentic, fresh, and what its manifests say is good?

Pure: bytes, roots, time and the expected nonce are arguments, nothing is fetched. Policy is not judged here. Every check has a
stable id, and a check that could not be made says so.

Ids, in the order of telling: format, device-kind, chain-length, root-not-pinned, chain, device-profile, device-expired,
fwid-mismatch, debug-state, report-signature, device-revoked, device-on-hold, device-revocation-unknown, nonce-mismatch; for each
manifest (driver-rim of GPUs, firmware-rim of all): *-missing, *-format, *-signature, *-chain, *-product, *-expired, *-records, *-revoked,
*-on-hold, *-revocation-unknown; then rim-index-conflict, measurement-mismatch, secure-boot.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timezone
from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.nvidia_opaque import GPU, SWITCH, OpaqueData, parse_opaque
from ansible_collections.attested.ai.plugins.module_utils.formats.ocsp import GOOD, UNKNOWN
from ansible_collections.attested.ai.plugins.module_utils.formats.spdm import NONCE_SIZE, SpdmReport, parse_spdm_report
from ansible_collections.attested.ai.plugins.module_utils.verify import nvidia_ocsp
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_chain import IDS, DeviceChain, build_chain
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_claims import NvidiaClaims, RimUse, make_claims
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_measurements import compare, judge_measurements
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_rim import Candidate, find_rims
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_x509 import validity_offence
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import ecdsa_p384_verifies
from ansible_collections.attested.ai.plugins.module_utils.verify.result import ANCHOR_NONE, ANCHOR_NONVENDOR, UNCHECKED, Unchecked, Verification

__all__ = ["GPU", "SWITCH", "UNCHECKED", "NvidiaClaims", "Verification", "verify_nvidia"]

KINDS = (GPU, SWITCH)
DRIVER, FIRMWARE = "driver", "firmware"
_ARCHITECTURES = {GPU: ("hopper", "blackwell"), SWITCH: ("ls10",)}
# The leaf is made by the device itself, nobody answers for it; the root is pinned.
_DEVICE_PLACES = (1, 2, 3)
# Without these passed nothing is authentic.
_MANDATORY = frozenset(("format", "device-kind", "device-expired", "report-signature") + IDS)
_BREAKING = _MANDATORY | {"fwid-mismatch", "device-revoked"}

_FORMAT_OK = passed("format", "SPDM 1.1 report, all of it read")


def verify_nvidia(
    kind: str,
    report: bytes,
    chain_pem: bytes,
    rims: Sequence[bytes],
    ocsp: Sequence[bytes],
    roots: TrustRoots,
    rim_roots: TrustRoots,
    at: datetime,
    expected_nonce: Union[bytes, Unchecked],
    cache: Optional[VerificationCache] = None,
) -> Verification[NvidiaClaims]:
    """Verify one report as received (SPDM request and response, NVML or NSCQ).

    ``kind`` is "gpu" or "switch". ``chain_pem`` is the device's PEM chain, leaf first; the root in it only names one of ``roots``.
    ``rims`` are manifests in XML, ``ocsp`` responses in DER, both untrusted: what is used of them leads to ``rim_roots``, or to the
    issuer in question. ``at`` is the evaluation time (aware). ``expected_nonce`` are 32 bytes, or UNCHECKED, which leaves the check
    "nonce-mismatch" visibly not checked. With a ``cache`` proven chains, manifests and responses are not proven again; what depends on
    time, and the report, always is.

    ``authentic`` answers for the device and its report; what the manifests say is in the checks and for the policy to weigh.
    Bad evidence never raises. AttestedError with code "argument" means that the call itself is wrong.
    """
    at, nonce = _arguments(kind, at, expected_nonce)
    rims, ocsp = tuple(rims), tuple(ocsp)
    chain = _chain(bytes(chain_pem), roots, cache)
    try:
        parsed = parse_spdm_report(report)
        opaque = parse_opaque(parsed.opaque, kind)
    except FormatError as error:
        return Verification(False, (failed("format", str(error)),), None, None, ANCHOR_NONE, None)
    checks: List[Check] = [_FORMAT_OK]
    signed = _judge_device(kind, parsed, opaque, chain, at, checks)
    proven = chain.proven and signed
    ends: List[datetime] = [certificate.not_after for certificate in chain.certificates] if chain.proven else []
    held: List[str] = []
    _judge_revocation("device", chain.certificates if chain.proven else (), _DEVICE_PLACES, ocsp, at, cache, checks, ends, held)
    _judge_nonce(parsed, nonce, checks)
    uses = _judge_rims(kind, parsed, opaque, chain, rims, ocsp, rim_roots, at, cache, checks, ends, held)
    comparison = compare(parsed, {use.source: use.rim for use in uses if use.usable and use.rim is not None}, opaque.nvdec0)
    judge_measurements([use.source for use in uses if not use.usable], comparison, proven, chain.flags, checks)
    secure = any(check.id == "secure-boot" and check.outcome == PASS for check in checks)
    claims = make_claims(kind, parsed, opaque, chain, uses, comparison, secure, held)
    anchor = ANCHOR_NONE
    if proven and chain.root is not None:
        anchor = ANCHOR_NONVENDOR if any(use.usable and use.anchor == ANCHOR_NONVENDOR for use in uses) else chain.root.anchor
    return Verification(
        authentic=_authentic(checks),
        checks=tuple(checks),
        claims=claims,
        not_after=min(ends, default=None),
        anchor=anchor,
        evidence_id=hashlib.sha256(chain.certificates[0].spki + parsed.signed_region).hexdigest() if proven else None,
    )


def _arguments(kind: Any, at: Any, expected: Any) -> Tuple[datetime, Optional[bytes]]:
    """Check what the caller, not the evidence, must get right."""
    if kind not in KINDS:
        raise AttestedError("the kind of device is %r, known are %s" % (kind, ", ".join(KINDS)), where="verify_nvidia", code="argument")
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise AttestedError("the evaluation time must be a datetime with a time zone", where="verify_nvidia", code="argument")
    if expected is UNCHECKED:
        return at.astimezone(timezone.utc), None
    if not isinstance(expected, (bytes, bytearray)) or len(expected) != NONCE_SIZE:
        raise AttestedError(
            "the expected nonce must be %d bytes" % NONCE_SIZE, where="verify_nvidia",
            fix="Pass UNCHECKED if freshness is really not to be checked.", code="argument",
        )  # fmt: skip
    return at.astimezone(timezone.utc), bytes(expected)


def _chain(pem: bytes, roots: TrustRoots, cache: Optional[VerificationCache]) -> DeviceChain:
    if cache is None:
        return build_chain(pem, roots)
    key = ("nvidia-chain", pem, roots.identity)
    found = cache.get(key)
    if found is None:
        found = build_chain(pem, roots)
        if found.cacheable:
            cache.put(key, found)
    return found


def _judge_device(kind: str, report: SpdmReport, opaque: OpaqueData, chain: DeviceChain, at: datetime, checks: List[Check]) -> bool:
    """Append the checks of the device and its signature; returns whether the leaf's key signed the report."""

    def judge(check_id: str, offence: str, detail: str) -> None:
        """A failure always shows; a success counts only if the certificates are proven."""
        if offence:
            checks.append(failed(check_id, offence))
        elif chain.proven:
            checks.append(passed(check_id, detail))
        else:
            checks.append(not_checked(check_id, "it holds, but for certificates that are not proven"))

    if chain.architecture is None:
        checks.append(not_checked("device-kind", "the certificates do not tell the chip"))
    else:
        wrong = chain.architecture not in _ARCHITECTURES[kind]
        judge("device-kind", "the certificates are those of a %s, a %s was expected" % (chain.chip, kind) if wrong else "", "a %s (%s)" % (chain.chip, kind))
    checks.extend(chain.checks[check_id] for check_id in IDS)
    if not chain.certificates:
        for check_id in ("device-expired", "fwid-mismatch", "debug-state", "report-signature"):
            checks.append(not_checked(check_id, "there are no certificates"))
        return False
    judge("device-expired", validity_offence(chain.certificates, at), "all certificates are valid at %s" % at.isoformat())
    if opaque.fwid is None:
        checks.append(not_checked("fwid-mismatch", "the report names no firmware id"))
    else:
        matches = chain.fwid is not None and hmac.compare_digest(opaque.fwid, chain.fwid)
        judge("fwid-mismatch", "" if matches else "the firmware id %s of the report is not that of the certificate (%s)" % (
            opaque.fwid.hex()[:16], chain.fwid.hex()[:16] if chain.fwid else "none"
        ), "report and certificate name the same firmware")  # fmt: skip
    if chain.flags:
        checks.append(failed("debug-state", "the firmware certificate says %s" % ", ".join(chain.flags)))
    signed = chain.key is not None and ecdsa_p384_verifies(chain.key, report.signature_r, report.signature_s, report.signed_region)
    judge("report-signature", "" if signed else "the report was not signed with this certificate's key", "signed with the certificate's key")
    return signed


def _judge_revocation(
    prefix: str, path: Sequence[Any], places: Sequence[int], ocsp: Sequence[bytes], at: datetime, cache: Optional[VerificationCache],
    checks: List[Check], ends: List[datetime], held: List[str],
) -> None:  # fmt: skip
    """Three checks: revoked for good, on hold, and whether the status of each certificate is known at all."""
    revoked, hold, unknown = prefix + "-revoked", prefix + "-on-hold", prefix + "-revocation-unknown"
    if not path or not ocsp:
        detail = "no OCSP response was given" if path else "the certificates are not proven"
        checks.extend(not_checked(check_id, detail) for check_id in (revoked, hold, unknown))
        return
    found = nvidia_ocsp.statuses(path, places, ocsp, at, cache)
    held.extend(status.certificate for status in found if status.kind == nvidia_ocsp.HOLD)
    for check_id, bad in ((revoked, "revoked"), (hold, nvidia_ocsp.HOLD)):
        offences = [status.detail for status in found if status.kind == bad]
        if offences:
            checks.append(failed(check_id, "; ".join(offences)))
        elif all(status.kind == GOOD for status in found):
            checks.append(passed(check_id, "%d certificates are good" % len(found)))
        else:
            checks.append(not_checked(check_id, "not of every certificate the status is known"))
    open_ones = [status.detail for status in found if status.kind == UNKNOWN]
    if open_ones:
        checks.append(not_checked(unknown, "; ".join(open_ones)))
    else:
        checks.append(passed(unknown, "; ".join(status.detail for status in found)))
        ends.extend(status.until for status in found if status.until is not None)


def _judge_nonce(report: SpdmReport, nonce: Optional[bytes], checks: List[Check]) -> None:
    if nonce is None:
        checks.append(not_checked("nonce-mismatch", "the caller opted out: freshness and binding are not checked"))
    elif hmac.compare_digest(nonce, report.nonce):
        checks.append(passed("nonce-mismatch", "the report answers the expected nonce"))
    else:
        checks.append(failed("nonce-mismatch", "the report answers the nonce %s, expected was %s" % (report.nonce.hex(), nonce.hex())))


def _products(chain: DeviceChain, opaque: OpaqueData) -> FrozenSet[str]:
    """What a manifest may name as product: the chip, or what a Blackwell GPU says of its variant."""
    found = {chain.product or ""} - {""}
    if chain.architecture == "blackwell" and opaque.chip_info and opaque.chip_info.startswith("GB"):
        found.add(opaque.chip_info)
    return frozenset(found)


def _judge_rims(
    kind: str, report: SpdmReport, opaque: OpaqueData, chain: DeviceChain, rims: Sequence[bytes], ocsp: Sequence[bytes], roots: TrustRoots,
    at: datetime, cache: Optional[VerificationCache], checks: List[Check], ends: List[datetime], held: List[str],
) -> List[RimUse]:  # fmt: skip
    wanted = [(FIRMWARE, opaque.vbios)] if kind == SWITCH else [(DRIVER, opaque.driver_version), (FIRMWARE, opaque.vbios)]
    products = _products(chain, opaque)
    uses: List[RimUse] = []
    for source, version in wanted:
        prefix = source + "-rim"
        found = [] if version is None else find_rims(rims, kind, version, products, roots, at, cache)
        candidate = min(found, key=lambda one: _distance(one, report, opaque)) if found else None
        uses.append(RimUse(source, version, candidate))
        if candidate is None:
            named = "none of the %d manifests given is for %s %s" % (len(rims), source, version)
            checks.append(failed(prefix + "-missing", "the report names no %s version" % source if version is None else named))
            continue
        checks.append(passed(prefix + "-missing", "manifest with SHA-256 %s for %s %s" % (candidate.verified.sha256, source, version)))
        _judge_rim(prefix, candidate, chain.proven, ocsp, at, cache, checks, ends, held)
    return uses


def _distance(candidate: Candidate, report: SpdmReport, opaque: OpaqueData) -> int:
    """How many measurements differ from this manifest. Only usable ones are weighed against each other: NVIDIA signed all of them."""
    rim = candidate.verified.rim
    return 0 if rim is None or not candidate.usable else len(compare(report, {"": rim}, opaque.nvdec0).mismatches)


def _judge_rim(
    prefix: str, candidate: Candidate, device_proven: bool, ocsp: Sequence[bytes], at: datetime, cache: Optional[VerificationCache],
    checks: List[Check], ends: List[datetime], held: List[str],
) -> None:  # fmt: skip
    verified = candidate.verified
    if verified.rim is None or verified.format_offence:
        checks.append(failed(prefix + "-format", verified.format_offence))
        return
    signer = verified.path.certificates[0].common_name if verified.path is not None else "?"
    product_ok = "for %s" % ascii(verified.rim.product) if device_proven else ""
    for suffix, offence, detail in (
        ("-signature", verified.signature_offence, "signed by %s" % ascii(signer)),
        ("-chain", verified.chain_offence, "the signer's certificates lead to a pinned root"),
        ("-product", candidate.product_offence, product_ok),
        ("-expired", candidate.time_offence, "all its certificates are valid at %s" % at.isoformat()),
    ):
        if offence:
            checks.append(failed(prefix + suffix, offence))
        elif detail and (verified.proven or suffix in ("-signature", "-chain")):
            checks.append(passed(prefix + suffix, detail))
        else:
            checks.append(not_checked(prefix + suffix, "it holds, but the manifest or the device is not proven"))
    if verified.rim.unread:
        checks.append(failed(prefix + "-records", "%d active records of the manifest hold numbers in a form that is not known here" % verified.rim.unread))
    else:
        checks.append(passed(prefix + "-records", "every active record is a digest"))
    path = verified.path.certificates if verified.path is not None and verified.proven else ()
    if verified.proven and not candidate.time_offence:
        ends.extend(certificate.not_after for certificate in path)
    _judge_revocation(prefix, path, range(len(path) - 1), ocsp, at, cache, checks, ends, held)


def _authentic(checks: Sequence[Check]) -> Optional[bool]:
    """True only if every mandatory check passed and none of them, nor the firmware id, nor revocation, speaks against it."""
    outcomes: Dict[str, str] = {check.id: check.outcome for check in checks}
    if any(outcomes.get(check_id) == FAIL for check_id in _BREAKING):
        return False
    return all(outcomes.get(check_id) == PASS for check_id in _MANDATORY)
