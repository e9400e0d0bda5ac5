# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The line that Intel's PCKIDRetrievalTool writes (its README, "Output file"): hexadecimal fields between commas, the platform manifest in column 6."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Dict, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.efivars import REQUEST_MAX

COLUMNS = ("enc_ppid", "pce_id", "cpu_svn", "pce_svn", "qe_id", "platform_manifest")
SIZES = {"enc_ppid": 384, "pce_id": 2, "cpu_svn": 16, "pce_svn": 2, "qe_id": 16}
_HEX = re.compile(r"(?:[0-9a-f]{2})+\Z", re.ASCII)


@dataclass(frozen=True)
class PckId:
    """Lower-case hexadecimal, PCE-ID and PCESVN in the byte order of the CPU, as services expect them. The manifest is there only once."""

    enc_ppid: str
    pce_id: str
    cpu_svn: str
    pce_svn: str
    qe_id: str
    manifest: Optional[bytes]

    @property
    def identity(self) -> Dict[str, str]:
        """What tells this platform, and its TCB level, from others. Nothing of it is secret."""
        return {"qe_id": self.qe_id, "pce_id": self.pce_id, "cpu_svn": self.cpu_svn, "pce_svn": self.pce_svn}

    def platform(self, manifest: Optional[bytes]) -> Dict[str, str]:
        """An entry of a platform list, as PCCS and pcs-client-tool take it, with a manifest that was saved before."""
        found = {"enc_ppid": self.enc_ppid, **self.identity}
        return {**found, "platform_manifest": (self.manifest or manifest or b"").hex()}


def parse(data: bytes, where: str = "") -> PckId:
    """Raises FormatError. The mode without an enclave is refused: without QE-ID and PPID nothing can be told of the platform later."""
    if len(data) > 2 * REQUEST_MAX + 4096:
        raise _wrong(where, "it has %d bytes, too many" % len(data))
    try:
        lines = [line for line in data.decode("ascii").replace("\0", "\n").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise _wrong(where, "it is no text") from None
    if len(lines) != 1:
        raise _wrong(where, "it has %d lines, not 1" % len(lines))
    fields = [field.strip().lower() for field in lines[0].split(",")]
    if len(fields) not in (5, 6):
        raise _wrong(where, "it has %d columns, not 5 or 6" % len(fields))
    if not fields[0] and not fields[2] and not fields[3]:
        raise _wrong(where, "it was made without an enclave (-platform_id)")
    for name, field in zip(COLUMNS, fields):
        size = SIZES.get(name)
        if not _HEX.match(field) or (size is not None and len(field) != 2 * size):
            raise _wrong(where, "column %s is no hexadecimal text%s" % (name, "" if size is None else " of %d bytes" % size))
    manifest = bytes.fromhex(fields[5]) if len(fields) == 6 else None
    if manifest is not None and len(manifest) > REQUEST_MAX:
        raise _wrong(where, "the manifest has %d bytes, too many" % len(manifest))
    return PckId(fields[0], fields[1], fields[2], fields[3], fields[4], manifest)


def digest(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()


def _wrong(where: str, what: str) -> FormatError:
    return FormatError(what, where=where, fix="Give the file that PCKIDRetrievalTool -f wrote", code="pckid-invalid")
