# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Encrypting a model directory: file by file into ``<dest>.partial``, which gets its name when the signed manifest lies in it.

A run that was killed goes on with the next file: a finished file is kept if its source and its ciphertext are still those that were
written down. A file that was not finished begins again, under a fresh salt and nonce prefix.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import image_build, kserve, profiles, state, tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import FILES, IMAGE_PROFILE, FileEntry, ImageEntry, Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import (
    Keys,
    Meter,
    Plan,
    Request,
    source_identity,
    unwrap_dek,
)
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.publish import publish, sync_directory, write_file
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import KEY_SIZE, associated_data
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.signature import sign_manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tink_stream import StreamEngine, read_exactly
from ansible_collections.attested.ai.plugins.module_utils.target.memory import lock_memory, wipe

_HEAD = "attested.ai/encrypt-state/1"
# For the manifest, the signature, the state file and the directories.
_MARGIN = 1 << 20


def encrypt(plan: Plan, keys: Keys, created_at: str, meter: Optional[Meter] = None, finish: Optional[Callable[[str], None]] = None) -> Manifest:
    """Carry ``plan`` out and return the manifest that was published. ``created_at`` is RFC 3339 in UTC, whole seconds. ``finish`` is called with the
    directory before it gets its name, and may add ``model.sig``.

    Raises ModelError; then ``dest`` is what it was, and ``<dest>.partial`` holds at most finished ciphertext for the next run.
    """
    request = plan.request
    parent = os.path.dirname(request.dest)
    try:
        os.makedirs(parent, exist_ok=True)
        with state.StateFile(request.partial_state, state.mac_key(keys.kek.notes_secret)) as book:
            manifest = _Encryption(plan, keys, book, created_at, meter).run()
            signature = sign_manifest(manifest.to_bytes(), keys.signer)
            write_file(os.path.join(request.partial, tree.MANIFEST), manifest.to_bytes())
            write_file(os.path.join(request.partial, tree.SIGNATURE), signature)
            if finish is not None:
                finish(request.partial)
            for directory, _names, _files in os.walk(request.partial):
                sync_directory(directory)
            publish(request.partial, request.dest)
            book.move(request.state)
    except OSError as error:
        raise ModelError("the encrypted model cannot be written (%s)" % error.strerror, where=error.filename or request.dest, code="model-dest") from None
    return manifest


def refresh_state(plan: Plan, keys: Keys) -> None:
    """Write down the files as they are now, after their content was found unchanged. ``plan.before`` is the published manifest."""
    before = plan.before
    if before is None:
        return
    with state.StateFile(plan.request.state, state.mac_key(keys.kek.notes_secret)) as book:
        book.begin(_head(plan.request, before.dek, before.key_id, before.created_at))
        for file, entry in zip(plan.files, before.files):
            book.append(_record(file, entry))


def _head(request: Request, dek: Mapping[str, Any], key_id: str, created_at: str) -> Dict[str, Any]:
    return {
        "schema": _HEAD,
        "model_id": request.model_id,
        "release": request.release,
        "segment_size": request.segment_size,
        "profile": request.profile,
        "dek": dict(dek),
        "key_id": key_id,
        "created_at": created_at,
    }


def _record(file: tree.SourceFile, entry: FileEntry) -> Dict[str, Any]:
    return dict(entry.to_dict(), source=source_identity(file))


class _Encryption:
    def __init__(self, plan: Plan, keys: Keys, book: state.StateFile, created_at: str, meter: Optional[Meter]) -> None:
        self._plan = plan
        self._request = plan.request
        self._keys = keys
        self._book = book
        self._created_at = created_at
        self._meter = meter
        self._suffix = tree.SUFFIX if plan.request.profile == FILES else tree.JWE_SUFFIX
        self._total = sum(file.size for file in plan.files)
        self._done = 0

    def run(self) -> Manifest:
        head, finished = self._resume()
        if head is None:
            head, dek = self._begin()
        else:
            dek = unwrap_dek(head["dek"], self._keys.kek)
        lock_memory(dek)
        try:
            self._require_space(finished)
            self._discard(finished)
            image = self._image(dek) if self._request.profile == IMAGE_PROFILE else None
            entries = self._files(dek, finished) if image is None else [FileEntry(file.path, file.size) for file in self._plan.files]
        finally:
            wipe(dek)
        if image is not None:
            for file, entry in zip(self._plan.files, entries):
                self._book.append(_record(file, entry))
        request = self._request
        segment_size = request.segment_size if request.profile == FILES else 0
        return Manifest(
            request.model_id, request.release, head["created_at"], segment_size, tuple(entries), head["dek"], head["key_id"], request.key_uris, image,
            request.profile,
        )

    def _image(self, dek: bytearray) -> ImageEntry:
        """One file of all. It is not resumed: after an interruption it begins again, with another key."""
        request = self._request
        self._total = 2 * profiles.ciphertext_size(request.profile, request.segment_size, self._plan.files)
        path = os.path.join(request.partial, tree.IMAGE)
        return image_build.build(request.src, self._plan.files, path, dek, request.model_id, request.release, request.threads, self._advance)

    def _begin(self) -> Tuple[Mapping[str, Any], bytearray]:
        request, kek = self._request, self._keys.kek
        dek = bytearray(os.urandom(KEY_SIZE))
        wrapped = jwe.wrap_general(bytes(dek), [kek.recipient(), *self._keys.recipients])
        key_id = "%s-%d-%s" % (re.sub(r"[^A-Za-z0-9._-]", "-", request.model_id)[:100], request.release, os.urandom(4).hex())
        head = _head(request, wrapped, key_id, self._created_at)
        self._book.begin(head)
        return head, dek

    def _resume(self) -> Tuple[Optional[Mapping[str, Any]], Dict[str, FileEntry]]:
        """The head of an interrupted run of the same model, and those of its files that are still good."""
        head, records = self._book.resume()
        request = self._request
        if head is None or not os.path.isdir(request.partial) or request.profile == IMAGE_PROFILE:
            return None, {}
        wanted = _head(request, head.get("dek", {}), head.get("key_id", ""), head.get("created_at", ""))
        if head != wanted or _kids(head["dek"]) != sorted([self._keys.kek.kid] + [extra.kid for extra in self._keys.recipients]):
            return None, {}
        files = {file.path: file for file in self._plan.files}
        finished = {}
        for record in records:
            file = files.get(record["path"])
            if file is not None and record["source"] == source_identity(file):
                entry = FileEntry(record["path"], record["size"], record["ciphertext_size"], record["header_sha256"])
                if profiles.ciphertext_matches(request.partial, entry, request.profile):
                    finished[file.path] = entry
        return head, finished

    def _discard(self, finished: Mapping[str, FileEntry]) -> None:
        """Leave nothing in the partial directory but what is kept."""
        partial = self._request.partial
        if not finished:
            shutil.rmtree(partial, ignore_errors=True)
            os.mkdir(partial)
            return
        kept = {entry.path + self._suffix for entry in finished.values()}
        for directory, names, files in os.walk(partial):
            for name in files + [name for name in names if os.path.islink(os.path.join(directory, name))]:
                path = os.path.join(directory, name)
                if os.path.relpath(path, partial) not in kept:
                    os.unlink(path)

    def _require_space(self, finished: Mapping[str, FileEntry]) -> None:
        request = self._request
        needed = _MARGIN + profiles.ciphertext_size(request.profile, request.segment_size, [file for file in self._plan.files if file.path not in finished])
        free = free_space(os.path.dirname(request.dest))
        if os.path.isdir(request.partial) and not finished:
            free += sum(os.lstat(os.path.join(root, name)).st_size for root, _names, files in os.walk(request.partial) for name in files)
        if needed > free:
            raise ModelError(
                "%d MB are needed and %d MB are free" % (-(-needed // 1_000_000), free // 1_000_000),
                where=os.path.dirname(request.dest),
                fix="Make room; nothing was written",
                code="model-no-space",
            )

    def _files(self, dek: bytearray, finished: Mapping[str, FileEntry]) -> List[FileEntry]:
        request = self._request
        entries = []
        root = os.open(request.src, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with StreamEngine(request.segment_size, request.threads, self._advance) as engine:
                for file in self._plan.files:
                    entry = finished.get(file.path)
                    if entry is None:
                        entry = self._file(engine, root, file, dek)
                        self._book.append(_record(file, entry))
                    else:
                        self._advance(file.size)
                    entries.append(entry)
        finally:
            os.close(root)
        return entries

    def _file(self, engine: StreamEngine, root: int, file: tree.SourceFile, dek: bytearray) -> FileEntry:
        request = self._request
        where = os.path.join(request.src, file.path)
        output = os.path.join(request.partial, file.path + self._suffix)
        os.makedirs(os.path.dirname(output), exist_ok=True)
        source = self._open_unchanged(root, file, where)
        try:
            dest = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                header = self._stream(engine, source, dest, file, dek, where)
                # The same descriptor, and the same name: the file may have been written to, or replaced.
                tree.require_same(file, os.fstat(source), where)
                os.close(self._open_unchanged(root, file, where))
                os.fsync(dest)
            except BaseException:
                os.unlink(output)
                raise
            finally:
                os.close(dest)
        finally:
            os.close(source)
        return FileEntry(file.path, file.size, profiles.file_size(request.profile, request.segment_size, file), header)

    def _stream(self, engine: StreamEngine, source: int, dest: int, file: tree.SourceFile, dek: bytearray, where: str) -> str:
        """Encrypt one file; the digest of its header, if the profile has one."""
        request = self._request
        if request.profile == FILES:
            aad = associated_data(request.model_id, request.release, file.path)
            return hashlib.sha256(engine.encrypt(source, dest, file.size, dek, aad, where)).hexdigest()
        kserve.encrypt(source, dest, file.size, dek, lambda descriptor, buffer, offset: read_exactly(descriptor, buffer, offset, where), self._advance)
        return ""

    def _open_unchanged(self, root: int, file: tree.SourceFile, where: str) -> int:
        source = tree.open_beneath(root, file.path, self._request.src)
        try:
            tree.require_same(file, os.fstat(source), where)
        except AttestedError:
            os.close(source)
            raise
        return source

    def _advance(self, count: int) -> None:
        self._done += count
        if self._meter is not None:
            self._meter(self._done, self._total)


def _kids(dek: Mapping[str, Any]) -> List[str]:
    return sorted(str(recipient.get("header", {}).get("kid")) for recipient in dek.get("recipients", []))


def free_space(directory: str) -> int:
    """Bytes that this user can still write below ``directory``."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
