# SPDX-License-Identifier: GPL-3.0-or-later
"""CCA: the CBOR decoder, COSE messages and keys, whole tokens, endorsement documents, and the verifier over the first and the last."""

from __future__ import annotations

import functools
import json
import sys
from datetime import datetime, timezone
from pathlib import Path

from harness import Target

SOFTTEE = Path(__file__).resolve().parents[2] / "tools" / "softtee"
if str(SOFTTEE) not in sys.path:
    sys.path.insert(0, str(SOFTTEE))

from softtee.cca_cbor import cose_key  # noqa: E402
from softtee.cca_token import PROFILES, CcaPlatform  # noqa: E402

from ansible_collections.attested.ai.plugins.module_utils.formats import cbor, cca_endorsement, cca_token, cose  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.verify.cca import UNCHECKED, verify_cca  # noqa: E402

AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
CACHE = VerificationCache()


@functools.lru_cache(maxsize=None)
def platform() -> CcaPlatform:
    return CcaPlatform.open()


@functools.lru_cache(maxsize=None)
def tokens() -> list[bytes]:
    return [platform().token(b"fuzz", profile, envelope=envelope) for profile in PROFILES for envelope in (399, 907)]


def messages() -> list[bytes]:
    outer = [cbor.decode(token).value for token in tokens() if token[1:3] == b"\x01\x8f"]
    return [entry for entries in outer for entry in entries.values()]


def payloads() -> list[bytes]:
    return tokens() + messages() + [cbor.decode(message).value[2] for message in messages()]


def documents() -> list[bytes]:
    own = platform().endorsement("silicon-vendor", "2027-01-31T00:00:00Z")
    entries = json.loads(own)["endorsements"]
    trustee = [{"pkey": entry["key"], "implementation-id": entry["implementation_id"], "instance-id": entry["instance_id"]} for entry in entries]
    return [own, *(json.dumps(content).encode() for content in (entries, trustee, platform().jwk()))]


def verify(data: bytes) -> object:
    found = verify_cca(data, (platform().endorsement(),), UNCHECKED, AT, allow_nonvendor=True, cache=CACHE)
    if found.authentic is True and found.claims.token.realm.signed not in genuine():
        raise RuntimeError("a changed token was taken for a genuine one")
    return found.claims and found.claims.to_dict()


@functools.lru_cache(maxsize=None)
def genuine() -> frozenset[bytes]:
    return frozenset(cca_token.parse_token(token).realm.signed for token in tokens())


def endorsed(data: bytes) -> object:
    return verify_cca(tokens()[0], (data,), UNCHECKED, AT, allow_nonvendor=True).authentic


TARGETS = {
    "cbor": Target(payloads, cbor.decode),
    "cose-sign1": Target(messages, lambda data: cose.parse_sign1(data, "fuzz").signed),
    "cose-key": Target(lambda: [cose_key(platform().rak)], lambda data: cose.parse_ec2_key(data, "fuzz")),
    "cca-token": Target(tokens, lambda data: cca_token.parse_token(data).platform_claims.to_dict()),
    "cca-verify": Target(tokens, verify),
    "cca-endorsement": Target(documents, cca_endorsement.parse_endorsement),
    "cca-verify-endorsed": Target(documents, endorsed),
}
