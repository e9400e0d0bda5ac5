# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of the machine: real files, real errors, and what the kernel's interfaces look like."""

from __future__ import annotations

import ctypes
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
    assert local.SEV_COMMANDS == {"snp-platform-status": (9, 32), "get-id": (8, 128)}


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


def test_owners_have_names_and_modes(tmp_path):
    put(tmp_path, "/dev/sgx_enclave", b"")
    os.chmod(tmp_path / "dev/sgx_enclave", 0o640)
    own = LocalHost(root=str(tmp_path)).owner("/dev/sgx_enclave")
    assert own.mode == 0o640 and own.user and own.group
    assert isinstance(LocalHost(root=str(tmp_path)).owner("/dev/none"), Unreadable)


def answering(monkeypatch, tmp_path, device, answer):
    """A device whose ioctl is answered by ``answer(number, argument)``."""
    put(tmp_path, device, b"")
    monkeypatch.setattr(local.fcntl, "ioctl", lambda _descriptor, number, argument=0: answer(number, argument))
    return LocalHost(root=str(tmp_path))


@pytest.mark.parametrize("count", [1, 2])
def test_ids_of_all_sockets_are_asked_for_at_once(monkeypatch, tmp_path, count):
    ids = bytes(range(64)) + b"\xaa" * 64

    def firmware(number, request):
        command, address, _error = struct.unpack("=IQI", request)
        place = (ctypes.c_char * 12).from_address(address)
        target, length = struct.unpack("=QI", place.raw)
        # The firmware looks at the second socket only where there is room for both.
        assert (number, command, length) == (local.SEV_ISSUE_CMD, 8, 128)
        ctypes.memmove(target, ids, 64 * count)
        place[:] = struct.pack("=QI", target, 64 * count)

    assert answering(monkeypatch, tmp_path, "/dev/sev", firmware).sev("get-id") == ids[: 64 * count]


def test_an_attribute_of_kvm_is_written_where_it_is_asked_for(monkeypatch, tmp_path):
    def kvm(number, argument):
        flags, group, attribute, address = struct.unpack("=IIQQ", argument)
        assert (number, flags, group, attribute) == (local.KVM_GET_DEVICE_ATTR, 0, 1, 0)
        ctypes.c_uint64.from_address(address).value = 0x200

    assert answering(monkeypatch, tmp_path, "/dev/kvm", kvm).kvm_attribute(1, 0) == 0x200
    assert isinstance(LocalHost(root=str(tmp_path / "none")).kvm_attribute(1, 0), Unreadable)
