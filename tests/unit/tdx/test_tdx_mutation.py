# SPDX-License-Identifier: GPL-3.0-or-later
"""No byte of a genuine quote or of genuine collateral may change unseen, but those that nothing is said with. These are listed."""

from __future__ import annotations

import functools
import json
from datetime import datetime, timezone

import pytest
import tdx_lab as t
from hypothesis import given, settings
from hypothesis import strategies as st
from tdx_lab import AT, lab

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import trust_roots
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der, pck, sgx_report, tcb_info, tdx_collateral, tdx_quote
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx import UNCHECKED, verify_tdx

pytestmark = pytest.mark.costly
GENUINE_AT = datetime(2025, 7, 1, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def genuine(vectors):
    quote = (vectors / "real-v4-uptodate-2025-06.quote.bin").read_bytes()
    return quote, (vectors / "b0c06f-2025-06.collateral.json").read_bytes(), trust_roots(kind="intel")


def accepted(quote, collateral, roots, at, cache=None):
    found = verify_tdx(quote, [collateral], roots, at, UNCHECKED, cache)
    return found.authentic is True and found.claims.tcb_status == "UpToDate"


@pytest.mark.parametrize("flip", [0x01, 0x80])
def test_every_byte_of_a_genuine_quote(genuine, flip):
    quote, collateral, roots = genuine
    cache = VerificationCache()
    assert accepted(quote, collateral, roots, GENUINE_AT, cache)
    changed = bytearray(quote)
    survivors = []
    for place in range(len(quote)):
        changed[place] ^= flip
        if accepted(bytes(changed), collateral, roots, GENUINE_AT, cache):
            survivors.append(place)
        changed[place] ^= flip
    assert survivors == []


def test_every_byte_of_a_quote_of_version_5():
    of, cache = lab(), VerificationCache()
    quote = of.quote(t.td_report(svn_2=bytes((8, 1, 6)) + bytes(13)), 5, padding=bytes(16))
    collateral, roots = of.collateral(), of.roots()
    assert accepted(quote, collateral, roots, AT, cache)
    for place in range(len(quote)):
        changed = quote[:place] + bytes((quote[place] ^ 1,)) + quote[place + 1:]
        assert not accepted(changed, collateral, roots, AT, cache), place


def test_every_byte_of_genuine_collateral(genuine):
    """What survives is said in JSON in more than one way, or is nobody's word: space between the file's own members, the case of
    hexadecimal digits (also in r and s, where a change of case is no change), blank lines after a chain."""
    quote, collateral, roots = genuine
    document = json.loads(collateral)
    assert accepted(quote, json.dumps(document).encode(), roots, GENUINE_AT)
    for member, value in document.items():
        binary = member in ("root_ca_crl", "pck_crl") or member.endswith("_signature")
        data = bytes.fromhex(value) if binary else value.encode()
        survivors = []
        for place in range(len(data)):
            changed = data[:place] + bytes((data[place] ^ 1,)) + data[place + 1:]
            text = changed.hex() if binary else changed.decode()
            if accepted(quote, json.dumps({**document, member: text}).encode(), roots, GENUINE_AT):
                survivors.append(place)
        assert survivors == [], member


def seeds():
    return [lab().quote(), lab().quote(t.td_report(svn_2=bytes(16)), 5)]


@functools.lru_cache(maxsize=None)
def collateral():
    return lab().collateral()


PARSERS = {
    "quote": (tdx_quote.parse_quote, seeds),
    "chain": (pck.chain_to_der, lambda: [lab().chain().encode()]),
    "report": (sgx_report.parse_sgx_report, lambda: [t.qe_report(bytes(64))]),
    "pck": (lambda data: pck.parse_pck_extensions({pck.OID_SGX: (False, data)}), lambda: [t.sgx_extension(), t.sgx_extension(configuration=None)]),
    "collateral": (tdx_collateral.parse_collateral, lambda: [collateral()]),
    "tcb-info": (lambda data: tcb_info.parse_tcb_info(data.decode("latin-1")), lambda: [json.dumps(t.tcb_info()).encode()]),
    "qe-identity": (lambda data: tcb_info.parse_qe_identity(data.decode("latin-1")), lambda: [json.dumps(t.qe_identity()).encode()]),
    "answer": (lambda data: tdx_collateral.extract_signed_member(data, "tcbInfo"), lambda: [
        json.dumps({"tcbInfo": t.tcb_info(), "signature": "11" * 64}).encode(),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_parsers_raise_nothing_else(name, data):
    parse, make = PARSERS[name]
    seed = data.draw(st.sampled_from(make()))
    place = data.draw(st.integers(0, len(seed)))
    piece = data.draw(st.binary(max_size=24))
    cut = data.draw(st.integers(0, 32))
    for changed in (seed[:place] + piece + seed[place + cut:], piece):
        try:
            parse(changed)
        except FormatError:
            pass


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 7000), piece=st.binary(max_size=8))
def test_verifier_never_raises(place, piece):
    quote = lab().quote()
    place %= len(quote)
    changed = quote[:place] + piece + quote[place + len(piece):]
    assert verify_tdx(changed, [collateral()], lab().roots(), AT, UNCHECKED).authentic is not True or changed == quote
    whole = collateral()
    place %= len(whole)
    verify_tdx(quote, [whole[:place] + piece + whole[place + len(piece):]], lab().roots(), AT, UNCHECKED)


@settings(max_examples=120, deadline=None)
@given(
    svns=st.lists(st.integers(0, 255), min_size=16, max_size=16), pcesvn=st.integers(0, 65535),
    flags=st.none() | st.tuples(st.booleans(), st.booleans(), st.booleans()),
    place=st.integers(0, 700), flip=st.integers(0, 255),
)  # fmt: skip
def test_both_readers_of_the_extension_agree(svns, pcesvn, flags, place, flip):
    data = bytearray(t.sgx_extension(tuple(svns), pcesvn, configuration=flags))
    fast = pck._in_order(bytes(data))
    # A number of three bytes is left to the reader.
    assert (fast is None) is (pcesvn > 0x7FFF)
    fast = fast or pck._in_any_order(bytes(data))
    assert fast == pck._in_any_order(bytes(data))
    assert (fast.components, fast.pcesvn, fast.cpusvn, fast.smt_enabled) == (tuple(svns), pcesvn, bytes(svns), flags[2] if flags else None)
    data[place % len(data)] ^= flip
    fast = pck._in_order(bytes(data))
    assert fast is None or fast == pck._in_any_order(bytes(data))


@settings(max_examples=60, deadline=None)
@given(serials=st.lists(st.integers(1, 2**159 - 1), max_size=12, unique=True), place=st.integers(0, 2000), flip=st.integers(0, 255))
def test_both_readers_of_a_revocation_list_agree(serials, place, flip):
    data = bytearray(t.crl("Intel SGX Root CA", lab().root_key, serials))
    assert der.parse_crl(bytes(data)).serials == frozenset(serials)
    data[place % len(data)] ^= flip
    run, outcomes = der._entry_run, []
    for reader in (run, lambda _der, position, _end, _serials: position):
        der._entry_run = reader
        try:
            outcomes.append(der.parse_crl(bytes(data)))
        except FormatError:
            outcomes.append(None)
        finally:
            der._entry_run = run
    assert outcomes[0] == outcomes[1]


def test_the_signed_member_is_cut_out_exactly():
    for body in (b'{"tcbInfo":{"a": 1 , "b":"}\\""},"signature":"%s"}', b' { "signature" : "%s" , "tcbInfo" : {"a": 1 , "b":"}\\""} } \n'):
        text, signature = tdx_collateral.extract_signed_member(body % (b"ab" * 64), "tcbInfo")
        assert (text, signature) == ('{"a": 1 , "b":"}\\""}', b"\xab" * 64)
    for body in (b"{}", b"[]", b'{"tcbInfo":{},"signature":"00"}', b'{"tcbInfo":[],"signature":"%s"}' % (b"ab" * 64),
                 b'{"tcbInfo":{},"tcbInfo":{},"signature":""}', b""):
        with pytest.raises(FormatError):
            tdx_collateral.extract_signed_member(body, "tcbInfo")


def test_strict_pem():
    text = lab().chain().encode()
    for bad in (text.replace(b"\n", b"\r\n"), b" " + text, text + b"x",
                text.replace(b"-----BEGIN", b"\n-----BEGIN"), text[:-30], text.replace(b"\n", b"\n\n", 3)):
        with pytest.raises(FormatError):
            pck.chain_to_der(bad)
    assert len(pck.chain_to_der(text + b"\n\0")) == 3
