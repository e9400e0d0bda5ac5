# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""TDREPORT_STRUCT: what a TD gets from the TDX module, and what a quote is made of. Its MAC can be checked on the same machine only.

Source: Intel TDX module ABI 348551, TDREPORT_STRUCT: REPORTMACSTRUCT (256 bytes), TEE_TCB_INFO (239 bytes, 17 reserved), TDINFO_STRUCT
(512 bytes). Numbers are little-endian.
"""

from __future__ import annotations

import hashlib

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

SIZE = 1024
QUOTED_SIZE = 584
_TYPE_TDX = 0x81
_VERSIONS = (0, 1)
_TCB_INFO = slice(256, 495)
_TD_INFO = slice(512, 1024)
# A quote repeats these, in this order: TEE_TCB_SVN, MRSEAM, MRSIGNERSEAM, SEAMATTRIBUTES; TDATTRIBUTES to RTMR3; REPORTDATA.
_QUOTED = (slice(264, 384), slice(512, 912), slice(128, 192))
_RESERVED = (slice(1, 2), slice(3, 16), slice(192, 224), slice(495, 512))


def quoted_part(data: bytes, where: str = "TDREPORT") -> bytes:
    """The 584 bytes that a quote over this report carries (the body of a version 4 quote). Raises FormatError unless the report is
    one of TDX, its reserved fields are zero, and its own digests of TEE_TCB_INFO and TDINFO hold."""
    if len(data) != SIZE:
        raise FormatError("it is %d bytes long, %d were expected" % (len(data), SIZE), where=where)
    if data[0] != _TYPE_TDX or data[2] not in _VERSIONS or any(any(data[part]) for part in _RESERVED):
        raise FormatError("type 0x%02x and version %d, or reserved bytes, are none of TDX that is known" % (data[0], data[2]), where=where)
    if hashlib.sha384(data[_TCB_INFO]).digest() != data[32:80] or hashlib.sha384(data[_TD_INFO]).digest() != data[80:128]:
        raise FormatError("it does not have the digests that it states", where=where)
    return b"".join(data[part] for part in _QUOTED)
