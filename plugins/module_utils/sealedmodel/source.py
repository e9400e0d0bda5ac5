# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where an encrypted model lies: a directory on this machine. ``web.WebSource`` does the same for a server, ``artifact`` and ``registry`` for OCI."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Any, Iterator, Mapping

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import MAX_SIZE, Manifest


class Directory:
    """A directory that may belong to the host."""

    # Segments that one thread takes in a row.
    batch_bytes = 0

    def __init__(self, src: str) -> None:
        self.src = src

    def name(self, path: str) -> str:
        """For messages."""
        return os.path.join(self.src, path)

    def read_small(self, path: str) -> bytes:
        """Manifest or signature, whole. Raises ModelError or FormatError."""
        root = open_directory(self.src)
        try:
            with os.fdopen(tree.open_beneath(root, path, self.src), "rb") as stream:
                raw = stream.read(MAX_SIZE + 1)
        finally:
            os.close(root)
        if len(raw) > MAX_SIZE:
            raise FormatError("it is longer than %d bytes" % MAX_SIZE, where=self.name(path))
        return raw

    def check(self, manifest: Manifest) -> None:
        """Exactly the files of the manifest lie there, with their sizes. Raises ModelError naming the first that is wrong."""
        root = open_directory(self.src)
        try:
            found = tree.listing(root, self.src)
        finally:
            os.close(root)
        compare(found, manifest, self.src)

    @contextmanager
    def open(self, path: str, size: int) -> Iterator[Any]:
        """What the engine reads one file of ``size`` bytes from."""
        root = open_directory(self.src)
        try:
            opened = tree.open_beneath(root, path, self.src)
        finally:
            os.close(root)
        try:
            if os.fstat(opened).st_size != size:
                raise ModelError("its size is not that of the manifest", where=self.name(path), code="model-file-size")
            yield opened
        finally:
            os.close(opened)

    def close(self) -> None:
        """Nothing stays open."""


def compare(found: Mapping[str, int], manifest: Manifest, where: str) -> None:
    """Are these exactly the files of the manifest, by their sizes? Raises ModelError naming the first that is wrong."""
    expected = manifest.ciphertexts
    there = {path: size for path, size in found.items() if path not in tree.RESERVED}
    for path in sorted(set(expected) - set(there)):
        raise ModelError("%s is missing" % ascii(path), where=where, fix="Copy the model again", code="model-file-missing")
    for path in sorted(set(there) - set(expected)):
        fix = "Remove it: only what the manifest lists may lie there"
        raise ModelError("%s does not belong to the model" % ascii(path), where=where, fix=fix, code="model-file-extra")
    for path, size in sorted(expected.items()):
        if there[path] != size:
            what = "%s is %d bytes long, %d expected" % (ascii(path), there[path], size)
            raise ModelError(what, where=where, fix="Copy the model again", code="model-file-size")


def open_directory(path: str) -> int:
    """A descriptor. Raises ModelError."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ModelError("the directory cannot be opened (%s)" % error.strerror, where=path, code="model-source") from None
