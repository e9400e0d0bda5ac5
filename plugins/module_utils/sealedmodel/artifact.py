# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An encrypted model as an OCI artifact: one blob for each file, whose name an annotation says. ModelPack's and ORAS's, of a registry or a copy of skopeo's.

Manifest and names belong to whoever keeps the artifact. They only lead to the blobs: what the model consists of says its own signed manifest, and each
byte of it is authenticated.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout, reference
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import MAX_SIZE, Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.source import compare, open_directory

LAYOUT, COPY, REGISTRY = "oci:", "dir:", "docker://"
# ModelPack's name of a file, and that which oras gives.
_NAMES = ("org.cncf.model.filepath", "org.opencontainers.image.title")
# oras packs a directory so, and gives a plain file the type of an archive unless it is told another.
_UNPACK = "io.deis.oras.content.unpack"
_ORAS_FILE = "application/vnd.oci.image.layer.v1.tar"
_ARCHIVE = {"tar", "gzip", "zstd"}
_PINNED = re.compile(r"(?P<name>.*?)(?:@(?P<digest>sha256:[0-9a-f]{64}))?\Z", re.DOTALL)


def is_local(src: str) -> bool:
    return src.startswith((LAYOUT, COPY))


def blobs(raw: bytes, digest: str, where: str) -> Dict[str, layout.Layer]:
    """The blobs of an artifact's manifest by the files' paths. ``digest`` is the manifest's, if it is known. Raises ModelError, ImageError, FormatError."""
    if digest and layout.digest_of(raw) != digest:
        raise ModelError("its manifest is another one: %s" % layout.digest_of(raw), where=where, fix="Nothing of it is used", code="model-artifact")
    found: Dict[str, layout.Layer] = {}
    for layer in layout.image(raw, where).layers:
        path = _path(layer, where)
        if path in found:
            raise ModelError("two of its blobs are named %s" % strict.quoted(path), where=where, code="model-artifact")
        if len(found) == tree.MAX_FILES + len(tree.RESERVED):
            raise ModelError("it holds more than %d files" % tree.MAX_FILES, where=where, code="model-artifact")
        found[path] = layer
    for name in (tree.MANIFEST, tree.SIGNATURE):
        if name not in found:
            fix = "Make it with model_image and kind=modelpack, or by oras push of every file that model_encrypt made"
            raise ModelError("it is no encrypted model: it has no %s" % name, where=where, fix=fix, code="model-artifact")
        if found[name].size > MAX_SIZE:
            raise ModelError("%s is longer than %d bytes" % (name, MAX_SIZE), where=where, code="model-artifact")
    return found


def _path(layer: layout.Layer, where: str) -> str:
    names = {layer.annotations[name] for name in _NAMES if name in layer.annotations}
    if len(names) != 1:
        what = "its blob %s has %s" % (layer.digest, "two names" if names else "no name")
        raise ModelError(what, where=where, fix="A blob is named by the annotation %s or %s" % _NAMES, code="model-artifact")
    if _UNPACK in layer.annotations or (layer.media_type != _ORAS_FILE and _ARCHIVE & set(re.split(r"[.+]", layer.media_type))):
        fix = "Push files, not directories, and without compression"
        raise ModelError("its blob %s is an archive" % strict.quoted(*names), where=where, fix=fix, code="model-artifact")
    (name,) = names
    # The limits are those of names in clear.
    tree.check_path(name[: -len(tree.SUFFIX)] if name.endswith(tree.SUFFIX) else name, where)
    return name


def sizes(found: Mapping[str, layout.Layer]) -> Dict[str, int]:
    return {path: layer.size for path, layer in found.items()}


class ArtifactDirectory:
    """``oci:FOLDER[:TAG]``, an OCI layout, or ``dir:FOLDER``, skopeo's own kind of copy; either with @sha256:... behind. It may belong to the host."""

    batch_bytes = 0

    def __init__(self, src: str) -> None:
        self._src = src
        match = _PINNED.match(src)
        name, digest = (match.group("name"), match.group("digest") or "") if match else (src, "")
        self._is_layout = name.startswith(LAYOUT)
        if self._is_layout:
            place = reference.parse(name, "src", _local)
            self._folder, tag = place.place, place.tag
            expected = self._listed(tag, digest)
            raw = self._read(self._place(expected), layout.MANIFEST_MAX)
        else:
            self._folder, expected = _local(name[len(COPY):]), digest
            raw = self._read("manifest.json", layout.MANIFEST_MAX)
        self._blobs = blobs(raw, expected, src)

    def name(self, path: str) -> str:
        """Where it lies."""
        return os.path.join(self._folder, self._place(self._blobs[path].digest) if path in self._blobs else path)

    def read_small(self, path: str) -> bytes:
        layer = self._layer(path)
        raw = self._read(self._place(layer.digest), MAX_SIZE)
        if layout.digest_of(raw) != layer.digest:
            raise ModelError("it was changed: its digest is another", where=self.name(path), fix="Copy the artifact again", code="model-artifact")
        return raw

    def check(self, manifest: Manifest) -> None:
        compare(sizes(self._blobs), manifest, self._src)

    @contextmanager
    def open(self, path: str, size: int) -> Iterator[Any]:
        opened = self._open(self._place(self._layer(path).digest))
        try:
            if os.fstat(opened).st_size != size:
                raise ModelError("its size is not that of the manifest", where=self.name(path), code="model-file-size")
            yield opened
        finally:
            os.close(opened)

    def close(self) -> None:
        """Nothing stays open."""

    def _layer(self, path: str) -> layout.Layer:
        if path not in self._blobs:
            raise ModelError("%s is missing" % strict.quoted(path), where=self._src, fix="Copy the artifact again", code="model-file-missing")
        return self._blobs[path]

    def _listed(self, tag: str, digest: str) -> str:
        """The digest of the manifest that is meant."""
        entries = layout.parse(self._read("index.json", layout.MANIFEST_MAX), self._src).get("manifests")
        # What is not meant may be of any kind; one manifest may have several tags.
        meant = [entry for entry in (entries if isinstance(entries, list) else []) if _is_meant(entry, tag, digest)]
        found = {layout.descriptor(entry, self._src).digest for entry in meant}
        if len(found) != 1:
            fix = "Name one: oci:FOLDER:TAG, or oci:FOLDER@sha256:..."
            raise ModelError("it holds %d artifacts of this name" % len(found), where=self._src, fix=fix, code="model-artifact")
        return found.pop()

    def _place(self, digest: str) -> str:
        plain = digest.rpartition(":")[2]
        return "blobs/sha256/" + plain if self._is_layout else plain

    def _open(self, path: str) -> int:
        root = open_directory(self._folder)
        try:
            return tree.open_beneath(root, path, self._folder)
        finally:
            os.close(root)

    def _read(self, path: str, limit: int) -> bytes:
        with os.fdopen(self._open(path), "rb") as stream:
            raw = stream.read(limit + 1)
        if len(raw) > limit:
            raise ModelError("it is longer than %d bytes" % limit, where=os.path.join(self._folder, path), code="model-artifact")
        return raw


def _is_meant(entry: Any, tag: str, digest: str) -> bool:
    if not isinstance(entry, dict) or (digest and entry.get("digest") != digest):
        return False
    notes = entry.get("annotations")
    return not tag or (isinstance(notes, dict) and notes.get(layout.REF_NAME) == tag)


def _local(path: str) -> str:
    return os.path.realpath(os.path.expanduser(os.path.expandvars(path)))


def remote(src: str) -> Tuple[str, str, str]:
    """Host, name and tag or digest of docker://HOST/NAME:TAG or docker://HOST/NAME@sha256:... Raises ImageError."""
    found = reference.parse(src, "src", _local)
    host, _slash, name = found.place.partition("/")
    return host, name, found.digest or found.tag
