# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's interfaces, as far as a test may use them: the shapes of requests, and the key ring of its own thread."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import mapper


def test_requests_have_the_kernels_sizes():
    # struct dm_ioctl, struct dm_target_spec of linux/dm-ioctl.h.
    assert (mapper._DM.size, mapper._TARGET.size) == (312, 40)


def test_a_table_is_asked_for_in_the_kernels_shape(monkeypatch):
    asked = []

    def ioctl(_descriptor, number, buffer, _mutate):
        fields = mapper._DM.unpack_from(buffer)
        target = mapper._TARGET.unpack_from(buffer, 312)
        asked.append((number, fields[5], fields[7], fields[11].rstrip(b"\0"), target, bytes(buffer[352:]).split(b"\0")[0]))
        mapper._DM.pack_into(buffer, 0, 4, 0, 0, len(buffer), 312, 0, 0, 0, 0, 0, (254 << 8) | 5, b"x", b"")

    monkeypatch.setattr(mapper, "_CONTROL", os.devnull)
    monkeypatch.setattr(mapper.fcntl, "ioctl", ioctl)
    assert mapper.create("name", 8192, "crypt", "a table") == (254, 5)
    assert [entry[0] for entry in asked] == [0xC138FD03, 0xC138FD09, 0xC138FD06], "create, load, resume"
    number, count, flags, name, target, parameters = asked[1]
    assert (count, name, parameters) == (1, b"name", b"a table") and flags == (1 << 0) | (1 << 15), "read-only, and the buffer is wiped by the kernel"
    assert target[:2] == (0, 16) and target[4].rstrip(b"\0") == b"crypt"


def test_a_failure_leaves_no_device(monkeypatch):
    asked = []

    def ioctl(_descriptor, number, _buffer, _mutate):
        asked.append(number & 0xFF)
        if number & 0xFF == 9:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(mapper, "_CONTROL", os.devnull)
    monkeypatch.setattr(mapper.fcntl, "ioctl", ioctl)
    with pytest.raises(OSError, match="Invalid"):
        mapper.create("name", 8192, "crypt", "a table")
    assert asked == [3, 9, 4]


def test_a_key_is_in_the_ring_as_long_as_the_block_and_cannot_be_read():
    keys = Path("/proc/keys")
    try:
        with mapper.key("attested:unit-test", bytearray(range(64))) as name:
            assert name == ":64:logon:attested:unit-test"
            assert "attested:unit-test: 64" in keys.read_text() and "logon" in keys.read_text()
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS, errno.EACCES, errno.ENOENT):
            pytest.skip(f"no key ring here ({error.strerror})")
        raise
    assert "attested:unit-test: 64" not in keys.read_text()
