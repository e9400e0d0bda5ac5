# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from jwcrypto import jwk as jwcrypto_jwk
from jwcrypto import jws as jwcrypto_jws

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si, jws
from ansible_collections.attested.ai.plugins.module_utils.appraisal.ear import DOTTED_PROFILES, PROFILE, jwks, read_ear, sign_ear
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ChainReport, ItemResult, Result
from ansible_collections.attested.ai.plugins.module_utils.checks import failed, passed
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError

AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
KEYS = {"ES256": ec.derive_private_key(7, ec.SECP256R1()), "ES384": ec.derive_private_key(7, ec.SECP384R1())}
VECTORS = Path(os.environ.get("ATTESTED_VECTORS", Path(__file__).resolve().parents[4] / "shared" / "vectors"))


def result(checks=(), items=None, expires_at=AT + timedelta(days=1), anchor="vendor", vector=None):
    item = ItemResult(
        "sev-snp",
        True,
        (passed("policy-debug", "off"),),
        {"hardware": 2} if vector is None else vector,
        {"product": "genoa"},
        anchor,
        expires_at,
        "service",
        "ab" * 32,
    )
    return Result(
        AT, "bm9uY2Vub25jZW5vbmNl", "cd" * 32, "p", "ef" * 32, {}, ChainReport("service", "service", False, ""), tuple(checks), items or {"cpu0": item}
    )


def read(token, key=KEYS["ES384"], at=AT, nonce=None):
    return read_ear(token, jwks(key), at=at, expected_nonce=nonce)


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(header, payload, signature=b"\0" * 96):
    return ".".join(b64(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, payload, signature))


def signed(payload, key=KEYS["ES384"]):
    return jws.sign(payload, key, "eat+jwt")


@pytest.mark.parametrize("alg", sorted(KEYS))
def test_what_we_sign_another_implementation_verifies(alg):
    token = sign_ear(result(), KEYS[alg], issued_at=AT)
    other = jwcrypto_jws.JWS()
    other.deserialize(token, alg=alg)
    other.verify(jwcrypto_jwk.JWK(**jws.public_jwk(KEYS[alg])))
    payload = json.loads(other.payload)
    assert payload["eat_profile"] == PROFILE == "tag:ietf.org,2026:rats/ear#04"
    assert payload["ear_status"] == payload["submods"]["cpu0"]["ear_status"] == "affirming"
    assert payload["submods"]["cpu0"]["ear_appraisal_policy_ids"] == ["p@sha256:" + "ef" * 32]
    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    assert header == {"alg": alg, "typ": "eat+jwt", "kid": jwcrypto_jwk.JWK(**jws.public_jwk(KEYS[alg])).thumbprint()}
    assert not any("." in name for name in payload)


def test_we_read_back_what_we_signed():
    ear = read(sign_ear(result(), KEYS["ES384"], issued_at=AT), nonce="bm9uY2Vub25jZW5vbmNl")
    assert (ear.status, ear.dotted, ear.issued_at, ear.expires_at) == ("affirming", False, AT, AT + timedelta(minutes=5))
    assert ear.submods["cpu0"].vector == {"hardware": 2}
    assert ear.submods["cpu0"].verifier_claims["checks"] == [{"id": "policy-debug", "outcome": "pass", "detail": "off"}]
    assert ear.claims["attested_ai"]["anchor"] == "vendor"


def test_it_never_outlives_what_it_rests_on():
    soon = AT + timedelta(seconds=90, microseconds=900000)
    assert read(sign_ear(result(expires_at=soon), KEYS["ES384"], issued_at=AT)).expires_at == AT + timedelta(seconds=90)
    with pytest.raises(AttestedError, match="expired"):
        sign_ear(result(expires_at=AT), KEYS["ES384"], issued_at=AT)


def test_a_refused_result_is_contraindicated_and_a_foreign_anchor_shows():
    ear = read(sign_ear(result(checks=[failed("ssh-host-key", "no")], anchor="nonvendor"), KEYS["ES384"], issued_at=AT))
    assert ear.status == "contraindicated"
    assert ear.claims["attested_ai"]["accepted"] is False
    assert ear.claims["attested_ai"]["anchor"] == ear.submods["cpu0"].verifier_claims["anchor"] == "nonvendor"


def test_only_two_curves_sign():
    for key in (ec.derive_private_key(7, ec.SECP521R1()), ec.derive_private_key(7, ec.SECP256K1())):
        with pytest.raises(FormatError, match="P-256 or P-384"):
            sign_ear(result(), key, issued_at=AT)


def trustee_payload():
    return json.loads((VECTORS / "coco" / "trustee" / "as" / "example.token.json").read_text())


def test_trustee_example_token_with_dotted_names():
    payload = trustee_payload()
    at = datetime.fromtimestamp(payload["iat"], timezone.utc)
    key = jwcrypto_jwk.JWK.generate(kty="EC", crv="P-256")
    token = jwcrypto_jws.JWS(json.dumps(payload))
    # As Trustee writes it: the key in the header, no key id, no type.
    token.add_signature(key, "ES256", json.dumps({"alg": "ES256", "typ": "JWT", "jwk": key.export_public(as_dict=True)}))
    ear = read_ear(token.serialize(compact=True), {"keys": [key.export_public(as_dict=True)]}, at=at, expected_nonce=None)
    assert ear.dotted and ear.profile == DOTTED_PROFILES[1]
    assert ear.status == "contraindicated"
    assert ear.submods["cpu0"].vector["hardware"] == 97
    assert ear.submods["cpu0"].policy_ids == ("default",)
    assert "sgx" in ear.submods["cpu0"].attester_claims
    assert ear.verifier_id["developer"] == "https://confidentialcontainers.org"
    with pytest.raises(FormatError, match="expired"):
        read_ear(token.serialize(compact=True), {"keys": [key.export_public(as_dict=True)]}, at=at + timedelta(minutes=6), expected_nonce=None)


def test_the_key_in_the_header_is_never_trusted():
    stranger = ec.derive_private_key(8, ec.SECP384R1())
    payload = json.loads(base64.urlsafe_b64decode(sign_ear(result(), stranger, issued_at=AT).split(".")[1] + "=="))
    token = jwcrypto_jws.JWS(json.dumps(payload))
    key = jwcrypto_jwk.JWK.from_pyca(stranger)
    token.add_signature(key, "ES384", json.dumps({"alg": "ES384", "jwk": key.export_public(as_dict=True)}))
    with pytest.raises(FormatError, match="does not verify"):
        read(token.serialize(compact=True))


def test_trustees_published_key_set_is_usable():
    published = json.loads((VECTORS / "coco" / "trustee" / "as" / "expected-jwks.json").read_text())
    (key,) = jws.parse_jwks(published)
    assert (key.alg, key.kid) == ("ES256", None)


def good_payload():
    return json.loads(base64.urlsafe_b64decode(sign_ear(result(), KEYS["ES384"], issued_at=AT).split(".")[1] + "=="))


def test_the_algorithm_is_that_of_the_trusted_key():
    payload = json.dumps(good_payload()).encode()
    public = json.dumps(jws.public_jwk(KEYS["ES384"])).encode()
    for header, code in (
        ({"alg": "none"}, "ear-algorithm"),
        ({"alg": "HS384"}, "ear-algorithm"),
        ({"alg": "ES256"}, "ear-key-unknown"),
        ({"alg": "es384"}, "ear-algorithm"),
    ):
        start = b64(json.dumps(header).encode()) + "." + b64(payload)
        for signature in (hmac.new(public, start.encode(), hashlib.sha384).digest(), bytes(96)):
            with pytest.raises(FormatError) as caught:
                read(start + "." + b64(signature))
            assert caught.value.code == code
    with pytest.raises(FormatError):
        read(b64(b'{"alg":"none"}') + "." + b64(payload) + ".")


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"ES384","alg":"ES384"}', b'{"alg":"ES384","crit":["x"],"x":1}', b'{"alg":"ES384","b64":false}', b'{"alg":"ES384","typ":"JWE"}',
        b'{"alg":"ES384","zip":"DEF"}', b'{"alg":["ES384"]}', b'{"typ":"JWT"}', b"[]", b"null", b"\xff", b'{"alg":"ES384","kid":7}', b'{"alg":"ES384","typ":7}',
    ],
)
def test_headers_that_could_mean_something_else_are_refused(header):
    with pytest.raises(FormatError):
        read(forge(header, good_payload()))


def test_a_key_id_must_be_one_of_ours():
    with pytest.raises(FormatError) as caught:
        read(sign_ear(result(), ec.derive_private_key(8, ec.SECP384R1()), issued_at=AT))
    assert caught.value.code == "ear-key-unknown"


@pytest.mark.parametrize(
    "change",
    [
        {"eat_profile": "tag:example"},
        {"eat_profile": None},
        {"exp": None},
        {"exp": 1.5},
        {"exp": True},
        {"iat": "1"},
        {"iat": -1},
        {"nbf": "1"},
        {"submods": {}},
        {"submods": []},
        {"submods": {"cpu0": 1}},
        {"submods": {"cpu0": {}}},
        {"submods": {"cpu0": {"ear_status": "good"}}},
        {"submods": {"cpu0": {"ear_status": ["affirming"]}}},
        {"submods": {"cpu0": {"ear_status": "affirming", "ear_trustworthiness_vector": {"hardware": 96}}}},
        {"submods": {"cpu0": {"ear_status": "affirming", "ear_trustworthiness_vector": {"hardwear": 2}}}},
        {"submods": {"cpu0": {"ear_status": "affirming", "ear_trustworthiness_vector": {"hardware": True}}}},
        {"submods": {"cpu0": {"ear_status": "affirming", "ear_trustworthiness_vector": {"hardware": 200}}}},
        {"submods": {"cpu0": {"ear_status": "affirming", "ear_appraisal_policy_ids": [1]}}},
        {"submods": {"cpu0": {"ear_status": "affirming", "ear_attester_claims": []}}},
        {"ear_verifier_id": {"developer": "x"}},
        {"ear_verifier_id": None},
        {"ear_status": "fine"},
        {"eat_nonce": ["a"]},
        {"submods": {"cpu0": {"ear.status": "affirming"}}},
    ],
)
def test_signed_but_malformed_is_refused(change):
    with pytest.raises(FormatError):
        read(signed(dict(good_payload(), **change)))


def test_time_and_nonce():
    token = sign_ear(result(), KEYS["ES384"], issued_at=AT)
    for at, code in ((AT + timedelta(minutes=5), "ear-expired"), (AT - timedelta(seconds=61), "ear-not-yet-valid")):
        with pytest.raises(FormatError) as caught:
            read(token, at=at)
        assert caught.value.code == code
    assert read(token, at=AT - timedelta(seconds=60)).status == "affirming"
    assert read(token, at=AT + timedelta(minutes=4, seconds=59)).status == "affirming"
    begin = int(AT.timestamp()) + 60
    assert read(signed(dict(good_payload(), nbf=begin))).status == "affirming"
    with pytest.raises(FormatError) as caught:
        read(signed(dict(good_payload(), nbf=begin + 1)))
    assert caught.value.code == "ear-not-yet-valid"
    with pytest.raises(FormatError) as caught:
        read(token, nonce="another")
    assert caught.value.code == "ear-nonce"


def test_the_worst_submod_decides():
    payload = good_payload()
    payload["submods"]["gpu0"] = {"ear_status": "none"}
    assert read(signed(payload)).status == "none"
    payload["submods"]["gpu0"] = {"ear_status": "warning"}
    assert read(signed(payload)).status == "warning"


@pytest.mark.parametrize(
    "keys",
    [
        None,
        {},
        {"keys": {}},
        {"keys": []},
        {"keys": [1]},
        {"keys": [{"kty": "RSA"}]},
        {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]},
        {"keys": [dict(jws.public_jwk(KEYS["ES256"]), d="AA")]},
        {"keys": [jws.public_jwk(KEYS["ES256"])] * 2},
        {"keys": [dict(jws.public_jwk(KEYS["ES256"]), use="enc")]},
    ],
)
def test_unusable_key_sets_are_refused(keys):
    with pytest.raises(FormatError):
        jws.parse_jwks(keys)


def test_a_point_off_the_curve_is_an_error_not_a_trace():
    bad = dict(jws.public_jwk(KEYS["ES256"]), x=b64(b"\1" * 32))
    bad.pop("kid")
    with pytest.raises(FormatError, match="not a point"):
        jws.verify(
            sign_ear(result(), KEYS["ES256"], issued_at=AT).replace("x", "x"), jws.parse_jwks({"keys": [dict(bad, kid=jws.public_jwk(KEYS["ES256"])["kid"])]})
        )


GOOD = sign_ear(result(), KEYS["ES384"], issued_at=AT)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, len(GOOD) - 1), character=st.characters(max_codepoint=0x250))
def test_a_token_with_one_other_character_is_refused(position, character):
    token = GOOD[:position] + character + GOOD[position + 1:]
    if token != GOOD:
        with pytest.raises(FormatError):
            read(token)


@settings(max_examples=200, deadline=None)
@given(
    token=st.text(max_size=60)
    | st.none()
    | st.integers()
    | st.lists(st.binary(max_size=30), min_size=3, max_size=3).map(lambda parts: ".".join(map(b64, parts)))
)
def test_random_tokens_are_refused_in_words(token):
    with pytest.raises(FormatError):
        read(token)


@settings(max_examples=150, deadline=None)
@given(
    payload=st.dictionaries(
        st.sampled_from(["eat_profile", "iat", "exp", "submods", "ear_status", "ear_verifier_id", "eat_nonce"]),
        st.recursive(
            st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        ),
    )
)
def test_random_signed_payloads_never_break_the_reader(payload):
    try:
        read(signed(dict(good_payload(), **payload)))
    except FormatError:
        pass


@pytest.mark.parametrize(
    ("value", "tier"),
    [
        (-128, "contraindicated"),
        (-97, "contraindicated"),
        (-33, "warning"),
        (-2, "affirming"),
        (-1, "none"),
        (0, "none"),
        (1, "none"),
        (2, "affirming"),
        (31, "affirming"),
        (32, "warning"),
        (95, "warning"),
        (96, "contraindicated"),
        (127, "contraindicated"),
    ],
)
def test_tiers_of_ar4si(value, tier):
    assert ar4si.tier(value) == tier


def test_an_item_that_cannot_be_judged_says_nothing():
    item = ItemResult("tdx", None, (failed("item-type", "unknown"),))
    made = result(items={"unknown0": item})
    assert (made.authentic, made.accepted, made.status, made.anchor) == (None, False, "none", "none")
    assert not Result(AT, None, "", "", "", {}, ChainReport(None, "service", False, ""), (), {}).accepted
