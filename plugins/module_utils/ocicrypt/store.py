# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Writing OCI image layouts: blobs first, each under its digest when it is whole, and the name last. Raises OSError and ImageError."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Mapping, Set

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.problem import ImageError


def begin(folder: str) -> None:
    """Make a layout, or find one."""
    os.makedirs(os.path.join(folder, "blobs", "sha256"), exist_ok=True)
    version = os.path.join(folder, "oci-layout")
    if not os.path.exists(version):
        if os.path.exists(os.path.join(folder, "index.json")):
            raise ImageError("it has an index.json, and is no OCI layout", where=folder, code="image-layout")
        _write(version, b'{"imageLayoutVersion": "1.0.0"}')


@contextlib.contextmanager
def _new(path: str) -> Iterator[BinaryIO]:
    temporary = "%s.%s.new" % (path, os.urandom(6).hex())
    try:
        with open(temporary, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _write(path: str, data: bytes) -> None:
    with _new(path) as stream:
        stream.write(data)


def put(folder: str, data: bytes) -> None:
    _write(layout.blob_path(folder, layout.digest_of(data)), data)


def stream(folder: str, digest: str, write: Callable[[BinaryIO], str]) -> None:
    """Have a blob written, which must come out with this digest. ``write`` returns the digest of what it wrote."""
    path = layout.blob_path(folder, digest)
    with _new(path) as dest:
        if write(dest) != digest:
            raise ImageError("its content changed while it was written", where=path, fix="Let nobody write to the source and run this again",
                             code="image-blob")  # fmt: skip


def copy(source: str, folder: str, layer: layout.Layer) -> None:
    def write(dest: BinaryIO) -> str:
        digest = hashlib.sha256()
        with layout.open_blob(source, layer) as origin:
            for chunk in iter(lambda: origin.read(layout.CHUNK), b""):
                digest.update(chunk)
                dest.write(chunk)
        return "sha256:" + digest.hexdigest()

    stream(folder, layer.digest, write)


def whole(folder: str, layer: layout.Layer) -> bool:
    """Whether a blob is there and is what its digest says."""
    try:
        with layout.open_blob(folder, layer) as origin:
            digest = hashlib.sha256()
            for chunk in iter(lambda: origin.read(layout.CHUNK), b""):
                digest.update(chunk)
    except ImageError:
        return False
    return "sha256:" + digest.hexdigest() == layer.digest


def name(folder: str, tag: str, raw: bytes, artifact: str = "") -> None:
    """Give a manifest its name, in one step; what only the one before needed is removed."""
    entry: Dict[str, Any] = {"mediaType": layout.OCI_MANIFEST, "digest": layout.digest_of(raw), "size": len(raw)}
    if artifact:
        entry["artifactType"] = artifact
    entry["annotations"] = {layout.REF_NAME: tag}
    others = [one for one in layout.index(folder) if (one.get("annotations") or {}).get(layout.REF_NAME) != tag]
    before = layout.find(folder, tag)
    put(folder, raw)
    _index(folder, [*others, entry])
    if before is not None and before != raw:
        prune(folder, before)


def forget(folder: str, before: bytes) -> None:
    """After skopeo gave the name of an image to another one: it leaves the one before in the index, without a name. Raises OSError and ImageError."""
    digest = layout.digest_of(before)
    entries = layout.index(folder)
    kept = [one for one in entries if one.get("digest") != digest or (one.get("annotations") or {}).get(layout.REF_NAME)]
    if len(kept) != len(entries):
        _index(folder, kept)
    prune(folder, before)


def prune(folder: str, before: bytes) -> None:
    """Remove what a manifest that has no name any more was made of, unless another one needs it. Where that cannot be told nothing is removed."""
    entry = {"mediaType": layout.OCI_MANIFEST, "digest": layout.digest_of(before), "size": len(before)}
    try:
        gone = reachable(folder, [entry]) - reachable(folder, layout.index(folder))
    except AttestedError:
        return
    for digest in gone:
        with contextlib.suppress(OSError):
            os.unlink(layout.blob_path(folder, digest))


def _index(folder: str, entries: List[Mapping[str, Any]]) -> None:
    _write(os.path.join(folder, "index.json"), json.dumps({"schemaVersion": 2, "mediaType": layout.OCI_INDEX, "manifests": entries}).encode("ascii"))


def reachable(folder: str, entries: List[Mapping[str, Any]]) -> Set[str]:
    """The digests of everything that these entries stand for."""
    found: Set[str] = set()
    for entry in entries:
        digest = layout.descriptor(entry, folder).digest
        found.add(digest)
        raw = layout.read_blob(folder, digest)
        document = layout.parse(raw, folder)
        if layout.is_list(document):
            found |= reachable(folder, document["manifests"])
        else:
            image = layout.image(raw, folder)
            found |= {image.config.digest, *(layer.digest for layer in image.layers)}
    return found
