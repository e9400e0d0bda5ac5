# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of the machine: real files, real errors, and what the kernel's interfaces look like."""

from __future__ import annotations

import os
import struct

import pytest
from ansible_collections.attested.ai.plugins.module_utils.target.probes import local
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import KernelLog, Output, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost


def put(root, path, data):
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)


def test_files_directories_and_what_is_missing(tmp_path):
    put(tmp_path, "/proc/cmdline", b"ro nohibernate\n")
    host = LocalHost(root=str(tmp_path))
    assert host.text("/proc/cmdline") == "ro nohibernate" and host.listdir("/proc") == ("cmdline",)
    assert host.exists("/proc/cmdline") is True and host.exists("/proc/other") is False
    for answer in (host.read("/nothing"), host.listdir("/nothing"), host.read("/proc/cmdline/x")):
        assert isinstance(answer, Unreadable) and answer.kind == "absent"
    assert isinstance(host.read("/proc"), Unreadable)


def test_a_pipe_without_a_writer_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert LocalHost(root=str(tmp_path)).read("/pipe") == b""


def test_registers_are_read_at_their_numbers(tmp_path):
    put(tmp_path, "/dev/cpu/0/msr", bytes(0x982) + (0x203).to_bytes(8, "little"))
    put(tmp_path, "/dev/cpu/0/cpuid", bytes(0x20) + struct.pack("<4I", 1, 2, 3, 4))
    host = LocalHost(root=str(tmp_path))
    assert host.msr(0x982) == 0x203 and host.cpuid(0x20) == (1, 2, 3, 4)
    short = host.msr(0x1401)
    assert isinstance(short, Unreadable) and "0 bytes" in short.reason


def test_a_missing_module_of_the_kernel_is_named(tmp_path):
    found = LocalHost(root=str(tmp_path)).msr(0x982)
    assert isinstance(found, Unreadable) and "the kernel module msr is not loaded" in found.reason


def test_a_device_that_is_no_secure_processor_refuses(tmp_path):
    put(tmp_path, "/dev/sev", b"")
    for command in local.SEV_COMMANDS:
        found = LocalHost(root=str(tmp_path)).sev(command)
        assert isinstance(found, Unreadable) and command in found.reason
    assert isinstance(LocalHost(root=str(tmp_path / "none")).sev("snp-platform-status"), Unreadable)


def test_only_commands_that_read_can_be_named():
    assert local.SEV_COMMANDS == {"snp-platform-status": (9, 32)}


def test_a_record_of_the_kernel_log_is_cut_out_of_its_envelope(tmp_path):
    put(tmp_path, "/dev/kmsg", b"6,0,1,-;Linux version 6.17\n SUBSYSTEM=cpu\n")
    log = LocalHost(root=str(tmp_path)).kernel_log()
    assert log == KernelLog(("Linux version 6.17",), True, "/dev/kmsg")


def test_the_journal_is_asked_when_the_first_messages_are_lost(tmp_path):
    put(tmp_path, "/dev/kmsg", b"6,812,1,-;later\n")
    asked = []

    def run(argv):
        asked.append(tuple(argv))
        return 0, "Linux version 6.17\nvirt/tdx: module initialized\n"

    log = LocalHost(run, str(tmp_path)).kernel_log()
    assert log == KernelLog(("Linux version 6.17", "virt/tdx: module initialized"), True, "journalctl -k -b")
    assert asked == [("journalctl", "--dmesg", "--boot", "--no-pager", "--quiet", "--output=cat")]


@pytest.mark.parametrize("answer", [(1, ""), (0, "-- No entries --"), None])
def test_a_journal_that_does_not_help_leaves_the_log_incomplete(tmp_path, answer):
    put(tmp_path, "/dev/kmsg", b"6,812,1,-;later\n")

    def run(argv):
        if answer is None:
            raise FileNotFoundError(2, "No such file or directory", argv[0])
        return answer

    log = LocalHost(run, str(tmp_path)).kernel_log()
    assert log == KernelLog(("later",), False, "/dev/kmsg")


def test_programs_are_run_by_what_is_given():
    assert LocalHost(lambda argv: (3, "x")).command(["a"]) == Output(3, "x")
    assert isinstance(LocalHost().command(["a"]), Unreadable)


def test_a_switch_that_is_neither_is_unreadable(tmp_path):
    put(tmp_path, "/p", b"maybe\n")
    assert isinstance(LocalHost(root=str(tmp_path)).switch("/p"), Unreadable)
