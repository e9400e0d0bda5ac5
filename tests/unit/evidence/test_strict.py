# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from hypothesis import given
from hypothesis import strategies as st


@given(st.binary(max_size=100))
def test_base64_round_trips(data):
    assert strict.decode_base64(strict.encode_base64(data), "x") == data
    assert strict.decode_base64url(strict.encode_base64url(data), "x") == data


@given(st.text("ABCQgwAaz0189+/-_= \n", max_size=12))
def test_each_value_has_one_spelling(text):
    """Whatever is accepted is exactly what the encoder would have written."""
    for decode, encode in ((strict.decode_base64, strict.encode_base64), (strict.decode_base64url, strict.encode_base64url)):
        try:
            data = decode(text, "x")
        except FormatError:
            continue
        assert encode(data) == text


@pytest.mark.parametrize("text", ["QQ", "QR==", "QQ==\n", " QQ==", "QQ===", "Q-_=", "QQ==QQ==", "\u00e4", "=", None, 1, b"QQ==", ["QQ=="]])
def test_refused_base64(text):
    with pytest.raises(FormatError):
        strict.decode_base64(text, "x")


@pytest.mark.parametrize("text", ["QQ==", "QR", "Q", "Q+", "QQ\n", None])
def test_refused_base64url(text):
    with pytest.raises(FormatError):
        strict.decode_base64url(text, "x")


def test_sizes():
    assert strict.decode_base64("QUJD", "x", 3, 3) == b"ABC"
    for minimum, maximum in ((4, 8), (0, 2)):
        with pytest.raises(FormatError):
            strict.decode_base64("QUJD", "x", minimum, maximum)
    assert strict.decode_hex("00ff", "x", 2) == b"\0\xff"
    for text in ("00FF", "0ff", "00ff00", "00fg", "00f\n", ""):
        with pytest.raises(FormatError):
            strict.decode_hex(text, "x", 2)


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":2}', '[{"b":{"a":1,"a":1}}]', "NaN", "[Infinity]", "[-Infinity]", "{", "", b"\xff", "[" * 100000, '{"a":1} x'],
)
def test_refused_json(text):
    with pytest.raises(FormatError) as caught:
        strict.loads(text, "here")
    assert str(caught.value).startswith("here: ")


def test_json():
    assert strict.loads('{"a": [1, "x", null]}') == {"a": [1, "x", None]}
    assert strict.loads(b'"\xc3\xa4"') == "\u00e4"


def test_members():
    assert strict.members({"a": 1, "b": 2}, ("a",), ("b",)) == {"a": 1, "b": 2}
    for value, word in (({"b": 1}, "missing"), ({"a": 1, "c\n": 2}, r"unknown member 'c\n'"), ([], "list"), (None, "NoneType")):
        with pytest.raises(FormatError) as caught:
            strict.members(value, ("a",), ("b",))
        assert word in str(caught.value)
    assert len(strict.quoted("x" * 1000)) < 70 and strict.quoted(3) == "'3'"
