# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever bytes come in, verification answers; it never raises, and never says authentic."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.snp import UNCHECKED, verify_snp

AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
BLOB = st.binary(max_size=64)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def genuine(vectors):
    name = "real-turin-v5-oak"
    return (vectors / (name + ".report.bin")).read_bytes(), (vectors / (name + ".vek.der")).read_bytes()


@QUICK
@given(data=st.binary(max_size=1300), vek=st.none() | BLOB, chain=st.lists(BLOB, max_size=3), crl=st.none() | BLOB)
def test_arbitrary_bytes(vendor_roots, data, vek, chain, crl):
    result = verify_snp(data, vek, chain, vendor_roots, AT, UNCHECKED, crl)
    assert result.authentic is not True and result.code != "ok"


@QUICK
@given(vek=BLOB, chain=st.lists(BLOB, max_size=10), crl=st.none() | BLOB)
def test_arbitrary_certificates_for_a_genuine_report(vendor_roots, genuine, vek, chain, crl):
    result = verify_snp(genuine[0], vek, chain, vendor_roots, AT, UNCHECKED, crl)
    assert result.authentic is False


@QUICK
@given(st.data())
def test_splices_of_the_leaf(vendor_roots, genuine, data):
    """Pieces cut out, doubled or overwritten: lengths and tags go wrong in every combination."""
    report, vek = genuine
    start = data.draw(st.integers(0, len(vek)))
    end = data.draw(st.integers(start, len(vek)))
    changed = vek[:start] + data.draw(st.binary(max_size=8)) + vek[end:]
    result = verify_snp(report, changed, [], vendor_roots, AT, UNCHECKED)
    assert (result.authentic is True) == (changed == vek)


@QUICK
@given(st.data())
def test_several_changes_of_a_report_against_a_warm_cache(vendor_roots, genuine, data):
    report, vek = genuine
    cache = VerificationCache()
    assert verify_snp(report, vek, [], vendor_roots, AT, UNCHECKED, None, cache).authentic is True
    changed = bytearray(report)
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, 1183), st.integers(0, 255)), max_size=4)):
        changed[position] = value
    result = verify_snp(bytes(changed), vek, [], vendor_roots, AT, UNCHECKED, None, cache)
    assert (result.authentic is True) == (bytes(changed) == report)


def test_every_bit_outside_the_signed_region(vendor_roots, genuine):
    """The signature does not protect its own field: all 4096 bits, one by one."""
    report, vek = genuine
    cache = VerificationCache()
    survivors = []
    for bit in range(8 * 0x2A0, 8 * 0x4A0):
        changed = bytearray(report)
        changed[bit // 8] ^= 1 << bit % 8
        if verify_snp(bytes(changed), vek, [], vendor_roots, AT, UNCHECKED, None, cache).authentic is not False:
            survivors.append(bit)
    assert survivors == []
