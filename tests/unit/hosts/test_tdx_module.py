# SPDX-License-Identifier: GPL-3.0-or-later
"""A TDX module on the EFI partition: which one is refused, what is kept, and a run that dies anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError, HostError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost
from ansible_collections.attested.ai.plugins.module_utils.target.probes.tdx_modules import BY_BUILD
from ansible_collections.attested.ai.plugins.module_utils.target.tdx_esp import given, placing
from ansible_collections.attested.ai.plugins.module_utils.target.tdx_esp.sigstruct import read_signed, signature_of
from ansible_collections.attested.ai.plugins.modules import tdx_module
from hypothesis import given as examples
from hypothesis import strategies as st
from snp_lab import RECORDED
from tdx_esp_lab import GNR, Killed, Lab, archive, sigstruct

MODULE = b"\x7fELF module" * 50
FILES = (MODULE, sigstruct(MODULE))
OLD = (b"older module", b"older sigstruct")
ESP, ASIDE = "/boot/efi", "/aside"
PATHS = [ESP + "/EFI/TDX/" + name for name in placing.NAMES]
GOOD = json.loads((RECORDED / "tdx-good.json").read_text())


def host(**cpuinfo):
    document = json.loads(json.dumps(GOOD))
    for key, value in cpuinfo.items():
        document["files"]["/proc/cpuinfo"] = document["files"]["/proc/cpuinfo"].replace(key, value)
    return RecordedHost(document)


def test_a_module_says_which_cpus_it_is_for():
    signed = read_signed(*FILES)
    assert signed.to_dict()["cpus"] == ["0x806f0", "0xc06f0"] and (signed.date, signed.svn, signed.known) == ("20240725", 7, None)
    # The signatures of the CPUs in the table of modules, as Intel's own files spell them.
    assert [signature_of(6, model) for model in (143, 207, 175, 173)] == [0x806F0, 0xC06F0, 0xA06F0, 0xA06D0]


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ((MODULE, sigstruct(MODULE)[:-1]), "tdx-module-form"),
        ((MODULE, sigstruct(MODULE, header=7)), "tdx-module-form"),
        ((MODULE, sigstruct(MODULE, vendor=0x1022)), "tdx-module-form"),
        ((MODULE, sigstruct(MODULE, kind=1 << 31)), "tdx-module-debug"),
        ((MODULE + b"x", sigstruct(MODULE)), "tdx-module-form"),
        ((b"", sigstruct(b"")), "tdx-module-form"),
        ((MODULE, sigstruct(MODULE, count=0)), "tdx-module-form"),
        ((MODULE, sigstruct(MODULE, count=2**31)), "tdx-module-form"),
        ((MODULE, sigstruct(MODULE, cpus=(GNR,))), "tdx-module-cpu"),
        ((MODULE, sigstruct(MODULE, svn=6)), "tdx-module-older"),
    ],
)
def test_what_the_loader_would_refuse_or_nobody_wants_is_refused_first(files, code):
    with pytest.raises(AttestedError) as caught:
        given.judged(host(), *files, False)
    assert caught.value.code == code and caught.value.fix or code == "tdx-module-form"


def test_an_older_module_is_taken_where_that_is_allowed_and_any_where_none_runs():
    older = (MODULE, sigstruct(MODULE, svn=1))
    assert given.judged(host(), *older, True).svn == 1
    document = json.loads(json.dumps(GOOD))
    document["kernel_log"]["lines"] = ["Linux version 6.17"]
    assert given.judged(RecordedHost(document), *older, False).svn == 1


def test_a_running_module_that_is_in_no_table_is_compared_by_its_build():
    document = json.loads(json.dumps(GOOD))
    document["kernel_log"]["lines"] = ["virt/tdx: TDX module 1.5.40, build number 1100, build date 20270101"]
    # Nobody can make a module of this digest: the row of the table is all that is known of it.
    known = replace(read_signed(*FILES), svn=0x0F, known=BY_BUILD[1024])
    assert "its build is 1024, that of the running module (1.5.40) is 1100" == given._older(RecordedHost(document), known)
    assert given._older(RecordedHost(document), replace(known, known=replace(BY_BUILD[1024], build=1100))) is None
    assert given._older(RecordedHost(document), replace(known, known=None)) is None


def test_the_line_for_another_cpu_is_named_with_the_right_one():
    with pytest.raises(HostError, match="Take the line of modules for this CPU"):
        given.judged(host(**{"model\t\t: 143": "model\t\t: 173"}), *FILES, False)
    with pytest.raises(HostError, match="no Intel CPU"):
        given.judged(host(GenuineIntel="AuthenticAMD"), *FILES, False)


@examples(st.binary(max_size=2100))
def test_no_bytes_crash_the_reader(data):
    for files in ((MODULE, data), (data, sigstruct(MODULE))):
        try:
            read_signed(*files)
        except FormatError:
            pass


def test_an_archive_gives_its_two_members_and_nothing_else():
    members = dict(zip(given.MEMBERS, FILES))
    assert given.unpacked(archive({"TDX-Module/README": b"x", "../evil": b"y", **members})) == FILES
    assert given.unpacked(archive({"./" + name: data for name, data in members.items()})) == FILES


DAMAGED = {
    "nothing": b"",
    "no archive": b"no archive",
    "empty": archive({}),
    "one member": archive({given.MEMBERS[0]: MODULE}),
    "a folder": archive({given.MEMBERS[0]: None, given.MEMBERS[1]: b"x"}),
    "cut off": archive(dict(zip(given.MEMBERS, FILES)))[:60],
}


# Archives carry the time of their making, which must not come into the names of tests.
@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_archive_is_refused(data):
    with pytest.raises(FormatError):
        given.unpacked(data)


def test_another_digest_is_refused():
    assert given.checked(b"x", hashlib.sha256(b"x").hexdigest(), "x") == b"x"
    with pytest.raises(HostError, match="has the SHA-256"):
        given.checked(b"x", "0" * 64, "x")


MOUNTS = "/dev/sda2 / ext4 rw 0 0\n/dev/sda1 /boot/efi vfat rw 0 0\n/dev/sdb1 /media/usb vfat rw 0 0\n"


def test_the_partition_is_found_where_it_is_mounted_and_nowhere_else():
    assert placing.esp_of(MOUNTS) == "/boot/efi" and placing.esp_of(MOUNTS, "/media/usb/") == "/media/usb"
    for mounts, wanted in ((MOUNTS, "/"), ("/dev/sda2 /boot/efi ext4 rw 0 0\n", ""), ("", "")):
        with pytest.raises(HostError) as caught:
            placing.esp_of(mounts, wanted)
        assert caught.value.code == "tdx-module-esp"


def present(lab, files=FILES, booted=0):
    change = placing.plan_present(lab.disk, ESP, ASIDE, files, booted)
    if change.needed:
        placing.apply(lab.disk, ESP, ASIDE, change)
    return change


def absent(lab, booted=0):
    change = placing.plan_absent(lab.disk, ASIDE, booted)
    if change.needed:
        placing.apply(lab.disk, ESP, ASIDE, change)
    return change


def placed(lab):
    return tuple(lab.files.get(path) for path in PATHS)


@pytest.mark.parametrize("before", [(None, None), OLD, (OLD[0], None)])
def test_what_was_there_before_comes_back(before):
    lab = Lab(**{path: data for path, data in zip(PATHS, before) if data is not None})
    assert present(lab).needed and placed(lab) == FILES
    again = present(lab)
    assert not again.needed and again.reboot_required and not present(lab, booted=2000).reboot_required
    # Another one later does not become what was there before.
    newer = (b"newer", b"newer sigstruct")
    assert present(lab, newer).needed and placed(lab) == newer
    assert absent(lab).needed and placed(lab) == before
    assert not absent(lab).needed and absent(lab).reboot_required and not absent(lab, booted=2000).reboot_required
    assert [path for path in lab.files if path.startswith(ASIDE)] == [ASIDE + "/state.json"]


def test_without_anything_placed_absent_does_nothing():
    lab = Lab(**dict(zip(PATHS, OLD)))
    assert not absent(lab).needed and placed(lab) == OLD


@pytest.mark.parametrize("before", [(None, None), OLD])
def test_a_run_that_dies_anywhere_is_finished_or_undone_by_the_next(before):
    for steps in range(12):
        for second in (present, absent):
            lab = Lab(**{path: data for path, data in zip(PATHS, before) if data is not None})
            lab.dies_after = steps
            try:
                present(lab)
                absent(lab)
            except Killed:
                pass
            lab.dies_after = None
            second(lab)
            assert placed(lab) == (FILES if second is present else before), (steps, second)
            absent(lab)
            assert placed(lab) == before


def test_a_run_that_dies_while_it_takes_the_place_of_our_own_module_is_undone_as_well():
    newer = (b"newer", b"newer sigstruct")
    for steps in range(4):
        lab = Lab(**dict(zip(PATHS, OLD)))
        present(lab)
        lab.dies_after, lab.changes = steps, 0
        try:
            present(lab, newer)
        except Killed:
            pass
        lab.dies_after = None
        absent(lab)
        assert placed(lab) == OLD, steps


def test_a_module_that_somebody_else_placed_since_is_left_alone():
    lab = Lab()
    present(lab)
    lab.files[PATHS[0]] = b"a third one"
    with pytest.raises(HostError) as caught:
        absent(lab)
    assert caught.value.code == "tdx-module-foreign" and lab.files[PATHS[0]] == b"a third one"


@pytest.mark.parametrize(
    "state",
    [
        b"{",
        b"[]",
        b'{"kept": 3}',
        b'{"kept": [[]], "esp": "/x", "placed": {}}',
        b'{"kept": ["../../etc/passwd"], "esp": "/x", "placed": {}}',
        b'{"kept": [], "esp": "/x", "placed": {"TDX-SEAM.so": 7}}',
        b'{"changed_at": "x"}',
    ],
)
def test_a_damaged_note_stops_both_ways(state):
    for way in (present, absent):
        lab = Lab(**{ASIDE + "/state.json": state})
        with pytest.raises(HostError) as caught:
            way(lab)
        assert caught.value.code == "tdx-module-kept" and placed(lab) == (None, None)


def test_what_was_kept_must_still_be_there():
    lab = Lab(**dict(zip(PATHS, OLD)))
    present(lab)
    del lab.files[ASIDE + "/" + placing.NAMES[0]]
    with pytest.raises(HostError, match="what was kept is gone"):
        absent(lab)
    assert placed(lab) == FILES


def test_a_full_partition_is_told_before_anything_is_written():
    lab = Lab()
    lab.room = 10
    with pytest.raises(HostError, match="there is room for 10 bytes"):
        present(lab)
    assert lab.files == {}


def run_module(monkeypatch, check=False, **options):
    ended = {}

    def stop(_self, **result):
        ended.update(result)
        raise SystemExit

    monkeypatch.setattr(tdx_module.AnsibleModule, "exit_json", stop)
    monkeypatch.setattr(tdx_module.AnsibleModule, "fail_json", lambda self, **result: stop(self, failed=True, **result))
    with patch_module_args({**options, "_ansible_check_mode": check}), pytest.raises(SystemExit):
        tdx_module.main()
    return ended


def test_the_module_places_and_takes_back_on_a_real_disk(monkeypatch, tmp_path):
    esp, aside, release = tmp_path / "efi", tmp_path / "aside", tmp_path / "release.tar.gz"
    (esp / "EFI" / "BOOT").mkdir(parents=True)
    release.write_bytes(archive(dict(zip(given.MEMBERS, FILES))))
    document = json.loads(json.dumps(GOOD))
    document["files"].update({"/proc/mounts": "/dev/sda1 %s vfat rw 0 0\n" % esp, "/proc/stat": "cpu 1\nbtime 1700000000\n"})
    monkeypatch.setattr(tdx_module, "LocalHost", lambda *_run: RecordedHost(document))
    options = {"archive": str(release), "archive_sha256": hashlib.sha256(release.read_bytes()).hexdigest(), "esp": str(esp), "aside": str(aside)}
    planned = run_module(monkeypatch, check=True, **options)
    assert planned["changed"] and planned["reboot_required"] and not aside.exists() and "sha256:" in planned["diff"]["after"]
    done = run_module(monkeypatch, **options)
    assert done["changed"] and (esp / "EFI/TDX/TDX-SEAM.so").read_bytes() == MODULE and (esp / "EFI/TDX/TDX-SEAM.so.sigstruct").read_bytes() == FILES[1]
    assert aside.stat().st_mode & 0o777 == 0o700
    again = run_module(monkeypatch, **options)
    assert not again["changed"] and again["reboot_required"] and again["paths"] == [str(esp / "EFI/TDX" / name) for name in placing.NAMES]
    # An EFI partition that is not mounted is not written to.
    document["files"]["/proc/mounts"] = ""
    assert run_module(monkeypatch, state="absent", aside=str(aside))["code"] == "tdx-module-esp"
    document["files"]["/proc/mounts"] = "/dev/sda1 %s vfat rw 0 0\n" % esp
    assert run_module(monkeypatch, state="absent", aside=str(aside))["changed"] and sorted(os.listdir(esp / "EFI")) == ["BOOT"]
    assert not run_module(monkeypatch, state="absent", aside=str(aside))["changed"]
    assert run_module(monkeypatch, **{**options, "archive_sha256": "0" * 64})["code"] == "tdx-module-digest"


def test_options_that_do_not_fit_together_are_refused(monkeypatch):
    for options in ({}, {"archive": "/x"}, {"module": "/x", "module_sha256": "0"}, {"archive": "/x", "archive_sha256": "0", "module": "/y"}):
        assert run_module(monkeypatch, **options)["failed"]


def test_on_a_machine_that_is_no_tdx_host_nothing_is_written(tmp_path):
    (tmp_path / "m").write_bytes(MODULE)
    (tmp_path / "s").write_bytes(sigstruct(MODULE, cpus=(0x10,)))
    given_files = {"module": tmp_path / "m", "sigstruct": tmp_path / "s"}
    arguments = {name: str(path) for name, path in given_files.items()}
    arguments.update({name + "_sha256": hashlib.sha256(path.read_bytes()).hexdigest() for name, path in given_files.items()})
    command = [
        sys.executable,
        "-m",
        "ansible",
        "adhoc",
        "localhost",
        "-m",
        "attested.ai.tdx_module",
        "-a",
        json.dumps({**arguments, "aside": str(tmp_path / "aside")}),
    ]
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(tmp_path / "local"))
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
    assert done.returncode == 2 and "tdx-module-cpu" in done.stdout and not (tmp_path / "aside").exists(), done.stdout
