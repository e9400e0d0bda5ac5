# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The claims of the two tokens of Arm CCA: presence, types and sizes. Labels: draft-ffm-rats-cca-token-00 to -04, RMM specification A7.2.

The set depends on the generation of the profile: "legacy", "2023", "2024" or "2026". The rules for 2024 and 2026 follow drafts; no genuine
token with them was seen. Where the sources disagree: MEC and LFA policies are numbers in the RMM specification and words in a draft, both
are read; the realm's instance id is demanded by one only, so it may be absent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import cose
from ansible_collections.attested.ai.plugins.module_utils.formats.cca_reader import HASH_SIZES, ClaimReader

LEGACY, V2023, V2024, V2026 = "legacy", "2023", "2024", "2026"
PROFILE, CHALLENGE = 265, 10
RAK_HASH = 2408
IMPLEMENTATION_ID, REALM_KEY = 2396, 44237

# IANA Hash Function Textual Names -> hashlib.
HASHES: Mapping[str, str] = {"sha-256": "sha256", "sha-384": "sha384", "sha-512": "sha512"}
COMPONENTS_MAX = 256
REM_COUNT = 4
_REGISTER = 64

_RMSD = 1
_MEC = {0: "shared", 1: "private", "shared": "shared", "private": "private"}
_LFA = {0: "disallow", 1: "allow", "disallow": "disallow", "allow": "allow"}


@dataclass(frozen=True)
class Component:
    """One software component of the platform. ``signer`` and ``measurement`` are digests of 32, 48 or 64 bytes."""

    measurement: bytes
    signer: bytes
    name: Optional[str] = None
    version: Optional[str] = None
    hash_algorithm: Optional[str] = None
    live_activation: Optional[bool] = None
    countersigners: Tuple[bytes, ...] = ()

    def to_dict(self) -> Dict[str, Any]:
        return {
            "type": self.name,
            "version": self.version,
            "signer": self.signer.hex(),
            "measurement": self.measurement.hex(),
            "hash_algorithm": self.hash_algorithm,
            "live_activation": self.live_activation,
            "countersigners": [signer.hex() for signer in self.countersigners],
        }


@dataclass(frozen=True)
class PlatformClaims:
    """What the platform token says. ``rak_hash`` is the digest that names the realm's key: the challenge, from 2026 on claim 2408.

    ``lifecycle`` is 0 to 0xffff. ``extensions`` and ``tbb_rotpk`` are decoded CBOR that nothing here interprets. ``unknown`` names the
    claims that this version does not know.
    """

    profile: str
    rak_hash: bytes
    implementation_id: bytes
    instance_id: bytes
    configuration: bytes
    lifecycle: int
    components: Tuple[Component, ...]
    hash_algorithm: str
    verification_service: Optional[str] = None
    client_id: Optional[int] = None
    manufacturing_config: Optional[bytes] = None
    extensions: Tuple[Any, ...] = ()
    tbb_rotpk: Tuple[Any, ...] = ()
    peer_signers: Optional[bytes] = None
    unknown: Tuple[str, ...] = ()

    def to_dict(self) -> Dict[str, Any]:
        return {
            "profile": self.profile,
            "rak_hash": self.rak_hash.hex(),
            "implementation_id": self.implementation_id.hex(),
            "instance_id": self.instance_id.hex(),
            "configuration": self.configuration.hex(),
            "lifecycle": self.lifecycle,
            "components": [component.to_dict() for component in self.components],
            "hash_algorithm": self.hash_algorithm,
            "verification_service": self.verification_service,
            "client_id": self.client_id,
            "manufacturing_config": _hex(self.manufacturing_config),
            "extensions": len(self.extensions),
            "tbb_rotpk": len(self.tbb_rotpk),
            "peer_signers": _hex(self.peer_signers),
        }


@dataclass(frozen=True)
class RealmClaims:
    """What the realm token says. ``rak`` holds the bytes of claim 44237 as received, ``rak_point`` the key in it (not yet proven
    to lie on its curve). RIM and REMs have one size. ``mec_policy``: "shared", "private"; ``lfa_policy``: "allow", "disallow";
    None where the token does not say."""

    profile: Optional[str]
    challenge: bytes
    rpv: bytes
    rim: bytes
    rems: Tuple[bytes, ...]
    hash_algorithm: str
    rak: bytes
    rak_point: cose.EcPoint
    rak_hash_algorithm: str
    instance_id: Optional[bytes] = None
    mec_policy: Optional[str] = None
    lfa_policy: Optional[str] = None
    devices_hash: Optional[bytes] = None
    unknown: Tuple[str, ...] = ()

    def to_dict(self) -> Dict[str, Any]:
        return {
            "profile": self.profile,
            "challenge": self.challenge.hex(),
            "rpv": self.rpv.hex(),
            "rim": self.rim.hex(),
            "rem": [rem.hex() for rem in self.rems],
            "hash_algorithm": self.hash_algorithm,
            "rak_hash_algorithm": self.rak_hash_algorithm,
            "instance_id": _hex(self.instance_id),
            "mec_policy": self.mec_policy,
            "lfa_policy": self.lfa_policy,
            "devices_hash": _hex(self.devices_hash),
        }


def read_platform(claims: Mapping[Any, Any], generation: str) -> PlatformClaims:
    """Read the platform's claim map. Raises FormatError: "missing-claim" where one is absent, "format" where one has the wrong form."""
    reader = ClaimReader(claims, "platform token")
    newest = generation == V2026
    later = generation in (V2024, V2026)
    # Two claims that could bind the realm's key, of which we look at one, would be an invitation to differ.
    reader.absent(CHALLENGE if newest else RAK_HASH, "binds the realm's key in other profiles")
    client_id = reader.integer(2394, "client id", 0xFFFFFFFF, required=later)
    if client_id is not None and client_id != _RMSD:
        raise FormatError("the client id is %d, only %d (realm management) may ask for it" % (client_id, _RMSD), where=reader.where)
    return PlatformClaims(
        profile=reader.text(PROFILE, "profile"),
        rak_hash=reader.octets(RAK_HASH, "hash of the realm's key", HASH_SIZES) if newest else reader.octets(CHALLENGE, "challenge", HASH_SIZES),
        implementation_id=reader.octets(IMPLEMENTATION_ID, "implementation id", (32,)),
        instance_id=reader.ueid("instance id", required=True) or b"",
        configuration=reader.octets(2401, "configuration"),
        lifecycle=reader.integer(2395, "lifecycle", 0xFFFF, required=True) or 0,
        components=_components(reader, later),
        hash_algorithm=reader.text(2402, "hash algorithm"),
        verification_service=reader.optional_text(2400, "verification service"),
        client_id=client_id,
        manufacturing_config=reader.optional_octets(2403, "manufacturing configuration") if later else None,
        extensions=reader.maps(2404, "extensions") if later else (),
        tbb_rotpk=reader.maps(2405, "TBB ROTPK") if later else (),
        peer_signers=reader.optional_octets(2406, "peer signers") if later else None,
        unknown=reader.unknown(),
    )


def read_realm(claims: Mapping[Any, Any], generation: str) -> RealmClaims:
    """Read the realm's claim map. Raises FormatError as read_platform does."""
    reader = ClaimReader(claims, "realm token")
    later = generation in (V2024, V2026)
    rak = reader.octets(REALM_KEY, "public key")
    where = "realm token public key"
    rim = reader.octets(44238, "initial measurement", HASH_SIZES)
    rems = reader.items(44239, "extensible measurements", required=True)
    hash_algorithm = reader.text(44236, "hash algorithm")
    _check_measurements(rim, rems, hash_algorithm)
    return RealmClaims(
        profile=reader.optional_text(PROFILE, "profile"),
        challenge=reader.octets(CHALLENGE, "challenge", (64,)),
        rpv=reader.octets(44235, "personalisation value", (64,)),
        rim=rim,
        rems=rems,
        hash_algorithm=hash_algorithm,
        rak=rak,
        rak_point=cose.parse_point(rak, "P-384", where) if generation == LEGACY else cose.parse_ec2_key(rak, where),
        rak_hash_algorithm=reader.text(44240, "public key hash algorithm"),
        instance_id=reader.ueid("instance id") if later else None,
        mec_policy=reader.choice(44243, "MEC policy", _MEC, required=True) if later else None,
        lfa_policy=reader.choice(44244, "LFA policy", _LFA) if later else None,
        devices_hash=reader.optional_octets(44257, "hash of the devices' token", HASH_SIZES) if later else None,
        unknown=reader.unknown(),
    )


def _check_measurements(rim: bytes, rems: Sequence[Any], hash_algorithm: str) -> None:
    if len(rems) != REM_COUNT or not all(isinstance(rem, bytes) and len(rem) == len(rim) for rem in rems):
        raise FormatError("%d extensible measurements of the size of the initial one (%d bytes) were expected" % (REM_COUNT, len(rim)), where="realm token")
    name = HASHES.get(hash_algorithm)
    if name is None:
        return
    size = hashlib.new(name).digest_size
    # The registers are 64 bytes wide (RMM specification A7.1), and upstream's test tokens show them whole under sha-256.
    if len(rim) not in (size, _REGISTER):
        raise FormatError("the measurements have %d bytes, those of %s have %d, or %d" % (len(rim), hash_algorithm, size, _REGISTER), where="realm token")


def _components(reader: ClaimReader, later: bool) -> Tuple[Component, ...]:
    entries = reader.items(2399, "software components", required=True)
    if not 1 <= len(entries) <= COMPONENTS_MAX:
        raise FormatError("1 to %d software components were expected" % COMPONENTS_MAX, where=reader.where)
    components: List[Component] = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise FormatError("software component %d is no map" % index, where=reader.where)
        inner = ClaimReader(entry, "%s software component %d" % (reader.where, index))
        components.append(Component(
            measurement=inner.octets(2, "measurement", HASH_SIZES),
            signer=inner.octets(5, "signer id", HASH_SIZES),
            name=inner.optional_text(1, "type"),
            version=inner.optional_text(4, "version"),
            hash_algorithm=inner.optional_text(6, "hash algorithm"),
            live_activation=inner.boolean(7, "live activation") if later else None,
            countersigners=inner.digests(8, "countersigners") if later else (),
        ))  # fmt: skip
        reader.strange.extend(inner.unknown())
    return tuple(components)


def _hex(data: Optional[bytes]) -> Optional[str]:
    return None if data is None else data.hex()
