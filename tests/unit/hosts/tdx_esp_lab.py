# SPDX-License-Identifier: GPL-3.0-or-later
"""TDX modules in Intel's form, signed by nobody, and a disk in memory that can be told to die."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile

from ansible_collections.attested.ai.plugins.module_utils.target.tdx_esp.placing import Disk

SPR, GNR = 0x806F8, 0xA06D0


def sigstruct(module, cpus=(SPR, 0xC06F0), kind=0, vendor=0x8086, svn=7, header=6, digest=None, count=None):
    data = bytearray(2048)
    struct.pack_into("<IIIIII", data, 0, header, 0xE1, 0x10000, kind, vendor, 0x20240725)
    data[900:948] = hashlib.sha384(module).digest() if digest is None else digest
    data[948] = svn
    struct.pack_into("<I%dI" % len(cpus), data, 1024, len(cpus) if count is None else count, *cpus)
    return bytes(data)


def archive(members):
    """A tar.gz of {name: bytes}; a value of None makes a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if data is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/shadow"
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class Killed(Exception):
    """The run ended here."""


class Lab:
    """``dies_after`` is the number of changes to the disk after which the run is killed."""

    def __init__(self, **files):
        self.files = dict(files)
        self.room, self.clock, self.dies_after, self.changes = 10**8, 1000, None, 0
        self.disk = Disk(self.files.get, self._write, self._remove, lambda _path: None, lambda _path: self.room, lambda: self.clock)

    def _change(self):
        if self.dies_after is not None and self.changes == self.dies_after:
            raise Killed
        self.changes += 1

    def _write(self, path, data):
        self._change()
        self.files[path] = data

    def _remove(self, path):
        self._change()
        self.files.pop(path, None)
