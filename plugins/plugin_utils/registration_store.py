# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's copies of what a platform gives away once only: manifest, PCKIDRetrievalTool's answer, and the record of what was chosen."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import replace_file
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import record

_HOST = re.compile(r"(?!\.)[A-Za-z0-9._:@-]{1,200}\Z", re.ASCII)
_FILE_MAX = 8 << 20


class Store:
    """All of one machine, in a folder of its own, for its owner alone. What is written is on the disk when a method returns."""

    def __init__(self, directory: str, host: str) -> None:
        if not _HOST.match(host):
            raise HostError(f"{ascii(host)[:100]} makes no name of a folder", where="registration", fix="Rename it in the inventory", code="host-name")
        self.folder = os.path.join(directory, host)

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def manifest_name(self, digest: str) -> str:
        return f"manifest-{digest}.bin"

    def record(self) -> record.Record | None:
        data = self.read("record.json")
        return None if data is None else record.parse(data.decode("utf-8", "replace"), self.path("record.json"))

    def manifest(self, digest: str) -> bytes | None:
        """The kept manifest, if it is whole."""
        data = self.read(self.manifest_name(digest))
        return data if data is not None and hashlib.sha256(data).hexdigest() == digest else None

    def read(self, name: str) -> bytes | None:
        try:
            with open(self.path(name), "rb") as stream:
                return stream.read(_FILE_MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HostError(f"it cannot be read ({error.strerror})", where=self.path(name), fix="Give another directory", code="controller-file") from None

    def write(self, name: str, data: bytes) -> bool:
        """Whether anything was changed. The file is read again: what a full disk or a strange file system makes of it is not for later."""
        if self.read(name) == data:
            with suppress(OSError):
                os.chmod(self.path(name), 0o600)
            return False
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            os.chmod(self.folder, 0o700)
            replace_file(self.path(name), data)
        except OSError as error:
            raise HostError(f"it cannot be written ({error.strerror})", where=self.path(name), fix="Give another directory", code="controller-file") from None
        if self.read(name) != data:
            raise HostError("it does not hold what was written to it", where=self.path(name), fix="Give another directory", code="controller-file")
        return True
