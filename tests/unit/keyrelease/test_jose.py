# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""JWE, JWS and releases: vectors, a second implementation, and every way to get them wrong."""

from __future__ import annotations

import base64
import copy
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe, jwk, jws
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe_keys import concat_kdf
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import KeyRelease, open_release, seal
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

VECTORS = (
    Path(os.environ.get("ATTESTED_VECTORS", str(Path(__file__).resolve().parents[4] / "shared" / "vectors")))
    / "coco"
    / "generated"
    / "jwe"
    / "jwcrypto-flattened.json"
)
KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = jwk.public_jwk(KEY, jwe.ECDH)
RSA_KEY = rsa.generate_private_key(65537, 2048)
SEALED = jwe.wrap_flattened(b"secret", PUBLIC)
GENERAL = jwe.wrap_general(b"d" * 32, [jwe.Recipient("kek", jwe.A256KW, b"q" * 32), jwe.Recipient("guest", jwe.ECDH, PUBLIC)])
NOT_AFTER = datetime(2100, 1, 1, tzinfo=timezone.utc)


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def header(changes, remove=()):
    found = dict(json.loads(strict.decode_base64url(SEALED["protected"], "")), **changes)
    return dict(SEALED, protected=b64(json.dumps({name: value for name, value in found.items() if name not in remove}).encode()))


def number(text):
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def private_of(key):
    if key["kty"] == "EC":
        return jwk.private_ec(number(key["d"]).to_bytes(jwk.CURVES[key["crv"]][1], "big"), key["crv"])
    public = rsa.RSAPublicNumbers(number(key["e"]), number(key["n"]))
    return rsa.RSAPrivateNumbers(
        number(key["p"]), number(key["q"]), number(key["d"]), number(key["dp"]), number(key["dq"]), number(key["qi"]), public
    ).private_key()


def test_all_vectors_decrypt():
    if not VECTORS.exists():
        pytest.skip("no vectors")
    cases = json.loads(VECTORS.read_text())["cases"]
    assert {case["alg"] for case in cases} == {jwe.ECDH, jwe.RSA}
    for case in cases:
        assert jwe.unwrap_flattened(case["jwe"], private_of(case["key"])) == base64.b64decode(case["plaintext_b64"])


def test_concat_kdf_is_cryptographys():
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

    other = b"\0\0\0\x0eECDH-ES+A256KW" + bytes(8) + b"\0\0\x01\0"
    assert concat_kdf(b"z" * 66) == ConcatKDFHash(hashes.SHA256(), 32, other).derive(b"z" * 66)


@pytest.mark.parametrize("key", [KEY, ec.generate_private_key(ec.SECP521R1()), RSA_KEY], ids=["P-256", "P-521", "RSA"])
def test_flattened_round_trip_and_jwcrypto_reads_ours(key):
    sealed = jwe.wrap_flattened(b"x" * 100, jwk.public_jwk(key))
    assert jwe.unwrap_flattened(sealed, key) == b"x" * 100
    jwcrypto = pytest.importorskip("jwcrypto")
    from jwcrypto import jwe as other
    from jwcrypto import jwk as other_jwk

    from cryptography.hazmat.primitives import serialization

    assert jwcrypto
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    token = other.JWE()
    token.deserialize(json.dumps(sealed), other_jwk.JWK.from_pem(pem))
    assert token.payload == b"x" * 100
    # Compact form, because jwcrypto's JSON form puts epk into the unprotected header.
    alg = jwe.RSA if key is RSA_KEY else jwe.ECDH
    made = other.JWE(b"theirs", protected=json.dumps({"alg": alg, "enc": "A256GCM"}), recipient=other_jwk.JWK.from_pem(pem))
    parts = dict(zip(("protected", "encrypted_key", "iv", "ciphertext", "tag"), made.serialize(compact=True).split(".")))
    assert jwe.unwrap_flattened(parts, key) == b"theirs"


def test_general_with_jwcrypto_both_ways():
    pytest.importorskip("jwcrypto")
    from jwcrypto import jwe as other
    from jwcrypto import jwk as other_jwk

    kek = other_jwk.JWK(kty="oct", k=b64(b"q" * 32))
    guest = other_jwk.JWK.from_pyca(KEY)
    for key in (kek, guest):
        token = other.JWE()
        token.deserialize(json.dumps(GENERAL), key)
        assert token.payload == b"d" * 32
    made = other.JWE(b"theirs", protected=json.dumps({"enc": "A256GCM"}))
    made.add_recipient(kek, header=json.dumps({"alg": jwe.A256KW, "kid": "a"}))
    made.add_recipient(guest, header=json.dumps({"alg": jwe.ECDH, "kid": "b"}))
    read = jwe.parse_json(made.serialize())
    assert jwe.unwrap_general(read, b"q" * 32, "a") == jwe.unwrap_general(read, KEY) == b"theirs"


OFF_CURVE = dict(jwk.public_jwk(ec.generate_private_key(ec.SECP256R1())), y=b64(bytes(31) + b"\1"))
BAD = {
    "zip": header({"zip": "DEF"}),
    "crit": header({"crit": ["exp"]}),
    "dir": header({"alg": "dir"}),
    "RSA1_5": header({"alg": "RSA1_5"}),
    "PBES2": header({"alg": "PBES2-HS256+A128KW", "p2c": 1}),
    "A256KW": header({"alg": "A256KW"}, ("epk",)),
    "enc": header({"enc": "A128CBC-HS256"}),
    "apu": header({"apu": "YQ"}),
    "no epk": header({}, ("epk",)),
    "off curve": header({"epk": OFF_CURVE}),
    "P-384": header({"epk": dict(OFF_CURVE, crv="P-384")}),
    "private epk": header({"epk": dict(jwk.public_jwk(KEY), d="AAAA")}),
    "alg type": header({"alg": ["ECDH-ES+A256KW"]}),
    "kid type": header({"kid": 1}),
    "header": dict(SEALED, header={}),
    "unprotected": dict(SEALED, unprotected={}),
    "aad": dict(SEALED, aad=""),
    "iv": dict(SEALED, iv=b64(bytes(11))),
    "tag": dict(SEALED, tag=SEALED["tag"][:-4]),
    "short tag": dict(SEALED, tag=b64(bytes(12))),
    "padding": dict(SEALED, iv=SEALED["iv"] + "="),
    "long": dict(SEALED, ciphertext="A" * 2000000),
    "not an object": [],
    "text": "x",
    "none": None,
    "empty": {},
    "ciphertext": dict(SEALED, ciphertext=b64(b"abcdef")),
    "duplicate in protected": dict(SEALED, protected=b64(b'{"alg":"ECDH-ES+A256KW","alg":"dir","enc":"A256GCM"}')),
    "key size": dict(SEALED, encrypted_key=b64(bytes(48))),
    # The same header in another spelling: the tag covers the bytes, not their meaning.
    "respelled": dict(SEALED, protected=b64(strict.decode_base64url(SEALED["protected"], "") + b" ")),
}


@pytest.mark.parametrize("name", BAD)
def test_flattened_refuses(name):
    with pytest.raises((FormatError, KeyReleaseError)):
        jwe.unwrap_flattened(BAD[name], KEY)


def test_wrong_key_non_canonical_and_duplicates():
    for key in (ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP521R1()), RSA_KEY):
        with pytest.raises(KeyReleaseError) as caught:
            jwe.unwrap_flattened(SEALED, key)
        assert caught.value.code == "jwe-wrong-key"
    # 6 bytes have no spare bits, 16 have 4 of them: set one.
    tail = (
        SEALED["tag"][:-1]
        + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(SEALED["tag"][-1]) ^ 1
        ]
    )
    with pytest.raises(FormatError, match="canonical"):
        jwe.unwrap_flattened(dict(SEALED, tag=tail), KEY)
    with pytest.raises(FormatError, match="twice"):
        jwe.parse_json('{"iv":"a","iv":"b"}')


@pytest.mark.parametrize(
    "change",
    [
        lambda j: j["recipients"].clear(),
        lambda j: j["recipients"][0]["header"].update(alg="dir"),
        lambda j: j["recipients"][0]["header"].update(zip="DEF"),
        lambda j: j["recipients"][0].update(extra=1),
        lambda j: j["recipients"][0].update(encrypted_key=b64(bytes(40))),
        lambda j: j.update(protected=b64(b'{"enc":"A128GCM"}')),
        lambda j: j.update(protected=b64(b'{"enc":"A256GCM","crit":["b64"]}')),
        lambda j: j["recipients"][1]["header"].update(kid="kek"),
        lambda j: j["recipients"].extend([j["recipients"][0]] * 99),
        lambda j: j.update(recipients={}),
        lambda j: j["recipients"].append(7),
        lambda j: j.pop("tag"),
    ],
)
def test_general_refuses(change):
    bad = copy.deepcopy(GENERAL)
    assert jwe.unwrap_general(bad, b"q" * 32) == b"d" * 32
    change(bad)
    with pytest.raises((FormatError, KeyReleaseError)):
        jwe.unwrap_general(bad, b"q" * 32)


def test_general_tells_missing_recipient_from_wrong_key():
    for key, kid, code in ((b"q" * 32, "other", "jwe-recipient"), (b"r" * 32, "kek", "jwe-wrong-key"), (b"r" * 31, "kek", "jwe-key")):
        with pytest.raises(KeyReleaseError) as caught:
            jwe.unwrap_general(GENERAL, key, kid)
        assert caught.value.code == code


def test_jws_holds_only_for_its_content_key_type_and_algorithm():
    signer, other = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    signed = jws.sign_detached(b"p", signer, "k", "t/1")
    public = jwk.public_jwk(signer)
    assert jws.verify_detached(signed, b"p", public, "t/1")["alg"] == "ES384"
    for payload, key, typ in ((b"q", public, "t/1"), (b"p", jwk.public_jwk(other), "t/1"), (b"p", public, ""), (b"p", PUBLIC, "t/1")):
        with pytest.raises(KeyReleaseError):
            jws.verify_detached(signed, payload, key, typ)
    for bad in (b'{"alg":"none"}', b'{"alg":"ES384","b64":false}', b'{"alg":"HS256"}'):
        with pytest.raises(AttestedError):
            jws.verify_detached(dict(signed, protected=b64(bad)), b"p", public)
    for signature in (b64(bytes(96)), b64(b"\xff" * 96), b64(bytes(95)), ""):
        with pytest.raises(AttestedError):
            jws.verify_detached(dict(signed, signature=signature), b"p", public, "t/1")
    payload, _header = jws.verify_flattened(jws.sign_flattened(b"in", signer), public)
    assert payload == b"in"


def release(**changes):
    return KeyRelease(
        **dict(
            dict(
                model_id="m",
                release=3,
                minimum_release=2,
                key=b"k" * 32,
                key_id="kek-1",
                manifest_signer=jwk.public_jwk(KEY),
                evidence_digest="ab" * 32,
                not_after=NOT_AFTER,
            ),
            **changes,
        )
    )


def test_release_round_trip_and_secrecy():
    made = release()
    assert open_release(seal(made, PUBLIC), KEY) == made == KeyRelease.from_json(made.to_json())
    assert "kkk" not in repr(made)
    with pytest.raises(KeyReleaseError, match="was valid until"):
        made.check_time(NOT_AFTER + timedelta(seconds=1))


@pytest.mark.parametrize(
    "changes",
    [
        {"release": 1},
        {"release": True},
        {"release": 0},
        {"release": "3"},
        {"key": b"k" * 31},
        {"model_id": ""},
        {"key_id": 5},
        {"evidence_digest": "AB" * 32},
        {"manifest_signer": {}},
        {"manifest_signer": dict(jwk.public_jwk(KEY), d="x")},
        {"not_after": datetime(2100, 1, 1)},
        {"not_after": "2100-01-01T00:00:00Z"},
    ],
)
def test_release_refuses(changes):
    with pytest.raises((FormatError, KeyReleaseError)):
        release(**changes)


def test_release_for_another_session_is_refused():
    content = json.loads(release().to_json())
    for guest_key in ("x", jwe.jwk_thumbprint(jwk.public_jwk(RSA_KEY))):
        sealed = jwe.wrap_flattened(json.dumps(dict(content, guest_key=guest_key)).encode(), PUBLIC)
        with pytest.raises(KeyReleaseError) as caught:
            open_release(sealed, KEY)
        assert caught.value.code == "release-other-session"
    with pytest.raises(FormatError, match="guest_key is missing"):
        open_release(jwe.wrap_flattened(release().to_json(), PUBLIC), KEY)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            [
                "protected",
                "iv",
                "tag",
                "ciphertext",
                "encrypted_key",
                "recipients",
                "header",
                "alg",
                "kid",
                "epk",
                "signature",
                "payload",
                "kty",
                "crv",
                "x",
                "y",
            ]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_random_objects_raise_only_our_errors(value):
    for read in (
        lambda: jwe.unwrap_flattened(value, KEY),
        lambda: jwe.unwrap_general(value, b"q" * 32),
        lambda: jws.verify_flattened(value, PUBLIC),
        lambda: open_release(value, KEY),
        lambda: jwk.load_public_ec(value),
        lambda: jwk.load_public_rsa(value),
        lambda: jwk.jwk_thumbprint(value),
    ):
        try:
            read()
        except AttestedError:
            pass


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(SEALED)), JSON | st.binary(max_size=80).map(b64), st.binary(max_size=60))
def test_random_members_never_open(name, value, content):
    for bad in (dict(SEALED, **{name: value}), dict(SEALED, protected=b64(b'{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":' + content + b"}"))):
        if bad != SEALED:
            with pytest.raises(AttestedError):
                jwe.unwrap_flattened(bad, KEY)
    with pytest.raises(AttestedError):
        KeyRelease.from_json(content)
