# SPDX-License-Identifier: GPL-3.0-or-later
"""SPDM reports and opaque data: every rule of the two parsers has a case that breaks it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvidia_lab import GPU_BLOCKS, NONCE, Device, NvidiaLab, gpu_fields, legacy, nvdaod, spdm, switch_fields

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.nvidia_opaque import GPU, SWITCH, parse_opaque
from ansible_collections.attested.ai.plugins.module_utils.formats.spdm import REPORT_MAX, parse_spdm_report

BLOCK = 55
RECORD_AT = 45


@pytest.fixture(scope="module")
def device(lab: NvidiaLab) -> Device:
    return lab.device()


@pytest.fixture(scope="module")
def report(lab: NvidiaLab, device: Device) -> bytes:
    return lab.gpu_report(device)


def patched(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new):]


def test_a_report_is_taken_apart(report: bytes, device: Device) -> None:
    parsed = parse_spdm_report(report)
    assert parsed.nonce == NONCE and parsed.slot == 0
    assert dict(parsed.measurements) == GPU_BLOCKS
    assert parsed.opaque == legacy(gpu_fields(device))
    assert parsed.signed_region == report[:-96]
    assert parsed.signature_r.to_bytes(48, "big") + parsed.signature_s.to_bytes(48, "big") == report[-96:]
    assert len(parsed.to_dict()["measurements"]) == 64


def test_one_zero_byte_may_follow_and_nothing_else(report: bytes) -> None:
    assert parse_spdm_report(report + b"\0").signed_region == report[:-96]
    for tail in (b"\0\0", b"\x01", b"\0\x01", bytes(16)):
        with pytest.raises(FormatError, match="after the signature"):
            parse_spdm_report(report + tail)


@pytest.mark.parametrize(
    ("place", "new", "match"),
    [
        (0, b"\x12", "SPDM 1.1 request"),
        (1, b"\xe1", "SPDM 1.1 request"),
        (2, b"\0", "signed"),
        (3, b"\x01", "all measurements"),
        (36, b"\x01", "slot"),
        (36, b"\x10", "slot"),
        (37, b"\x10", "response begins"),
        (38, b"\x7f", "response begins"),
        (40, b"\x01", "slot"),
        (41, b"\x3f", "measurement blocks"),
        (41, b"\0", "measurement blocks"),
        (42, b"\xff\xff\xff", "past the end"),
        (42, b"\xc1", "measurement blocks"),
        (RECORD_AT, b"\0", "numbered 0"),
        (RECORD_AT + BLOCK, b"\x01", "twice"),
        (RECORD_AT + 1, b"\x02", "no DMTF measurement"),
        (RECORD_AT + 2, b"\x32", "no DMTF measurement"),
        (RECORD_AT + 5, b"\x2f", "no DMTF measurement"),
    ],
)
def test_a_report_of_another_form_is_refused(report: bytes, place: int, new: bytes, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        parse_spdm_report(patched(report, place, new))


def test_every_truncation_is_refused(report: bytes) -> None:
    for size in range(len(report)):
        with pytest.raises(FormatError):
            parse_spdm_report(report[:size])


def test_a_report_has_a_largest_size(report: bytes) -> None:
    with pytest.raises(FormatError, match="at most"):
        parse_spdm_report(report + bytes(REPORT_MAX))


@given(st.binary(max_size=400))
def test_no_bytes_crash_the_report_parser(data: bytes) -> None:
    for candidate in (data, b"\x11\xe0\x01\xff" + bytes(33) + b"\x11\x60\0\0" + data):
        try:
            parse_spdm_report(candidate)
        except FormatError:
            pass


@pytest.mark.parametrize("versioned", [False, True])
def test_both_layouts_say_the_same(lab: NvidiaLab, device: Device, versioned: bool) -> None:
    switches = [bytes([number]) * 8 for number in (1, 2, 3, 4)]
    fields = gpu_fields(device, mode="ppcie", switches=switches, f37=b"\x05\0", f35=b"GB102\0", f38=b"\xaa", f900=b"later")
    parsed = parse_opaque((nvdaod if versioned else legacy)(fields), GPU)
    assert parsed.version == ((2, 0, 0) if versioned else None)
    assert (parsed.driver_version, parsed.vbios, parsed.mode, parsed.protected_pcie) == ("580.95.05", "96.00.9F.00.01", "ppcie", True)
    assert (parsed.nvdec0, parsed.project, parsed.project_sku, parsed.chip_sku, parsed.chip_info) == (False, "G520", "0200", "885", "GB102")
    assert (parsed.fsp_svn, parsed.fwid) == (5, device.fwid)
    assert parsed.switch_pdis == tuple(switches)
    assert parsed.fields[900] == b"later"


def test_a_switch_says_who_it_is_and_which_gpus_it_has(lab: NvidiaLab) -> None:
    switch = lab.device("LS_10")
    gpus = [bytes([number]) * 8 for number in range(1, 9)]
    parsed = parse_opaque(legacy(switch_fields(switch, gpus)), SWITCH)
    assert (parsed.vbios, parsed.own_pdi, parsed.gpu_pdis) == ("96.10.55.00.01", switch.pdi, tuple(gpus))


def test_links_to_nobody_are_left_out(device: Device) -> None:
    some = bytes(range(8))
    parsed = parse_opaque(legacy(gpu_fields(device, f22=(some + bytes(8)) * 9)), GPU)
    assert parsed.switch_pdis == (some[::-1],)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"f6": bytes(7)}, "field 6 has 7 bytes"),
        ({"f3": b"not a version\0"}, "field 3"),
        ({"f3": b"1.2\x00.3\0"}, "field 3"),
        ({"f11": b"\x01"}, "neither 0xaa"),
        ({"f21": b"\0"}, "neither 0xaa"),
        ({"f36": b"\x03\0"}, "feature flag is 3"),
        ({"f36": b"\0"}, "field 36 has 1 bytes"),
        ({"f20": bytes(47)}, "field 20 has 47 bytes"),
        ({"f22": bytes(143)}, "field 22"),
        ({"f12": bytes(255)}, "counters"),
        ({"f17": b"G5\xff0"}, "field 17"),
        ({"f37": b"\0"}, "field 37"),
    ],
)
def test_known_fields_must_make_sense(device: Device, changes: dict[str, bytes], match: str) -> None:
    with pytest.raises(FormatError, match=match):
        parse_opaque(legacy(gpu_fields(device, **changes)), GPU)


@pytest.mark.parametrize(("changes", "match"), [({"f26": bytes(127)}, "field 26"), ({"f22": bytes(7)}, "field 22"), ({"f6": b"96.10"}, "field 6")])
def test_known_fields_of_a_switch_must_make_sense(lab: NvidiaLab, changes: dict[str, bytes], match: str) -> None:
    with pytest.raises(FormatError, match=match):
        parse_opaque(legacy(switch_fields(lab.device("LS_10"), [], **changes)), SWITCH)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (legacy({3: b"1.2\0"}) * 2, "occurs twice"),
        (b"\x03\0\x05\0abcd", "past the end"),
        (b"\x03\0\x05", "inside the header"),
        (b"NVDAOD\0\0\x02", "header ends"),
        (nvdaod({3: b"1.2\0"}, header=b"NVDAOD\x01\0\x02\0\0\0"), "profile 1"),
        (nvdaod({3: b"1.2\0"}, header=b"NVDAOD\0\0\x02\0\0\x01"), "padding"),
        (nvdaod({3: b"1.2\0"}, header=b"NVDAOD\0\0\x03\0\0\0"), r"version 3\.0\.0"),
        (nvdaod({37: b"\0\0"}, types={37: 0x86}), "value type 0x86"),
    ],
)
def test_malformed_opaque_data_are_refused(data: bytes, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        parse_opaque(data, GPU)


def test_only_gpus_and_switches_are_known() -> None:
    with pytest.raises(FormatError, match="neither"):
        parse_opaque(b"", "dpu")


@given(st.binary(max_size=300), st.sampled_from((GPU, SWITCH)))
def test_no_bytes_crash_the_opaque_parser(data: bytes, kind: str) -> None:
    for candidate in (data, b"NVDAOD\0\0\x02\0\0\0" + data):
        try:
            parse_opaque(candidate, kind)
        except FormatError:
            pass


@given(st.dictionaries(st.integers(100, 65535), st.binary(max_size=40), max_size=8), st.booleans())
def test_unknown_fields_are_kept_by_number(fields: dict[int, bytes], versioned: bool) -> None:
    assert dict(parse_opaque((nvdaod if versioned else legacy)(fields), GPU).fields) == fields


def test_a_slot_other_than_0_is_read(lab: NvidiaLab, device: Device) -> None:
    assert parse_spdm_report(spdm(device.chain[0].key, NONCE, b"", GPU_BLOCKS, slot=3)).slot == 3
