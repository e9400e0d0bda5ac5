# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Directories of models: which names they may hold, what lies in them, and opening files there without following links."""

from __future__ import annotations

import os
import stat
import unicodedata
from dataclasses import dataclass
from typing import Dict, Iterator, List, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError

SUFFIX = ".tink"
# The one file of profile image.
IMAGE = "model.img"
# Of profile kserve.
JWE_SUFFIX = ".jwe"
MANIFEST = "model-manifest.json"
SIGNATURE = "model-manifest.jws"
# OpenSSF Model Signing puts its bundle over the ciphertext here. It may lie beside; nothing here reads it.
BESIDE = "model.sig"
RESERVED = (MANIFEST, SIGNATURE, BESIDE)

MAX_FILES = 100_000
MAX_DEPTH = 64
_MAX_PATH = 4000
_MAX_PART = 255 - len(SUFFIX)
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True)
class SourceFile:
    """One file of the plaintext model. ``path`` is relative with "/"; times are nanoseconds."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    device: int
    ctime_ns: int

    @property
    def identity(self) -> List[int]:
        """What the next run compares without reading the file."""
        return [self.size, self.mtime_ns, self.inode]

    @classmethod
    def of(cls, path: str, status: os.stat_result) -> SourceFile:
        return cls(path, status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev, status.st_ctime_ns)


def require_same(file: SourceFile, status: os.stat_result, where: str) -> None:
    """Raise ModelError(code=model-source-changed) unless ``status`` is that of the file when the list was made."""
    if SourceFile.of(file.path, status) != file:
        raise ModelError(
            "the file changed while the model was encrypted",
            where=where,
            fix="Let nobody write to it and run this again",
            code="model-source-changed",
        )


def check_path(path: object, where: str = "path") -> str:
    """Return ``path`` if it is a relative path that every system takes for the same file, else raise ModelError(code=model-path)."""
    if not isinstance(path, str):
        raise ModelError("it is a %s, a string was expected" % type(path).__name__, where=where, code="model-path")
    shown = ascii(path)[:120]
    try:
        raw = path.encode("utf-8")
    except UnicodeEncodeError:
        raise ModelError("the name %s is not UTF-8" % shown, where=where, fix="Rename it", code="model-path") from None
    problem = ""
    if unicodedata.normalize("NFC", path) != path:
        problem = "is not in Unicode's normal form NFC, so that two systems may see two names"
    elif any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") for character in path):
        problem = "holds a control or invisible character"
    elif any(part in ("", ".", "..") for part in path.split("/")):
        problem = "is not a plain relative path"
    elif len(raw) > _MAX_PATH or any(len(part.encode("utf-8")) > _MAX_PART for part in path.split("/")):
        problem = "is too long: a name may have %d bytes, a path %d" % (_MAX_PART, _MAX_PATH)
    elif path.count("/") >= MAX_DEPTH:
        problem = "lies deeper than %d directories" % MAX_DEPTH
    elif path.split("/")[0] in RESERVED and "/" in path:
        problem = "lies in a directory whose name the encrypted model needs for itself"
    if problem:
        raise ModelError("the name %s %s" % (shown, problem), where=where, fix="Rename it", code="model-path")
    return path


def check_names(paths: List[str], where: str) -> None:
    """Refuse paths that differ only in case, or of which one is both a file and a directory, in clear or encrypted. Raises ModelError."""
    seen: Dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        # A file takes its own name and its encrypted one, a directory its own.
        taken = [(path, path + "\0file"), (path + SUFFIX, path + "\0file")]
        taken += [("/".join(parts[:depth]), "/".join(parts[:depth]) + "\0directory") for depth in range(1, len(parts))]
        for name, owner in taken:
            other = seen.setdefault(name.casefold(), owner)
            if other != owner:
                raise ModelError(
                    "the names %s and %s collide" % (ascii(other.split("\0")[0]), ascii(owner.split("\0")[0])),
                    where=where,
                    fix="Rename one of them",
                    code="model-path",
                )


def walk(root: str) -> Tuple[SourceFile, ...]:
    """The files under ``root``, sorted by the bytes of their paths. Every one can be opened at this moment.

    Raises ModelError on any symbolic link, special file, unreadable entry, unusable or colliding name, and on a tree without files.
    """
    try:
        descriptor = os.open(root, _FLAGS | os.O_DIRECTORY)
    except OSError as error:
        raise ModelError("the model directory cannot be opened (%s)" % error.strerror, where=root, code="model-source") from None
    try:
        found = [SourceFile.of(check_path(path, root), status) for path, status in _entries(descriptor, "", root)]
        check_names([file.path for file in found], root)
        for file in found:
            os.close(open_beneath(descriptor, file.path, root))
    finally:
        os.close(descriptor)
    if not found:
        raise ModelError("it holds no files", where=root, code="model-source")
    return tuple(sorted(found, key=lambda file: file.path.encode("utf-8")))


def listing(descriptor: int, where: str) -> Dict[str, int]:
    """Sizes by path of all files under an open directory. Raises ModelError on anything but directories and regular files."""
    return {path: status.st_size for path, status in _entries(descriptor, "", where)}


def _entries(descriptor: int, prefix: str, where: str, depth: int = 0) -> Iterator[Tuple[str, os.stat_result]]:
    if depth > MAX_DEPTH:
        raise ModelError("it is nested deeper than %d directories" % MAX_DEPTH, where=where, code="model-path")
    count = 0
    try:
        names = sorted(os.listdir(descriptor))
        for name in names:
            path = prefix + name
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                child = os.open(name, _FLAGS | os.O_DIRECTORY, dir_fd=descriptor)
                try:
                    for entry in _entries(child, path + "/", where, depth + 1):
                        count += 1
                        yield entry
                finally:
                    os.close(child)
            elif stat.S_ISREG(status.st_mode):
                count += 1
                yield path, status
            else:
                raise _not_a_file(path, status.st_mode, where)
            if count > MAX_FILES:
                raise ModelError("it holds more than %d files" % MAX_FILES, where=where, code="model-path")
    except OSError as error:
        raise ModelError("%s cannot be read (%s)" % (ascii(error.filename or prefix), error.strerror), where=where, code="model-source") from None


def _not_a_file(path: str, mode: int, where: str) -> ModelError:
    if stat.S_ISLNK(mode):
        return ModelError(
            "%s is a symbolic link" % ascii(path),
            where=where,
            fix="A model is encrypted from the files themselves: copy it with 'cp -rL' (a Hugging Face cache is all links)",
            code="model-symlink",
        )
    return ModelError("%s is neither a file nor a directory" % ascii(path), where=where, fix="Remove it", code="model-special-file")


def open_beneath(descriptor: int, path: str, where: str) -> int:
    """Open the regular file ``path`` for reading beneath an open directory, following no link on the way. The caller closes it."""
    parts = path.split("/")
    current = os.dup(descriptor)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=current)
            os.close(current)
            current = inner
        # O_NONBLOCK: a pipe put in the file's place must not make us wait for a writer.
        opened = os.open(parts[-1], _FLAGS, dir_fd=current)
    except OSError as error:
        raise ModelError("%s cannot be opened (%s)" % (ascii(path), error.strerror), where=where, code="model-unreadable") from None
    finally:
        os.close(current)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise ModelError("%s is not a regular file" % ascii(path), where=where, code="model-special-file")
    return opened
