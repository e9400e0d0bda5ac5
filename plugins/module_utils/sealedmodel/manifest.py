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
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.kserve import jwe_size
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import Layout
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.verity import Geometry
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tree import IMAGE, JWE_SUFFIX, MAX_FILES, MANIFEST, SUFFIX, check_names, check_path

SCHEMA = "attested.ai/model-manifest/1"
FILES, IMAGE_PROFILE, KSERVE = "files", "image", "kserve"
PROFILES = (FILES, IMAGE_PROFILE, KSERVE)
MAX_SIZE = 64 << 20
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
_MEMBERS = ("schema", "model_id", "release", "created_at", "profile", "files", "dek", "key_id", "key_uris")
# What each profile has besides, and what it says of each file.
_FURTHER = {FILES: ("segment_size",), IMAGE_PROFILE: ("image",), KSERVE: ()}
_FILE = {FILES: ("path", "size", "ciphertext_size", "header_sha256"), IMAGE_PROFILE: ("path", "size"), KSERVE: ("path", "size", "ciphertext_size")}
_IMAGE = ("path", "size", "hash_offset", "root_hash", "uuid", "header_sha256")


@dataclass(frozen=True)
class FileEntry:
    """One file: ``size`` and ``ciphertext_size`` in bytes, ``header_sha256`` of the 40 header bytes in hexadecimal.

    In profile image a file has no ciphertext of its own: then the last two say nothing. In profile kserve it has no header.
    """

    path: str
    size: int
    ciphertext_size: int = 0
    header_sha256: str = ""

    @property
    def ciphertext_path(self) -> str:
        return self.path + SUFFIX

    def to_dict(self, profile: str = FILES) -> Dict[str, Any]:
        return {name: getattr(self, name) for name in _FILE[profile]}


@dataclass(frozen=True)
class ImageEntry:
    """The encrypted image (EMWP): its size, where the hash tree begins behind the data, the tree's root hash, the partition's UUID, and the SHA-256
    of the first 4096 bytes of ciphertext. Numbers in bytes, digests in hexadecimal."""

    path: str
    size: int
    hash_offset: int
    root_hash: str
    uuid: str
    header_sha256: str

    def to_dict(self) -> Dict[str, Any]:
        return {name: getattr(self, name) for name in _IMAGE}


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
    image: Optional[ImageEntry] = None
    profile: str = FILES

    @property
    def ciphertexts(self) -> Dict[str, int]:
        """What lies in the directory beside manifest and signature: sizes by path."""
        if self.image is not None:
            return {self.image.path: self.image.size}
        suffix = JWE_SUFFIX if self.profile == KSERVE else SUFFIX
        return {file.path + suffix: file.ciphertext_size for file in self.files}

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def ciphertext_size(self) -> int:
        return sum(self.ciphertexts.values())

    def to_bytes(self) -> bytes:
        document = {
            "schema": SCHEMA,
            "model_id": self.model_id,
            "release": self.release,
            "created_at": self.created_at,
            "profile": self.profile,
            "files": [file.to_dict(self.profile) for file in self.files],
            "dek": dict(self.dek),
            "key_id": self.key_id,
            "key_uris": list(self.key_uris),
        }
        if self.profile == FILES:
            document["segment_size"] = self.segment_size
        if self.image is not None:
            document["image"] = self.image.to_dict()
        return jcs.canonicalize(document)

    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def parse(cls, raw: bytes, where: str = MANIFEST) -> Manifest:
        """Read a manifest strictly: every member, no other, canonical bytes, sizes that agree. Raises FormatError or ModelError."""
        if len(raw) > MAX_SIZE:
            raise FormatError("it is %d bytes long, at most %d are allowed" % (len(raw), MAX_SIZE), where=where)
        loaded = strict.loads(raw, where)
        said = loaded.get("profile") if isinstance(loaded, dict) else None
        profile = said if isinstance(said, str) else ""
        obj = strict.members(loaded, _MEMBERS + _FURTHER.get(profile, ()), where=where)
        for name, known in (("schema", (SCHEMA,)), ("profile", PROFILES)):
            if obj[name] not in known:
                raise FormatError("%s is %s, %s is what this version reads" % (name, strict.quoted(obj[name]), " or ".join(known)), where=where)
        segment_size = _number(obj["segment_size"], where + " segment_size") if profile == FILES else 0
        created_at = strict.text_of(obj["created_at"], where + " created_at", 32)
        if not _TIME.match(created_at):
            raise FormatError("it is not a time like 2026-01-31T12:00:00Z", where=where + " created_at")
        manifest = cls(
            model_id=check_model_id(obj["model_id"], where + " model_id"),
            release=check_release(obj["release"], where + " release"),
            created_at=created_at,
            segment_size=segment_size,
            files=_files(obj["files"], profile, segment_size, where),
            dek=_dek(obj["dek"], where + " dek"),
            key_id=check_name(obj["key_id"], where + " key_id"),
            key_uris=_uris(obj["key_uris"], where + " key_uris"),
            image=_image(obj["image"], where + " image") if profile == IMAGE_PROFILE else None,
            profile=profile,
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


def _files(value: Any, profile: str, segment_size: int, where: str) -> Tuple[FileEntry, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_FILES:
        raise FormatError("files is not a list of 1 to %d files" % MAX_FILES, where=where)
    files = tuple(_file(element, profile, segment_size, "%s file %d" % (where, index)) for index, element in enumerate(value))
    names = [file.path.encode("utf-8") for file in files]
    if any(one >= two for one, two in zip(names, names[1:])):
        raise FormatError("the files are not sorted by path, or one occurs twice", where=where)
    check_names([file.path for file in files], where)
    return files


def _file(value: Any, profile: str, segment_size: int, where: str) -> FileEntry:
    obj = strict.members(value, _FILE[profile], where=where)
    path = check_path(obj["path"], where)
    size = _number(obj["size"], where + " size", 0)
    if profile == IMAGE_PROFILE:
        return FileEntry(path, size)
    if profile == FILES:
        strict.decode_hex(obj["header_sha256"], where + " header_sha256", 32)
    try:
        expected = Layout(size, segment_size).cipher_size if profile == FILES else jwe_size(size)
    except ModelError as error:
        raise FormatError(error.what, where=where) from None
    if _number(obj["ciphertext_size"], where + " ciphertext_size") != expected:
        raise FormatError("ciphertext_size is %d, %d follows from the size" % (obj["ciphertext_size"], expected), where=where)
    return FileEntry(path, size, expected, obj.get("header_sha256", ""))


def _image(value: Any, where: str) -> ImageEntry:
    obj = strict.members(value, _IMAGE, where=where)
    for name in ("root_hash", "header_sha256"):
        strict.decode_hex(obj[name], "%s %s" % (where, name), 32)
    uuid = strict.text_of(obj["uuid"], where + " uuid", 36)
    size, hash_offset = (_number(obj[name], "%s %s" % (where, name)) for name in ("size", "hash_offset"))
    blocks, rest = divmod(hash_offset, 4096)
    # Two blocks hold the superblock and an inode: there is no smaller one.
    if rest or blocks < 2 or Geometry(blocks).size != size:
        raise FormatError("size is %d, which does not follow from hash_offset %d" % (size, hash_offset), where=where)
    if obj["path"] != IMAGE or not _UUID.match(uuid):
        raise FormatError("path is not %s, or uuid is no UUID in small letters" % IMAGE, where=where)
    return ImageEntry(IMAGE, size, hash_offset, obj["root_hash"], uuid, obj["header_sha256"])


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
