# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target import memory, wiping

HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
ROOT = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n"
RUN = "25 22 0:23 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,size=400k,mode=755\n"
NOSWAP = "26 25 0:99 / /run/keys rw shared:9 - tmpfs tmpfs rw,size=8192k,noswap\n"
RAMFS = "27 22 0:50 / /mnt/with\\040blank rw - ramfs none rw,mode=700\n"
HUGE = "28 22 0:51 / /dev/hugepages rw shared:4 master:2 - hugetlbfs hugetlbfs rw,pagesize=2M\n"
TABLE = ROOT + RUN + NOSWAP + RAMFS + HUGE


@pytest.fixture
def classify(tmp_path, monkeypatch):
    monkeypatch.setattr(memory.os.path, "lexists", lambda path: True)
    monkeypatch.setattr(memory.os.path, "realpath", lambda path: path)

    def run(path, device, swaps="", table=TABLE, backing=None):
        (tmp_path / "mountinfo").write_text(table)
        (tmp_path / "swaps").write_text(HEADER + swaps)
        if backing is not None:
            (tmp_path / "block" / "zram0").mkdir(parents=True)
            (tmp_path / "block" / "zram0" / "backing_dev").write_text(backing + "\n")
        return memory.memory_filesystem(path, str(tmp_path / "mountinfo"), str(tmp_path / "swaps"), str(tmp_path / "block"), device_of=lambda existing: device)

    return run


DISK_SWAP = "/dev/vda3                               partition\t2097148\t0\t-2\n"
FILE_SWAP = "/swapfile                               file\t2097148\t0\t-2\n"
ZRAM = "/dev/zram0                              partition\t2097148\t0\t100\n"


@pytest.mark.parametrize(
    "path,device,swaps,backing,kind,mount_point,safe",
    [
        ("/etc/keys", (254, 1), "", None, "ext4", "/", False),
        ("/run/x", (0, 23), "", None, "tmpfs", "/run", True),
        ("/run", (0, 23), "", None, "tmpfs", "/run", True),
        ("/run/x", (0, 23), DISK_SWAP, None, "tmpfs", "/run", False),
        ("/run/x", (0, 23), FILE_SWAP, None, "tmpfs", "/run", False),
        ("/run/x", (0, 23), ZRAM, None, "tmpfs", "/run", True),
        ("/run/x", (0, 23), ZRAM, "none", "tmpfs", "/run", True),
        ("/run/x", (0, 23), ZRAM, "/dev/vda4", "tmpfs", "/run", False),
        ("/run/x", (0, 23), ZRAM + DISK_SWAP, "none", "tmpfs", "/run", False),
        ("/run/keys/a", (0, 99), DISK_SWAP, None, "tmpfs", "/run/keys", True),
        ("/run/keysafe", (0, 23), DISK_SWAP, None, "tmpfs", "/run", False),
        ("/mnt/with blank/a", (0, 50), DISK_SWAP, None, "ramfs", "/mnt/with blank", True),
        ("/dev/hugepages/a", (0, 51), DISK_SWAP, None, "hugetlbfs", "/dev/hugepages", True),
    ],
)
def test_classifies_by_mount_and_swap(classify, path, device, swaps, backing, kind, mount_point, safe):
    found = classify(path, device, swaps, backing=backing)
    assert (found.kind, found.mount_point, found.safe) == (kind, mount_point, safe)
    assert found.reason


def test_a_hidden_memory_mount_does_not_make_a_disk_path_safe(classify):
    """/run/keys was mounted first and a disk on /run later hides it."""
    table = ROOT + NOSWAP + "40 22 254:7 / /run rw - ext4 /dev/vda7 rw\n"
    found = classify("/run/keys/a", (254, 7), table=table)
    assert (found.kind, found.safe) == ("ext4", False)


def test_the_last_of_two_mounts_on_one_point_counts(classify):
    table = ROOT + NOSWAP + "41 26 0:99 / /run/keys rw - tmpfs tmpfs rw\n"
    assert not classify("/run/keys/a", (0, 99), DISK_SWAP, table=table).safe


def test_a_memory_mount_of_another_device_is_unknown_and_unsafe(classify):
    found = classify("/run/keys/a", (0, 1234), table=NOSWAP)
    assert (found.kind, found.safe) == ("unknown", False)


def test_btrfs_subvolumes_have_another_device_and_are_disks(classify):
    table = "22 1 0:25 /@ / rw,relatime shared:1 - btrfs /dev/vda1 rw,subvol=/@\n"
    assert classify("/etc", (0, 31), table=table).kind == "btrfs"


def test_unreadable_sources_are_not_safe(tmp_path):
    found = memory.memory_filesystem(str(tmp_path), mountinfo=str(tmp_path / "absent"))
    assert (found.kind, found.safe) == ("unknown", False)


def test_require_memory_names_the_reason_and_the_code(tmp_path):
    (tmp_path / "mountinfo").write_text("malformed\n")
    with pytest.raises(AttestedError) as caught:
        memory.require_memory(str(tmp_path), mountinfo=str(tmp_path / "mountinfo"))
    assert caught.value.code == "not-in-memory"
    assert str(tmp_path) in str(caught.value) and "ramfs" in str(caught.value)


def test_real_file_systems_of_this_machine():
    assert memory.memory_filesystem("/proc/self").kind == "proc"
    if os.path.ismount("/dev/shm"):
        found = memory.memory_filesystem("/dev/shm/does/not/exist/yet")
        assert (found.kind, found.mount_point) == ("tmpfs", "/dev/shm")
        assert memory.free_space("/dev/shm") > 0


def test_free_space_is_bounded_by_the_memory(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:      7 kB\n")
    assert memory.free_space(str(tmp_path), meminfo=str(tmp_path / "meminfo")) == 7 * 1024


def test_free_space_without_a_limit_is_the_memory(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemAvailable:      7 kB\n")
    monkeypatch.setattr(memory.os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255)))
    assert memory.free_space("/x", meminfo=str(tmp_path / "meminfo")) == 7 * 1024


def test_harden_process_turns_core_dumps_off():
    """In a process of its own: the limits cannot be taken back."""
    code = (
        "from ansible_collections.attested.ai.plugins.module_utils.target import memory as m; import resource;"
        "print(m.harden_process(), resource.getrlimit(resource.RLIMIT_CORE), open('/proc/self/status').read().count('CoreDumping'))"
    )
    output = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True).stdout
    assert "core_limit=True, not_dumpable=True" in output and "(0, 0)" in output


def test_lock_and_wipe():
    secret = bytearray(b"secret" * 100)
    assert memory.lock_memory(secret) in (True, False)
    memory.wipe(secret)
    assert secret == bytes(600)
    view = memoryview(bytearray(b"abcdef"))
    memory.wipe(view[2:4])
    assert bytes(view) == b"ab\0\0ef"
    memory.wipe(bytearray())
    assert memory.lock_memory(bytearray())


def test_wipe_tree_overwrites_before_it_removes(tmp_path):
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "key").write_bytes(b"k" * (len(wiping.ZEROS) + 5))
    (tree / "empty").write_bytes(b"")
    outside = tmp_path / "outside"
    outside.write_bytes(b"keep")
    (tree / "link").symlink_to(outside)
    (tree / "directory").symlink_to(tmp_path)
    # A second name shows what was written to the file before it was removed.
    os.link(str(tree / "a" / "b" / "key"), str(tmp_path / "witness"))
    memory.wipe_tree(str(tree))
    assert not tree.exists()
    assert outside.read_bytes() == b"keep"
    assert (tmp_path / "witness").read_bytes() == bytes(len(wiping.ZEROS) + 5)
    memory.wipe_tree(str(tree))


def test_wipe_tree_can_only_remove(tmp_path):
    (tmp_path / "f").write_bytes(b"data")
    os.link(str(tmp_path / "f"), str(tmp_path / "witness"))
    memory.wipe_tree(str(tmp_path / "f"), overwrite=False)
    assert not (tmp_path / "f").exists() and (tmp_path / "witness").read_bytes() == b"data"


def test_wipe_tree_goes_on_and_names_what_is_left(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in "abc":
        (tree / name).write_bytes(b"x")
    unlink = os.unlink

    def refusing(path, **options):
        if path.endswith("b"):
            raise PermissionError(1, "Operation not permitted")
        unlink(path, **options)

    monkeypatch.setattr(wiping.os, "unlink", refusing)
    with pytest.raises(AttestedError) as caught:
        memory.wipe_tree(str(tree))
    assert caught.value.code == "wipe-incomplete" and str(tree / "b") in str(caught.value)
    assert sorted(os.listdir(str(tree))) == ["b"]
    assert (tree / "b").read_bytes() == b"\0"


def test_a_mount_point_is_compared_by_whole_names(classify):
    table = ROOT + "25 22 0:23 / /run/a rw - tmpfs tmpfs rw,noswap\n"
    assert classify("/run/a/b", (0, 23), table=table).safe
    assert not classify("/run/ab", (0, 23), table=table).safe


def test_lines_of_another_shape_are_skipped():
    lines = ROOT + "short\n" + ROOT.replace("254:1", "254") + ROOT.replace(" - ext4", "") + ROOT.replace(" /dev/vda1 rw,errors=remount-ro", "")
    assert [mount.device for mount in memory.parse_mountinfo(lines)] == [(254, 1)]


def _tmpfs(tmp_path):
    device = os.stat(str(tmp_path)).st_dev
    (tmp_path / "mountinfo").write_text("25 22 %d:%d / / rw - tmpfs tmpfs rw\n" % (os.major(device), os.minor(device)))
    return str(tmp_path / "mountinfo")


def test_a_kernel_without_swap_is_safe_and_one_that_does_not_tell_is_not(tmp_path):
    mountinfo = _tmpfs(tmp_path)
    assert memory.memory_filesystem(str(tmp_path), mountinfo, swaps=str(tmp_path / "absent")).safe
    assert memory.require_memory(str(tmp_path), mountinfo, swaps=str(tmp_path / "absent")).kind == "tmpfs"
    # A directory in place of the file: there, but it cannot be read.
    assert not memory.memory_filesystem(str(tmp_path), mountinfo, swaps=str(tmp_path)).safe


def test_zram_whose_backing_device_cannot_be_read_is_not_safe(tmp_path):
    mountinfo = _tmpfs(tmp_path)
    (tmp_path / "swaps").write_text(HEADER + ZRAM)
    (tmp_path / "block" / "zram0" / "backing_dev").mkdir(parents=True)
    assert not memory.memory_filesystem(str(tmp_path), mountinfo, str(tmp_path / "swaps"), str(tmp_path / "block")).safe


def test_no_meminfo(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\n")
    with pytest.raises(AttestedError) as caught:
        memory.free_space(str(tmp_path), meminfo=str(tmp_path / "meminfo"))
    assert caught.value.code == "no-meminfo"


def test_what_cannot_be_hardened_is_said(monkeypatch):
    import resource

    def refuse(*arguments, **options):
        raise OSError(1, "refused")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    monkeypatch.setattr(memory.ctypes, "CDLL", refuse)
    assert memory.harden_process() == memory.Hardening(False, False)
    assert memory.lock_memory(bytearray(8)) is False


def test_a_file_that_cannot_be_overwritten_is_removed_and_named(tmp_path, monkeypatch):
    def refuse(name, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wiping, "_overwrite", refuse)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "key").write_text("k")
    with pytest.raises(AttestedError) as caught:
        memory.wipe_tree(str(tmp_path / "tree"))
    assert caught.value.code == "wipe-incomplete" and not (tmp_path / "tree").exists()


def test_a_tree_that_somebody_else_removes_meanwhile_is_wiped(tmp_path, monkeypatch):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "key").write_text("k")
    (tmp_path / "tree" / "pipe").symlink_to("nowhere")
    overwrite = wiping._overwrite

    def vanish(name, folder):
        os.unlink(name, dir_fd=folder)
        overwrite(name, folder)

    monkeypatch.setattr(wiping, "_overwrite", vanish)
    memory.wipe_tree(str(tmp_path / "tree"))
    assert not (tmp_path / "tree").exists()


def test_a_tree_deeper_than_paths_descriptors_and_calls_go_is_wiped(tmp_path):
    here = os.open(str(tmp_path), os.O_RDONLY)
    for _level in range(1200):
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("key", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 16, before[1]))
    try:
        memory.wipe_tree(str(tmp_path / "deep"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    # Nothing is below it, whatever its name is.
    assert os.listdir(str(tmp_path)) == [] and os.fstat(here).st_nlink == 0
    os.close(here)


@pytest.mark.parametrize("exchanged", [["x/y/z"], ["x/y"], ["x/y/z", "x/y"], ["x/y/z", "x"]])
def test_folders_that_are_exchanged_meanwhile_lead_nowhere_else(tmp_path, monkeypatch, exchanged):
    """While the lowest is looked at, they are moved out, and links to a neighbour are put into their places."""
    tree, neighbour, listdir = tmp_path / "tree", tmp_path / "neighbour", os.listdir
    for folder in (tree / "x" / "y" / "z", tree / "x" / "2", neighbour / "z", neighbour / "y" / "z", tmp_path / "moved"):
        folder.mkdir(parents=True)
        (folder / "key").write_text("k")

    def exchange(folder):
        found = listdir(folder)
        if os.fstat(folder).st_ino == lowest:
            for number, name in enumerate(exchanged):
                (tree / name).rename(tmp_path / "moved" / str(number))
                (tree / name).symlink_to(neighbour)
        return found

    lowest = (tree / "x" / "y" / "z").stat().st_ino
    monkeypatch.setattr(wiping.os, "listdir", exchange)
    with pytest.raises(AttestedError) as caught:
        memory.wipe_tree(str(tree), overwrite=False)
    assert caught.value.code == "wipe-incomplete" and str(tree) in str(caught.value)
    monkeypatch.undo()
    assert sorted(str(path.relative_to(neighbour)) for path in neighbour.rglob("key")) == ["y/z/key", "z/key"]
    # What it was in is empty all the same, and so is what was not exchanged.
    assert not list((tmp_path / "moved" / "0").rglob("key")) and not list(tree.rglob("key"))
