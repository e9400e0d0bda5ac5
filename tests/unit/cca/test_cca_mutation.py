# SPDX-License-Identifier: GPL-3.0-or-later
"""No byte of a token can be changed: every position of an upstream token and of tokens of the later profiles, exhaustively.

No position is exempt: both COSE headers that are outside of the signature are empty maps, and everything else is signed or checked.
"""

from __future__ import annotations

import pytest
from cca_lab import AT, CHALLENGE
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.cca import verify_cca

pytestmark = pytest.mark.costly
# One bit at each end of the byte, and all of them. CBOR's heads differ in few bits.
PATTERNS = (0x01, 0x80, 0xFF)


def survivors(token, endorsements, challenge):
    """The (position, pattern) of every change after which the token is still authentic and answers the challenge."""
    cache = VerificationCache()
    assert verify_cca(token, endorsements, challenge, AT, allow_nonvendor=True, allow_test_keys=True, cache=cache).code == "ok"
    found = []
    for position in range(len(token)):
        for pattern in PATTERNS:
            spoilt = bytearray(token)
            spoilt[position] ^= pattern
            outcome = verify_cca(bytes(spoilt), endorsements, challenge, AT, allow_nonvendor=True, allow_test_keys=True, cache=cache)
            if outcome.authentic is True and not outcome.failed:
                found.append((position, pattern))
    return found


def test_every_position_of_an_upstream_token(vectors):
    token = (vectors / "veraison-legacy-es256.cbor").read_bytes()
    key = (vectors / "cpak-veraison-p256.jwk.json").read_bytes()
    assert survivors(token, [key], b"AB" * 32) == []


@pytest.mark.parametrize("profile,envelope", [("2024", 907), ("2026", 907), ("2023", 399)])
def test_every_position_of_a_synthetic_token(lab, profile, envelope):
    assert survivors(lab.token(profile, envelope=envelope), [lab.endorsement], CHALLENGE) == []


def test_every_truncation(lab):
    token = lab.token()
    for size in range(len(token)):
        assert lab.verify(token[:size]).authentic is False


@settings(max_examples=200)
@given(st.data())
def test_any_changes(lab, data):
    """Several changes at once, insertions and deletions: never an exception, never accepted unless nothing was changed."""
    token = bytearray(lab.token())
    original = bytes(token)
    for _change in range(data.draw(st.integers(1, 5))):
        position = data.draw(st.integers(0, len(token) - 1))
        kind = data.draw(st.sampled_from(("set", "insert", "delete")))
        if kind == "set":
            token[position] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            token[position:position] = data.draw(st.binary(min_size=1, max_size=8))
        else:
            del token[position]
    found = lab.verify(bytes(token))
    assert found.authentic is not True or bytes(token) == original
