# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

"""The kernel's interface over the real mount: modes, error numbers, the counter, snapshots, concurrency."""

import errno
import os
import stat
import subprocess
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from softtee_kit import write
from softtee.entry import Entry
from softtee.machine import GUIDS, Evidence

WRITE_ONLY = {"inblob", "privlevel", "service_provider", "service_guid", "service_manifest_version"}
READ_ONLY = {"outblob", "auxblob", "manifestblob", "provider", "generation", "privlevel_floor"}


def number(call, *arguments):
    with pytest.raises(OSError) as caught:
        call(*arguments)
    return caught.value.errno


@pytest.fixture
def entry(soft, request):
    path = soft.entry("e%s" % uuid.uuid4().hex)
    yield path
    if path.exists():
        path.rmdir()


def generation(path):
    return int((path / "generation").read_text("ascii"))


def test_mkdir_makes_the_attributes_and_rmdir_takes_them_away(soft):
    path = soft.entry("made")
    assert {p.name for p in path.iterdir()} == WRITE_ONLY | READ_ONLY
    assert {stat.S_IMODE((path / name).stat().st_mode) for name in WRITE_ONLY} == {0o200}
    assert {stat.S_IMODE((path / name).stat().st_mode) for name in READ_ONLY} == {0o444}
    assert [p.name for p in soft.tsm.iterdir()] == ["made"]
    assert number(os.mkdir, path) == errno.EEXIST
    path.rmdir()
    assert not path.exists() and list(soft.tsm.iterdir()) == []
    assert number(os.rmdir, path) == errno.ENOENT


def test_only_entries_can_be_made_and_removed(soft, entry):
    assert number(os.mkdir, soft.mount / "other") == errno.EPERM
    assert number(os.mkdir, entry / "below") == errno.EPERM
    assert number(os.rmdir, soft.tsm) == errno.EPERM
    assert number(os.open, entry / "new", os.O_WRONLY | os.O_CREAT) == errno.EACCES
    assert number(os.unlink, entry / "inblob") == errno.EPERM
    assert number(os.rename, entry / "inblob", entry / "x") == errno.EPERM
    assert number(os.symlink, "a", entry / "x") == errno.EPERM
    assert number(os.link, entry / "inblob", entry / "x") == errno.EPERM
    assert number(os.chmod, entry / "inblob", 0o666) == errno.EPERM
    assert number(os.stat, entry / "nothing") == errno.ENOENT
    assert number(os.rmdir, entry / "inblob") == errno.ENOTDIR


def test_directions_hold_even_for_root(entry):
    for name in WRITE_ONLY:
        assert number(os.open, entry / name, os.O_RDONLY) == errno.EACCES
    for name in READ_ONLY:
        assert number(os.open, entry / name, os.O_WRONLY) == errno.EACCES


def test_texts(entry):
    assert (entry / "provider").read_bytes() == b"sev_guest\n"
    assert (entry / "privlevel_floor").read_bytes() == b"0\n"
    assert (entry / "generation").read_bytes() == b"0\n"


def test_a_report_holds_what_was_asked(entry):
    asked = os.urandom(64)
    write(entry / "inblob", asked)
    report = (entry / "outblob").read_bytes()
    assert len(report) == 1184 and report[0x50:0x90] == asked
    assert (entry / "outblob").read_bytes() == report, "cached until the generation changes"
    assert generation(entry) == 1
    write(entry / "inblob", asked)
    again = (entry / "outblob").read_bytes()
    assert generation(entry) == 2
    assert again[:0x2A0] == report[:0x2A0] and again[0x2A0:] != report[0x2A0:], "made anew, with a new signature"


def test_the_certificate_table(entry):
    write(entry / "inblob", bytes(64))
    table = (entry / "auxblob").read_bytes()
    assert table[:16] == bytes.fromhex("63da758de6644564adc5f4b93be8accd"), "the VCEK first, its GUID in the order of the text"
    found = {}
    for at in range(0, len(table), 24):
        if not any(table[at : at + 24]):
            break
        start, length = (int.from_bytes(table[at + o : at + o + 4], "little") for o in (16, 20))
        found[str(uuid.UUID(bytes=table[at : at + 16]))] = table[start : start + length]
    assert set(found) == {GUIDS["vcek"], GUIDS["ask"], GUIDS["ark"]}
    for der in found.values():
        assert der[0] == 0x30 and len(der) == 4 + int.from_bytes(der[2:4], "big")
    assert (entry / "manifestblob").read_bytes() == b""


def test_before_a_request_there_is_no_report(entry):
    for name in ("outblob", "auxblob", "manifestblob"):
        assert number((entry / name).read_bytes) == errno.EINVAL


@pytest.mark.parametrize("size", [1, 63])
def test_a_short_request_is_taken_but_not_answered(entry, size):
    write(entry / "inblob", bytes(size))
    assert generation(entry) == 1
    assert number((entry / "outblob").read_bytes) == errno.EINVAL


def test_a_long_request_is_refused(entry):
    assert number(write, entry / "inblob", bytes(65)) == errno.EFBIG
    assert generation(entry) == 0


def test_a_binary_attribute_is_taken_at_the_close(entry):
    descriptor = os.open(entry / "inblob", os.O_WRONLY)
    os.write(descriptor, b"a" * 40)
    os.write(descriptor, b"b" * 24)
    assert generation(entry) == 0
    os.close(descriptor)
    assert generation(entry) == 1
    assert (entry / "outblob").read_bytes()[0x50:0x90] == b"a" * 40 + b"b" * 24


def test_a_shell_can_do_it(entry):
    subprocess.run(["sh", "-c", "head -c 64 /dev/zero > '%s/inblob'" % entry], check=True)
    assert generation(entry) == 1 and len((entry / "outblob").read_bytes()) == 1184


def test_each_write_moves_the_counter(entry):
    for count, (name, data) in enumerate(
        [("privlevel", b"2\n"), ("inblob", bytes(64)), ("service_manifest_version", b"1"), ("service_guid", str(uuid.uuid4()).encode())], 1
    ):
        write(entry / name, data)
        assert generation(entry) == count
    assert int.from_bytes((entry / "outblob").read_bytes()[0x30:0x34], "little") == 2, "the VMPL asked for"


@pytest.mark.parametrize("level", [b"4", b"-1", b"x", b"", b"1_0", b" 1"])
def test_bad_privilege_levels(entry, level):
    if level:
        assert number(write, entry / "privlevel", level) == errno.EINVAL
    assert generation(entry) == 0


@pytest.mark.parametrize("service, expected", [(b"svsm\n", errno.ENXIO), (b"other", errno.EINVAL)])
def test_there_is_no_svsm(entry, service, expected):
    write(entry / "inblob", bytes(64))
    write(entry / "service_provider", service)
    assert number((entry / "outblob").read_bytes) == expected


def test_a_bad_guid_is_refused(entry):
    assert number(write, entry / "service_guid", b"not-a-guid") == errno.EINVAL


def test_reads_at_an_offset_and_in_pieces(entry):
    write(entry / "inblob", bytes(range(64)))
    whole = (entry / "outblob").read_bytes()
    descriptor = os.open(entry / "outblob", os.O_RDONLY)
    try:
        assert os.pread(descriptor, 64, 0x50) == bytes(range(64))
        assert os.pread(descriptor, 100, 1180) == whole[1180:]
        assert os.pread(descriptor, 10, 1184) == b""
        # One snapshot per open file, whatever is written meanwhile.
        write(entry / "inblob", bytes(64))
        assert os.pread(descriptor, 1184, 0) == whole
    finally:
        os.close(descriptor)
    assert (entry / "outblob").read_bytes()[0x50:0x90] == bytes(64)


def test_an_open_file_of_a_removed_entry_is_dead(soft):
    path = soft.entry("gone", bytes(64))
    descriptor = os.open(path / "outblob", os.O_RDONLY)
    path.rmdir()
    try:
        assert number(os.read, descriptor, 10) == errno.ENOENT
    finally:
        os.close(descriptor)


def test_entries_do_not_mix(soft):
    """Two readers of each of 50 entries in 16 threads: each gets the answer to its own request."""

    def work(index):
        asked = index.to_bytes(8, "big") * 8
        path = soft.entry("many-%d" % index, asked)
        both = [None, None]

        def read(which):
            both[which] = (path / "outblob").read_bytes()

        readers = [threading.Thread(target=read, args=(which,)) for which in (0, 1)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        count = generation(path)
        path.rmdir()
        return both[0] == both[1] and both[0][0x50:0x90] == asked and count == 1

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(50))) == [True] * 50
    assert list(soft.tsm.iterdir()) == []


def test_one_of_many_makers_wins(soft):
    def make(_index):
        try:
            os.mkdir(soft.tsm / "contested")
            return True
        except FileExistsError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(make, range(16))) == 1
    (soft.tsm / "contested").rmdir()


def test_the_counter_may_not_come_round():
    made = []
    entry = Entry(lambda data, vmpl, how: made.append(data) or Evidence(data, b""), lambda: "none", lambda: "none")
    entry.write("inblob", b"a" * 64)
    assert entry.read("outblob") == b"a" * 64
    entry.write_generation = 2**64 - 1
    entry.write("inblob", b"b" * 64)
    assert entry.write_generation == 0 and entry.read_generation == 1
    with pytest.raises(OSError) as caught:
        entry.write("inblob", b"c" * 64)
    assert caught.value.errno == errno.EBUSY
    assert entry.read("outblob") == b"b" * 64 and made == [b"a" * 64, b"b" * 64]


def test_the_floor_of_the_privilege_level():
    entry = Entry(lambda data, vmpl, how: Evidence(bytes([vmpl]), b""), lambda: "none", lambda: "none", floor=2)
    assert entry.read("privlevel_floor") == b"2\n"
    with pytest.raises(OSError) as caught:
        entry.write("privlevel", b"1")
    assert caught.value.errno == errno.EINVAL
    entry.write("inblob", bytes(64))
    assert entry.read("outblob") == b"\2"


def test_the_collector_of_the_collection_gets_on_with_it(soft):
    tsm = pytest.importorskip("ansible_collections.attested.ai.plugins.module_utils.target.tsm")
    asked = os.urandom(64)
    report = tsm.collect(asked, str(soft.tsm))
    assert (report.provider, report.type, report.generation) == ("sev_guest", "sev-snp", 1)
    assert report.outblob[0x50:0x90] == asked and report.auxblob
    assert list(soft.tsm.iterdir()) == []
