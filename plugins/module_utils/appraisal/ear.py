# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""EAR, the signed form of a result: draft-ietf-rats-ear-04 out; -04 and the older dotted names (Veraison, Trustee) in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si, jws
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult, Result
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError

PROFILE = "tag:ietf.org,2026:rats/ear#04"
DOTTED_PROFILES = ("tag:github.com,2023:veraison/ear", "tag:github.com,2024:confidential-containers/Trustee")
TYPE = "eat+jwt"
DEVELOPER = "https://github.com/attested-ai/attested.ai"
LIFETIME = timedelta(minutes=5)
# Clocks of verifier and relying party differ; no more than this is forgiven, and only for "issued in the future".
LEEWAY = timedelta(seconds=60)
# Our own claims, which draft-04 has no names for, lie under one name at the top.
OWN = "attested_ai"

_NAMES_04 = {
    "verifier_id": "ear_verifier_id", "status": "ear_status", "vector": "ear_trustworthiness_vector",
    "policies": "ear_appraisal_policy_ids", "attester": "ear_attester_claims", "verifier": "ear_verifier_claims",
}
_NAMES_DOTTED = {
    "verifier_id": "ear.verifier-id", "status": "ear.status", "vector": "ear.trustworthiness-vector",
    "policies": "ear.appraisal-policy-id", "attester": "ear.veraison.annotated-evidence", "verifier": "ear.veraison.policy-claims",
}


@dataclass(frozen=True)
class EarSubmod:
    """The appraisal of one attester. ``vector`` holds AR4SI claim values, the claims are the verifier's own words."""

    status: str
    vector: Mapping[str, int]
    policy_ids: Tuple[str, ...]
    attester_claims: Mapping[str, Any]
    verifier_claims: Mapping[str, Any]


@dataclass(frozen=True)
class Ear:
    """A verified EAR. ``dotted`` tells the older label names; ``status`` is the worst over all submods and the token's own."""

    profile: str
    dotted: bool
    status: str
    issued_at: datetime
    expires_at: datetime
    verifier_id: Mapping[str, str]
    nonce: Optional[str]
    submods: Mapping[str, EarSubmod]
    key_thumbprint: str
    claims: Mapping[str, Any]


def sign_ear(result: Result, key: Any, *, issued_at: datetime, lifetime: timedelta = LIFETIME, build: str = "attested.ai") -> str:
    """Sign ``result`` as an EAR with a P-256 or P-384 private key of cryptography; return the compact JWT.

    It expires after ``lifetime``, and never later than the earliest of the collateral that the verdict rests on.
    Raises AttestedError if that has already expired.
    """
    limits = [issued_at + lifetime] + ([result.expires_at] if result.expires_at is not None else [])
    expires_at = int(min(limits).timestamp())
    if expires_at <= int(issued_at.timestamp()):
        raise AttestedError("what the result rests on has expired, so there is no time left in which an EAR could hold", where="EAR")
    policy_id = "%s@sha256:%s" % (result.policy_id, result.policy_digest)
    payload: Dict[str, Any] = {
        "eat_profile": PROFILE,
        "iat": int(issued_at.timestamp()),
        "exp": expires_at,
        "ear_verifier_id": {"developer": DEVELOPER, "build": build},
        "ear_status": result.status,
        "submods": {name: _submod(item, policy_id) for name, item in result.items.items()},
        OWN: {name: value for name, value in result.to_dict().items() if name not in ("submods", "nonce", "status")},
    }
    if result.nonce is not None:
        payload["eat_nonce"] = result.nonce
    return jws.sign(payload, key, TYPE)


def jwks(*keys: Any) -> Dict[str, Any]:
    """The JWK set with the public half of each key, for those who verify our EARs."""
    return {"keys": [jws.public_jwk(key) for key in keys]}


def read_ear(token: Any, trusted: Any, *, at: datetime, expected_nonce: Optional[str], where: str = "EAR") -> Ear:
    """Verify and read an EAR, with -04 names or the older dotted ones.

    ``trusted`` is the JWK set of the verifier (parsed JSON), ``at`` the time of evaluation (aware). ``expected_nonce`` is the
    nonce that the EAR must carry; None accepts any, because the older profiles carry none. Raises FormatError.
    """
    payload, signer = jws.verify(token, jws.parse_jwks(trusted), where)
    profile = payload.get("eat_profile")
    if profile != PROFILE and profile not in DOTTED_PROFILES:
        raise FormatError("the profile %s is not known" % ascii(profile)[:80], where=where, fix="Known are %s" % ", ".join((PROFILE,) + DOTTED_PROFILES))
    names = _NAMES_04 if profile == PROFILE else _NAMES_DOTTED
    issued_at, expires_at = (_time(payload, name, where) for name in ("iat", "exp"))
    begins_at = _time(payload, "nbf", where) if "nbf" in payload else issued_at
    if max(issued_at, begins_at) - LEEWAY > at:
        detail = "it was issued at %s and holds from %s on, which lies in the future" % (issued_at.isoformat(), begins_at.isoformat())
        raise FormatError(detail, where=where, code="ear-not-yet-valid")
    if expires_at <= at:
        raise FormatError("it expired at %s" % expires_at.isoformat(), where=where, fix="Attest again", code="ear-expired")
    nonce = payload.get("eat_nonce")
    if nonce is not None and not isinstance(nonce, str):
        raise FormatError("eat_nonce is not a string", where=where)
    if expected_nonce is not None and nonce != expected_nonce:
        raise FormatError("it does not carry the expected nonce", where=where, fix="Attest again", code="ear-nonce")
    submods = payload.get("submods")
    if not isinstance(submods, dict) or not submods:
        raise FormatError("it holds no submods", where=where)
    parts = {name: _read_submod(submod, names, "%s submod %s" % (where, ascii(name)[:40])) for name, submod in submods.items()}
    stated = [_status(payload[names["status"]], where)] if names["status"] in payload else []
    return Ear(
        profile=str(profile),
        dotted=names is _NAMES_DOTTED,
        status=ar4si.worst(stated + [part.status for part in parts.values()]),
        issued_at=issued_at,
        expires_at=expires_at,
        verifier_id=_verifier_id(payload.get(names["verifier_id"]), where),
        nonce=nonce,
        submods=parts,
        key_thumbprint=signer.thumbprint,
        claims=payload,
    )


def _submod(item: ItemResult, policy_id: str) -> Dict[str, Any]:
    return {
        "ear_status": item.status,
        "ear_trustworthiness_vector": dict(item.vector),
        "ear_appraisal_policy_ids": [policy_id],
        "ear_attester_claims": dict(item.claims),
        "ear_verifier_claims": {
            "tee": item.tee,
            "accepted": item.accepted,
            "authentic": item.authentic,
            "anchor": item.anchor,
            "evidence_identity": item.identity,
            "checks": [check.to_dict() for check in item.checks],
        },
    }


def _read_submod(obj: Any, names: Mapping[str, str], where: str) -> EarSubmod:
    if not isinstance(obj, dict):
        raise FormatError("an object was expected", where=where)
    status = _status(obj.get(names["status"]), where)
    vector = ar4si.parse_vector(obj.get(names["vector"], {}), where)
    # A verifier may be stricter than its own vector, never milder.
    if ar4si.TIERS.index(status) < ar4si.TIERS.index(ar4si.vector_tier(vector)) and vector:
        raise FormatError("the status %s is better than its trustworthiness vector (%s)" % (status, ar4si.vector_tier(vector)), where=where)
    policies = obj.get(names["policies"], [])
    policies = [policies] if isinstance(policies, str) else policies
    if not isinstance(policies, list) or not all(isinstance(policy, str) for policy in policies):
        raise FormatError("%s is not a list of strings" % names["policies"], where=where)
    return EarSubmod(status, vector, tuple(policies), _claims(obj, names["attester"], where), _claims(obj, names["verifier"], where))


def _claims(obj: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    value = obj.get(name, {})
    if not isinstance(value, dict):
        raise FormatError("%s is not an object" % name, where=where)
    return value


def _status(value: Any, where: str) -> str:
    if not isinstance(value, str) or value not in ar4si.TIERS:
        raise FormatError("the status %s is not one of %s" % (ascii(value)[:40], ", ".join(ar4si.TIERS)), where=where)
    return value


def _verifier_id(value: Any, where: str) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in ("developer", "build")):
        raise FormatError("the verifier id is not an object with developer and build", where=where)
    return value


def _time(payload: Mapping[str, Any], name: str, where: str) -> datetime:
    value = payload.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 35:
        raise FormatError("%s is not a time in whole seconds" % name, where=where)
    return datetime.fromtimestamp(value, tz=timezone.utc)
