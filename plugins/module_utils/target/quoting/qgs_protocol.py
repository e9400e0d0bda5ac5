# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The messages that QGS answers (DCAP, qgs_msg_lib.h): each with its length in four bytes, most significant first, in front; all else is little-endian.

GET_PLATFORM_INFO needs no guest: it shows that QGS can start its enclaves, and tells who the platform is. A quote needs a report of a guest.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

MAJOR, MINOR = 1, 1
GET_PLATFORM_INFO_REQUEST, GET_PLATFORM_INFO_RESPONSE = 4, 5
ANSWER_MAX = 4096
_HEADER = struct.Struct("<HHIII")
_INFO = struct.Struct("<HHII")
# sgx_key_128bit_t and sgx_cpu_svn_t.
_ID_SIZE = _SVN_SIZE = 16


@dataclass(frozen=True)
class PlatformInfo:
    """All hexadecimal, in the byte order of PCKIDRetrievalTool: ``qe_id`` is its QE_ID, ``pce_svn`` its PCE ISVSVN."""

    qe_id: str
    cpu_svn: str
    pce_svn: str
    tdqe_svn: int

    def to_dict(self) -> Dict[str, str]:
        return {"qe_id": self.qe_id, "cpu_svn": self.cpu_svn, "pce_svn": self.pce_svn}


def platform_info_request() -> bytes:
    return struct.pack(">I", _HEADER.size) + _HEADER.pack(MAJOR, MINOR, GET_PLATFORM_INFO_REQUEST, _HEADER.size, 0)


def length_of(head: bytes) -> int:
    """How many bytes follow the first four of an answer. Raises FormatError."""
    size = int.from_bytes(head, "big") if len(head) == 4 else 0
    if not _HEADER.size <= size <= ANSWER_MAX:
        raise FormatError("the answer has the length %d: whatever listens there is no QGS" % size, where="QGS", code="qgs-answer")
    return size


def parse_platform_info(data: bytes) -> PlatformInfo:
    """From an answer with its length in front. Raises FormatError."""
    body = data[4:]
    if length_of(data[:4]) != len(body):
        raise FormatError("the answer is cut off", where="QGS", code="qgs-answer")
    major, _minor, kind, size, error = _HEADER.unpack_from(body)
    if major != MAJOR or kind != GET_PLATFORM_INFO_RESPONSE or size != len(body):
        what = "the answer is of version %d, type %d, size %d" % (major, kind, size)
        raise FormatError(what, where="QGS", fix="Use a newer tdx-qgs", code="qgs-answer")
    if error:
        raise FormatError(
            "QGS answers, but its enclaves do not (error 0x%x)" % error, where="QGS", code="qgs-error",
            fix="See `journalctl -u qgsd`, the devices /dev/sgx_enclave and /dev/sgx_provision, and the groups of the user qgsd",
        )  # fmt: skip
    if len(body) < _HEADER.size + _INFO.size:
        raise FormatError("the answer is too short", where="QGS", code="qgs-answer")
    tdqe, pce, id_size, svn_size = _INFO.unpack_from(body, _HEADER.size)
    start = _HEADER.size + _INFO.size
    # The message's own writer counts the two numbers in front twice and leaves as many zero bytes at the end.
    rest = body[start + id_size + svn_size :] if (id_size, svn_size) == (_ID_SIZE, _SVN_SIZE) else None
    if rest is None or len(body) < start + id_size + svn_size or rest.strip(b"\0"):
        raise FormatError("the sizes in the answer do not fit", where="QGS", code="qgs-answer")
    identity, svn = body[start : start + _ID_SIZE], body[start + _ID_SIZE : start + _ID_SIZE + _SVN_SIZE]
    return PlatformInfo(identity.hex(), svn.hex(), pce.to_bytes(2, "little").hex(), tdqe)
