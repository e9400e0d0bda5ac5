# SPDX-License-Identifier: GPL-3.0-or-later
"""The strict CBOR decoder: one spelling per value, nothing left over, bounded; and cbor2 as a second opinion on what it accepts."""

from __future__ import annotations

import cbor2
import pytest
from cca_lab import Raw, Tag, encode
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import cbor

# RFC 8949 appendix A: the examples of the types that we read.
EXAMPLES = (
    ("00", 0), ("01", 1), ("0a", 10), ("17", 23), ("1818", 24), ("1819", 25), ("1864", 100), ("1903e8", 1000), ("1a000f4240", 1000000),
    ("1b000000e8d4a51000", 1000000000000), ("1bffffffffffffffff", 2**64 - 1), ("3bffffffffffffffff", -(2**64)), ("20", -1), ("29", -10),
    ("3863", -100), ("3903e7", -1000), ("f4", False), ("f5", True), ("f6", None), ("40", b""), ("4401020304", b"\1\2\3\4"), ("60", ""),
    ("6161", "a"), ("6449455446", "IETF"), ("62c3bc", "\u00fc"), ("64f0908591", "\U00010151"), ("80", ()), ("83010203", (1, 2, 3)),
    ("8301820203820405", (1, (2, 3), (4, 5))), ("a0", {}), ("a201020304", {1: 2, 3: 4}), ("a26161016162820203", {"a": 1, "b": (2, 3)}),
)  # fmt: skip

REFUSED = {
    "nothing": "",
    "trailing byte": "0000",
    "indefinite bytes": "5f4101ff",
    "indefinite text": "7f6161ff",
    "indefinite array": "9f01ff",
    "indefinite map": "bf0102ff",
    "break": "ff",
    "reserved 28": "1c",
    "reserved 30 in a length": "5e",
    "number not shortest, 1 byte": "1817",
    "number not shortest, 2 bytes": "1900ff",
    "number not shortest, 4 bytes": "1a0000ffff",
    "number not shortest, 8 bytes": "1b00000000ffffffff",
    "length not shortest": "5801aa",
    "map size not shortest": "b8010102",
    "tag not shortest": "d8120a",
    "negative not shortest": "3817",
    "truncated number": "19ff",
    "truncated bytes": "4201",
    "truncated array": "8201",
    "truncated map": "a101",
    "huge array": "9bffffffffffffffff",
    "huge map": "bbffffffffffffffff",
    "huge string": "5bffffffffffffffff",
    "text that is not UTF-8": "61ff",
    "text that is a surrogate": "63eda080",
    "half float": "f93c00",
    "float": "fa47c35000",
    "double": "fb3ff199999999999a",
    "undefined": "f7",
    "simple value": "f0",
    "simple value in a byte": "f818",
    "map key bytes": "a1410100",
    "map key array": "a18000",
    "map key true": "a1f500",
    "map key null": "a1f600",
    "map key tagged": "a1c10000",
}  # fmt: skip


@pytest.mark.parametrize("text,value", EXAMPLES)
def test_examples_of_the_specification(text, value):
    assert cbor.decode(bytes.fromhex(text)) == value
    assert type(cbor.decode(bytes.fromhex(text))) is type(value)


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_refused(text):
    with pytest.raises(FormatError) as caught:
        cbor.decode(bytes.fromhex(text))
    assert caught.value.code == "format"


@pytest.mark.parametrize("text", ["a201020103", "a2616101616102", "a20102a10102", "82a20102010200"])
def test_duplicate_keys_are_told_apart(text):
    duplicate = text != "a20102a10102"
    with pytest.raises(FormatError) as caught:
        cbor.decode(bytes.fromhex(text))
    assert caught.value.code == ("duplicate-claim" if duplicate else "format")


def test_a_number_and_its_text_are_two_keys():
    assert cbor.decode(bytes.fromhex("a2010261310 3".replace(" ", ""))) == {1: 2, "1": 3}


def test_bounds():
    deep = b"\x81" * (cbor.DEPTH_MAX + 1) + b"\x00"
    assert cbor.decode(deep[1:])
    with pytest.raises(FormatError):
        cbor.decode(deep)
    with pytest.raises(FormatError):
        cbor.decode(b"\x81" * 60000 + b"\x00")
    with pytest.raises(FormatError):
        cbor.decode(b"\xc1" * 60000 + b"\x00")
    with pytest.raises(FormatError):
        cbor.decode(encode([0] * (cbor.ITEMS_MAX + 1)))
    with pytest.raises(FormatError):
        cbor.decode(encode(bytes(cbor.SIZE_MAX)))


def test_tags():
    assert cbor.decode(bytes.fromhex("d9018f00")) == cbor.Tagged(399, 0)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=5).map(tuple) | st.dictionaries(st.integers(-(2**64), 2**64 - 1) | st.text(max_size=4), inner, max_size=5),
    max_leaves=12,
)


def nesting(value):
    if isinstance(value, dict):
        return 1 + max([nesting(item) for item in value.values()], default=0)
    return 1 + max([nesting(item) for item in value], default=0) if isinstance(value, tuple) else 0


@given(VALUES)
def test_everything_that_is_encoded_is_read_back(value):
    if nesting(value) <= cbor.DEPTH_MAX:
        assert cbor.decode(encode(value)) == value
        assert encode(cbor.decode(encode(value))) == encode(value)


def plain(value):
    """Values of cbor2 in the types of ours."""
    if isinstance(value, cbor2.CBORTag):
        return cbor.Tagged(value.tag, plain(value.value))
    if isinstance(value, (list, tuple)):
        return tuple(plain(item) for item in value)
    if hasattr(value, "items"):
        return {key: plain(item) for key, item in value.items()}
    return value


def ours(value):
    if isinstance(value, cbor.Tagged):
        return Tag(value.tag, ours(value.value))
    if isinstance(value, tuple):
        return [ours(item) for item in value]
    return {key: ours(item) for key, item in value.items()} if isinstance(value, dict) else value


@given(st.binary(max_size=64))
def test_only_our_errors_and_one_spelling_per_value(data):
    """What is accepted has no other encoding: writing it again gives the same bytes. cbor2 reads it as the same value."""
    try:
        value = cbor.decode(data)
    except FormatError:
        return
    assert encode(ours(value)) == data
    try:
        second = cbor2.loads(data)
    except Exception:  # noqa: BLE001 - tags that cbor2 gives a meaning to, such as dates, may refuse what lies under them
        return
    if not any(byte >> 5 == 6 for byte in data):
        assert plain(second) == value


@pytest.mark.parametrize("name", ["tfrmm-legacy-fvp", "ffm00-profile-1.0.0-fvp", "veraison-legacy-es256", "syn-baseline-907", "syn-legacy-raw-rak"])
def test_second_opinion_on_upstream_tokens(vectors, name):
    data = (vectors / (name + ".cbor")).read_bytes()
    outer = cbor.decode(data)
    assert plain(cbor2.loads(data)) == outer
    for entry in outer.value.values():
        message = entry[1] if isinstance(entry, tuple) else entry
        token = cbor.decode(message)
        assert plain(cbor2.loads(message)) == token
        assert plain(cbor2.loads(token.value[2])) == cbor.decode(token.value[2])
        assert plain(cbor2.loads(token.value[0])) == cbor.decode(token.value[0])


def test_raw_is_written_as_it_is():
    assert encode([Raw(b"\x18\x01")]) == b"\x81\x18\x01"
