# SPDX-License-Identifier: GPL-3.0-or-later
"""What firmware, Intel's tools and QGS write: read strictly, and refused with a word that helps."""

from __future__ import annotations

import struct

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import efivars, mpa_log, pckid, qgs_protocol, record
from hypothesis import given
from hypothesis import strategies as st
from softpccs import qgs
from softpccs.platform import ADD_GUID, MANIFEST_GUID, Platform

ATTRIBUTES = b"\x07\0\0\0"


def request(body: bytes, version: int = 2, size: int | None = None) -> bytes:
    width = 4 if version == 3 else 2
    return ATTRIBUTES + version.to_bytes(2, "little") + (len(body) if size is None else size).to_bytes(width, "little") + body


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_request_holds_the_manifest(version):
    body = MANIFEST_GUID + bytes(100)
    found = efivars.parse_request(request(body, version))
    assert found.kind == "manifest" and found.data == body and found.digest == pckid.digest(body)
    assert efivars.parse_request(request(ADD_GUID + bytes(9), version)).kind == "add-package"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        ATTRIBUTES,
        ATTRIBUTES + b"\x02\0",
        request(MANIFEST_GUID + b"x", 4),
        request(MANIFEST_GUID + b"x", 0),
        request(MANIFEST_GUID + b"x", 2, 16),
        request(MANIFEST_GUID + b"x", 2, 18),
        request(bytes(40)),
        request(b"short"),
        bytes((256 << 10) + 1),
    ],
)
def test_other_requests_are_refused(data):
    with pytest.raises(FormatError, match="SGX Factory Reset"):
        efivars.parse_request(data)


def test_the_status_says_complete_and_what_went_wrong():
    assert efivars.parse_status(ATTRIBUTES + bytes([1, 0, 3, 0, 1, 0, 0])) == efivars.Status(True, 0)
    # Bit 1 is about something else.
    found = efivars.parse_status(ATTRIBUTES + bytes([1, 0, 3, 0, 2, 0, 0xA3]))
    assert not found.complete and "PackageNotFound" in found.problem
    assert "MCHECK" in efivars.Status(False, 0x12).problem and "not known" in efivars.Status(False, 0xFF).problem and not efivars.Status(True, 0).problem
    for data in (b"", ATTRIBUTES + bytes(7), ATTRIBUTES + bytes([2, 0, 3, 0, 1, 0, 0]), ATTRIBUTES + bytes([1, 0, 3, 0, 1, 0, 0, 0])):
        with pytest.raises(FormatError):
            efivars.parse_status(data)


def test_the_bios_says_whether_the_agent_is_enabled(tmp_path):
    platform = Platform.make(tmp_path / "p")
    path = tmp_path / "p" / "efivars" / efivars.CONFIGURATION.rpartition("/")[2]
    assert efivars.parse_agent_enabled(path.read_bytes()) is False
    platform.set_agent(True)
    assert efivars.parse_agent_enabled(path.read_bytes()) is True
    with pytest.raises(FormatError):
        efivars.parse_agent_enabled(path.read_bytes()[:9])


@given(st.binary(max_size=80))
def test_any_variable_is_read_or_refused(data):
    for parse in (efivars.parse_request, efivars.parse_status, efivars.parse_agent_enabled):
        try:
            parse(data)
        except FormatError:
            pass


def test_column_six_is_the_manifest(tmp_path):
    platform = Platform.make(tmp_path / "p")
    found = pckid.parse(platform.csv(platform.manifest).encode())
    assert found.manifest == platform.manifest and found.identity == {
        "qe_id": platform.qe_id.hex(),
        "pce_id": "0000",
        "cpu_svn": platform.cpu_svn.hex(),
        "pce_svn": "0d00",
    }
    without = pckid.parse(platform.csv(None).upper().encode() + b"\r\n")
    assert without.manifest is None and without.platform(platform.manifest)["platform_manifest"] == platform.manifest.hex()
    assert set(without.platform(None)) == set(pckid.COLUMNS) and without.platform(None)["platform_manifest"] == ""


def line(**changed: str) -> bytes:
    fields = {name: "ab" * size for name, size in pckid.SIZES.items()}
    return ",".join({**fields, "platform_manifest": "cdef", **changed}.values()).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 lines"),
        (line() + b"\n" + line(), "2 lines"),
        (b"\xff", "no text"),
        (b"ab,cd", "2 columns"),
        (line() + b",", "7 columns"),
        (line(qe_id="ab"), "qe_id"),
        (line(enc_ppid="zz" * 384), "enc_ppid"),
        (line(platform_manifest=""), "platform_manifest"),
        (line(platform_manifest="abc"), "platform_manifest"),
        (line(pce_id="０" * 4), "no text"),
        (b",0000,,,6162,abcd", "without an enclave"),
        (b"a" * (1 << 20), "too many"),
        (line(platform_manifest="ab" * ((256 << 10) + 1)), "too many"),
    ],
)
def test_other_lines_are_refused(data, said):
    with pytest.raises(FormatError, match=said):
        pckid.parse(data, "x.csv")


@given(st.binary(max_size=60) | st.text(alphabet="0123456789abcdef,\n", max_size=80).map(str.encode))
def test_any_line_is_read_or_refused(data):
    with pytest.raises(FormatError):
        pckid.parse(data)


REAL = "[30-06-2025 10:00:01] INFO: SGX Registration Agent version: 1.27.101.1\n"
PASSED = "[30-06-2025 10:00:09] INFO: Registration Flow - PLATFORM_ESTABLISHMENT or TCB_RECOVERY passed successfully.\n"
COMPLETE = "[x] INFO: Registration Flow - Registration status indicates registration is completed successfully. MPA has nothing to do.\n"
UNSUCCESSFUL = "[x] ERROR: Registration Flow - Registration status indicates registration is completed unsuccessfully, and the error code is 163. \n"
DISABLED = '[x] WARN: MPA won\'t perform platform registration because "SGX Auto MP Registration" is disabled in the BIOS.\n'
NETWORK = "[x] ERROR: Failed to send request to server, error: 10\n"
FAILED = "[x] INFO: Registration Flow - PLATFORM_ESTABLISHMENT or TCB_RECOVERY failed.\n"
END = "[x] INFO: Finished Registration Agent Flow.\n"


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("", mpa_log.SILENT),
        ("noise\n", mpa_log.SILENT),
        (REAL, mpa_log.STARTED),
        (REAL + PASSED + END, mpa_log.REGISTERED),
        (REAL + NETWORK + PASSED + END, mpa_log.REGISTERED),
        (REAL + NETWORK + FAILED + END, mpa_log.FAILED),
        (REAL + PASSED + END + REAL + COMPLETE + END, mpa_log.COMPLETE),
        (REAL + PASSED + END + REAL + NETWORK + FAILED, mpa_log.FAILED),
        (REAL + PASSED + END + REAL, mpa_log.STARTED),
        (REAL + UNSUCCESSFUL + END, mpa_log.FAILED),
        (REAL + DISABLED + END, mpa_log.DISABLED),
        (PASSED, mpa_log.REGISTERED),
    ],
)
def test_the_last_run_of_the_agent_counts(text, outcome):
    assert mpa_log.last_run(text).outcome == outcome


@given(st.text(max_size=200))
def test_any_log_has_an_outcome(text):
    assert mpa_log.last_run(text).outcome


def test_qgs_tells_who_the_platform_is(tmp_path):
    platform = Platform.make(tmp_path / "p")
    # The bytes that Intel's own library makes, qgs_msg_gen_get_platform_info_req of DCAP f0ed77e.
    assert qgs_protocol.platform_info_request().hex() == "0000001001000100040000001000000000000000"
    found = qgs_protocol.parse_platform_info(qgs.answer(platform, qgs_protocol.platform_info_request()))
    assert found.to_dict() == {"qe_id": platform.qe_id.hex(), "cpu_svn": platform.cpu_svn.hex(), "pce_svn": "0d00"} and found.tdqe_svn == 5


def packed(kind=5, error=0, major=1, size=None, rest=struct.pack("<HHII", 5, 13, 16, 16) + bytes(36)):
    body = struct.pack("<HHIII", major, 1, kind, 16 + len(rest) if size is None else size, error) + rest
    return len(body).to_bytes(4, "big") + body


def test_intels_library_leaves_four_bytes_and_none_is_as_good():
    assert qgs_protocol.parse_platform_info(packed()) == qgs_protocol.parse_platform_info(packed(rest=struct.pack("<HHII", 5, 13, 16, 16) + bytes(32)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP",
        packed()[:-1],
        packed(kind=1),
        packed(major=2),
        packed(size=20),
        packed(error=0x12001),
        packed(rest=b""),
        packed(rest=struct.pack("<HHII", 5, 13, 15, 16) + bytes(36)),
        packed(rest=struct.pack("<HHII", 5, 13, 16, 16) + bytes(31)),
        packed(rest=struct.pack("<HHII", 5, 13, 16, 16) + bytes(32) + b"x"),
        b"\xff\xff\xff\xff" + bytes(20),
    ],
)
def test_other_answers_are_refused(data):
    with pytest.raises(FormatError):
        qgs_protocol.parse_platform_info(data)


@given(st.binary(max_size=120))
def test_any_answer_is_read_or_refused(data):
    try:
        qgs_protocol.parse_platform_info(data)
    except FormatError:
        pass


GOOD = record.Record("direct_manual", "ab" * 32, ("register",), {"qe_id": "00" * 16, "pce_svn": "0d00"}, "cd" * 16, ("ef" * 32,))


def test_a_record_comes_back():
    assert record.parse(GOOD.text()) == GOOD and GOOD.missing == ("collect",) and GOOD.with_done("collect").missing == ()


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "x"},
        {"variant": "none"},
        {"manifest": "ab"},
        {"manifest": None},
        {"done": ["all"]},
        {"done": None},
        {"identity": {"x": "00" * 16}},
        {"identity": []},
        {"ppid": "x"},
        {"previous": ["x"]},
        {"previous": None},
        {"collateral": 1},
        {"more": 1},
    ],
)
def test_a_damaged_record_is_no_record_and_no_success(change):
    import json

    with pytest.raises(FormatError, match="Put it back"):
        record.parse(json.dumps({**GOOD.to_dict(), **change}))
    with pytest.raises(FormatError):
        record.parse("{")


def test_records_of_machine_and_controller_are_brought_together():
    import dataclasses

    further = GOOD.with_done("collect")
    newer = record.Record("direct_manual", "11" * 32, previous=(GOOD.manifest,))
    for one, other, expected in ((None, None, None), (GOOD, None, GOOD), (None, GOOD, GOOD), (GOOD, further, further), (GOOD, newer, newer)):
        assert record.merged(one, other) == record.merged(other, one) == expected
    for other in (dataclasses.replace(GOOD, variant="indirect_pccs"), dataclasses.replace(GOOD, manifest="11" * 32, previous=())):
        with pytest.raises(FormatError, match="remove the other"):
            record.merged(GOOD, other)
