# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which CPUs a TDX module is for, and which one it is: read from the module and its signature structure, trusted by nobody.

The layout was read off the modules that Intel publishes (confidential-computing.tdx.tdx-module.binaries; its script uses the table of CPUs):
2048 bytes, little-endian; at 12 the type (bit 31: debug), at 16 the vendor 0x8086, at 20 the date (BCD), at 900 the SHA-384 of the module, which
reports carry as MRSEAM, at 948 the SVN (minor, major), at 1024 the number of CPUs and from 1028 on EAX of their CPUID leaf 1. Only the SEAM loader
checks Intel's signature; what is told here keeps a user from placing a module that the loader would refuse.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.tdx_modules import BY_MRSEAM, TdxModule

SIZE = 2048
CPUS_MAX = (SIZE - 1028) // 4
MODULE_MAX = 8 * 1024 * 1024


@dataclass(frozen=True)
class Signed:
    """``cpus`` are CPUID signatures without the stepping; ``known`` is the row of the table of published modules, None for others."""

    mrseam: str
    date: str
    svn: int
    cpus: FrozenSet[int]
    known: Optional[TdxModule]

    def to_dict(self) -> Dict[str, Any]:
        version = self.known.version if self.known else None
        return {"version": version, "mrseam": self.mrseam, "date": self.date, "svn": self.svn, "cpus": sorted("0x%x" % cpu for cpu in self.cpus)}


def read_signed(module: bytes, sigstruct: bytes) -> Signed:
    """Raises FormatError unless ``sigstruct`` has the form of Intel's and is of exactly ``module``."""
    where = "sigstruct"
    if len(sigstruct) != SIZE:
        raise FormatError("it has %d bytes, a signature structure has %d" % (len(sigstruct), SIZE), where=where, code="tdx-module-form")
    header, kind, vendor, date = struct.unpack_from("<I8xIII", sigstruct)
    if header != 6 or vendor != 0x8086:
        raise FormatError("it is no signature structure of Intel's", where=where, fix="Take both files from Intel's release", code="tdx-module-form")
    if kind >> 31:
        raise FormatError("it is of a debug module, which protects nothing", where=where, fix="Take a production module", code="tdx-module-debug")
    digest = hashlib.sha384(module).digest()
    if not module or sigstruct[900:948] != digest:
        raise FormatError("it is of another module", where=where, fix="Take module and sigstruct from one release", code="tdx-module-form")
    (count,) = struct.unpack_from("<I", sigstruct, 1024)
    if not 0 < count <= CPUS_MAX:
        raise FormatError("it names %d CPUs" % count, where=where, code="tdx-module-form")
    cpus = struct.unpack_from("<%dI" % count, sigstruct, 1028)
    return Signed(digest.hex(), "%08x" % date, sigstruct[948], frozenset(cpu & ~0xF for cpu in cpus), BY_MRSEAM.get(digest.hex()))


def signature_of(family: int, model: int) -> int:
    """EAX of CPUID leaf 1 without the stepping, for the family and model that /proc/cpuinfo shows (SDM, CPUID leaf 1)."""
    extended, base = (family - 0xF, 0xF) if family > 0xF else (0, family)
    return extended << 20 | (model >> 4) << 16 | base << 8 | (model & 0xF) << 4
