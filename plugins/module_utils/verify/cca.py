# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify an Arm CCA token: is it authentic under an endorsed platform key, and does it answer the challenge?

Pure: bytes, endorsements, time and the expected challenge are arguments. Policy (lifecycle, profiles, reference values, MEC, ...) is not
judged here; the claims carry what it needs. Every check has a stable id, and a check that could not be made says so.

Ids, in the order of telling: format, duplicate-claim, missing-claim, profile-unsupported, profile-mix, cose-alg (each of these ends the
verification), hash-algorithm, cpak-missing, implementation-id, instance-id, bad-cpak, alg-key-mismatch, root-not-pinned, cpak-expired,
test-cpak, platform-signature, realm-signature, rak-binding, challenge-mismatch.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.cca_claims import HASHES
from ansible_collections.attested.ai.plugins.module_utils.formats.cca_token import CcaToken, parse_token
from ansible_collections.attested.ai.plugins.module_utils.formats.cose import EcPoint
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.cca_cpak import Candidate, judge_cpak, select
from ansible_collections.attested.ai.plugins.module_utils.verify.cca_keys import public_key, verifies
from ansible_collections.attested.ai.plugins.module_utils.verify.result import ANCHOR_NONE, UNCHECKED, Unchecked, Verification

__all__ = ["UNCHECKED", "BINDING", "CcaClaims", "Verification", "verify_cca"]

# draft-ffm-rats-cca-token, realm signing: the RAK is a P-384 key and signs with ES384.
_REALM_ALGORITHM = "ES384"
CHALLENGE_SIZE = 64

# Failures of these do not touch authenticity: freshness is the caller's challenge, and a test key signs as any other does.
BINDING = frozenset(("challenge-mismatch", "test-cpak"))
# Without these passed nothing is authentic.
_MANDATORY = frozenset((
    "format", "cose-alg", "hash-algorithm", "bad-cpak", "alg-key-mismatch", "root-not-pinned", "platform-signature", "realm-signature", "rak-binding",
))  # fmt: skip
# Without an endorsement for this platform it stays open whether the token is authentic.
_UNDECIDED = frozenset(("cpak-missing", "implementation-id", "instance-id"))


@dataclass(frozen=True)
class CcaClaims:
    """What a token says, and which endorsement stands for it. To be relied on only if the verification is authentic.

    ``endorsed`` is None unless an accepted CPAK signed the platform token. ``endorsed.names_platform`` tells whether the endorsement
    names the platform's ids, or only holds a key, with which its owner can claim any id.
    """

    token: CcaToken
    endorsed: Optional[Candidate] = None

    @property
    def machine(self) -> str:
        """The identity of the machine: SHA-256 (hexadecimal) of the 33 bytes of the instance id."""
        return hashlib.sha256(self.token.platform_claims.instance_id).hexdigest()

    def to_dict(self) -> Dict[str, Any]:
        """JSON-able, byte strings as hexadecimal text."""
        platform, realm, endorsed = self.token.platform_claims, self.token.realm_claims, self.endorsed
        return {
            "envelope": self.token.envelope,
            "profile": self.token.generation,
            "measurement": realm.rim.hex(),
            "machine": self.machine,
            "platform": platform.to_dict(),
            "realm": realm.to_dict(),
            "unknown_claims": list(platform.unknown + realm.unknown),
            "cpak_thumbprint": endorsed.cpak.thumbprint if endorsed else None,
            "endorser": endorsed.document.endorser if endorsed else None,
            "endorsement_source": endorsed.document.source if endorsed else None,
            "endorsement_sha256": endorsed.document.sha256 if endorsed else None,
        }


def verify_cca(
    token: bytes,
    endorsements: Sequence[bytes],
    expected_challenge: Union[bytes, Unchecked],
    at: datetime,
    allow_test_keys: bool = False,
    allow_nonvendor: bool = False,
    vendor_documents: FrozenSet[str] = frozenset(),
    cache: Optional[VerificationCache] = None,
) -> Verification[CcaClaims]:
    """Verify one token as received (draft-ffm-rats-cca-token-00 to -04, RMM specification A7.2).

    ``endorsements`` are raw JSON documents with CPAKs (formats.cca_endorsement). There is no public root above them: a document is
    the operator's own word unless it calls itself the silicon vendor's *and* its SHA-256 (hexadecimal) is in ``vendor_documents``. Then
    the anchor is "vendor", else "nonvendor", which needs ``allow_nonvendor``. ``expected_challenge`` are 1 to 64 bytes, padded
    with zeros to 64 here as RSI pads them, or UNCHECKED, which leaves the check "challenge-mismatch" visibly not checked. ``at`` is the
    evaluation time (aware): tokens hold no time, endorsement documents may. With a ``cache`` a proven platform token is not proven
    again; the realm token always is.

    Bad evidence and unusable endorsements never raise. AttestedError with code "argument" means that the call itself is wrong.
    """
    at, expected = _arguments(at, expected_challenge)
    try:
        parsed = parse_token(token)
    except FormatError as error:
        return Verification(False, (failed(error.code, str(error)),), None, None, ANCHOR_NONE, None)

    checks: List[Check] = [
        passed("format", "a token of profile %s under tag %d, strict CBOR" % (parsed.generation, parsed.envelope)),
        _judge_algorithms(parsed),
        _judge_hashes(parsed),
    ]
    selection = select(endorsements, parsed.platform_claims.implementation_id, parsed.platform_claims.instance_id, at, vendor_documents, cache)
    endorsed = judge_cpak(parsed, selection, at, allow_test_keys, allow_nonvendor, cache, checks)
    identity = _judge_realm(parsed, endorsed is not None, checks)
    checks.append(_judge_challenge(parsed, expected))
    return Verification(
        authentic=_authentic(checks),
        checks=tuple(checks),
        claims=CcaClaims(parsed, endorsed),
        not_after=endorsed.document.not_after if endorsed else None,
        anchor=endorsed.anchor if endorsed else ANCHOR_NONE,
        evidence_id=identity,
    )


def _arguments(at: Any, expected: Any) -> Tuple[datetime, Optional[bytes]]:
    """Check what the caller, not the evidence, must get right."""
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise AttestedError("the evaluation time must be a datetime with a time zone", where="verify_cca", code="argument")
    if expected is UNCHECKED:
        return at.astimezone(timezone.utc), None
    if not isinstance(expected, (bytes, bytearray)) or not 1 <= len(expected) <= CHALLENGE_SIZE:
        raise AttestedError(
            "the expected challenge must be 1 to %d bytes" % CHALLENGE_SIZE, where="verify_cca",
            fix="Pass UNCHECKED if freshness is really not to be checked.", code="argument",
        )  # fmt: skip
    return at.astimezone(timezone.utc), bytes(expected).ljust(CHALLENGE_SIZE, b"\0")


def _judge_algorithms(token: CcaToken) -> Check:
    if token.realm.algorithm.name != _REALM_ALGORITHM:
        return failed("cose-alg", "the realm token is signed with %s, the profile has %s" % (token.realm.algorithm.name, _REALM_ALGORITHM))
    return passed("cose-alg", "platform token %s, realm token %s" % (token.platform.algorithm.name, _REALM_ALGORITHM))


def _judge_hashes(token: CcaToken) -> Check:
    platform, realm = token.platform_claims, token.realm_claims
    named = [("RAK hash", realm.rak_hash_algorithm), ("realm", realm.hash_algorithm), ("platform", platform.hash_algorithm)]
    named += [("software component", part.hash_algorithm) for part in platform.components if part.hash_algorithm is not None]
    wrong = sorted({"%s %s" % (who, ascii(name)[:40]) for who, name in named if name not in HASHES})
    if wrong:
        return failed("hash-algorithm", "%s; allowed are %s" % (", ".join(wrong), ", ".join(HASHES)))
    return passed("hash-algorithm", "all named hash algorithms are allowed")


def _judge_realm(token: CcaToken, platform_proven: bool, checks: List[Check]) -> Optional[str]:
    """Append the checks of the realm token's signature and key; returns the evidence id if everything above holds."""
    realm = token.realm_claims
    binding = _judge_binding(token)
    bound = platform_proven and binding.outcome == PASS
    offence = _realm_offence(realm.rak_point, token)
    if offence:
        checks.append(failed("realm-signature", offence))
    elif bound:
        checks.append(passed("realm-signature", "signed with the realm's key"))
    else:
        checks.append(not_checked("realm-signature", "it holds, but for a key that nothing proves"))
    if binding.outcome == PASS and not platform_proven:
        binding = not_checked("rak-binding", "it holds, but the platform token is not proven")
    checks.append(binding)
    if offence or not bound:
        return None
    # The realm's key is proven to be that of this boot, so its token alone names the evidence; signature bytes, headers
    # outside of the signature and the envelope could be changed without the key.
    return hashlib.sha256(realm.rak_point.x + realm.rak_point.y + token.realm.signed).hexdigest()


def _realm_offence(point: EcPoint, token: CcaToken) -> str:
    if point.curve != "P-384":
        return "the realm's key is on %s, the profile has P-384" % point.curve
    key = public_key(point)
    if key is None:
        return "the realm's key does not lie on P-384"
    if token.realm.algorithm.curve != point.curve:
        return "the realm token is signed with %s, its key is on P-384" % token.realm.algorithm.name
    if not verifies(key, token.realm.algorithm, token.realm.signature, token.realm.signed):
        return "the realm token was not signed with the key that it names"
    return ""


def _judge_binding(token: CcaToken) -> Check:
    """The platform token must hold the digest of the realm's public key claim, over its bytes as received."""
    name = HASHES.get(token.realm_claims.rak_hash_algorithm)
    if name is None:
        return not_checked("rak-binding", "the hash algorithm of the realm's key is not allowed")
    digest = hashlib.new(name, token.realm_claims.rak).digest()
    if hmac.compare_digest(digest, token.platform_claims.rak_hash):
        return passed("rak-binding", "the platform token names the realm's key")
    return failed("rak-binding", "the platform token names another realm key: %s instead of %s" % (token.platform_claims.rak_hash.hex(), digest.hex()))


def _judge_challenge(token: CcaToken, expected: Optional[bytes]) -> Check:
    if expected is None:
        return not_checked("challenge-mismatch", "the caller opted out: freshness and binding are not checked")
    if hmac.compare_digest(expected, token.realm_claims.challenge):
        return passed("challenge-mismatch", "the realm's challenge is what was expected")
    return failed("challenge-mismatch", "the realm's challenge is not what was expected: another nonce, or another binding")


def _authentic(checks: Sequence[Check]) -> Optional[bool]:
    """True only if every mandatory check passed; None if it failed only where nothing could be judged."""
    broken = {check.id for check in checks if check.outcome == FAIL} - BINDING
    if broken - _UNDECIDED:
        return False
    if broken:
        return None
    return _MANDATORY <= {check.id for check in checks if check.outcome == PASS}
