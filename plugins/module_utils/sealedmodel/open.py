# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Opening an encrypted model in the memory of the guest.

The ciphertext directory belongs to the host, who may change it at any moment: each byte is read once, and nothing counts before its
tag held. Plaintext grows in ``<dest>.partial-<random>`` (0700), which gets its name only when every file is there.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import marker, tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import FileEntry, Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.publish import exchange_or_rename
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import associated_data
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.source import Directory, open_directory
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.signature import verify_manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tink_stream import StreamEngine, read_header
from ansible_collections.attested.ai.plugins.module_utils.target import memory

Meter = Callable[[int, int], None]
_PAGE = 4096


@dataclass(frozen=True)
class Target:
    """Where the plaintext goes. ``dest`` is an absolute path; ``uid`` and ``gid`` -1 leave the owner; ``mode`` is that of the files."""

    src: str
    dest: str
    threads: int = 2
    uid: int = -1
    gid: int = -1
    mode: int = 0o400

    @property
    def directory_mode(self) -> int:
        # Who may read a file may also pass through the directories above it.
        return self.mode | 0o700 | (self.mode & 0o444) >> 2


@dataclass(frozen=True)
class Sealed:
    """The ciphertext directory as it was read once: ``raw`` are the manifest's bytes, parsed but not yet trusted."""

    raw: bytes
    signature: bytes
    manifest: Manifest

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()


def read_sealed(source: Any) -> Sealed:
    """Read manifest and signature of a source. Raises ModelError or FormatError."""
    raw, signature = (source.read_small(name) for name in (tree.MANIFEST, tree.SIGNATURE))
    return Sealed(raw, signature, Manifest.parse(raw, source.name(tree.MANIFEST)))


def check_release(sealed: Sealed, release: Any, src: str) -> None:
    """Is this the model that the key was released for? ``release`` is a KeyRelease. Raises ModelError."""
    verify_manifest(sealed.raw, sealed.signature, release.manifest_signer, os.path.join(src, tree.SIGNATURE))
    manifest = sealed.manifest
    if manifest.model_id != release.model_id:
        raise ModelError("it is the model %s, the key was released for %s" % (ascii(manifest.model_id), ascii(release.model_id)), where=src, code="model-other")
    if manifest.release < release.minimum_release:
        raise ModelError(
            "it is release %d, at least %d is allowed" % (manifest.release, release.minimum_release),
            where=src,
            fix="Put the newer release there",
            code="model-release-lower",
        )
    if manifest.release != release.release or manifest.key_id != release.key_id:
        raise ModelError(
            "it is release %d with the key %s, the released key is %s for release %d" % (manifest.release, manifest.key_id, release.key_id, release.release),
            where=src,
            fix="Release the key of this manifest",
            code="model-other-key",
        )


def check_space(dest: str, manifest: Manifest, free_space: Callable[[str], int] = memory.free_space) -> None:
    """Is there room for the whole model, before the first byte is written? Raises ModelError."""
    needed = sum(-(-entry.size // _PAGE) * _PAGE for entry in manifest.files) + _PAGE * (len(manifest.files) + 16)
    free = free_space(os.path.dirname(dest))
    if needed > free:
        raise ModelError(
            "the model needs %d MB in memory and %d MB are free" % (-(-needed // 1_000_000), free // 1_000_000),
            where=dest,
            fix="Give the guest more memory or the file system a larger size; nothing was written",
            code="model-no-space",
        )


def decrypt(target: Target, sealed: Sealed, key: bytearray, meter: Optional[Meter] = None, source: Any = None) -> None:
    """Decrypt everything and put it in place. Whatever goes wrong, no plaintext of this attempt is left.

    The caller has checked signature, release, files and space, and that ``dest`` lies in memory. Without ``source`` it is the directory ``target.src``.
    """
    parent = os.path.dirname(target.dest)
    _wipe_stale(target.dest)
    partial = "%s.partial-%s" % (target.dest, os.urandom(8).hex())
    lock = -1
    try:
        os.mkdir(partial, 0o700)
        lock = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Held until the end: tells a later run that this directory is no left-over.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _decrypt_files(target, source or Directory(target.src), sealed.manifest, key, partial, meter)
        _set_modes(target, partial)
        marker.write(target.dest, sealed.digest, sealed.manifest, os.fstat(lock).st_ino)
        exchange_or_rename(partial, target.dest)
    except OSError as error:
        raise ModelError("the model cannot be written (%s)" % error.strerror, where=error.filename or parent, code="model-dest") from None
    finally:
        # After success this is what had the name before, or nothing.
        memory.wipe_tree(partial, overwrite=False)
        if lock >= 0:
            os.close(lock)


def is_open(target: Target, sealed: Sealed) -> bool:
    """Whether ``dest`` already holds exactly this manifest's files, opened by us."""
    if not marker.matches(target.dest, sealed.digest):
        return False
    try:
        root = open_directory(target.dest)
    except ModelError:
        return False
    try:
        return tree.listing(root, target.dest) == {entry.path: entry.size for entry in sealed.manifest.files}
    except ModelError:
        return False
    finally:
        os.close(root)


def require_ours(dest: str) -> None:
    """Refuse to replace or remove a directory that this module has not made. Raises ModelError."""
    if not os.path.lexists(dest) or marker.exists(dest):
        return
    if os.path.islink(dest) or not os.path.isdir(dest) or os.listdir(dest):
        raise ModelError("something is there that model_open did not put there", where=dest, fix="Choose another directory, or remove it", code="model-dest")


def wipe(dest: str) -> bool:
    """Remove the opened model and what interrupted attempts left. Returns whether there was anything."""
    require_ours(dest)
    left = list(_left_behind(dest))
    for path in left:
        memory.wipe_tree(path, overwrite=False)
    return bool(left)


def left_behind(dest: str) -> Tuple[str, ...]:
    """What wipe() would remove."""
    return tuple(_left_behind(dest))


def _left_behind(dest: str) -> Iterator[str]:
    for path in [dest, *sorted(glob.glob(glob.escape(dest) + ".partial-*")), marker.path(dest), progress_path(dest)]:
        if os.path.lexists(path):
            yield path


def progress_path(dest: str) -> str:
    return dest + ".progress.json"


def _wipe_stale(dest: str) -> None:
    """Wipe what killed runs left. A directory that a living run has locked is an error."""
    for path in glob.glob(glob.escape(dest) + ".partial-*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            memory.wipe_tree(path, overwrite=False)
        except BlockingIOError:
            raise ModelError("another run is opening the model there", where=path, fix="Wait until it is done", code="model-busy") from None
        finally:
            os.close(descriptor)


def _decrypt_files(target: Target, source: Any, manifest: Manifest, key: bytearray, partial: str, meter: Optional[Meter]) -> None:
    done, total = [0], manifest.size

    def advance(count: int) -> None:
        done[0] += count
        if meter is not None:
            meter(done[0], total)

    with StreamEngine(manifest.segment_size, target.threads, advance, max(1, source.batch_bytes // manifest.segment_size)) as engine:
        for entry in manifest.files:
            _decrypt_file(engine, source, manifest, entry, key, os.path.join(partial, entry.path))


def _decrypt_file(engine: StreamEngine, source: Any, manifest: Manifest, entry: FileEntry, key: bytearray, output: str) -> None:
    where = source.name(entry.ciphertext_path)
    os.makedirs(os.path.dirname(output), mode=0o700, exist_ok=True)
    with source.open(entry.ciphertext_path, entry.ciphertext_size) as sealed:
        header = read_header(sealed, where)
        if hashlib.sha256(header).hexdigest() != entry.header_sha256:
            raise ModelError("its header is not that of the manifest: it was encrypted in another run", where=where, code="model-header")
        dest = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            engine.decrypt(sealed, dest, entry.size, key, associated_data(manifest.model_id, manifest.release, entry.path), header, where)
            if os.fstat(dest).st_size != entry.size:
                raise ModelError("it was not written whole", where=output, code="model-dest")
        finally:
            os.close(dest)


def _set_modes(target: Target, partial: str) -> None:
    # From the inside out: the outer directory stays closed until all is done.
    for directory, _names, files in os.walk(partial, topdown=False):
        for name in files:
            _set_mode(os.path.join(directory, name), target, target.mode)
        _set_mode(directory, target, target.directory_mode)


def _set_mode(path: str, target: Target, mode: int) -> None:
    if (target.uid, target.gid) != (-1, -1):
        os.chown(path, target.uid, target.gid, follow_symlinks=False)
    os.chmod(path, mode)
