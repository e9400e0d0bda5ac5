# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The folder of a dossier: the signed chain of records, and what they name, each file once and by its SHA-256."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import typing as t
from contextlib import contextmanager, suppress

from ansible_collections.attested.ai.plugins.module_utils.dossier.record import KIND, Record
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError, LedgerError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import chain
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import replace_file
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import content

RECORDS, FILES, PUBLIC = "records.jsonl", "files", "dossier.pub.jwk"
# The largest is a manifest of very many files.
FILE_MAX = 64 << 20
_KEPT = 128


class DossierFiles:
    """One dossier."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.records = os.path.join(root, RECORDS)
        # Policies and collateral are the same in most records.
        self.read = functools.lru_cache(_KEPT)(self._read)

    def append(self, record: Record, blobs: t.Mapping[str, bytes], signing_key: t.Any, public: bytes) -> chain.Head:
        """Write what the record names, then the record. What was written for nothing is named by nobody. Raises LedgerError, OSError."""
        make_folders(self.root)
        for digest in record.blobs():
            self._write(digest, blobs[digest])
        head = chain.append(self.records, signing_key, record.to_dict(), KIND)
        # Only now: a key that did not write this chain was refused.
        if content(os.path.join(self.root, PUBLIC)) != public:
            replace_file(os.path.join(self.root, PUBLIC), public)
        return head

    def knows(self, nonce: str) -> bool:
        """Is there a record with this nonce? Asked before one is added; nothing is verified."""
        try:
            with open(self.records, "rb") as stream:
                return any(_nonce_of(line) == nonce for line in stream)
        except FileNotFoundError:
            return False

    @contextmanager
    def unchanged(self) -> t.Iterator[None]:
        """Nobody adds a record meanwhile. Raises LedgerError, OSError."""
        self._require()
        with open(self.records, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH)
            yield

    def verify(self, public_key: t.Mapping[str, t.Any], known_head: str = "") -> chain.LedgerReport:
        """The chain, whole. Raises LedgerError."""
        self._require()
        return chain.verify(self.records, public_key, KIND, known_head)

    def blobs_of(self, record: Record) -> dict[str, bytes]:
        """The content of all files that it names, each of that digest. Raises LedgerError."""
        return {digest: self.read(digest) for digest in record.blobs()}

    def _require(self) -> None:
        if not os.path.exists(self.records):
            raise LedgerError("there is no dossier", where=self.root, fix="Name the folder of one, or add a record", code="dossier-missing")

    def path_of(self, digest: str) -> str:
        return os.path.join(self.root, FILES, digest[:2], digest)

    def _read(self, digest: str) -> bytes:
        path = self.path_of(digest)
        try:
            with open(path, "rb") as stream:
                data = stream.read(FILE_MAX + 1)
        except OSError as error:
            raise LedgerError("a file that a record names cannot be read (%s)" % (error.strerror or error), where=path,
                              fix="Restore it from a copy of the dossier", code="dossier-file") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise LedgerError("it is not the file that was signed", where=path, fix="Restore it from a copy of the dossier", code="dossier-file")
        return data

    def _write(self, digest: str, data: bytes) -> None:
        path = self.path_of(digest)
        if len(data) > FILE_MAX:
            raise FormatError(f"it is {len(data)} bytes, at most {FILE_MAX} are kept", where="a file of the record")
        try:
            with open(path, "rb") as stream:
                if stream.read(len(data) + 1) == data:
                    return
        except FileNotFoundError:
            make_folders(os.path.dirname(path))
        replace_file(path, data)


def _nonce_of(line: bytes) -> t.Any:
    try:
        return strict.loads(strict.decode_base64url(strict.loads(line)["payload"], "", 0, chain.LINE_MAX))["nonce"]
    except (AttestedError, KeyError, TypeError):
        return None


def make_folders(path: str) -> None:
    """The folder and those above it that are missing, each for the owner alone: makedirs(3) does so for the last one only. Raises OSError."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent and parent != path:
        make_folders(parent)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
