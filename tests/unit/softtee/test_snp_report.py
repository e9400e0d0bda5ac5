# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from softtee.snp_report import DEFAULT_TCB, build_report, encode_tcb, sign_report

# (argument, value, offset, bytes): offsets from the table of AMD 56860, written down anew.
FIELDS = [
    ("version", 2, 0x00, b"\2\0\0\0"),
    ("guest_svn", 7, 0x04, b"\7\0\0\0"),
    ("policy", 0xB0000, 0x08, b"\0\0\x0b\0\0\0\0\0"),
    ("family_id", b"F" * 16, 0x10, b"F" * 16),
    ("image_id", b"I" * 16, 0x20, b"I" * 16),
    ("vmpl", 0xFFFFFFFF, 0x30, b"\xff" * 4),
    ("signature_algo", 2, 0x34, b"\2\0\0\0"),
    ("platform_info", 0x67, 0x40, b"\x67" + bytes(7)),
    ("key_info", 0x1D, 0x48, b"\x1d\0\0\0"),
    ("mask_chip_key", True, 0x48, b"\2\0\0\0"),
    ("author_key_en", True, 0x48, b"\1\0\0\0"),
    ("signing_key", "vlek", 0x48, b"\4\0\0\0"),
    ("signing_key", "none", 0x48, b"\x1c\0\0\0"),
    ("report_data", b"R" * 64, 0x50, b"R" * 64),
    ("measurement", b"M" * 48, 0x90, b"M" * 48),
    ("host_data", b"H" * 32, 0xC0, b"H" * 32),
    ("id_key_digest", b"K" * 48, 0xE0, b"K" * 48),
    ("author_key_digest", b"A" * 48, 0x110, b"A" * 48),
    ("report_id", b"X" * 32, 0x140, b"X" * 32),
    ("report_id_ma", b"Y" * 32, 0x160, b"Y" * 32),
    ("cpuid", (0x1A, 2, 3), 0x188, b"\x1a\2\3\0"),
    ("chip_id", b"C" * 64, 0x1A0, b"C" * 64),
    ("chip_id", b"C" * 8, 0x1A0, b"C" * 8 + bytes(56)),
    ("current_version", (1, 55, 44), 0x1E8, bytes([44, 55, 1, 0])),
    ("committed_version", (1, 54, 9), 0x1EC, bytes([9, 54, 1, 0])),
    ("launch_mit_vector", 0x0102, 0x1F8, b"\2\1" + bytes(6)),
    ("current_mit_vector", 0x0304, 0x200, b"\4\3" + bytes(6)),
    ("patch", {0x29F: b"\x99"}, 0x29F, b"\x99"),
]
TCBS = [("current_tcb", 0x38), ("reported_tcb", 0x180), ("committed_tcb", 0x1E0), ("launch_tcb", 0x1F0)]


@pytest.mark.parametrize("name, value, offset, expected", FIELDS)
def test_each_field_lies_where_the_specification_puts_it(name, value, offset, expected):
    report = build_report("genoa", **{name: value})
    assert len(report) == 1184
    assert report[offset : offset + len(expected)] == expected
    plain = build_report("genoa")
    changed = [index for index in range(1184) if report[index] != plain[index]]
    allowed = set(range(offset, offset + len(expected))) | (set(range(0x1A0, 0x1E0)) if name == "signing_key" else set())
    allowed |= set(range(0x188, 0x18B)) | set(range(0x1F8, 0x208)) if name == "version" else set()
    allowed |= set(range(0x1EC, 0x1EF)) if name == "current_version" else set()
    assert changed and set(changed) <= allowed


@pytest.mark.parametrize("name, offset", TCBS)
def test_tcbs_use_the_layout_of_the_product(name, offset):
    tcb = {"bootloader": 1, "tee": 2, "snp": 3, "microcode": 4}
    assert build_report("genoa", **{name: tcb})[offset : offset + 8] == bytes([1, 2, 0, 0, 0, 0, 3, 4])
    assert build_report("turin", **{name: {"fmc": 9, **tcb}})[offset : offset + 8] == bytes([9, 1, 2, 3, 0, 0, 0, 4])


def test_the_other_tcbs_follow_the_current_one():
    report = build_report("milan", current_tcb={"snp": 5})
    assert {bytes(report[offset : offset + 8]) for _name, offset in TCBS} == {bytes([0, 0, 0, 0, 0, 0, 5, 0])}


def test_an_fmc_is_refused_before_turin():
    with pytest.raises(ValueError, match="genoa has no TCB component fmc"):
        encode_tcb("genoa", {"fmc": 1})


@pytest.mark.parametrize("product, version, cpuid, mitigations", [("milan", 3, b"\x19\1\1", 0), ("genoa", 5, b"\x19\x11\1", 11), ("turin", 5, b"\x1a\2\1", 11)])
def test_defaults_are_those_of_the_product(product, version, cpuid, mitigations):
    report = build_report(product)
    assert report[0] == version and report[0x188:0x18B] == cpuid
    assert report[0x1F8] == report[0x200] == mitigations
    assert report[0x0A] == 0x03, "SMT and the bit that must be one"
    assert any(report[0x1A0 : 0x1A0 + (8 if product == "turin" else 64)])
    if product == "turin":
        assert not any(report[0x1A8:0x1E0])


def test_version_2_has_neither_cpuid_nor_mitigations():
    report = build_report("milan", 2)
    assert not any(report[0x188:0x1A0]) and not any(report[0x1F8:0x2A0])


def test_a_vlek_masks_the_chip():
    assert not any(build_report("milan", signing_key="vlek")[0x1A0:0x1E0])


def test_reserved_bytes_are_zero():
    for product in ("milan", "genoa", "turin"):
        report = build_report(product)
        for start, end in ((0x4C, 0x50), (0x18B, 0x1A0), (0x1EB, 0x1EC), (0x1EF, 0x1F0), (0x208, 0x4A0)):
            assert not any(report[start:end])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="takes 64 bytes, not 65"):
        build_report(report_data=bytes(65))
    with pytest.raises(ValueError, match="leaves the report"):
        build_report(patch={1184: b"x"})
    with pytest.raises(TypeError, match="unknown report fields: reportdata"):
        build_report(reportdata=b"")


def test_the_signature_is_little_endian_and_covers_the_first_672_bytes():
    key = ec.generate_private_key(ec.SECP384R1())
    report = sign_report(build_report("turin", report_data=hashlib.sha512(b"x").digest()), key)
    r, s = int.from_bytes(report[0x2A0:0x2E8], "little"), int.from_bytes(report[0x2E8:0x330], "little")
    key.public_key().verify(encode_dss_signature(r, s), bytes(report[:0x2A0]), ec.ECDSA(hashes.SHA384()))
    assert not any(report[0x2A0 + 48 : 0x2E8]) and not any(report[0x2E8 + 48 :])
    assert len(report) == 1184


def test_default_tcbs_have_each_component():
    assert {product: len(tcb) for product, tcb in DEFAULT_TCB.items()} == {"milan": 4, "genoa": 4, "turin": 5}
