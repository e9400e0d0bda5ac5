# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify the tokens of NVIDIA's Remote Attestation Service (NRAS). What is proven is that the service says so, no more.

Pure: bytes, pins, time and the expected nonce are arguments, nothing is fetched. The signers live two days; what is pinned is the
certificate that issues them, by its SHA-256. It comes along in the service's key set (x5c), as does the signer.

Ids, in the order of telling: format, token-algorithm, signer-unknown, signer-not-pinned, signer-chain, signer-expired,
token-signature, submod-digest, device-count, token-issuer, token-expired, nonce-mismatch, overall-result, device-result.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.nras_token import Bundle, Token, parse_bundle
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.nras_claims import NrasClaims, NrasDevice, make_claims
from ansible_collections.attested.ai.plugins.module_utils.verify.nras_signer import Signer, find_keys, make_signer
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import ecdsa_p384_verifies
from ansible_collections.attested.ai.plugins.module_utils.verify.result import ANCHOR_NONE, ANCHOR_NONVENDOR, ANCHOR_VENDOR, UNCHECKED, Unchecked, Verification

__all__ = ["UNCHECKED", "NrasClaims", "NrasDevice", "verify_nras"]

ALGORITHM = "ES384"
NONCE_SIZE = 32
SIGNATURE_SIZE = 96
LIFETIME_MAX = timedelta(hours=24)
_BREAKING = frozenset(("format", "token-algorithm", "signer-not-pinned", "signer-chain", "signer-expired", "token-signature", "submod-digest", "device-count"))
IDS = ("format", "token-algorithm", "signer-unknown", "signer-not-pinned", "signer-chain", "signer-expired", "token-signature", "submod-digest",
       "device-count", "token-issuer", "token-expired", "nonce-mismatch", "overall-result", "device-result")  # fmt: skip


def verify_nras(
    data: bytes,
    jwks: Sequence[bytes],
    pins: Sequence[str],
    vendor_pins: Sequence[str],
    at: datetime,
    expected_nonce: Union[bytes, Unchecked],
    issuer: str,
    skew: timedelta = timedelta(seconds=60),
    cache: Optional[VerificationCache] = None,
) -> Verification[NrasClaims]:
    """Verify a detached EAT as the service returned it.

    ``jwks`` are key sets of the service, untrusted: a key counts if its certificate was issued by one whose SHA-256 (hexadecimal) is
    among ``pins``. ``issuer`` is what ``iss`` must be. ``expected_nonce`` are 32 bytes or UNCHECKED. Bad evidence never raises.
    AttestedError with code "argument" means that the call itself is wrong.
    """
    if at.tzinfo is None:
        raise AttestedError("the time of evaluation has no time zone", where="verify_nras", code="argument")
    if expected_nonce is not UNCHECKED and (not isinstance(expected_nonce, (bytes, bytearray)) or len(expected_nonce) != NONCE_SIZE):
        raise AttestedError("%d bytes of nonce were expected" % NONCE_SIZE, where="verify_nras", code="argument")
    try:
        bundle = parse_bundle(data)
        claims = make_claims(bundle)
    except FormatError as error:
        checks = [failed("format", str(error))] + [not_checked(check_id, "the token cannot be read") for check_id in IDS[1:]]
        return Verification(False, tuple(checks), None, None, ANCHOR_NONE, None)
    found: Dict[str, Check] = {"format": passed("format", "an overall token and %d of devices" % len(bundle.devices))}
    tokens = [bundle.overall] + list(bundle.devices.values())
    signers = _judge_signers(tokens, jwks, pins, at.astimezone(timezone.utc), found, cache)
    _judge_bundle(bundle, found)
    end = _judge_time(tokens, issuer, at.astimezone(timezone.utc), skew, found)
    _judge_nonce(tokens, None if isinstance(expected_nonce, Unchecked) else bytes(expected_nonce), found)
    _judge_results(bundle, found)
    checks = [found[check_id] for check_id in IDS]
    bad = {check.id for check in checks if check.outcome == FAIL}
    authentic: Optional[bool] = False if bad & _BREAKING else True if signers else None
    proven = bool(signers) and authentic is True
    anchor = ANCHOR_NONE
    if proven:
        anchor = ANCHOR_VENDOR if all(signer.pin in vendor_pins for signer in signers) else ANCHOR_NONVENDOR
    ends = [moment for signer in signers for moment in (signer.leaf.not_after, signer.issuer.not_after)] + ([] if end is None else [end])
    identity = hashlib.sha256(signers[0].leaf.spki + b"".join(token.signed for token in tokens)).hexdigest() if proven else None
    named = NrasClaims(claims.issuer, claims.nonce, claims.devices, claims.issued_at, signers[0].pin if proven else None)
    return Verification(authentic, tuple(checks), named, min(ends) if ends and proven else None, anchor, identity)


def _judge_signers(
    tokens: Sequence[Token], jwks: Sequence[bytes], pins: Sequence[str], at: datetime, found: Dict[str, Check], cache: Optional[VerificationCache]
) -> List[Signer]:
    """The signers of all tokens; none unless every one is known, pinned and has signed."""
    wrong = sorted({token.algorithm for token in tokens if token.algorithm != ALGORITHM or len(token.signature) != SIGNATURE_SIZE})
    if wrong:
        found["token-algorithm"] = failed("token-algorithm", "the tokens are signed with %s, only %s counts" % (", ".join(map(ascii, wrong)), ALGORITHM))
    else:
        found["token-algorithm"] = passed("token-algorithm", ALGORITHM)
    later = ("signer-not-pinned", "signer-chain", "signer-expired", "token-signature")
    wanted = {token.kid for token in tokens}
    known, offences = find_keys(wanted, jwks, cache)
    missing = sorted(wanted - set(known))
    if missing or wrong:
        detail = "no key set was given" if not jwks else "no key set that was given has the key %s" % ", ".join(map(ascii, missing))
        if offences:
            detail += " (%s)" % offences[0]
        found["signer-unknown"] = not_checked("signer-unknown", detail) if missing else passed("signer-unknown", "the keys are known")
        for check_id in later:
            found[check_id] = not_checked(check_id, "the signer is not known" if missing else "the algorithm is not one that counts")
        return []
    found["signer-unknown"] = passed("signer-unknown", "%d keys are in the key sets" % len(wanted))
    signers = {kid: make_signer(key, cache) for kid, key in known.items()}
    names = ", ".join(sorted({ascii(signer.issuer.common_name) for signer in signers.values()}))
    pinned = all(signer.pin in pins for signer in signers.values())
    digests = ", ".join(sorted({signer.pin for signer in signers.values()}))
    text = "issued by %s, SHA-256 %s" % (names, digests)
    found["signer-not-pinned"] = passed("signer-not-pinned", text) if pinned else failed("signer-not-pinned", text + ", which is not pinned")
    offence = next((signer.offence for signer in signers.values() if signer.offence), "")
    found["signer-chain"] = failed("signer-chain", offence) if offence else passed("signer-chain", "the pinned certificate issued the signer's")
    expired = next((one for signer in signers.values() for one in (signer.leaf, signer.issuer) if not one.not_before <= at <= one.not_after), None)
    if expired is not None:
        detail = "%s is valid from %s to %s" % (ascii(expired.common_name), expired.not_before.isoformat(), expired.not_after.isoformat())
        found["signer-expired"] = failed("signer-expired", detail)
    else:
        found["signer-expired"] = passed("signer-expired", "the signer's certificates are valid at %s" % at.isoformat())
    unsigned = [token for token in tokens if not _signed(token, signers[token.kid].key)]
    if unsigned:
        found["token-signature"] = failed("token-signature", "%d of %d tokens were not signed with the key that they name" % (len(unsigned), len(tokens)))
    elif pinned and not offence:
        found["token-signature"] = passed("token-signature", "%d tokens are signed" % len(tokens))
    else:
        found["token-signature"] = not_checked("token-signature", "it holds, but for certificates that are not proven")
    return list(signers.values())


def _signed(token: Token, key: Any) -> bool:
    half = SIGNATURE_SIZE // 2
    r, s = int.from_bytes(token.signature[:half], "big"), int.from_bytes(token.signature[half:], "big")
    return key is not None and ecdsa_p384_verifies(key, r, s, token.signed)


def _judge_bundle(bundle: Bundle, found: Dict[str, Check]) -> None:
    """The overall token must name each device token by its digest, and no other."""
    if set(bundle.digests) == set(bundle.devices):
        found["device-count"] = passed("device-count", "%d devices" % len(bundle.devices))
    else:
        found["device-count"] = failed("device-count", "the overall token speaks of %s, there are tokens of %s" % (
            ", ".join(map(ascii, sorted(bundle.digests))), ", ".join(sorted(bundle.devices))
        ))  # fmt: skip
    wrong = sorted(name for name, token in bundle.devices.items() if not hmac.compare_digest(bundle.digests.get(name, ""), token.sha256))
    if wrong:
        found["submod-digest"] = failed("submod-digest", "the token of %s is not the one that the overall token means" % ", ".join(wrong))
    else:
        found["submod-digest"] = passed("submod-digest", "each device token has the digest that the overall token names")


def _judge_time(tokens: Sequence[Token], issuer: str, at: datetime, skew: timedelta, found: Dict[str, Check]) -> Optional[datetime]:
    """Append token-issuer and token-expired; returns when the first token ends."""
    others = sorted({token.text("iss") for token in tokens} - {issuer})
    text = "issued by %s" % ascii(issuer)
    if others:
        found["token-issuer"] = failed("token-issuer", "issued by %s, expected was %s" % (", ".join(map(ascii, others)), issuer))
    else:
        found["token-issuer"] = passed("token-issuer", text)
    now = int(at.timestamp())
    first = min(token.number("exp") for token in tokens)
    offence = ""
    for token in tokens:
        begin = max(token.number("iat"), token.number("nbf") if "nbf" in token.claims else 0) if _has_time(token) else None
        if begin is None:
            offence = "nbf is no time"
        elif begin > now + skew.total_seconds():
            offence = "a token is valid only %d seconds from now" % (begin - now)
        elif not 0 < token.number("exp") - token.number("iat") <= LIFETIME_MAX.total_seconds():
            offence = "a token lives for %d seconds, %d are the most" % (token.number("exp") - token.number("iat"), LIFETIME_MAX.total_seconds())
        elif token.number("exp") + skew.total_seconds() < now:
            offence = "a token ended %d seconds ago" % (now - token.number("exp"))
        if offence:
            break
    found["token-expired"] = failed("token-expired", offence) if offence else passed("token-expired", "the tokens hold for %d more seconds" % (first - now))
    return None if offence else datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=first)


def _has_time(token: Token) -> bool:
    try:
        return "nbf" not in token.claims or token.number("nbf") >= 0
    except FormatError:
        return False


def _judge_nonce(tokens: Sequence[Token], expected: Optional[bytes], found: Dict[str, Check]) -> None:
    code = "nonce-mismatch"
    # The token of a device that the service refused to judge answers none.
    if any("eat_nonce" not in token.claims for token in tokens):
        found[code] = failed(code, "a token answers no nonce at all")
    elif any(token.nonce() != tokens[0].nonce() for token in tokens):
        found[code] = failed(code, "the tokens answer different nonces")
    elif expected is None:
        found[code] = not_checked(code, "freshness was left unchecked on request; the tokens answer %s" % tokens[0].nonce().hex())
    elif hmac.compare_digest(tokens[0].nonce(), expected):
        found[code] = passed(code, "all tokens answer our nonce")
    else:
        found[code] = failed(code, "the tokens answer %s, our nonce is %s" % (tokens[0].nonce().hex(), expected.hex()))


def _judge_results(bundle: Bundle, found: Dict[str, Check]) -> None:
    result = bundle.overall.claims.get("x-nvidia-overall-att-result")
    if result is True:
        found["overall-result"] = passed("overall-result", "the service says that all is well")
    else:
        found["overall-result"] = failed("overall-result", "the service says that the attestation failed (x-nvidia-overall-att-result is not true)")
    offences = ["%s: %s" % (name, offence) for name, token in sorted(bundle.devices.items()) for offence in _offences(token.claims)]
    if offences:
        found["device-result"] = failed("device-result", "; ".join(offences[:8]))
    else:
        found["device-result"] = passed("device-result", "for %d devices: measurements good, secure boot on, debugging off" % len(bundle.devices))


def _offences(claims: Mapping[str, Any]) -> List[str]:
    """The claims of one device that tell of anything but success. Every yes-or-no of NVIDIA's means success when it is true."""
    if "x-nvidia-error-details" in claims:
        details = claims["x-nvidia-error-details"]
        known = details if isinstance(details, dict) else {}
        return ["the service refused it with error %s, %s" % (ascii(known.get("code"))[:20], ascii(known.get("message"))[:80])]
    wrong = [name for name, wanted in (("measres", "success"), ("dbgstat", "disabled")) if claims.get(name) != wanted]
    if claims.get("secboot") is not True:
        wrong.append("secboot")
    for name, value in sorted(claims.items()):
        if not name.startswith("x-nvidia-"):
            continue
        if value is False or name == "x-nvidia-mismatch-measurement-records" and value:
            wrong.append(name)
        elif name.endswith("-cert-chain") and isinstance(value, dict):
            if value.get("x-nvidia-cert-status") != "valid" or value.get("x-nvidia-cert-ocsp-status") != "good":
                wrong.append(name)
    for end in ("-attestation-report-nonce-match", "-attestation-report-signature-verified"):
        if not any(name.startswith("x-nvidia-") and name.endswith(end) and value is True for name, value in claims.items()):
            wrong.append("*" + end)
    return [ascii(name)[1:-1][:80] for name in wrong]
