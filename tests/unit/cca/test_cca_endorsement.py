# SPDX-License-Identifier: GPL-3.0-or-later
"""Endorsement documents, and the list of public test keys."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.endorsements import cca as test_keys
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.cca_endorsement import parse_endorsement, read_jwk
from ansible_collections.attested.ai.plugins.module_utils.formats.jwk import thumbprint


def entry(lab, **changes):
    platform = lab.platform
    return {"implementation_id": platform.implementation_id.hex(), "instance_id": platform.instance_id.hex(), "key": platform.jwk(), **changes}


def refused(content, code="format"):
    with pytest.raises(FormatError) as caught:
        parse_endorsement(content if isinstance(content, bytes) else json.dumps(content).encode())
    assert caught.value.code == code
    return caught.value


def test_the_four_forms(lab):
    platform = lab.platform
    ids = (platform.implementation_id, platform.instance_id)
    own = platform.endorsement("silicon-vendor", "2027-01-31T00:00:00Z")
    document = parse_endorsement(own)
    assert (document.endorser, document.source, document.sha256) == ("silicon-vendor", "the soft TEE", hashlib.sha256(own).hexdigest())
    assert document.not_after == datetime(2027, 1, 31, tzinfo=timezone.utc)
    (cpak,) = document.cpaks
    assert (cpak.implementation_id, cpak.instance_id, cpak.thumbprint) == (*ids, thumbprint(platform.jwk()))

    listed = parse_endorsement(json.dumps([entry(lab)]).encode())
    assert (listed.endorser, listed.not_after, listed.cpaks) == ("operator", None, (cpak,))
    trustee = {"pkey": platform.jwk(), "implementation-id": ids[0].hex(), "instance-id": ids[1].hex()}
    assert parse_endorsement(json.dumps([trustee]).encode()).cpaks == (cpak,)
    bare = parse_endorsement(json.dumps(platform.jwk()).encode())
    assert (bare.endorser, bare.cpaks[0].point, bare.cpaks[0].implementation_id, bare.cpaks[0].instance_id) == ("operator", cpak.point, None, None)


def test_documents_that_are_refused(lab):
    good = json.loads(lab.endorsement)
    for changes in (
        {"schema": "attested.ai/cca-endorsements/2"}, {"endorser": "vendor"}, {"endorser": None}, {"endorser": []}, {"source": 1}, {"endorsements": []},
        {"endorsements": {}}, {"not_after": "2027-01-31"}, {"not_after": "2027-13-31T00:00:00Z"}, {"not_after": "2027-01-31T00:00:00+01:00"},
        {"not_after": None}, {"not_after": 1}, {"more": 1},
    ):  # fmt: skip
        refused({**good, **changes})
    for name in ("schema", "endorser", "source", "endorsements"):
        refused({key: value for key, value in good.items() if key != name})
    for content in (b"", b"{", b"1", b"null", b"[]", b"\xff", b'"x"', b"[1]", b"{}", b'{"kty": 1}', lab.endorsement + b"x"):
        refused(content)
    duplicate = lab.endorsement.replace(b'"schema"', b'"endorser": "operator", "schema"', 1)
    refused(duplicate)


def test_entries_that_are_refused(lab):
    for changes in (
        {"implementation_id": "00"}, {"implementation_id": lab.platform.implementation_id.hex().upper().replace("0", "A")}, {"instance_id": "02" + "00" * 32},
        {"instance_id": "01" + "00" * 31}, {"key": None}, {"key": []}, {"comment": "x"},
    ):  # fmt: skip
        refused([entry(lab, **changes)])
    for name in ("implementation_id", "instance_id", "key"):
        refused([{key: value for key, value in entry(lab).items() if key != name}])


def test_keys_that_are_refused(lab):
    good = lab.platform.jwk()
    for changes in (
        {"kty": "RSA"}, {"kty": None}, {"crv": "P-256"}, {"crv": "secp256k1"}, {"crv": []}, {"x": ""}, {"x": good["x"][:-1]}, {"x": good["x"] + "="}, {"y": 1},
        {"alg": "ES256"}, {"alg": []}, {"use": "enc"}, {"use": {}}, {"key_ops": ["sign"]}, {"key_ops": "verify"}, {"x5c": []},
    ):  # fmt: skip
        with pytest.raises(FormatError):
            read_jwk({**good, **changes}, "key")
    for name in ("kty", "crv", "x", "y"):
        with pytest.raises(FormatError):
            read_jwk({key: value for key, value in good.items() if key != name}, "key")
    read_jwk({**good, "alg": "ES384", "use": "sig", "key_ops": ["verify"], "kid": "1"}, "key")


def test_a_private_key_is_refused_without_being_shown(lab):
    error = refused({**lab.platform.jwk(), "d": "c2VjcmV0"}, "private-key")
    assert "c2VjcmV0" not in str(error)
    refused([entry(lab, key={**lab.platform.jwk(), "d": "c2VjcmV0"})], "private-key")


@given(st.binary(max_size=100))
def test_any_bytes(data):
    try:
        parse_endorsement(data)
    except FormatError:
        pass


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(["kty", "crv", "x", "y", "schema", "endorsements", "endorser", "source", "key", "pkey", "implementation_id", "instance_id", "instance-id"]),
    inner, max_size=5), max_leaves=12)  # fmt: skip


@given(JSON)
def test_any_json(content):
    with pytest.raises(FormatError):
        parse_endorsement(json.dumps(content).encode())


def test_the_vectors_public_keys_are_on_the_list(vectors):
    for name in ("cpak-tfa-public-test-key", "cpak-veraison-p384"):
        point = read_jwk(json.loads((vectors / (name + ".jwk.json")).read_text()), name)
        assert test_keys.public_test_key(point)
        # The negated key has a private half that is as public.
        prime = 2**384 - 2**128 - 2**96 + 2**32 - 1
        negated = point._replace(y=(prime - int.from_bytes(point.y, "big")).to_bytes(48, "big"))
        assert test_keys.public_test_key(negated)
    other = read_jwk(json.loads((vectors / "cpak-synth-p384.jwk.json").read_text()), "other")
    assert test_keys.public_test_key(other) is None


@pytest.mark.parametrize("change", [lambda text: text.replace("Tm0waRFq", "Tm0waRFr"), lambda text: text.replace("test-keys/1", "test-keys/2"), None])
def test_a_damaged_list_is_noticed(monkeypatch, change):
    data = test_keys.pkgutil.get_data(test_keys.__name__, test_keys.WHERE)
    spoilt = None if change is None else change(data.decode()).encode()
    assert spoilt != data
    monkeypatch.setattr(test_keys.pkgutil, "get_data", lambda _package, _name: spoilt)
    test_keys.load_test_keys.cache_clear()
    try:
        with pytest.raises(EndorsementError):
            test_keys.load_test_keys()
    finally:
        test_keys.load_test_keys.cache_clear()
