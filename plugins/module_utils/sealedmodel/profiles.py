# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What differs between the profiles when a model is planned: how large the ciphertext gets, whether it is there, and whether it holds the same."""

from __future__ import annotations

import hashlib
import os
import tempfile
from typing import Any, Callable, Sequence

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import erofs, image_build, kserve, tree, verity
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import FILES, IMAGE_PROFILE, FileEntry, Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import HEADER_SIZE, Layout, associated_data
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tink_stream import StreamEngine, read_header

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def ciphertext_size(profile: str, segment_size: int, files: Sequence[tree.SourceFile]) -> int:
    """Bytes of ciphertext of all ``files`` together. Raises ModelError for what the profile cannot carry."""
    if profile == IMAGE_PROFILE:
        data = erofs.build([(file.path, file.size) for file in files], bytes(16)).size
        return verity.Geometry(data // erofs.BLOCK).size
    return sum(file_size(profile, segment_size, file) for file in files)


def file_size(profile: str, segment_size: int, file: tree.SourceFile) -> int:
    """Bytes of ciphertext of one file, in a profile that encrypts file by file."""
    if profile == FILES:
        return Layout(file.size, segment_size).cipher_size
    try:
        return kserve.jwe_size(file.size)
    except ModelError as error:
        raise ModelError(error.what, where=file.path, fix=error.fix, code=error.code) from None


def broken(directory: str, manifest: Manifest) -> str:
    """The first ciphertext that is not there with its size and its beginning, or "". Reads at most 4096 bytes of each."""
    if manifest.image is not None:
        image = manifest.image
        return "" if _matches(os.path.join(directory, image.path), image.size, image.header_sha256, image_build.HEADER) else image.path
    return next((entry.path for entry in manifest.files if not ciphertext_matches(directory, entry, manifest.profile)), "")


def ciphertext_matches(directory: str, entry: FileEntry, profile: str = FILES) -> bool:
    """Whether the encrypted file has the size and the header that ``entry`` names. Reads 40 bytes."""
    suffix = tree.SUFFIX if profile == FILES else tree.JWE_SUFFIX
    return _matches(os.path.join(directory, entry.path + suffix), entry.ciphertext_size, entry.header_sha256, HEADER_SIZE)


def _matches(path: str, size: int, digest: str, header: int) -> bool:
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return False
    try:
        begins = not digest or hashlib.sha256(os.pread(descriptor, header, 0)).hexdigest() == digest
        return begins and os.fstat(descriptor).st_size == size
    except OSError:
        return False
    finally:
        os.close(descriptor)


def changed_content(request: Any, dek: bytearray, files: Sequence[tree.SourceFile], before: Manifest, advance: Callable[[int], None]) -> str:
    """The first file whose published ciphertext does not decrypt to what lies in the source, or "". An image is compared as a whole."""
    if before.image is not None:
        with tempfile.TemporaryFile(dir=os.path.dirname(request.dest)) as scratch:
            try:
                same = image_build.matches(
                    request.src, files, request.dest, before.image, dek, before.model_id, before.release, scratch.fileno(), request.threads, advance
                )
            except OSError:
                same = False
            return "" if same else before.image.path
    with StreamEngine(before.segment_size or HEADER_SIZE * 2, request.threads, advance) as engine:
        for file, entry in zip(files, before.files):
            if not ciphertext_matches(request.dest, entry, before.profile):
                # Damaged, so that nothing can be compared: nobody can say that it is the same.
                return file.path
            suffix = tree.SUFFIX if before.profile == FILES else tree.JWE_SUFFIX
            plain = os.open(os.path.join(request.src, file.path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            sealed = os.open(os.path.join(request.dest, entry.path + suffix), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if not _same(engine, before, plain, sealed, file, dek, entry.path):
                    return file.path
            finally:
                os.close(plain)
                os.close(sealed)
    return ""


def _same(engine: StreamEngine, before: Manifest, plain: int, sealed: int, file: tree.SourceFile, dek: bytearray, where: str) -> bool:
    if before.profile == FILES:
        aad = associated_data(before.model_id, before.release, file.path)
        return engine.same(plain, sealed, file.size, dek, aad, read_header(sealed, where), where)
    with os.fdopen(os.dup(plain), "rb") as one, os.fdopen(os.dup(sealed), "rb") as two:
        return kserve.decrypt(two.read(), dek) == one.read()
