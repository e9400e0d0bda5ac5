# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report of an SGX enclave (Intel SDM volume 3D, REPORT without its MAC; 384 bytes). Intel's quoting enclave has one in every TD quote.

Nothing here decides about trust: a report that parses may be forged. All integers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Dict

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

REPORT_SIZE = 384
# ATTRIBUTES, byte 0.
DEBUG = 0x02

_LAYOUT = struct.Struct("<16s I 28s 16s 32s 32s 32s 96s H H 60s 64s")


@dataclass(frozen=True)
class SgxReport:
    """An enclave's report, field by field; ``raw`` are the 384 bytes as received. ``attributes``: 8 bytes of flags, 8 of XFRM."""

    raw: bytes
    cpusvn: bytes
    miscselect: int
    attributes: bytes
    mrenclave: bytes
    mrsigner: bytes
    isvprodid: int
    isvsvn: int
    reportdata: bytes

    @property
    def debug(self) -> bool:
        """True if a debugger may read the enclave."""
        return bool(self.attributes[0] & DEBUG)

    def to_dict(self) -> Dict[str, Any]:
        """JSON-able, byte strings as hexadecimal text."""
        return {
            "cpusvn": self.cpusvn.hex(),
            "miscselect": self.miscselect,
            "attributes": self.attributes.hex(),
            "mrenclave": self.mrenclave.hex(),
            "mrsigner": self.mrsigner.hex(),
            "isvprodid": self.isvprodid,
            "isvsvn": self.isvsvn,
            "reportdata": self.reportdata.hex(),
        }


def parse_sgx_report(data: bytes) -> SgxReport:
    """Parse exactly 384 bytes. Raises FormatError."""
    if len(data) != REPORT_SIZE:
        raise FormatError("it is %d bytes, an enclave's report has %d" % (len(data), REPORT_SIZE), where="QE report")
    # What is reserved here is Intel's to fill and covered by the signature: it is not judged.
    cpusvn, miscselect, _r1, attributes, mrenclave, _r2, mrsigner, _r3, isvprodid, isvsvn, _r4, reportdata = _LAYOUT.unpack(data)
    return SgxReport(data, cpusvn, miscselect, attributes, mrenclave, mrsigner, isvprodid, isvsvn, reportdata)
