# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The initrd that systemd's stub hands to Linux, and Linux measures: what the image holds, and archives that the stub packs of some of its sections.

Sources: systemd src/boot/stub.c (order of parts, names of files) and src/boot/cpio.c (the archives); Linux Documentation/driver-api/early-userspace/
buffer-format.rst. Compared with PCR 9 of a guest that was booted by a stub of systemd 257.
"""

from __future__ import annotations

import re
from typing import Dict, List, Optional, Tuple

# From this version on the stub passes .osrel and .profile, too.
PASSES_OSREL = 257
_VERSION = re.compile(rb"systemd-stub ([0-9]+)")
# Section, name of the file below /.extra, first version that passes it; in the order in which they are handed over.
_PASSED = ((".pcrsig", "tpm2-pcr-signature.json", 0), (".pcrpkey", "tpm2-pcr-public-key.pem", 0), (".osrel", "os-release", PASSES_OSREL),
           (".profile", "profile", PASSES_OSREL))  # fmt: skip
_FOLDER, _FILE = 0o040555, 0o100444


def stub_version(sdmagic: bytes) -> Optional[int]:
    """The major version of the stub by its section .sdmagic, or None where it does not say."""
    found = _VERSION.search(sdmagic)
    return int(found.group(1)) if found else None


def stub_initrd(contents: Dict[str, bytes]) -> bytes:
    """``contents``: section names to what they hold. Without any part it is empty. A stub that does not say its version counts as new."""
    version = stub_version(contents.get(".sdmagic", b""))
    parts: List[bytes] = [contents[name] for name in (".ucode", ".initrd") if name in contents]
    for name, file, since in _PASSED:
        if name in contents and (version is None or version >= since):
            parts.append(_archive(".extra", file, contents[name]))
    # One alone is handed over as it lies in the image; several are brought together, each at a multiple of four bytes.
    return parts[0] if len(parts) == 1 else b"".join(_padded(part) for part in parts)


def _archive(folder: str, file: str, content: bytes) -> bytes:
    entries = ((1, _FOLDER, folder, b""), (2, _FILE, folder + "/" + file, content))
    return b"".join(_entry(*entry) for entry in entries) + _entry(0, 0, "TRAILER!!!", b"")


def _entry(inode: int, mode: int, name: str, content: bytes) -> bytes:
    """One entry of a cpio archive of the kind `newc`: no owner, no time, no device."""
    fields: Tuple[int, ...] = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) if inode else b"070701" + b"%08X" * 13 % fields
    return _padded(head + name.encode("ascii") + b"\0") + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
