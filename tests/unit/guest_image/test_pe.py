# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs for UEFI: what is read of them, what is left out of their digest, and what is refused."""

from __future__ import annotations

import hashlib
import struct
import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.measure.pe import authenticode, parse_pe
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))

from uki_lab import pe, uki  # noqa: E402

SECTIONS = st.lists(st.tuples(st.sampled_from([".text", ".linux", ".data"]), st.binary(max_size=1500)), min_size=1, max_size=5)
CHECKSUM = 64 + 24 + 64


@given(SECTIONS)
def test_sections_come_back(sections):
    image = pe(sections)
    found = parse_pe(image)
    assert [(section.name, section.content(image)) for section in found.sections] == sections


@given(SECTIONS, st.binary(min_size=8, max_size=64), st.binary(max_size=40), st.sampled_from(["sha256", "sha384"]))
def test_the_digest_is_of_all_but_checksum_and_certificates(sections, certificates, tail, algorithm):
    image = pe(sections, certificates=certificates, tail=tail)
    entry = 64 + 24 + 112 + 32
    left = image[:CHECKSUM] + image[CHECKSUM + 4 : entry] + image[entry + 8 : len(image) - len(certificates)]
    assert authenticode(image, algorithm) == hashlib.new(algorithm, left).digest()


def test_checksum_and_signature_do_not_count_and_everything_else_does():
    image = pe([(".text", b"a" * 700), (".linux", b"b" * 10)], certificates=b"c" * 16)
    whole = authenticode(image)
    for position in (CHECKSUM, CHECKSUM + 3, len(image) - 1):
        assert authenticode(flipped(image, position)) == whole
    for position in (2, CHECKSUM - 12, CHECKSUM + 4, 600, 1100, 1500):
        assert authenticode(flipped(image, position)) != whole


def test_a_section_that_is_longer_in_the_file_is_cut_and_a_shorter_one_filled():
    image = pe([(".linux", b"x" * 100)], slack=30)
    assert parse_pe(image).by_name()[".linux"].content(image) == b"x" * 100
    position = image.index(b".linux\0\0") + 8
    longer = image[:position] + struct.pack("<I", 2000) + image[position + 4 :]
    assert parse_pe(longer).by_name()[".linux"].content(longer)[-900:] == bytes(900)


def flipped(image: bytes, position: int) -> bytes:
    return image[:position] + bytes([image[position] ^ 1]) + image[position + 1 :]


@pytest.mark.parametrize(
    ("position", "value", "words"),
    [
        (0, b"ZM", "does not begin"),
        (0x3C, b"\xff\xff\xff\x7f", "no PE signature"),
        (0x3C, b"\0\0\0\0", "no PE signature"),
        (64, b"PX", "no PE signature"),
        (64 + 6, b"\0\0", "0 sections"),
        (64 + 6, b"\xff\xff", "65535 sections"),
        (64 + 20, b"\x10\x00", "optional header has 16 bytes"),
        (64 + 24, b"\x07\x01", "of the kind 0x107"),
        (64 + 24 + 60, b"\x10\0\0\0", "headers take 16"),
        (64 + 24 + 60, b"\xff\xff\xff\x7f", "headers take"),
        (64 + 24 + 112 + 32, b"\xff\xff\xff\x7f\x08\0\0\0", "certificates lie outside"),
        (64 + 24 + 240, b"\x01", "not printable"),
        (64 + 24 + 240 + 8, b"\xff\xff\xff\xff", "of memory"),
        (64 + 24 + 240 + 20, b"\xff\xff\xff\x7f", "lies outside"),
        (64 + 24 + 240 + 20, b"\0\0\0\0", "lies outside"),
    ],
)
def test_a_header_that_lies_is_refused(position, value, words):
    image = pe([(".text", b"a" * 700)])
    with pytest.raises(FormatError, match=words):
        parse_pe(image[:position] + value + image[position + len(value) :])


@given(st.integers(0, 900), st.binary(min_size=1, max_size=8))
def test_no_byte_brings_anything_but_a_clear_error(position, value):
    image = uki()
    try:
        authenticode(image[:position] + value + image[position + len(value) :])
    except FormatError as error:
        assert "Give a program for UEFI" in str(error)


@given(st.binary(max_size=300))
def test_bytes_that_are_none_are_refused(data):
    with pytest.raises(FormatError):
        parse_pe(data)


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(FormatError, match="none of sha256, sha384"):
        authenticode(uki(), "md5")
