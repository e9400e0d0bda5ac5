# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is computed: MRTD, launch digests, init-data, exports."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ChainReport, ItemResult, Result
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.measure import initdata, rvps, tdvf
from ansible_collections.attested.ai.plugins.module_utils.measure.record import recorded
from ansible_collections.attested.ai.plugins.module_utils.measure.snp_launch import SnpLaunch, launch_digest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))

from firmware_lab import SECTIONS, TDX, entry, image  # noqa: E402

VECTORS = Path(os.environ.get("ATTESTED_VECTORS", Path(__file__).resolve().parents[4] / "shared" / "vectors"))


def by_hand(data, sections, page_by_page):
    """MRTD the long way: all blocks of 128 bytes as one text."""
    blocks = b""
    for offset, size, address, memory, _kind, attributes in sections:
        content = data[offset : offset + size] + bytes(memory - size)
        adds = [b"MEM.PAGE.ADD\0\0\0\0" + (address + place).to_bytes(8, "little") + bytes(104) for place in range(0, memory, 4096)]
        extends = [
            b"".join(
                b"MR.EXTEND\0\0\0\0\0\0\0" + (address + page + chunk).to_bytes(8, "little") + bytes(104) + content[page + chunk : page + chunk + 256]
                for chunk in range(0, 4096, 256)
            ) if attributes & 1 else b"" for page in range(0, memory, 4096)
        ]  # fmt: skip
        blocks += b"".join(one + two for one, two in zip(adds, extends)) if page_by_page else b"".join(adds + extends)
    return hashlib.sha384(blocks).digest()


def test_mrtd_is_what_the_specification_adds_and_extends():
    data = image()
    assert tdvf.mrtd(data) == by_hand(data, SECTIONS, True)
    assert tdvf.mrtd(data, "section") == by_hand(data, SECTIONS, False) != tdvf.mrtd(data)


def test_only_what_is_measured_matters_and_all_of_it():
    first = tdvf.mrtd(image())
    changed = bytearray(image())
    changed[0x100] ^= 1
    assert tdvf.mrtd(bytes(changed)) == first
    changed[0x4100] ^= 1
    assert tdvf.mrtd(bytes(changed)) != first
    later = (*SECTIONS[:2], (0, 0, 0x811000, 0x2000, 3, 0), SECTIONS[3])
    assert tdvf.mrtd(image(later)) != tdvf.mrtd(image((*SECTIONS[:2], SECTIONS[3], later[2]))) != first
    added_later = (*SECTIONS, (0, 0, 0x1000000, 0x8000, 4, 2))
    assert tdvf.mrtd(image(added_later)) != first and tdvf.parse_tdvf(image(added_later))[4].added is False


MALFORMED = (
    (b"", "0 bytes"),
    (b"\0" * 64, "no table"),
    (image(footer=bytes(16)), "no table"),
    (image(total=5), "table of entries"),
    (image(total=0xFFFF, size=4096), "table of"),
    (image(entries=b""), "without TDX"),
    (image(entries=entry(TDX, b"12345678")), "entry of the TDX"),
    (image(entries=entry(TDX, b"\xff" * 4)), "outside of the image"),
    (image(signature=b"TDVX"), "no TDVF metadata"),
    (image(version=2), "version 1"),
    (image(count=0), "0 sections"),
    (image(count=65), "65 sections"),
    (image(length=17), "sections in 17 bytes"),
    (image(((0, 0x30000, 0, 0x30000, 0, 1),)), "outside of the image"),
    (image(((0, 0, 0x10, 0x1000, 3, 0),)), "whole pages"),
    (image(((0, 0, 0, 0, 3, 0),)), "whole pages"),
    (image(((0, 0x2000, 0, 0x1000, 0, 1),)), "more bytes"),
    (image(((0, 0x1000, 0, 0x1000, 0, 3),)), "not added"),
    (image(((0, 0, 0, 0x1000, 3, 4),)), "unknown attributes"),
    (image(((0, 0, 0, 0xFFFFF000, 3, 0),)), "whole pages"),
)


@pytest.mark.parametrize(("made", "words"), MALFORMED)
def test_malformed_firmware_is_refused(made, words):
    with pytest.raises(FormatError, match=words):
        tdvf.mrtd(made)


@given(st.binary(max_size=200), st.integers(0, 1100), st.binary(min_size=1, max_size=8))
def test_no_bytes_do_anything_else_than_be_refused_or_measured(data, place, piece):
    changed = bytearray(image(size=0x1000, sections=((0, 0x1000, 0, 0x1000, 0, 1),)))
    changed[len(changed) - 1 - place : len(changed) - 1 - place + len(piece)] = piece
    for candidate in (data, bytes(changed)):
        try:
            assert len(tdvf.mrtd(candidate)) == 48
        except AttestedError:
            pass


@pytest.fixture
def ovmf(tmp_path):
    (tmp_path / "OVMF.fd").write_bytes(image())
    (tmp_path / "vmlinuz").write_bytes(b"kernel")
    return tmp_path


def test_the_launch_digest_is_that_of_the_library_s_own_program(ovmf):
    launch = SnpLaunch(ovmf=str(ovmf / "OVMF.fd"), vcpus=4, vcpu_type="EPYC-v4")
    program = "from sevsnpmeasure.cli import main; main()"
    command = [sys.executable, "-c", program, "--mode", "snp", "--vcpus", "4", "--vcpu-type", "EPYC-v4", "--ovmf", launch.ovmf]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert launch_digest(launch).hex() == told
    for changes in ({"vcpus": 5}, {"vcpu_type": "EPYC-Genoa"}, {"guest_features": 0x21}, {"vmm": "gce"}):
        assert launch_digest(SnpLaunch(**{**vars(launch), **changes})).hex() != told


@pytest.mark.parametrize(("changes", "words"), [
    ({"ovmf": "nothing.fd"}, "cannot be read"), ({"ovmf": "vmlinuz"}, "cannot be measured"), ({"vcpu_type": "Skylake"}, "not known"), ({"vcpus": 0}, "0 CPUs"),
    ({"append": "quiet"}, "go with a kernel"), ({"initrd": "vmlinuz"}, "go with a kernel"),
])
def test_what_cannot_be_measured_is_told(ovmf, changes, words):
    paths = {name: str(ovmf / value) if name in ("ovmf", "initrd") else value for name, value in changes.items()}
    with pytest.raises(FormatError, match=words):
        launch_digest(SnpLaunch(**{"ovmf": str(ovmf / "OVMF.fd"), "vcpus": 1, "vcpu_type": "EPYC-v4", **paths}))


def test_init_data_is_that_of_confidential_containers():
    cases = json.loads((VECTORS / "coco" / "generated" / "hash" / "initdata-digests.json").read_text())["cases"]
    assert len(cases) >= 2
    for case in cases:
        data = (VECTORS / "coco" / case["file"]).read_bytes()
        for algorithm in initdata.ALGORITHMS:
            for tee, name, member in (("sev-snp", "host_data", "snp_host_data"), ("tdx", "mrconfigid", "tdx_mr_config_id"), ("cca", "rpv", "cca_rpv_64")):
                assert initdata.field_value(data, algorithm, tee) == (name, case[member][algorithm])
    for algorithm, tee in (("md5", "tdx"), ("sha256", "az-snp-vtpm")):
        with pytest.raises(FormatError):
            initdata.field_value(b"x", algorithm, tee)


def test_a_realm_is_recorded_with_its_registers():
    claims = {"measurement": "11" * 32, "realm": {"rem": ["a0" * 32, "a1" * 32, "a2" * 32, "a3" * 32]}}
    item = ItemResult("cca", True, (), claims=claims)
    at = datetime(2026, 11, 1, tzinfo=timezone.utc)
    result = Result(at, None, "", "p", "", {}, ChainReport(None, "launch", False, ""), (), {"cpu0": item})
    assert recorded(result, ("0", "2")) == {"tee": "cca", "measurement": "11" * 32, "rem": {"0": "a0" * 32, "2": "a2" * 32}}
    with pytest.raises(FormatError, match="exactly one CPU"):
        recorded(Result(at, None, "", "p", "", {}, ChainReport(None, "launch", False, ""), (), {"cpu0": item, "cpu1": item}))


def test_what_an_export_loses_is_told():
    at = datetime(2026, 11, 1, tzinfo=timezone.utc)
    common = {"covers": "launch", "source": "s", "not_after": "2027-01-01T00:00:00Z"}
    values = [
        {"tee": "sev-snp", "measurement": "11" * 48, "host_data": "22" * 32, "image": "one", **common},
        {"tee": "tdx", "measurement": "13" * 48, "rtmr": {"0": "20" * 48}, "mrconfigid": "21" * 48, "image": "two", **common},
        {"tee": "tdx", "measurement": "14" * 48, "image": "three", **common},
    ]
    notes = rvps.lost(load_reference_values({"schema": "attested.ai/reference-values/1", "values": values}), at)
    assert [note.split(" cannot")[0] for note in notes[:2]] == ["image one: host_data", "image two: mrconfigid, rtmr 0"] and "several TDX images" in notes[2]
    assert rvps.lost(load_reference_values({"schema": "attested.ai/reference-values/1", "values": values[2:]}), at) == []


def test_trustee_gets_lists_of_what_still_holds():
    values = [
        {"tee": "sev-snp", "measurement": "11" * 48, "covers": "launch", "not_after": "2027-01-01T00:00:00Z"},
        {"tee": "sev-snp", "measurement": "12" * 48, "covers": "launch", "not_after": "2026-01-01T00:00:00Z"},
        {
            "tee": "tdx", "measurement": "13" * 48, "covers": "kernel", "not_after": "2027-01-01T00:00:00Z",
            "rtmr": {"0": "20" * 48, "1": ["21" * 48, "22" * 48], "2": "23" * 48},
        },
        {"tee": "az-snp-vtpm", "pcrs": {"11": "31" * 32, "4": "32" * 32}, "covers": "kernel", "not_after": "2027-01-01T00:00:00Z"},
        {"tee": "az-tdx-vtpm", "measurement": "14" * 48, "pcrs": {"11": "33" * 32}, "covers": "kernel", "not_after": "2027-01-01T00:00:00Z"},
        {"tee": "cca", "measurement": "15" * 32, "covers": "launch", "not_after": "2027-01-01T00:00:00Z"},
    ]
    made = load_reference_values({"schema": "attested.ai/reference-values/1", "values": [{**value, "image": "i", "source": "s"} for value in values]})
    assert rvps.to_rvps(made, datetime(2026, 11, 1, tzinfo=timezone.utc)) == {
        "mr_td": ["13" * 48, "14" * 48], "rtmr_1": ["21" * 48, "22" * 48], "rtmr_2": ["23" * 48],
        "snp_launch_measurement": ["11" * 48], "snp_pcr11": ["31" * 32],
        "tdx_pcr11": ["33" * 32],
    }  # fmt: skip
