# SPDX-License-Identifier: GPL-3.0-or-later
"""What the verifier refuses, line by line of the checklist, and under which id it says so."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta, timezone

import pytest
from cca_lab import AT, CHALLENGE, DROP, PROFILES, CcaPlatform, Lab, Tag, collection, cose_key, encode, failures, outcome, raw_point, sign1
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import cbor
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.cca import UNCHECKED, verify_cca


def bare(platform):
    return json.dumps(platform.jwk()).encode()


# ---- what holds

@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("envelope", [399, 907])
def test_genuine_tokens_hold(lab, profile, envelope):
    found = lab.verify(profile=profile, envelope=envelope)
    assert (found.authentic, failures(found), found.code, found.anchor, found.not_after) == (True, [], "ok", "nonvendor", None)
    assert len(found.evidence_id) == 64
    claims = found.claims.to_dict()
    assert json.loads(json.dumps(claims)) == claims
    assert claims["machine"] == hashlib.sha256(lab.platform.instance_id).hexdigest()
    assert (claims["profile"], claims["envelope"], claims["endorser"]) == (profile, envelope, "operator")


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_platform_keys_of_three_curves(curve):
    platform = CcaPlatform.open(curve=curve)
    found = verify_cca(platform.token(CHALLENGE), [platform.endorsement()], CHALLENGE, AT, allow_nonvendor=True)
    assert found.authentic is True
    assert bool(found.claims.endorsed)


@pytest.mark.parametrize("name", ["sha-256", "sha-384", "sha-512"])
def test_the_three_hashes_of_the_realm_key(lab, name):
    assert lab.verify(rak_hash=name).authentic is True


# ---- line 1: form. The many cases are in test_cca_token.py; here, that their codes come out

def test_form(lab):
    for data, code in (
        (lab.token() + b"\0", "format"), (b"", "format"), (lab.token(platform_claims={2395: DROP}), "missing-claim"),
        (lab.token(platform_claims={265: "x"}), "profile-unsupported"), (lab.token("2023", realm_claims={265: PROFILES["2024"][1]}), "profile-mix"),
        (lab.token(platform_cose={"protected": {}, "unprotected": {1: -35}}), "cose-alg"),
    ):  # fmt: skip
        found = lab.verify(data)
        assert (found.authentic, failures(found), found.claims, found.evidence_id, found.anchor) == (False, [code], None, None, "none")


# ---- line 2: algorithms

def test_external_data_is_empty(lab):
    assert failures(lab.verify(platform_cose={"aad": b"x"})) == ["platform-signature"]
    assert failures(lab.verify(realm_cose={"aad": b"x"})) == ["realm-signature"]


def test_algorithm_and_curve(lab):
    """An ES256 token under a P-384 key, and the other way round; a signature of the size of another algorithm is refused by its form."""
    small = CcaPlatform.open(curve=ec.SECP256R1())
    found = lab.verify(platform_key=small.cpak)
    assert (found.authentic, failures(found)) == (False, ["alg-key-mismatch"])
    found = lab.verify(endorsements=[lab.platform.endorsement(endorsements=[json.loads(lab.endorsement)["endorsements"][0] | {"key": small.jwk()}])])
    assert (found.authentic, failures(found)) == (False, ["alg-key-mismatch"])
    assert failures(lab.verify(platform_cose={"protected": {1: -7}})) == ["cose-alg"]


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP521R1()])
def test_a_realm_signs_with_es384_only(lab, curve):
    other = ec.generate_private_key(curve)
    found = lab.verify(realm_key=other, rak_claim=cose_key(other))
    assert found.authentic is False
    assert set(failures(found)) == {"cose-alg", "realm-signature"}
    # Only the signature is of the other curve: it does not fit the key that the claims name.
    assert set(failures(lab.verify(realm_key=other))) == {"cose-alg", "realm-signature"}


# ---- line 3: the platform's key

def test_no_endorsement(lab):
    found = lab.verify(endorsements=[])
    assert (found.authentic, failures(found), found.anchor, found.evidence_id) == (None, ["cpak-missing"], "none", None)
    assert outcome(found, "platform-signature") == "not_checked"


def test_other_implementation_and_other_instance(lab):
    other = CcaPlatform.open()
    found = lab.verify(endorsements=[other.endorsement()])
    assert (found.authentic, failures(found)) == (None, ["implementation-id"])
    # The very same key, endorsed for another instance of the same implementation.
    sibling = CcaPlatform(lab.platform.cpak, lab.platform.implementation_id, other.instance_id)
    found = lab.verify(endorsements=[sibling.endorsement()])
    assert (found.authentic, failures(found)) == (None, ["instance-id"])
    sibling = CcaPlatform(lab.platform.cpak, other.implementation_id, lab.platform.instance_id)
    assert failures(lab.verify(endorsements=[sibling.endorsement()])) == ["implementation-id"]


def test_off_curve_key(lab):
    jwk = lab.platform.jwk()
    jwk["y"] = jwk["x"]
    for data in (json.dumps(jwk).encode(), lab.platform.endorsement(endorsements=[json.loads(lab.endorsement)["endorsements"][0] | {"key": jwk}])):
        found = lab.verify(endorsements=[data])
        assert (found.authentic, failures(found)) == (False, ["bad-cpak"])


@pytest.mark.parametrize("coordinate", ["x", "y"])
def test_coordinates_beyond_the_prime(lab, coordinate):
    jwk = lab.platform.jwk()
    jwk[coordinate] = "_" * 64
    assert failures(lab.verify(endorsements=[json.dumps(jwk).encode()])) == ["bad-cpak"]


def test_documents_that_cannot_be_read(lab):
    assert failures(lab.verify(endorsements=[b"{"])) == ["bad-cpak"]
    # Beside a good one they do not matter: endorsements only ever say yes.
    found = lab.verify(endorsements=[b"{", lab.endorsement])
    assert found.authentic is True
    assert "1 documents cannot be read" in next(check.detail for check in found.checks if check.id == "bad-cpak")


def test_a_private_key_endorses_nothing(lab):
    found = lab.verify(endorsements=[json.dumps({**lab.platform.jwk(), "d": "AA"}).encode()])
    assert failures(found) == ["bad-cpak"]


def test_bare_keys(lab):
    found = lab.verify(endorsements=[bare(lab.platform)])
    assert found.authentic is True
    assert outcome(found, "implementation-id") == outcome(found, "instance-id") == "not_checked"
    assert not found.claims.endorsed.names_platform
    # Of several the right one is found.
    crowd = [bare(CcaPlatform.open()) for _index in range(15)]
    assert lab.verify(endorsements=crowd + [bare(lab.platform)]).authentic is True
    found = lab.verify(endorsements=crowd + [bare(CcaPlatform.open()), bare(lab.platform)])
    assert (found.authentic, failures(found)) == (False, ["platform-signature"])
    assert "only 16 of 17" in next(check.detail for check in found.checks if check.id == "platform-signature")


def test_a_bare_key_does_not_stand_in_for_a_known_one(lab):
    """Who has any key that the operator trusts cannot pass as a platform that has an endorsement of its own."""
    other = CcaPlatform.open()
    data = lab.token(platform_key=other.cpak)
    assert lab.verify(data, endorsements=[bare(other)]).authentic is True
    found = lab.verify(data, endorsements=[bare(other), lab.endorsement])
    assert (found.authentic, failures(found)) == (False, ["platform-signature"])


def test_public_test_keys(lab, vectors):
    token = (vectors / "tfrmm-legacy-fvp.cbor").read_bytes()
    key = (vectors / "cpak-tfa-public-test-key.jwk.json").read_bytes()
    challenge = b"\xab" * 64
    found = lab.verify(token, endorsements=[key], expected=challenge)
    assert (found.authentic, failures(found)) == (True, ["test-cpak"])
    found = lab.verify(token, endorsements=[key], expected=challenge, allow_test_keys=True)
    assert (found.authentic, failures(found)) == (True, [])
    assert "PUBLIC" in next(check.detail for check in found.checks if check.id == "test-cpak")
    # A document that binds the ids makes the key no better.
    jwk = json.loads(key)
    claims = found.claims.token.platform_claims
    named = [{"implementation_id": claims.implementation_id.hex(), "instance_id": claims.instance_id.hex(), "key": jwk}]
    document = lab.platform.endorsement("silicon-vendor", endorsements=named)
    found = lab.verify(token, endorsements=[document], expected=challenge, vendor_documents=frozenset([hashlib.sha256(document).hexdigest()]))
    assert (found.anchor, failures(found)) == ("vendor", ["test-cpak"])


def test_anchors(lab):
    """A document is the vendor's only if it says so and the policy names it. Each half alone is the operator's."""
    claimed, own = lab.platform.endorsement("silicon-vendor"), lab.endorsement
    digests = {data: frozenset([hashlib.sha256(data).hexdigest()]) for data in (claimed, own)}
    for data, named, anchor in (
        (claimed, digests[claimed], "vendor"), (claimed, digests[own], "nonvendor"), (claimed, frozenset(), "nonvendor"), (own, digests[own], "nonvendor"),
        (bare(lab.platform), frozenset([hashlib.sha256(bare(lab.platform)).hexdigest()]), "nonvendor"),
    ):  # fmt: skip
        found = lab.verify(endorsements=[data], vendor_documents=named)
        assert (found.authentic, found.anchor) == (True, anchor)
        found = lab.verify(endorsements=[data], vendor_documents=named, allow_nonvendor=False)
        if anchor == "vendor":
            assert (found.authentic, found.anchor) == (True, "vendor")
        else:
            assert (found.authentic, found.anchor, failures(found), found.evidence_id) == (False, "none", ["root-not-pinned"], None)
            assert outcome(found, "platform-signature") == outcome(found, "realm-signature") == outcome(found, "rak-binding") == "not_checked"
    assert lab.verify(endorsements=[own, claimed], vendor_documents=digests[claimed]).anchor == "vendor"


def test_expiry_of_endorsements(lab):
    end = datetime(2026, 12, 1, tzinfo=timezone.utc)
    document = lab.platform.endorsement(not_after="2026-12-01T00:00:00Z")
    found = lab.verify(endorsements=[document], at=end)
    assert (found.authentic, found.not_after, outcome(found, "cpak-expired")) == (True, end, "pass")
    found = lab.verify(endorsements=[document], at=end + timedelta(seconds=1))
    assert (found.authentic, failures(found), found.not_after, found.evidence_id) == (False, ["cpak-expired"], None, None)
    # The document that renews it counts, whatever the order.
    later = lab.platform.endorsement(not_after="2027-12-01T00:00:00Z")
    assert lab.verify(endorsements=[document, later], at=end + timedelta(seconds=1)).authentic is True
    assert outcome(lab.verify(), "cpak-expired") == "not_checked"


# ---- line 4: the platform's signature

def test_platform_signature(lab):
    found = lab.verify(bad_signature=["platform"])
    assert (found.authentic, failures(found), found.evidence_id) == (False, ["platform-signature"], None)
    assert failures(lab.verify(platform_key=lab.platform.rak)) == ["platform-signature"], "signed with the realm's key"
    assert failures(lab.verify(platform_key=CcaPlatform.open().cpak)) == ["platform-signature"]


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0), (0, 0)])
def test_signatures_of_zero(lab, numbers):
    outer = cbor.decode(lab.token(envelope=399)).value
    size = 48
    spoilt = outer[44234][: -2 * size] + b"".join(number.to_bytes(size, "big") for number in numbers)
    assert failures(lab.verify(collection(spoilt, outer[44241], 399))) == ["platform-signature"]
    spoilt = outer[44241][: -2 * size] + b"".join(number.to_bytes(size, "big") for number in numbers)
    assert failures(lab.verify(collection(outer[44234], spoilt, 399))) == ["realm-signature"]


# ---- line 7: the realm's signature

def test_realm_signature(lab):
    found = lab.verify(bad_signature=["realm"])
    assert (found.authentic, failures(found), found.evidence_id) == (False, ["realm-signature"], None)
    assert failures(lab.verify(realm_key=lab.platform.cpak)) == ["realm-signature"]


def test_a_realm_key_off_its_curve(lab):
    key = cbor.decode(cose_key(lab.platform.rak))
    for spoilt in ({**key, -3: key[-2]}, {**key, -2: b"\xff" * 48}):
        assert failures(lab.verify(rak_claim=encode(spoilt))) == ["realm-signature"]
    assert failures(lab.verify(profile="legacy", rak_claim=b"\x04" + bytes(96))) == ["realm-signature"]


# ---- line 8: the binding of the realm's key

@pytest.mark.parametrize("profile", PROFILES)
def test_substituted_realm_key(lab, profile):
    """The platform token of one boot, the realm token of another: signed well, bound to nothing."""
    other = ec.generate_private_key(ec.SECP384R1())
    outer = cbor.decode(lab.token(profile, envelope=399)).value
    claim = raw_point(other) if profile == "legacy" else cose_key(other)
    realm = sign1(encode(lab.platform.realm_claims(profile, CHALLENGE, claim)), other)
    found = lab.verify(collection(outer[44234], realm, 399))
    assert (found.authentic, failures(found), found.evidence_id) == (False, ["rak-binding"], None)
    assert outcome(found, "realm-signature") == "not_checked"


def test_the_digest_is_over_the_bytes_as_received(lab):
    """The same key, written in another order or with a key id: another byte string, so another digest."""
    key = cbor.decode(cose_key(lab.platform.rak))
    plain = cose_key(lab.platform.rak)
    for other in (dict(reversed(list(key.items()))), {**key, 2: b"id"}):
        written = encode(other)
        assert written != plain
        assert lab.verify(rak_claim=written).authentic is True
        assert failures(lab.verify(rak_claim=written, platform_claims={10: hashlib.sha256(plain).digest()})) == ["rak-binding"]


def test_hash_algorithms(lab):
    # Named is another one than was used.
    rak = cose_key(lab.platform.rak)
    assert failures(lab.verify(realm_claims={44240: "sha-512"})) == ["rak-binding"]
    assert failures(lab.verify(rak_hash="sha-512", realm_claims={44240: "sha-256"})) == ["rak-binding"]
    for name in ("md5", "sha-1", "sha256", "SHA-256", "sha3-256", "sha-256-128", ""):
        found = lab.verify(rak_hash=name)
        assert (found.authentic, failures(found), found.evidence_id) == (False, ["hash-algorithm"], None)
        assert outcome(found, "rak-binding") == "not_checked"
        assert failures(lab.verify(platform_claims={2402: name})) == ["hash-algorithm"]
        assert failures(lab.verify(realm_claims={44236: name})) == ["hash-algorithm"]
        assert failures(lab.verify(platform_claims={2399: [{2: bytes(32), 5: bytes(32), 6: name}]})) == ["hash-algorithm"]
    assert failures(lab.verify(platform_claims={10: hashlib.sha256(rak).digest()[:31] + b"\0"})) == ["rak-binding"]


# ---- line 9: the challenge

def test_challenge(lab):
    found = lab.verify(expected=bytes(64))
    assert (found.authentic, failures(found)) == (True, ["challenge-mismatch"])
    for size in (1, 16, 32, 48, 63):
        nonce = bytes(range(1, size + 1))
        token = lab.token(challenge=nonce)
        assert lab.verify(token, expected=nonce).code == "ok"
        assert lab.verify(token, expected=nonce.ljust(64, b"\0")).code == "ok"
        assert failures(lab.verify(token, expected=b"\0" + nonce)) == ["challenge-mismatch"], "padding on the wrong side"
    assert failures(lab.verify(expected=CHALLENGE[:63])) == ["challenge-mismatch"]
    found = lab.verify(expected=UNCHECKED)
    assert (found.authentic, failures(found), outcome(found, "challenge-mismatch")) == (True, [], "not_checked")


# ---- the call

@pytest.mark.parametrize("expected", [b"", bytes(65), "nonce", None])
def test_challenges_that_no_caller_may_expect(lab, expected):
    with pytest.raises(AttestedError) as caught:
        lab.verify(expected=expected)
    assert caught.value.code == "argument"


@pytest.mark.parametrize("at", [datetime(2026, 1, 1), "now", None])
def test_times_that_are_refused(lab, at):
    with pytest.raises(AttestedError) as caught:
        lab.verify(at=at)
    assert caught.value.code == "argument"


# ---- the identity of evidence

def test_identity(lab):
    token = lab.token(envelope=399)
    first = lab.verify(token)
    assert lab.verify(token).evidence_id == first.evidence_id
    outer = cbor.decode(token).value
    assert lab.verify(collection(outer[44234], outer[44241], 907)).evidence_id == first.evidence_id, "another envelope"
    # (r, n-s) is a second valid signature.
    order = int("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
    s = int.from_bytes(outer[44241][-48:], "big")
    twin = lab.verify(collection(outer[44234], outer[44241][:-48] + (order - s).to_bytes(48, "big"), 399))
    assert (twin.authentic, twin.evidence_id) == (True, first.evidence_id)
    # A key id outside of what is signed.
    message = cbor.decode(outer[44241]).value
    hinted = lab.verify(collection(outer[44234], encode(Tag(18, [message[0], {4: b"x"}, message[2], message[3]])), 399))
    assert (hinted.authentic, hinted.evidence_id) == (True, first.evidence_id)
    # A platform token signed anew, with other things in it, does not make the old realm token fresh.
    renewed = cbor.decode(lab.token(envelope=399, platform_claims={2400: "https://elsewhere.example"})).value
    assert lab.verify(collection(renewed[44234], outer[44241], 399)).evidence_id == first.evidence_id
    assert lab.verify(lab.token(challenge=b"another")).evidence_id is not None
    assert lab.verify(lab.token(challenge=b"another"), expected=UNCHECKED).evidence_id != first.evidence_id


# ---- the cache

def test_cache_saves_work_but_no_check(lab):
    cache = VerificationCache()
    token = lab.token(envelope=399)
    first = lab.verify(token, cache=cache)
    assert cache.counters()["stored"] == 2
    assert lab.verify(token, cache=cache) == first
    assert cache.counters()["hits"] == 2
    outer = cbor.decode(token).value
    spoilt = outer[44234][:-1] + bytes([outer[44234][-1] ^ 1])
    assert failures(lab.verify(collection(spoilt, outer[44241], 399), cache=cache)) == ["platform-signature"]
    spoilt = outer[44241][:-1] + bytes([outer[44241][-1] ^ 1])
    assert failures(lab.verify(collection(outer[44234], spoilt, 399), cache=cache)) == ["realm-signature"]
    assert failures(lab.verify(token, endorsements=[CcaPlatform.open().endorsement()], cache=cache)) == ["implementation-id"]
    # The same platform under another key: the proof belongs to the key, too.
    other = CcaPlatform(CcaPlatform.open().cpak, lab.platform.implementation_id, lab.platform.instance_id)
    assert failures(lab.verify(token, endorsements=[other.endorsement()], cache=cache)) == ["platform-signature"]
    assert failures(lab.verify(token, allow_nonvendor=False, cache=cache)) == ["root-not-pinned"]


def test_failures_are_not_remembered(lab):
    cache = VerificationCache()
    lab.verify(bad_signature=["platform"], cache=cache)
    lab.verify(endorsements=[b"{"], cache=cache)
    assert cache.counters()["stored"] == 2, "only what was read of the documents"
    assert failures(lab.verify(bad_signature=["platform"], cache=cache)) == ["platform-signature"]


def test_two_platforms_do_not_mix(lab):
    """Both are endorsed; the platform token of one with the realm token of the other is neither."""
    other = Lab()
    mine, theirs = cbor.decode(lab.token(envelope=399)).value, cbor.decode(other.token(envelope=399)).value
    both = [lab.endorsement, other.endorsement]
    assert lab.verify(other.token(), endorsements=both).authentic is True
    assert failures(lab.verify(collection(mine[44234], theirs[44241], 399), endorsements=both)) == ["rak-binding"]


def test_a_fleet_with_a_document_for_each_machine(lab):
    """The right key is found among many, and the documents are read once."""
    others = [CcaPlatform.open().endorsement() for _index in range(50)]
    documents = others + [lab.endorsement]
    cache = VerificationCache()
    for challenge in (b"1", b"2", b"3"):
        assert lab.verify(lab.token(challenge=challenge), expected=challenge, endorsements=documents, cache=cache).authentic is True
    # Three platform tokens, since the soft platform signs anew for each request; the documents once.
    assert cache.counters()["stored"] == 3 + 1
    # A document that was not there before is seen at once, and one that is gone as well.
    assert failures(lab.verify(endorsements=others, cache=cache)) == ["implementation-id"]
