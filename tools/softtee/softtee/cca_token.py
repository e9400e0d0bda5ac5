# SPDX-License-Identifier: GPL-3.0-or-later
"""The made-up Arm CCA platform: attestation tokens of every profile, signed with keys that it makes itself, and what a verifier needs for them.

    platform = CcaPlatform.open(state)            # a directory keeps the CPAK and both ids; None: a platform that is gone afterwards
    token = platform.token(challenge)             # challenge: up to 64 bytes, padded with zeros as RSI does; profile 2024 under tag 907
    platform.token(challenge, "2023", envelope=399, lifecycle=DEBUG, rim=bytes(32))
    platform.endorsement()                        # the JSON document (bytes) with the CPAK, for the verifier's endorsements
    platform.reference_values(not_after)          # entries for a file of schema attested.ai/reference-values/1

``token`` takes the profiles legacy, 2023, 2024 and 2026 and the envelopes 399 and 907. Misbehaviour: ``lifecycle``, ``rim``, ``rems``,
``rpv``, ``components`` change single claims; ``platform_claims`` and ``realm_claims`` map labels to values and win over everything,
DROP removes a claim; ``realm_key`` signs the realm token with another key than the one that the claims name; ``bad_signature``
spoils one byte of "platform" or "realm". The RAK is made once per object, as silicon makes it once per boot.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from softtee.cca_cbor import CURVES, Tag, cose_key, encode, raw_point, sign1
from softtee.errors import SoftTeeError
from softtee.snp_authority import key_pem, write_private

SETTINGS = "cca-platform.json"
KEY = "cca-cpak.key"
GUEST = "attested.ai soft TEE demonstration realm 1"
SECURED, NON_PLATFORM_DEBUG, DEBUG = 0x3003, 0x4001, 0x5001
# In ``platform_claims`` and ``realm_claims``: leave this claim out.
DROP = object()

# profile -> (platform profile, realm profile).
PROFILES: Dict[str, Any] = {
    "legacy": ("http://arm.com/CCA-SSD/1.0.0", None),
    "2023": ("tag:arm.com,2023:cca_platform#1.0.0", "tag:arm.com,2023:realm#1.0.0"),
    "2024": ("tag:arm.com,2024:cca_platform#2.0.0", "tag:arm.com,2024:realm#2.0.0"),
    "2026": ("tag:arm.com,2026:cca_platform#2.0.0", "tag:arm.com,2026:realm#2.0.0"),
}
_HASHES = {"sha-256": hashlib.sha256, "sha-384": hashlib.sha384, "sha-512": hashlib.sha512}


def measurement(guest: str = GUEST, hash_name: str = "sha-256") -> bytes:
    """The bytes that stand for the initial measurement (RIM) of a realm. There is no image behind them."""
    return _HASHES[hash_name](guest.encode("ascii")).digest()


def default_components() -> List[Dict[int, Any]]:
    """The platform's firmware: three components as claim 2399 lists them."""
    signer = hashlib.sha256(b"attested.ai soft firmware signer").digest()
    names = (("RSE_BL2", "2.1.0"), ("AP_BL31", "2.13.0"), ("RMM", "0.9.0"))
    return [
        {1: name, 2: hashlib.sha256(("soft %s %s" % (name, version)).encode("ascii")).digest(), 4: version, 5: signer, 6: "sha-256"}
        for name, version in names
    ]


class CcaPlatform:
    """One CCA platform: its attestation key (CPAK), its ids, and the realm attestation key (RAK) of this boot."""

    def __init__(self, cpak: ec.EllipticCurvePrivateKey, implementation_id: bytes, instance_id: bytes) -> None:
        self.cpak = cpak
        self.implementation_id = implementation_id
        self.instance_id = instance_id
        self.rak = ec.generate_private_key(ec.SECP384R1())

    @classmethod
    def open(cls, state: Optional[Path] = None, curve: Optional[ec.EllipticCurve] = None) -> "CcaPlatform":
        """The platform of a state directory, made on first use; without a directory a new one. ``curve`` is that of a new CPAK."""
        fresh = ec.generate_private_key(curve or ec.SECP384R1())
        ids = {"implementation_id": secrets.token_hex(32), "instance_id": "01" + secrets.token_hex(32)}
        if state is None:
            return cls(fresh, *(bytes.fromhex(value) for value in ids.values()))
        if not (state / SETTINGS).exists():
            write_private(state / KEY, key_pem(fresh))
            write_private(state / SETTINGS, json.dumps(ids).encode("ascii"))
        try:
            ids = json.loads((state / SETTINGS).read_text("ascii"))
            key = serialization.load_pem_private_key((state / KEY).read_bytes(), None)
            platform = cls(key, bytes.fromhex(ids["implementation_id"]), bytes.fromhex(ids["instance_id"]))  # type: ignore[arg-type]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SoftTeeError("the CCA platform in %s cannot be read (%s): remove it to begin anew" % (state, error)) from None
        return platform

    def jwk(self) -> Dict[str, str]:
        """The public half of the CPAK."""
        size, _curve, name = CURVES[self.cpak.curve.name][2:5]
        numbers = self.cpak.public_key().public_numbers()
        return {"kty": "EC", "crv": name, "x": _base64url(numbers.x.to_bytes(size, "big")), "y": _base64url(numbers.y.to_bytes(size, "big"))}

    def endorsement(self, endorser: str = "operator", not_after: Optional[str] = None, **members: Any) -> bytes:
        """The CPAK endorsement document (schema attested.ai/cca-endorsements/1), JSON bytes. ``members`` win over everything."""
        entry = {"implementation_id": self.implementation_id.hex(), "instance_id": self.instance_id.hex(), "key": self.jwk()}
        document: Dict[str, Any] = {
            "schema": "attested.ai/cca-endorsements/1", "endorser": endorser, "source": "the soft TEE", "endorsements": [entry],
        }  # fmt: skip
        if not_after is not None:
            document["not_after"] = not_after
        return json.dumps({**document, **members}).encode("ascii")

    def reference_values(self, not_after: str, covers: str = "service", guest: str = GUEST) -> List[Dict[str, Any]]:
        """Reference values of this platform's firmware and of the demonstration realm."""
        components = [{"signer": entry[5].hex(), "measurement": entry[2].hex(), "version": entry[4]} for entry in default_components()]
        common = {"source": "the soft TEE", "not_after": not_after}
        return [
            {"tee": "cca-platform", "implementation_id": self.implementation_id.hex(), "components": components, "image": "soft firmware", **common},
            {"tee": "cca", "measurement": measurement(guest).hex(), "covers": covers, "image": guest, **common},
        ]

    def platform_claims(self, profile: str, rak_claim: bytes, rak_hash: str = "sha-256", **claims: Any) -> Dict[Any, Any]:
        """The platform's claims. ``claims``: lifecycle, components."""
        result: Dict[Any, Any] = {
            265: PROFILES[profile][0],
            (2408 if profile == "2026" else 10): _HASHES[rak_hash](rak_claim).digest() if rak_hash in _HASHES else hashlib.sha256(rak_claim).digest(),
            2396: self.implementation_id,
            256: self.instance_id,
            2401: bytes.fromhex("cfcfcfcf"),
            2395: claims.get("lifecycle", SECURED),
            2399: list(claims["components"]) if claims.get("components") is not None else default_components(),
            2400: "https://verifier.example",
            2402: "sha-256",
        }
        if profile in ("2024", "2026"):
            result[2394] = 1
        return result

    def realm_claims(self, profile: str, challenge: bytes, rak_claim: bytes, rak_hash: str = "sha-256", **claims: Any) -> Dict[Any, Any]:
        """The realm's claims. ``claims``: hash_name, rim, rems, rpv, mec."""
        hash_name = claims.get("hash_name", "sha-256")
        rim = claims["rim"] if claims.get("rim") is not None else measurement(hash_name=hash_name)
        result: Dict[Any, Any] = {
            10: challenge.ljust(64, b"\0"),
            44235: (claims.get("rpv") or b"").ljust(64, b"\0"),
            44236: hash_name,
            44237: rak_claim,
            44238: rim,
            44239: list(claims["rems"]) if claims.get("rems") is not None else [bytes(len(rim))] * 4,
            44240: rak_hash,
        }
        if PROFILES[profile][1] is not None:
            result[265] = PROFILES[profile][1]
        if profile in ("2024", "2026"):
            result[256] = b"\x01" + hashlib.sha256(b"soft realm" + self.instance_id).digest()
            result[44243] = claims.get("mec", 1)
        return result

    def token(
        self,
        challenge: bytes,
        profile: str = "2024",
        *,
        envelope: int = 907,
        cmw: bool = True,
        rak_hash: str = "sha-256",
        rak_claim: Optional[bytes] = None,
        platform_key: Optional[ec.EllipticCurvePrivateKey] = None,
        realm_key: Optional[ec.EllipticCurvePrivateKey] = None,
        platform_claims: Optional[Mapping[Any, Any]] = None,
        realm_claims: Optional[Mapping[Any, Any]] = None,
        platform_cose: Optional[Mapping[str, Any]] = None,
        realm_cose: Optional[Mapping[str, Any]] = None,
        bad_signature: Sequence[str] = (),
        **claims: Any,
    ) -> bytes:
        """A whole token, see above. ``platform_cose`` and ``realm_cose`` go to cca_cbor.sign1. ``cmw`` False leaves the values under tag 907
        as plain byte strings. Raises ValueError for a challenge of more than 64 bytes."""
        if len(challenge) > 64:
            raise ValueError("a challenge has at most 64 bytes")
        named = (raw_point(self.rak) if profile == "legacy" else cose_key(self.rak)) if rak_claim is None else rak_claim
        platform = _patched(self.platform_claims(profile, named, rak_hash, **claims), platform_claims)
        realm = _patched(self.realm_claims(profile, challenge, named, rak_hash, **claims), realm_claims)
        messages = {
            "platform": sign1(encode(platform), platform_key or self.cpak, **dict(platform_cose or {})),
            "realm": sign1(encode(realm), realm_key or self.rak, **dict(realm_cose or {})),
        }
        for name in bad_signature:
            messages[name] = messages[name][:-1] + bytes([messages[name][-1] ^ 1])
        return collection(messages["platform"], messages["realm"], envelope, cmw)


def collection(platform: Any, realm: Any, envelope: int = 907, cmw: bool = True) -> bytes:
    """Both tokens in their envelope: under tag 907 (unless ``cmw`` is false) as CMW records of content format 263."""
    wrapped = [[263, message] if envelope == 907 and cmw else message for message in (platform, realm)]
    return encode(Tag(envelope, {44234: wrapped[0], 44241: wrapped[1]}))


def _patched(claims: Dict[Any, Any], changes: Optional[Mapping[Any, Any]]) -> Dict[Any, Any]:
    result = {**claims, **(changes or {})}
    return {label: value for label, value in result.items() if value is not DROP}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
