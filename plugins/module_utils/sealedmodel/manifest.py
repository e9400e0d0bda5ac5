# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""model-manifest.json: what an encrypted model consists of. Canonical JSON (RFC 8785), so that one manifest has one spelling.

It is public. Nothing in it tells more about the plaintext than the ciphertext does: names and sizes, no digest of the content.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import Layout
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tree import MAX_FILES, MANIFEST, SUFFIX, check_names, check_path

SCHEMA = "attested.ai/model-manifest/1"
PROFILE = "files"
MAX_SIZE = 64 << 20
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
_MEMBERS = ("schema", "model_id", "release", "created_at", "profile", "segment_size", "files", "dek", "key_id", "key_uris")
_FILE = ("path", "size", "ciphertext_size", "header_sha256")


@dataclass(frozen=True)
class FileEntry:
    """One file: ``size`` and ``ciphertext_size`` in bytes, ``header_sha256`` of the 40 header bytes in hexadecimal."""

    path: str
    size: int
    ciphertext_size: int
    header_sha256: str

    @property
    def ciphertext_path(self) -> str:
        return self.path + SUFFIX

    def to_dict(self) -> Dict[str, Any]:
        return {"path": self.path, "size": self.size, "ciphertext_size": self.ciphertext_size, "header_sha256": self.header_sha256}


@dataclass(frozen=True)
class Manifest:
    """A whole manifest. ``dek`` is the data key as JWE JSON General, ``files`` are sorted by the bytes of their paths."""

    model_id: str
    release: int
    created_at: str
    segment_size: int
    files: Tuple[FileEntry, ...]
    dek: Mapping[str, Any]
    key_id: str
    key_uris: Tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def ciphertext_size(self) -> int:
        return sum(file.ciphertext_size for file in self.files)

    def to_bytes(self) -> bytes:
        return jcs.canonicalize(
            {
                "schema": SCHEMA,
                "model_id": self.model_id,
                "release": self.release,
                "created_at": self.created_at,
                "profile": PROFILE,
                "segment_size": self.segment_size,
                "files": [file.to_dict() for file in self.files],
                "dek": dict(self.dek),
                "key_id": self.key_id,
                "key_uris": list(self.key_uris),
            }
        )

    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def parse(cls, raw: bytes, where: str = MANIFEST) -> Manifest:
        """Read a manifest strictly: every member, no other, canonical bytes, sizes that agree. Raises FormatError or ModelError."""
        if len(raw) > MAX_SIZE:
            raise FormatError("it is %d bytes long, at most %d are allowed" % (len(raw), MAX_SIZE), where=where)
        obj = strict.members(strict.loads(raw, where), _MEMBERS, where=where)
        for name, expected in (("schema", SCHEMA), ("profile", PROFILE)):
            if obj[name] != expected:
                raise FormatError("%s is %s, %s is what this version reads" % (name, strict.quoted(obj[name]), expected), where=where)
        segment_size = _number(obj["segment_size"], where + " segment_size")
        created_at = strict.text_of(obj["created_at"], where + " created_at", 32)
        if not _TIME.match(created_at):
            raise FormatError("it is not a time like 2026-01-31T12:00:00Z", where=where + " created_at")
        manifest = cls(
            model_id=check_model_id(obj["model_id"], where + " model_id"),
            release=check_release(obj["release"], where + " release"),
            created_at=created_at,
            segment_size=segment_size,
            files=_files(obj["files"], segment_size, where),
            dek=_dek(obj["dek"], where + " dek"),
            key_id=check_name(obj["key_id"], where + " key_id"),
            key_uris=_uris(obj["key_uris"], where + " key_uris"),
        )
        if manifest.to_bytes() != bytes(raw):
            raise FormatError("it is not canonical JSON (RFC 8785)", where=where, fix="Use the file as it was written")
        return manifest


def check_model_id(value: Any, where: str = "model_id") -> str:
    """Return ``value`` if it is a model id. Raises FormatError."""
    text = strict.text_of(value, where, 128)
    if not _MODEL_ID.match(text):
        raise FormatError("%s is not 1 to 128 letters, digits, '.', '_' or '-', beginning with a letter or digit" % strict.quoted(text), where=where)
    return text


def check_release(value: Any, where: str = "release") -> int:
    """Return ``value`` if it is a release number, from 1. Raises FormatError."""
    return _number(value, where)


def check_name(value: Any, where: str) -> str:
    """A key id: 1 to 200 printable characters in NFC without blanks at its ends. Raises FormatError."""
    text = strict.text_of(value, where, 200)
    if not text or text != text.strip() or not text.isprintable() or unicodedata.normalize("NFC", text) != text:
        raise FormatError("%s is not a usable name: 1 to 200 printable characters in Unicode's form NFC" % strict.quoted(text), where=where)
    return text


def _number(value: Any, where: str, minimum: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= jcs.MAX_INTEGER:
        raise FormatError("it is not a whole number from %d to 2^53 - 1" % minimum, where=where)
    return value


def _files(value: Any, segment_size: int, where: str) -> Tuple[FileEntry, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_FILES:
        raise FormatError("files is not a list of 1 to %d files" % MAX_FILES, where=where)
    files = tuple(_file(element, segment_size, "%s file %d" % (where, index)) for index, element in enumerate(value))
    names = [file.path.encode("utf-8") for file in files]
    if any(one >= two for one, two in zip(names, names[1:])):
        raise FormatError("the files are not sorted by path, or one occurs twice", where=where)
    check_names([file.path for file in files], where)
    return files


def _file(value: Any, segment_size: int, where: str) -> FileEntry:
    obj = strict.members(value, _FILE, where=where)
    path = check_path(obj["path"], where)
    size = _number(obj["size"], where + " size", 0)
    strict.decode_hex(obj["header_sha256"], where + " header_sha256", 32)
    try:
        expected = Layout(size, segment_size).cipher_size
    except ModelError as error:
        raise FormatError(error.what, where=where) from None
    if _number(obj["ciphertext_size"], where + " ciphertext_size") != expected:
        raise FormatError("ciphertext_size is %d, %d follows from size and segment_size" % (obj["ciphertext_size"], expected), where=where)
    return FileEntry(path, size, expected, obj["header_sha256"])


def _dek(value: Any, where: str) -> Mapping[str, Any]:
    # Only the outer shape: whoever opens it reads it strictly, with the key at hand.
    obj = strict.members(value, ("protected", "recipients", "iv", "ciphertext", "tag"), ("unprotected", "aad"), where=where)
    if not isinstance(obj["recipients"], list) or not 0 < len(obj["recipients"]) <= 64:
        raise FormatError("recipients is not a list of 1 to 64 recipients", where=where)
    return obj


def _uris(value: Any, where: str) -> Tuple[str, ...]:
    if not isinstance(value, list) or len(value) > 64:
        raise FormatError("it is not a list of at most 64 addresses", where=where)
    return tuple(strict.text_of(uri, where, 2048) for uri in value)
