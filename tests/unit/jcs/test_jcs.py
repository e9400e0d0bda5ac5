# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import hashlib
import json
import os

import pytest
import rfc8785
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.jcs import MAX_DEPTH, MAX_INTEGER, canonicalize
from hypothesis import given
from hypothesis import strategies as st

VECTORS = os.environ.get("ATTESTED_VECTORS", os.path.join(os.path.dirname(__file__), "../../../../shared/vectors"))
RUNTIME_DATA = os.path.join(VECTORS, "coco/generated/hash/jcs-runtime-data.json")

# Characters around every boundary that matters: controls, quotes, DEL, the surrogate gap and what lies beyond the BMP.
TEXT = st.text(
    st.one_of(st.characters(exclude_categories=("Cs",)), st.sampled_from('\0\b\t\n\v\f\r\x1f"\\/\x7f\x80\u2028\ud7ff\ue000\uffff\U00010000\U0010ffff'))
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-MAX_INTEGER, MAX_INTEGER), TEXT)
VALUES = st.recursive(SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(TEXT, inner, max_size=5)), max_leaves=20)


@pytest.mark.skipif(not os.path.exists(RUNTIME_DATA), reason="shared vectors are not here: set ATTESTED_VECTORS")
def test_vectors():
    with open(RUNTIME_DATA, encoding="utf-8") as stream:
        cases = json.load(stream)["cases"]
    assert len(cases) >= 2
    for case in cases:
        canonical = canonicalize(case["value"])
        assert canonical == case["canonical"].encode("utf-8")
        for name in ("sha256", "sha384", "sha512"):
            assert hashlib.new(name, canonical).hexdigest() == case[name]


@given(VALUES)
def test_agrees_with_another_implementation(value):
    assert canonicalize(value) == rfc8785.dumps(value)


@given(VALUES)
def test_keeps_the_value_and_is_a_fixed_point(value):
    canonical = canonicalize(value)
    assert json.loads(canonical) == value
    assert canonicalize(json.loads(canonical)) == canonical


@given(st.dictionaries(TEXT, SCALARS, min_size=2, max_size=6))
def test_the_order_of_insertion_does_not_matter(value):
    assert canonicalize(dict(reversed(list(value.items())))) == canonicalize(value)


def test_names_are_ordered_by_utf16_code_units():
    # RFC 8785 section 3.2.3: U+1F600 (d83d de00) comes before U+FB33, although its code point is larger.
    assert canonicalize({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode("utf-8")


def test_numbers_and_literals():
    assert canonicalize([True, False, None, 1, 0, -1, MAX_INTEGER, -MAX_INTEGER]) == b"[true,false,null,1,0,-1,9007199254740991,-9007199254740991]"
    assert canonicalize((1, (2,))) == b"[1,[2]]"


@pytest.mark.parametrize("value", [MAX_INTEGER + 1, -MAX_INTEGER - 1, 1.0, float("nan"), b"x", {1, 2}, object(), {1: 2}, {None: 1}, "\ud800", {"\udfff": 1}])
def test_refuses_what_has_no_canonical_form(value):
    for wrapped in (value, [value], {"a": value}):
        with pytest.raises(FormatError):
            canonicalize(wrapped)


def test_depth_is_bounded():
    value = 0
    for _unused in range(MAX_DEPTH):
        value = [value]
    assert canonicalize(value).startswith(b"[[[")
    with pytest.raises(FormatError):
        canonicalize([value])
    cycle = []
    cycle.append(cycle)
    with pytest.raises(FormatError):
        canonicalize(cycle)
