# SPDX-License-Identifier: GPL-3.0-or-later
"""The TDREPORT inside an HCL report: as far as a quote repeats it, each byte counts."""

from __future__ import annotations

import hashlib

import pytest

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.hcl_report import parse_hcl_report
from ansible_collections.attested.ai.plugins.module_utils.formats.tdreport import quoted_part

# What only the machine itself can check: CPUSVN and the MAC, by their place in the HCL report.
FREE = set(range(0x20 + 16, 0x20 + 32)) | set(range(0x20 + 224, 0x20 + 256))


@pytest.fixture(scope="module")
def genuine(vectors):
    folder = vectors / "coco" / "trustee" / "az-tdx-vtpm"
    return (folder / "hcl-report.bin").read_bytes(), (folder / "td-quote.bin").read_bytes()


def linked(hcl, quote):
    parsed = parse_hcl_report(hcl)
    return quoted_part(parsed.hardware) == quote[48:48 + 584] and quote[48 + 520:48 + 584] == parsed.runtime_digest + bytes(32)


def test_the_genuine_report_is_the_one_that_was_quoted(genuine):
    assert linked(*genuine)


def test_every_byte_but_those_that_only_the_machine_can_check(genuine):
    hcl, quote = genuine
    accepted = set()
    for place in range(len(hcl)):
        broken = bytearray(hcl)
        broken[place] ^= 1 << (place + 2) % 8
        try:
            if linked(bytes(broken), quote):
                accepted.add(place)
        except FormatError:
            pass
    assert accepted == FREE


@pytest.mark.parametrize("size", [0, 1023, 1025])
def test_a_tdreport_has_one_size(size):
    with pytest.raises(FormatError):
        quoted_part(bytes(size))


def test_digests_of_a_tdreport_that_are_right_by_themselves(genuine):
    """Whoever changes a measurement can change the digests too; then the quote tells."""
    hcl, quote = genuine
    report = bytearray(parse_hcl_report(hcl).hardware)
    report[528] ^= 1
    report[80:128] = hashlib.sha384(bytes(report[512:1024])).digest()
    assert quoted_part(bytes(report)) != quote[48:48 + 584]
