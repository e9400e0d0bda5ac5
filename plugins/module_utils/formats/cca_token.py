# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The Arm CCA attestation token: its envelope, the pair of profiles, and both COSE_Sign1 messages with their claims.

Two envelopes are in use (draft-ffm-rats-cca-token, section on the CCA token collection): tag 399 over {44234: platform, 44241: realm}, each a
byte string, and tag 907 over the same map, whose values may also be CMW records [263, bytes]. Nothing is trusted here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import cbor, cose
from ansible_collections.attested.ai.plugins.module_utils.formats.cca_claims import (
    IMPLEMENTATION_ID, LEGACY, PROFILE, REALM_KEY, V2023, V2024, V2026, PlatformClaims, RealmClaims, read_platform, read_realm,
)  # fmt: skip
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import is_integer

TAG_COLLECTION = 399
TAG_CMW_COLLECTION = 907
PLATFORM_TOKEN = 44234
REALM_TOKEN = 44241
# CoAP content format of application/eat+cwt.
EAT_CWT = 263

# The 2026 profile has a delegated form. Its two spellings come from one secondary source: draft -04 and RMM 2.0-bet3 differ.
PLATFORM_PROFILES: Mapping[str, str] = {
    "http://arm.com/CCA-SSD/1.0.0": LEGACY,
    "tag:arm.com,2023:cca_platform#1.0.0": V2023,
    "tag:arm.com,2024:cca_platform#2.0.0": V2024,
    "tag:arm.com,2026:cca_platform#2.0.0": V2026,
    "tag:arm.com,2026:cca_platform#2.0.0;delegated": V2026,
    "tag:arm.com,2026:cca_platform#2.0.0#delegated": V2026,
}
REALM_PROFILES: Mapping[Any, str] = {
    None: LEGACY,
    "tag:arm.com,2023:realm#1.0.0": V2023,
    "tag:arm.com,2024:realm#2.0.0": V2024,
    "tag:arm.com,2026:realm#2.0.0": V2026,
}


@dataclass(frozen=True)
class CcaToken:
    """A token as received. ``envelope`` is 399 or 907, ``generation`` the profile pair: "legacy", "2023", "2024" or "2026"."""

    envelope: int
    generation: str
    platform: cose.Sign1
    realm: cose.Sign1
    platform_claims: PlatformClaims
    realm_claims: RealmClaims


def parse_token(data: bytes) -> CcaToken:
    """Read a token that takes the whole of ``data``.

    Raises FormatError with one of the codes "format", "duplicate-claim", "cose-alg", "missing-claim", "profile-unsupported" (a profile
    that is not known) and "profile-mix" (two that do not belong together).
    """
    envelope, platform_bytes, realm_bytes = _envelope(data)
    platform = cose.parse_sign1(platform_bytes, "platform token")
    realm = cose.parse_sign1(realm_bytes, "realm token")
    platform_map = _claims(platform.payload, "platform token")
    realm_map = _claims(realm.payload, "realm token")
    generation = _generation(platform_map, realm_map)
    return CcaToken(envelope, generation, platform, realm, read_platform(platform_map, generation), read_realm(realm_map, generation))


def _envelope(data: bytes) -> Tuple[int, bytes, bytes]:
    outer = cbor.decode(data, "CCA token")
    if not isinstance(outer, cbor.Tagged) or outer.tag not in (TAG_COLLECTION, TAG_CMW_COLLECTION):
        raise FormatError("it is no CCA token: neither tag %d nor %d" % (TAG_COLLECTION, TAG_CMW_COLLECTION), where="CCA token")
    entries = outer.value
    if not isinstance(entries, dict) or set(entries) != {PLATFORM_TOKEN, REALM_TOKEN}:
        raise FormatError("exactly the entries %d and %d were expected" % (PLATFORM_TOKEN, REALM_TOKEN), where="CCA token")
    cmw = outer.tag == TAG_CMW_COLLECTION
    return outer.tag, _entry(entries[PLATFORM_TOKEN], cmw, "platform token"), _entry(entries[REALM_TOKEN], cmw, "realm token")


def _entry(value: Any, cmw: bool, where: str) -> bytes:
    if cmw and isinstance(value, tuple) and len(value) == 2 and is_integer(value[0]) and value[0] == EAT_CWT:
        value = value[1]
    if not isinstance(value, bytes):
        raise FormatError("the entry is neither a byte string nor, under tag %d, [%d, bytes]" % (TAG_CMW_COLLECTION, EAT_CWT), where=where)
    return value


def _claims(payload: bytes, where: str) -> Dict[Any, Any]:
    claims = cbor.decode(payload, where + " claims")
    if not isinstance(claims, dict):
        raise FormatError("the claims are no map", where=where)
    return claims


def _generation(platform: Mapping[Any, Any], realm: Mapping[Any, Any]) -> str:
    """The generation that both profiles name. A realm token without a profile is legacy, never what the platform's profile is."""
    if REALM_KEY in platform or IMPLEMENTATION_ID in realm:
        raise FormatError("a token holds claims of the other one: they are swapped", where="CCA token")
    if PROFILE not in platform:
        raise FormatError("the claim profile (%d) is missing" % PROFILE, where="platform token", code="missing-claim")
    named = platform[PROFILE], realm[PROFILE] if PROFILE in realm else None
    for profile, known, where in ((named[0], PLATFORM_PROFILES, "platform token"), (named[1], REALM_PROFILES, "realm token")):
        if not isinstance(profile, str) and (where == "platform token" or PROFILE in realm):
            raise FormatError("the profile is no text string", where=where)
        if profile not in known:
            raise FormatError("the profile %s is not known" % ascii(profile)[:100], where=where, code="profile-unsupported")
    generation = PLATFORM_PROFILES[named[0]]
    if REALM_PROFILES[named[1]] != generation:
        raise FormatError(
            "the platform has the profile %s, the realm %s: they do not belong together" % (named[0], named[1] or "none"),
            where="CCA token", code="profile-mix",
        )  # fmt: skip
    return generation
