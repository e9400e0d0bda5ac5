# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Layers of an image made of files: the same files give the same bytes, whoever packs them and when.

Not compressed: weights hardly are, and a guest that need not unpack starts sooner. GNU's form of tar, which every reader knows for long names and for files
above 8 GiB.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from dataclasses import dataclass
from typing import BinaryIO, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.layout import CHUNK
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.problem import ImageError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import tree

# From this size on a file has a layer of its own, so that a new release sends only what changed.
SPLIT = 64 << 20
# An image may have 127 layers where overlayfs stacks them.
LAYERS_MAX = 100
WHITEOUT = ".wh."


@dataclass(frozen=True)
class Packed:
    """What was packed."""

    digest: str
    size: int


class _Sink(io.RawIOBase):
    """Counts and hashes, and writes if there is a file."""

    def __init__(self, dest: Optional[BinaryIO]) -> None:
        super().__init__()
        self._dest = dest
        self._hash = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._hash.update(data)
        self._size += len(data)
        if self._dest is not None:
            self._dest.write(data)
        return len(data)

    def packed(self) -> Packed:
        return Packed("sha256:" + self._hash.hexdigest(), self._size)


def group(files: Sequence[tree.SourceFile], split: int = SPLIT) -> Tuple[Tuple[tree.SourceFile, ...], ...]:
    """Small files together first, then each large one. Raises ImageError where that gives too many layers."""
    for file in files:
        if any(part.startswith(WHITEOUT) for part in file.path.split("/")):
            raise ImageError("the name %s would delete a file of the layers below" % ascii(file.path), where="model", fix="Rename it", code="image-model-name")
    small = tuple(file for file in files if file.size < split)
    found: List[Tuple[tree.SourceFile, ...]] = [small] if small else []
    found += [(file,) for file in files if file.size >= split]
    if len(found) > LAYERS_MAX:
        raise ImageError("it would have %d layers, more than %d" % (len(found), LAYERS_MAX), where="model", fix="Raise split_size", code="image-layers")
    return tuple(found)


def pack(root: str, files: Sequence[tree.SourceFile], prefix: str, dest: Optional[BinaryIO] = None) -> Packed:
    """One layer with these files below ``prefix``, written to ``dest`` or only reckoned. Raises ModelError if one changes meanwhile."""
    sink = _Sink(dest)
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with tarfile.open(fileobj=sink, mode="w|", format=tarfile.GNU_FORMAT, bufsize=CHUNK) as archive:
            seen = set()
            for file in files:
                path = "%s/%s" % (prefix, file.path)
                parts = path.split("/")
                for depth in range(1, len(parts)):
                    folder = "/".join(parts[:depth])
                    if folder not in seen:
                        seen.add(folder)
                        archive.addfile(_info(folder, 0, tarfile.DIRTYPE, 0o755))
                _add(archive, descriptor, root, file, _info(path, file.size, tarfile.REGTYPE, 0o644))
    finally:
        os.close(descriptor)
    return sink.packed()


def _add(archive: tarfile.TarFile, descriptor: int, root: str, file: tree.SourceFile, info: tarfile.TarInfo) -> None:
    source = tree.open_beneath(descriptor, file.path, root)
    with os.fdopen(source, "rb") as stream:
        try:
            archive.addfile(info, stream)
        except OSError as error:
            raise ModelError("it cannot be read whole (%s)" % (error.strerror or error), where=os.path.join(root, file.path),
                             code="model-source-changed") from None  # fmt: skip
        if tree.SourceFile.of(file.path, os.fstat(stream.fileno())) != file:
            raise ModelError("the file changed while it was packed", where=os.path.join(root, file.path), fix="Let nobody write to it and run this again",
                             code="model-source-changed")  # fmt: skip


def _info(path: str, size: int, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.size, info.type, info.mode = size, kind, mode
    return info
