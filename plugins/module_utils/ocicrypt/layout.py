# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""OCI image layouts and manifests: which image stands behind a name, and its layers. What is read by a digest is what the digest says, or it is refused."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any, BinaryIO, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.packet import DIGEST
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.problem import ImageError

MANIFEST_MAX = 4 << 20
CHUNK = 1 << 20
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
LISTS = (OCI_INDEX, DOCKER_LIST)
REF_NAME = "org.opencontainers.image.ref.name"
ENCRYPTED = "+encrypted"


@dataclass(frozen=True)
class Layer:
    """One descriptor of a manifest."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str]

    @property
    def encrypted(self) -> bool:
        return "encrypted" in self.media_type.split("+")[1:]


@dataclass(frozen=True)
class Image:
    """A manifest: its bytes, what they say, and the descriptors of its layers."""

    raw: bytes
    document: Mapping[str, Any]
    config: Layer
    layers: Tuple[Layer, ...]

    @property
    def digest(self) -> str:
        return digest_of(self.raw)

    @property
    def media_type(self) -> str:
        return str(self.document.get("mediaType", OCI_MANIFEST))


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def parse(raw: bytes, where: str) -> Mapping[str, Any]:
    """The document of a manifest or a list of manifests. Raises ImageError, FormatError."""
    if len(raw) > MANIFEST_MAX:
        raise ImageError("its manifest is longer than %d bytes" % MANIFEST_MAX, where=where, code="image-manifest")
    document = strict.loads(raw, where)
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise ImageError("it is no manifest of OCI or Docker (schema 2)", where=where, fix="Copy it with skopeo copy --format oci first", code="image-manifest")
    return document


def is_list(document: Mapping[str, Any]) -> bool:
    return document.get("mediaType") in LISTS or ("manifests" in document and "layers" not in document)


def image(raw: bytes, where: str) -> Image:
    """Read a manifest of one image."""
    document = parse(raw, where)
    layers = document.get("layers")
    if is_list(document) or not isinstance(layers, list):
        raise ImageError("it is a list of images, not one", where=where, code="image-manifest")
    return Image(raw, document, descriptor(document.get("config"), where), tuple(descriptor(layer, where) for layer in layers))


def choose(raw: bytes, architecture: str, where: str) -> str:
    """The digest of the one image of a list for Linux on this architecture."""
    found: List[str] = []
    others: List[str] = []
    for entry in parse(raw, where).get("manifests") or []:
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if not isinstance(platform, dict):
            continue
        others.append("%s/%s" % (platform.get("os"), platform.get("architecture")))
        if platform.get("os") == "linux" and platform.get("architecture") == architecture:
            found.append(descriptor(entry, where).digest)
    if len(found) != 1:
        what = "it holds %d images for linux/%s, among %s" % (len(found), architecture, ", ".join(sorted(set(others)))[:200] or "none")
        raise ImageError(what, where=where, fix="Give architecture, or name the image by its digest", code="image-platform")
    return found[0]


def descriptor(value: Any, where: str) -> Layer:
    if not isinstance(value, dict):
        raise ImageError("a descriptor is no object", where=where, code="image-manifest")
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    annotations = value.get("annotations") or {}
    if not isinstance(media_type, str) or not isinstance(digest, str) or not DIGEST.match(digest):
        raise ImageError("a descriptor has no media type and sha256 digest", where=where, code="image-manifest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ImageError("a descriptor has no size", where=where, code="image-manifest")
    if not isinstance(annotations, dict) or not all(isinstance(item, str) for pair in annotations.items() for item in pair):
        raise ImageError("annotations are not texts", where=where, code="image-manifest")
    if value.get("urls"):
        raise ImageError("a layer lies elsewhere (urls)", where=where, fix="Such layers are not copied, and so not encrypted", code="image-foreign-layer")
    return Layer(media_type, digest, size, annotations)


def blob_path(folder: str, digest: str) -> str:
    if not DIGEST.match(digest):
        raise ImageError("%s is no sha256 digest" % strict.quoted(digest), where=folder, code="image-manifest")
    return os.path.join(folder, "blobs", "sha256", digest[len("sha256:"):])


def read_blob(folder: str, digest: str) -> bytes:
    """A small blob. Raises ImageError if it is missing or not what its digest says."""
    path = blob_path(folder, digest)
    try:
        with open(path, "rb") as stream:
            data = stream.read(MANIFEST_MAX + 1)
    except OSError as error:
        raise ImageError("it cannot be read (%s)" % error.strerror, where=path, code="image-blob") from None
    if digest_of(data) != digest:
        raise ImageError("it was changed: its digest is another", where=path, code="image-blob")
    return data


def open_blob(folder: str, layer: Layer) -> BinaryIO:
    path = blob_path(folder, layer.digest)
    try:
        stream = open(path, "rb")
    except OSError as error:
        raise ImageError("it cannot be read (%s)" % error.strerror, where=path, code="image-blob") from None
    if os.fstat(stream.fileno()).st_size != layer.size:
        stream.close()
        raise ImageError("it is cut off or has grown: %d bytes are expected" % layer.size, where=path, code="image-blob")
    return stream


def index(folder: str) -> List[Mapping[str, Any]]:
    """The entries of index.json; none where there is no layout yet."""
    path = os.path.join(folder, "index.json")
    try:
        with open(path, "rb") as stream:
            raw = stream.read(MANIFEST_MAX + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ImageError("it cannot be read (%s)" % error.strerror, where=path, code="image-layout") from None
    entries = parse(raw, path).get("manifests")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ImageError("it names no manifests", where=path, code="image-layout")
    return entries


def find(folder: str, name: str) -> Optional[bytes]:
    """The manifest (or list) under a name; with an empty name the only one. None if there is none."""
    entries = [entry for entry in index(folder) if not name or (entry.get("annotations") or {}).get(REF_NAME) == name]
    if len(entries) > 1:
        raise ImageError("it holds %d images %s" % (len(entries), "of this name" if name else "and none is named"), where="%s:%s" % (folder, name),
                         fix="Name one: oci:FOLDER:NAME", code="image-layout")  # fmt: skip
    return read_blob(folder, descriptor(entries[0], folder).digest) if entries else None
