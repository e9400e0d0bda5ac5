# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The few TPM 2.0 commands that evidence needs, over /dev/tpmrm0, with the standard library alone.

Source: TCG "Trusted Platform Module Library, Part 3: Commands", family 2.0: TPM2_NV_ReadPublic (31.6), TPM2_NV_Read (31.13),
TPM2_NV_DefineSpace (31.3), TPM2_NV_UndefineSpace (31.4), TPM2_NV_Write (31.7), TPM2_ReadPublic (12.4), TPM2_PCR_Read (22.4),
TPM2_Quote (18.4). Authorisation is an empty password. All numbers are big-endian. A response is read strictly: its length, its tag and
every field must be what the command gives.
"""

from __future__ import annotations

import errno
import os
import select
import struct
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import tpm2

DEFAULT_DEVICE = "/dev/tpmrm0"
RESPONSE_MAX = 4096
TIMEOUT = 60.0
ATTEMPTS = 5

# TPMA_NV (Part 2, 13.4)
NV_OWNERWRITE, NV_AUTHWRITE, NV_OWNERREAD, NV_AUTHREAD = 1 << 1, 1 << 2, 1 << 17, 1 << 18
_OWNER = 0x40000001
_RS_PW = 0x40000009
_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_HEADER = struct.Struct(">HII")
# One password session: handle, empty nonce, attributes, empty password.
_PASSWORD = struct.pack(">IHBH", _RS_PW, 0, 0, 0)
_NV_CHUNK = 512
_NV_MAX = 16 * 1024
_PCRS_PER_READ = 8
_NV_READ_PUBLIC, _NV_READ, _NV_DEFINE_SPACE, _NV_UNDEFINE_SPACE, _NV_WRITE = 0x169, 0x14E, 0x12A, 0x122, 0x137
_READ_PUBLIC, _PCR_READ, _QUOTE = 0x173, 0x17E, 0x158
# TPM_RC_YIELDED, TPM_RC_TESTING, TPM_RC_RETRY, TPM_RC_NV_RATE: the TPM asks to be asked again.
_BUSY = (0x908, 0x90A, 0x922, 0x920)
# TPM_RC_HANDLE and TPM_RC_VALUE for the first handle: there is nothing there.
_ABSENT = (0x18B, 0x184, 0x28B)

# Sends one whole command and returns the whole response.
Transport = Callable[[bytes], bytes]


@dataclass(frozen=True)
class NvPublic:
    """The public area of an NV index: its attributes (TPMA_NV) and its size in bytes."""

    attributes: int
    size: int


class Device:
    """A Transport over a TPM's character device. Close it after use (``with``). Raises CollectError."""

    def __init__(self, path: str = DEFAULT_DEVICE, timeout: float = TIMEOUT) -> None:
        self._path = path
        self._timeout = timeout
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise CollectError("no permission (%s)" % error.strerror, where=path, fix="Run as root (become: true)", code="no-permission") from None
            raise CollectError("the TPM cannot be opened (%s)" % error.strerror, where=path, code="no-tpm",
                               fix="Run this in a confidential guest with a virtual TPM; its driver is tpm_crb or tpm_tis") from None

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._fd)

    def __call__(self, command: bytes) -> bytes:
        try:
            os.write(self._fd, command)
            if not select.select([self._fd], [], [], self._timeout)[0]:
                raise CollectError("the TPM did not answer within %d seconds" % self._timeout, where=self._path, code="provider-timeout")
            return os.read(self._fd, RESPONSE_MAX)
        except OSError as error:
            raise CollectError("the TPM cannot be talked to (%s)" % error.strerror, where=self._path, code="provider-error") from None


class Tpm:
    """Commands over a transport. Everything raises CollectError; code "tpm-absent" means that a handle or index does not exist."""

    def __init__(self, transport: Transport, sleep: Callable[[float], None] = time.sleep) -> None:
        self._transport = transport
        self._sleep = sleep

    def nv_public(self, index: int) -> NvPublic:
        reader = self._run("NV_ReadPublic", _NV_READ_PUBLIC, struct.pack(">I", index))
        public, name = tpm2.Reader(reader.sized(256), "NV public area"), reader.sized(66)
        reader.close()
        found, _name_algorithm, attributes = public.number(4), public.number(2), public.number(4)
        public.sized(64)  # authPolicy
        size = public.number(2)
        public.close()
        if found != index or not name:
            raise CollectError("the TPM answered for NV index 0x%08x" % found, where="NV index 0x%08x" % index, code="tpm-response")
        return NvPublic(attributes, size)

    def nv_read(self, index: int) -> bytes:
        """The whole content of an NV index, as its owner or with its own empty password."""
        public = self.nv_public(index)
        if public.size > _NV_MAX:
            raise CollectError("it has %d bytes, at most %d are read" % (public.size, _NV_MAX), where="NV index 0x%08x" % index, code="too-large")
        authority = _OWNER if public.attributes & NV_OWNERREAD else index
        content = b""
        while len(content) < public.size:
            wanted = min(_NV_CHUNK, public.size - len(content))
            reader = self._run("NV_Read", _NV_READ, struct.pack(">II", authority, index), struct.pack(">HH", wanted, len(content)), sessions=True)
            part = reader.sized(_NV_CHUNK)
            reader.close()
            if len(part) != wanted:
                raise CollectError("%d bytes came, %d were asked for" % (len(part), wanted), where="NV index 0x%08x" % index, code="tpm-response")
            content += part
        return content

    def nv_write(self, index: int, data: bytes) -> None:
        """Write ``data`` (at most 512 bytes) into an index of exactly that size; one that is absent or of another size is made anew."""
        try:
            public = self.nv_public(index)
            if public.size != len(data):
                self._run("NV_UndefineSpace", _NV_UNDEFINE_SPACE, struct.pack(">II", _OWNER, index), sessions=True).close()
                self._nv_define(index, len(data))
        except CollectError as error:
            if error.code != "tpm-absent":
                raise
            self._nv_define(index, len(data))
        arguments = struct.pack(">H", len(data)) + data + struct.pack(">H", 0)
        self._run("NV_Write", _NV_WRITE, struct.pack(">II", _OWNER, index), arguments, sessions=True).close()

    def _nv_define(self, index: int, size: int) -> None:
        public = struct.pack(">IHIHH", index, tpm2.ALG_SHA256, NV_OWNERWRITE | NV_OWNERREAD, 0, size)
        arguments = struct.pack(">HH", 0, len(public)) + public
        self._run("NV_DefineSpace", _NV_DEFINE_SPACE, struct.pack(">I", _OWNER), arguments, sessions=True).close()

    def read_public(self, handle: int) -> tpm2.Public:
        reader = self._run("ReadPublic", _READ_PUBLIC, struct.pack(">I", handle))
        public = reader.sized(1024)
        reader.sized(66), reader.sized(66)  # name, qualified name
        reader.close()
        return self._parsed(lambda: tpm2.parse_public(public))

    def pcr_read(self, pcrs: Sequence[int]) -> Dict[int, bytes]:
        """SHA-256 values by number. They are of one moment: a change while they are read starts the reading again."""
        for _attempt in range(ATTEMPTS):
            values: Dict[int, bytes] = {}
            counters = set()
            for first in range(0, len(pcrs), _PCRS_PER_READ):
                counter, part = self._pcr_read(tuple(pcrs[first:first + _PCRS_PER_READ]))
                counters.add(counter)
                values.update(part)
            if len(counters) == 1:
                return values
        raise CollectError("the PCRs changed on every reading", where="PCR_Read", fix="Collect when the guest has started", code="provider-busy")

    def _pcr_read(self, pcrs: Tuple[int, ...]) -> Tuple[int, Dict[int, bytes]]:
        reader = self._run("PCR_Read", _PCR_READ, b"", tpm2.pcr_selection(tpm2.ALG_SHA256, pcrs))
        counter, selections, count = reader.number(4), self._parsed(lambda: tpm2.read_pcr_selections(reader)), reader.number(4)
        if [(part.algorithm, part.pcrs) for part in selections] != [(tpm2.ALG_SHA256, pcrs)] or count != len(pcrs):
            raise CollectError("it has no SHA-256 bank with PCRs %s" % ", ".join(map(str, pcrs)), where="PCR_Read", code="tpm-response")
        values = [reader.sized(32) for _pcr in pcrs]
        reader.close()
        return counter, dict(zip(pcrs, values))

    def quote(self, handle: int, challenge: bytes, pcrs: Sequence[int]) -> Tuple[bytes, tpm2.Signature]:
        """(TPMS_ATTEST, signature) over ``challenge`` and SHA-256 PCRs, with the scheme that the key has."""
        arguments = struct.pack(">H", len(challenge)) + challenge + struct.pack(">H", tpm2.ALG_NULL) + tpm2.pcr_selection(tpm2.ALG_SHA256, tuple(pcrs))
        reader = self._run("Quote", _QUOTE, struct.pack(">I", handle), arguments, sessions=True)
        message = reader.sized(tpm2.ATTEST_MAX)
        signature = self._parsed(lambda: tpm2.read_signature(reader))
        reader.close()
        return message, signature

    def _run(self, name: str, code: int, handles: bytes, arguments: bytes = b"", sessions: bool = False) -> _Response:
        """Run one command; returns a reader over the response's parameters."""
        body = handles + (struct.pack(">I", len(_PASSWORD)) + _PASSWORD if sessions else b"") + arguments
        command = _HEADER.pack(_SESSIONS if sessions else _NO_SESSIONS, _HEADER.size + len(body), code) + body
        for attempt in range(ATTEMPTS):
            response = self._transport(command)
            if len(response) < _HEADER.size:
                raise CollectError("the response has %d bytes" % len(response), where=name, code="tpm-response")
            tag, size, result = _HEADER.unpack_from(response)
            if size != len(response) or result and (tag != _NO_SESSIONS or size != _HEADER.size):
                raise CollectError("the response is malformed", where=name, code="tpm-response")
            if result not in _BUSY:
                break
            self._sleep(0.05 * 2**attempt)
        if result:
            absent = result in _ABSENT
            raise CollectError("the TPM answers 0x%03x%s" % (result, " (there is no such handle)" if absent else ""), where=name,
                               code="tpm-absent" if absent else "tpm-error")
        if tag != (_SESSIONS if sessions else _NO_SESSIONS):
            raise CollectError("the response has tag 0x%04x" % tag, where=name, code="tpm-response")
        parameters = response[_HEADER.size:]
        if sessions:
            parameters = self._without_session(parameters, name)
        return _Response(parameters, name)

    @staticmethod
    def _without_session(parameters: bytes, name: str) -> bytes:
        size = int.from_bytes(parameters[:4], "big")
        # Empty nonce, the attributes, and an empty acknowledgement: the answer to a password.
        rest = parameters[4 + size:]
        if len(parameters) < 4 or len(rest) != 5 or rest[:2] != b"\0\0" or rest[3:] != b"\0\0":
            raise CollectError("the response is malformed", where=name, code="tpm-response")
        return parameters[4:4 + size]

    @staticmethod
    def _parsed(parse: Callable[[], tpm2.T]) -> tpm2.T:
        try:
            return parse()
        except FormatError as error:
            raise CollectError(str(error), code="tpm-response") from None


class _Response(tpm2.Reader):
    """A reader whose complaints are those of a collection."""

    def bad(self, what: str, code: str = "") -> FormatError:
        raise CollectError(what, where=self._where, code="tpm-response")


ALL_PCRS: List[int] = list(range(tpm2.PCR_COUNT))
