# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of a token: envelope, COSE_Sign1, profiles, claims. Each rule with what breaks it; lines 1, 2, 5 and 6 of the checklist."""

from __future__ import annotations

import hashlib

import pytest
from cca_lab import CHALLENGE, DROP, PROFILES, Raw, Tag, collection, cose_key, encode, sign1
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import cbor, cose
from ansible_collections.attested.ai.plugins.module_utils.formats.cca_token import parse_token


def refusal(data):
    with pytest.raises(FormatError) as caught:
        parse_token(data)
    return caught.value.code


def parts(lab, **options):
    """(platform message, realm message) of a token."""
    outer = cbor.decode(lab.token(envelope=399, **options)).value
    return outer[44234], outer[44241]


# ---- the envelope

@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("envelope,cmw", [(399, False), (907, True), (907, False)])
def test_every_profile_in_every_envelope(lab, profile, envelope, cmw):
    token = parse_token(lab.token(profile, envelope=envelope, cmw=cmw))
    assert (token.generation, token.envelope) == (profile, envelope)
    assert token.realm_claims.challenge == CHALLENGE
    assert token.platform_claims.instance_id == lab.platform.instance_id
    assert len(token.platform_claims.components) == 3
    assert token.platform_claims.unknown == token.realm_claims.unknown == ()


def test_envelopes_that_are_refused(lab):
    platform, realm = parts(lab)
    good = {44234: platform, 44241: realm}
    cases = {
        "trailing byte": collection(platform, realm) + b"\0",
        "other tag": encode(Tag(400, good)),
        "no tag": encode(good),
        "two tags": encode(Tag(907, Tag(399, good))),
        "extra key": encode(Tag(399, {**good, 44242: b""})),
        "missing realm": encode(Tag(399, {44234: platform})),
        "missing platform": encode(Tag(399, {44241: realm})),
        "text key": encode(Tag(399, {44234: platform, "44241": realm})),
        "list": encode(Tag(399, [platform, realm])),
        "record under 399": encode(Tag(399, {44234: [263, platform], 44241: [263, realm]})),
        "other content format": encode(Tag(907, {44234: [262, platform], 44241: [263, realm]})),
        "text content type": encode(Tag(907, {44234: ["application/eat+cwt", platform], 44241: [263, realm]})),
        "longer record": encode(Tag(907, {44234: [263, platform, 1], 44241: [263, realm]})),
        "shorter record": encode(Tag(907, {44234: [263], 44241: [263, realm]})),
        "record of text": encode(Tag(907, {44234: [263, "x"], 44241: [263, realm]})),
        "record of true": encode(Tag(907, {44234: [True, platform], 44241: [263, realm]})),
        "token not wrapped in bytes": encode(Tag(399, {44234: Raw(platform), 44241: Raw(realm)})),
        "null": encode(Tag(399, {44234: None, 44241: realm})),
        "empty": b"",
        "indefinite map": b"\xd9\x01\x8f\xbf" + encode(44234) + encode(platform) + encode(44241) + encode(realm) + b"\xff",
        "long form of a key": b"\xd9\x01\x8f\xa2\x1a\x00\x00\xac\xca" + encode(platform) + encode(44241) + encode(realm),
    }
    assert {name: refusal(data) for name, data in cases.items()} == dict.fromkeys(cases, "format")


def test_duplicates_in_the_envelope(lab):
    """Also one that shadows the genuine entry, whichever of the two a reader would keep."""
    platform, realm = parts(lab)
    other = parts(lab, challenge=b"other")[1]
    for first, second in ((realm, other), (other, realm), (realm, realm)):
        data = b"\xd9\x01\x8f\xa3" + encode(44234) + encode(platform) + encode(44241) + encode(first) + encode(44241) + encode(second)
        assert refusal(data) == "duplicate-claim"


def test_swapped_tokens(lab):
    for profile in PROFILES:
        platform, realm = parts(lab, profile=profile)
        for data in (collection(realm, platform), collection(platform, platform), collection(realm, realm)):
            assert refusal(data) == "format"


# ---- COSE_Sign1

PAYLOAD = b"\xa0"


def message(lab, **options):
    return sign1(PAYLOAD, lab.platform.cpak, **options)


def message_refusal(data):
    with pytest.raises(FormatError) as caught:
        cose.parse_sign1(data, "here")
    return caught.value.code


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_the_three_algorithms(curve):
    key = ec.generate_private_key(curve)
    found = cose.parse_sign1(sign1(PAYLOAD, key), "here")
    assert found.payload == PAYLOAD
    assert len(found.signature) == found.algorithm.signature_size
    size = found.algorithm.signature_size // 2
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    digest = {"sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}[found.algorithm.hash_name]
    numbers = [int.from_bytes(found.signature[at : at + size], "big") for at in (0, size)]
    key.public_key().verify(encode_dss_signature(*numbers), found.signed, ec.ECDSA(digest()))


def test_algorithm_only_from_the_protected_header(lab):
    cases = {
        "only unprotected": message(lab, protected={}, unprotected={1: -35}),
        "only unprotected, header as an empty string": encode(Tag(18, [b"", {1: -35}, PAYLOAD, bytes(96)])),
        "in both": message(lab, unprotected={1: -35}),
        "in neither": message(lab, protected={}),
        "unknown": message(lab, protected={1: -257}),
        "EdDSA": message(lab, protected={1: -8}),
        "HMAC": message(lab, protected={1: 5}),
        "text": message(lab, protected={1: "ES384"}),
        "null": message(lab, protected={1: None}),
        "signature of another size": encode(Tag(18, [b"\xa1\x01\x38\x22", {}, PAYLOAD, bytes(64)])),
        "signature in DER": encode(Tag(18, [b"\xa1\x01\x38\x22", {}, PAYLOAD, bytes(102)])),
        "ES256 with the signature of P-384": message(lab, protected={1: -7}),
    }
    assert {name: message_refusal(data) for name, data in cases.items()} == dict.fromkeys(cases, "cose-alg")


def test_messages_that_are_refused(lab):
    header = b"\xa1\x01\x38\x22"
    good = [header, {}, PAYLOAD, bytes(96)]
    cases = {
        "untagged": message(lab, tag=None),
        "COSE_Sign": encode(Tag(98, good)),
        "COSE_Mac0": encode(Tag(17, good)),
        "CWT tag around": encode(Tag(61, Tag(18, good))),
        "three parts": encode(Tag(18, good[:3])),
        "five parts": encode(Tag(18, good + [b""])),
        "detached payload": encode(Tag(18, [header, {}, None, bytes(96)])),
        "header not in bytes": encode(Tag(18, [{1: -35}, {}, PAYLOAD, bytes(96)])),
        "unprotected is bytes": encode(Tag(18, [header, b"", PAYLOAD, bytes(96)])),
        "header is a list": encode(Tag(18, [b"\x80", {}, PAYLOAD, bytes(96)])),
        "header with trailing byte": encode(Tag(18, [header + b"\0", {}, PAYLOAD, bytes(96)])),
        "crit": message(lab, protected={1: -35, 2: [1]}),
        "crit of something unknown": message(lab, protected={1: -35, 2: ["x"], "x": 1}),
        "unknown protected": message(lab, protected={1: -35, 99: 0}),
        "unknown unprotected": message(lab, unprotected={99: 0}),
        "certificate chain": message(lab, unprotected={33: b""}),
        "key id twice": message(lab, protected={1: -35, 4: b"a"}, unprotected={4: b"a"}),
        "trailing byte": message(lab) + b"\0",
    }
    assert {name: message_refusal(data) for name, data in cases.items()} == dict.fromkeys(cases, "format")
    double = encode(Tag(18, [b"\xa2\x01\x38\x22\x01\x26", {}, PAYLOAD, bytes(96)]))
    assert message_refusal(double) == "duplicate-claim"


def test_hints_in_headers_are_tolerated(lab):
    for options in ({"unprotected": {4: b"key"}}, {"protected": {1: -35, 4: b"key"}}, {"protected": {1: -35, 3: 61}}):
        assert cose.parse_sign1(message(lab, **options), "here").algorithm.name == "ES384"


# ---- COSE_Key

def test_cose_keys(lab):
    good = cbor.decode(cose_key(lab.platform.rak))
    assert cose.parse_ec2_key(encode(good), "key").curve == "P-384"
    assert cose.parse_ec2_key(encode({**good, 3: -35, 4: [2], 2: b"id"}), "key").x == good[-2]
    for changes in (
        {1: 1}, {1: 3}, {1: "EC2"}, {1: True}, {-1: 1}, {-1: 4}, {-1: 6}, {-1: "P-384"}, {-2: good[-2][1:]}, {-2: b"\0" + good[-2]},
        {-3: True}, {-3: DROP}, {-2: DROP}, {1: DROP}, {-1: DROP}, {3: -7}, {3: -36}, {3: "ES384"}, {4: [1]}, {4: 2}, {4: []}, {5: b""},
        {-4: b"private"}, {"x": 1},
    ):  # fmt: skip
        spoilt = {label: value for label, value in {**good, **changes}.items() if value is not DROP}
        with pytest.raises(FormatError):
            cose.parse_ec2_key(encode(spoilt), "key")


# ---- profiles

def test_profiles(lab):
    assert refusal(lab.token(platform_claims={265: "tag:arm.com,2025:cca_platform#2.0.0"})) == "profile-unsupported"
    assert refusal(lab.token(realm_claims={265: "tag:arm.com,2025:realm#2.0.0"})) == "profile-unsupported"
    assert refusal(lab.token(realm_claims={265: ""})) == "profile-unsupported"
    assert refusal(lab.token(platform_claims={265: DROP})) == "missing-claim"
    assert refusal(lab.token(platform_claims={265: b"tag"})) == "format"
    assert refusal(lab.token(realm_claims={265: None})) == "format"
    assert refusal(lab.token(realm_claims={265: {}})) == "format"
    # A platform's profile on a realm and the other way round.
    assert refusal(lab.token(platform_claims={265: PROFILES["2024"][1]})) == "profile-unsupported"
    assert refusal(lab.token(realm_claims={265: PROFILES["2024"][0]})) == "profile-unsupported"


@pytest.mark.parametrize("platform", PROFILES)
@pytest.mark.parametrize("realm", PROFILES)
def test_every_mix_of_profiles(lab, platform, realm):
    claims = {265: PROFILES[realm][1] or DROP}
    data = lab.token(platform, realm_claims=claims)
    if platform == realm:
        assert parse_token(data).generation == platform
    else:
        assert refusal(data) == "profile-mix"


@pytest.mark.parametrize("ending", [";delegated", "#delegated"])
def test_delegated_form(lab, ending):
    assert parse_token(lab.token("2026", platform_claims={265: PROFILES["2026"][0] + ending})).generation == "2026"
    assert refusal(lab.token("2024", platform_claims={265: PROFILES["2024"][0] + ending})) == "profile-unsupported"


# ---- claims

PLATFORM = {10: "challenge", 2396: "implementation id", 256: "instance id", 2401: "configuration", 2395: "lifecycle", 2399: "components", 2402: "hash"}
REALM = {10: "challenge", 44235: "RPV", 44236: "hash", 44237: "RAK", 44238: "RIM", 44239: "REM", 44240: "RAK hash"}


@pytest.mark.parametrize("profile", PROFILES)
def test_each_missing_claim(lab, profile):
    platform = dict(PLATFORM)
    realm = dict(REALM)
    if profile in ("2024", "2026"):
        platform[2394] = "client id"
        realm[44243] = "MEC policy"
    if profile == "2026":
        platform[2408] = platform.pop(10)
    for label in platform:
        assert refusal(lab.token(profile, platform_claims={label: DROP})) == "missing-claim", label
    for label in realm:
        assert refusal(lab.token(profile, realm_claims={label: DROP})) == "missing-claim", label


def test_each_wrong_platform_claim(lab):
    component = {2: bytes(32), 5: bytes(32)}
    wrong = {
        10: (b"", bytes(31), bytes(33), bytes(65), "x", 0, None, [bytes(32), bytes(32)]),
        2396: (bytes(31), bytes(33), "x" * 32, None),
        256: (bytes(33), b"\x02" + bytes(32), b"\x01" + bytes(31), b"\x01" + bytes(33), "x"),
        2401: ("x", 1, None),
        2395: (-1, 0x10000, "12288", b"\x30\x00", True, None),
        2399: ([], {}, b"", [1], [[]], [{}], [{2: bytes(32)}], [{5: bytes(32)}], [{**component, 2: bytes(20)}], [{**component, 5: bytes(31)}],
               [{**component, 1: 7}], [{**component, 4: b"1"}], [{**component, 6: 1}], [{**component, 7: 1}], [{**component, 8: []}],
               [{**component, 8: [b"x"]}], [{**component, 8: bytes(32)}], [component] * 257, None),
        2400: (1, b"x", None),
        2402: (1, b"sha-256", None),
        2394: (0, 2, -1, "1", None, True),
        2403: ("x", None),
        2404: ({}, [], 1, None, [1], [{}, []]),
        2405: ({}, [], 1, None, ["x"]),
        2406: ("x", None),
        2408: (bytes(32),),
    }  # fmt: skip
    for label, values in wrong.items():
        for value in values:
            code = refusal(lab.token(platform_claims={label: value}))
            missing = label == 2399 and value in ([{}], [{2: bytes(32)}], [{5: bytes(32)}])
            assert code == ("missing-claim" if missing else "format"), (label, value)


def test_each_wrong_realm_claim(lab):
    rak = cbor.decode(cose_key(lab.platform.rak))
    wrong = {
        10: (bytes(63), bytes(65), b"", "x" * 64, None),
        44235: (bytes(63), bytes(65), b"", "x", None),
        44236: (1, b"x", None),
        44237: (b"", "x", None, b"\xa0", encode(rak) + b"\0", encode({**rak, 9: 1}), b"\x04" + rak[-2] + rak[-3]),
        44238: (bytes(31), bytes(33), bytes(48), b"", "x" * 32, None),
        44239: ([], [bytes(32)] * 3, [bytes(32)] * 5, [bytes(32)] * 3 + [bytes(31)], [bytes(32)] * 3 + [bytes(64)], [bytes(48)] * 4,
                ["x" * 32] * 4, {}, None),
        44240: (1, b"sha-256", None),
        256: (bytes(33), b"\x01" + bytes(31), "x", None),
        44243: (2, -1, "Private", b"", True, None, [0]),
        44244: (2, "yes", False, None),
        44257: (bytes(31), "x", None),
    }  # fmt: skip
    for label, values in wrong.items():
        for value in values:
            assert refusal(lab.token(realm_claims={label: value})) == "format", (label, value)
    assert refusal(lab.token(realm_claims={44238: bytes(64)})) == "format", "REMs of another size"
    assert refusal(lab.token("legacy", realm_claims={44237: cose_key(lab.platform.rak)})) == "format"
    assert refusal(lab.token("legacy", realm_claims={44237: b"\x02" + bytes(96)})) == "format"


def test_sizes_follow_the_hash(lab):
    for name, size in (("sha-256", 32), ("sha-384", 48), ("sha-512", 64)):
        for given_size in (32, 48, 64):
            options = {"rim": bytes(given_size), "rems": [bytes(given_size)] * 4, "hash_name": name}
            for profile in PROFILES:
                if given_size in (size, 64):
                    assert len(parse_token(lab.token(profile, **options)).realm_claims.rim) == given_size
                else:
                    assert refusal(lab.token(profile, **options)) == "format"


def test_two_claims_that_could_bind_the_key(lab):
    digest = hashlib.sha256(cose_key(lab.platform.rak)).digest()
    for profile in ("legacy", "2023", "2024"):
        assert refusal(lab.token(profile, platform_claims={2408: digest})) == "format"
    assert refusal(lab.token("2026", platform_claims={10: digest})) == "format"


def test_duplicate_claims(lab):
    """In the claims, inside of a component, and in the key."""
    def doubled(mapping, label, value):
        data = encode(mapping)
        size = len(mapping) + 1
        assert size < 24
        return bytes([0xA0 | size]) + data[1:] + encode(label) + encode(value)

    platform = lab.platform
    rak = cose_key(platform.rak)
    claims = platform.platform_claims("2024", rak)
    realm = platform.realm_claims("2024", CHALLENGE, rak)
    good = sign1(encode(realm), platform.rak)
    assert refusal(collection(sign1(doubled(claims, 2395, 0x3000), platform.cpak), good)) == "duplicate-claim"
    part = Raw(doubled({2: bytes(32), 5: bytes(32)}, 2, bytes(32)))
    assert refusal(lab.token(platform_claims={2399: [part]})) == "duplicate-claim"
    assert refusal(collection(sign1(encode(claims), platform.cpak), sign1(doubled(realm, 10, bytes(64)), platform.rak))) == "duplicate-claim"
    assert refusal(lab.token(rak_claim=doubled(cbor.decode(rak), -2, bytes(48)))) == "duplicate-claim"


def test_optional_claims_are_read(lab):
    token = parse_token(lab.token(
        platform_claims={2403: b"made", 2404: [{1: "x"}], 2405: [{}], 2406: b"peers", 2400: DROP,
                         2399: [{2: bytes(32), 5: bytes(48), 7: True, 8: [bytes(64)]}]},
        realm_claims={256: DROP, 44243: "shared", 44244: 1, 44257: bytes(32)},
    ))  # fmt: skip
    platform, realm = token.platform_claims, token.realm_claims
    assert (platform.manufacturing_config, len(platform.extensions), platform.peer_signers) == (b"made", 1, b"peers")
    assert platform.verification_service is None
    assert platform.components[0].live_activation is True
    assert platform.components[0].countersigners == (bytes(64),)
    assert (realm.instance_id, realm.mec_policy, realm.lfa_policy, realm.devices_hash) == (None, "shared", "allow", bytes(32))


def test_unknown_claims_are_named(lab):
    token = parse_token(lab.token(
        "2023", platform_claims={99999: 1, "vendor": b"", 2403: b"later"}, realm_claims={44243: 0, -1: 0},
    ))  # fmt: skip
    assert token.platform_claims.unknown == ("platform token 99999", "platform token 'vendor'", "platform token 2403")
    assert token.realm_claims.unknown == ("realm token 44243", "realm token -1")
    token = parse_token(lab.token(platform_claims={2399: [{2: bytes(32), 5: bytes(32), 9: 0}]}))
    assert token.platform_claims.unknown == ("platform token software component 0 9",)


@given(st.binary(max_size=200))
def test_any_bytes(data):
    with pytest.raises(FormatError):
        parse_token(data)


@given(st.data())
def test_spoilt_tokens_raise_only_our_errors(lab, data):
    token = bytearray(lab.token())
    for _change in range(data.draw(st.integers(1, 4))):
        token[data.draw(st.integers(0, len(token) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_token(bytes(token))
    except FormatError:
        pass
