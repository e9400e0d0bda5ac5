# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Models as images: plain files as layers of a container image, to be encrypted as such; and an encrypted model (profile files) as a ModelPack artifact.

Neither skopeo nor a guest encrypts or decrypts layers of ModelPack's own kinds, so that only what is encrypted already goes into one.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Callable, Dict, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout, store, tarlayer, verify
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.problem import ImageError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import MAX_SIZE, Manifest

TAR = "application/vnd.oci.image.layer.v1.tar"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
# ModelPack, model-spec 2026-06: docs/spec.md, docs/config.md, docs/annotations.md.
ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
MODEL_CONFIG = "application/vnd.cncf.model.config.v1+json"
WEIGHT = "application/vnd.cncf.model.weight.v1.raw"
WEIGHT_CONFIG = "application/vnd.cncf.model.weight.config.v1.raw"
FILE_PATH = "org.cncf.model.filepath"


@dataclass(frozen=True)
class Content:
    """A layer that is to be there, and how it comes there."""

    layer: layout.Layer
    write: Callable[[BinaryIO], str] = field(repr=False)


@dataclass(frozen=True)
class Draft:
    """An image that could be written: everything but the bytes of its layers. ``base`` is the folder of the layout that ``inherited`` layers lie in."""

    raw: bytes
    config: bytes
    contents: Tuple[Content, ...]
    inherited: Tuple[layout.Layer, ...] = ()
    base: str = ""
    artifact: str = ""

    @property
    def digest(self) -> str:
        return layout.digest_of(self.raw)

    def complete_at(self, folder: str, tag: str) -> bool:
        """Whether exactly this image is there, every byte of it."""
        if layout.find(folder, tag) != self.raw:
            return False
        blobs = [layout.image(self.raw, folder).config, *self.inherited, *(content.layer for content in self.contents)]
        return all(store.whole(folder, blob) for blob in blobs)

    def write(self, folder: str, tag: str) -> None:
        """Raises ImageError, ModelError; then the name means what it did before."""
        try:
            store.begin(folder)
            for layer in self.inherited:
                if not store.whole(folder, layer):
                    store.copy(self.base, folder, layer)
            for content in self.contents:
                if not store.whole(folder, content.layer):
                    store.stream(folder, content.layer.digest, content.write)
            store.put(folder, self.config)
            store.name(folder, tag, self.raw, self.artifact)
        except OSError as error:
            raise ImageError("it cannot be written (%s)" % error.strerror, where=folder, code="image-dest") from None


def container(src: str, prefix: str, architecture: str, base: Optional[Tuple[str, bytes]], split: int = tarlayer.SPLIT) -> Draft:
    """A container image with the model's files below ``prefix``, on top of a base (folder of a layout, manifest) if there is one."""
    path = _prefix(prefix)
    contents = []
    for files in tarlayer.group(tree.walk(src), split):
        packed = tarlayer.pack(src, files, path)

        def write(dest: BinaryIO, files: Sequence[tree.SourceFile] = files) -> str:
            return tarlayer.pack(src, files, path, dest).digest

        contents.append(Content(layout.Layer(TAR, packed.digest, packed.size, {}), write))
    inherited: Tuple[layout.Layer, ...] = ()
    document: Dict[str, Any] = {"architecture": architecture, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}, "history": []}
    if base is not None:
        inherited, document = _base(*base)
    document["rootfs"]["diff_ids"] += [content.layer.digest for content in contents]
    if "history" in document:
        document["history"] += [{"created_by": "attested.ai.model_image", "comment": "files of the model"} for _content in contents]
    config = json.dumps(document, sort_keys=True, separators=(",", ":")).encode("utf-8")
    raw = _manifest(OCI_CONFIG, config, [*inherited, *(content.layer for content in contents)])
    return Draft(raw, config, tuple(contents), inherited, base[0] if base else "")


def artifact(src: str) -> Draft:
    """A ModelPack artifact of a directory that model_encrypt made. Raises ModelError if a file in it is not of that encrypted model."""
    raw = _read(os.path.join(src, tree.MANIFEST))
    manifest = Manifest.parse(raw, os.path.join(src, tree.MANIFEST))
    files = {file.path: file for file in tree.walk(src)}
    wanted = manifest.ciphertexts
    known = {*wanted, tree.MANIFEST, tree.SIGNATURE}
    for path in sorted({*files, *known} - {tree.BESIDE}):
        if path not in known:
            fix = "It would be published as it is: remove it"
            raise ModelError("%s is not of the encrypted model" % ascii(path), where=src, fix=fix, code="model-foreign-file")
        if path not in files or files[path].size != wanted.get(path, files[path].size):
            raise ModelError("%s is missing or cut off" % ascii(path), where=src, fix="Run model_encrypt again", code="model-incomplete")
    contents = [_file_content(src, file, WEIGHT if path in wanted else WEIGHT_CONFIG) for path, file in sorted(files.items())]
    document = {
        "descriptor": {"name": manifest.model_id, "version": str(manifest.release), "createdAt": manifest.created_at},
        "config": {},
        "modelfs": {"type": "layers", "diffIds": [content.layer.digest for content in contents]},
    }
    config = json.dumps(document, sort_keys=True, separators=(",", ":")).encode("utf-8")
    return Draft(_manifest(MODEL_CONFIG, config, [content.layer for content in contents], ARTIFACT), config, tuple(contents), artifact=ARTIFACT)


def _file_content(src: str, file: tree.SourceFile, media_type: str) -> Content:
    def write(dest: Optional[BinaryIO]) -> str:
        digest = hashlib.sha256()
        root = os.open(src, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with os.fdopen(tree.open_beneath(root, file.path, src), "rb") as stream:
                for chunk in iter(lambda: stream.read(layout.CHUNK), b""):
                    digest.update(chunk)
                    if dest is not None:
                        dest.write(chunk)
        finally:
            os.close(root)
        return "sha256:" + digest.hexdigest()

    return Content(layout.Layer(media_type, write(None), file.size, {FILE_PATH: file.path}), write)


def _manifest(kind: str, config: bytes, layers: Sequence[layout.Layer], artifact_type: str = "") -> bytes:
    document: Dict[str, Any] = {"schemaVersion": 2, "mediaType": layout.OCI_MANIFEST}
    if artifact_type:
        document["artifactType"] = artifact_type
    document["config"] = {"mediaType": kind, "digest": layout.digest_of(config), "size": len(config)}
    document["layers"] = [_described(layer) for layer in layers]
    return json.dumps(document, separators=(",", ":")).encode("utf-8")


def _described(layer: layout.Layer) -> Dict[str, Any]:
    found: Dict[str, Any] = {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
    return dict(found, annotations=dict(layer.annotations)) if layer.annotations else found


def _base(folder: str, raw: bytes) -> Tuple[Tuple[layout.Layer, ...], Dict[str, Any]]:
    image = layout.image(raw, "base " + folder)
    verify.check_source(image, "base " + folder)
    if image.media_type != layout.OCI_MANIFEST:
        raise ImageError("it is of Docker's own format", where="base " + folder, fix="Copy it with skopeo copy --format oci", code="image-base")
    document = strict.loads(layout.read_blob(folder, image.config.digest), "configuration of the base")
    ids: List[Any] = ((document.get("rootfs") or {}) if isinstance(document, dict) else {}).get("diff_ids") or []
    if len(ids) != len(image.layers):
        raise ImageError("its configuration names %d layers, its manifest %d" % (len(ids), len(image.layers)), where="base " + folder, code="image-base")
    return image.layers, document


def _prefix(prefix: str) -> str:
    path = prefix.strip("/")
    if not prefix.startswith("/") or not path or any(part in ("", ".", "..") for part in path.split("/")) or not path.isprintable():
        raise ImageError("%s is no absolute path of a folder" % strict.quoted(prefix), where="path", code="image-path")
    return path


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(MAX_SIZE + 1)
    except FileNotFoundError:
        raise ModelError("there is no encrypted model", where=path, fix="Only what model_encrypt made is packed so: skopeo and guests encrypt no such layers",
                         code="model-plain") from None  # fmt: skip
    except OSError as error:
        raise ModelError("it cannot be read (%s)" % error.strerror, where=path, code="model-source") from None
