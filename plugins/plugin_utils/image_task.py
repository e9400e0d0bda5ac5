# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Encrypting an image: look at source and destination, say what is to be done, do it beside, look at it, and only then publish it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import typing as t
from dataclasses import dataclass, field

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, DependencyError
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout, packet, record, store, verify
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.problem import ImageError
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.reference import Reference
from ansible_collections.attested.ai.plugins.plugin_utils import ocicrypt_keyprovider
from ansible_collections.attested.ai.plugins.plugin_utils.skopeo import Skopeo

WORK_PREFIX = ".image-encrypt-"
# What tells nothing of the destination.
UNREACHABLE = ("image-registry", "image-registry-auth", "image-skopeo", "image-timeout", "image-policy", "image-layout")


@dataclass(frozen=True)
class Request:
    """What is asked for. ``content``: whether layers of the destination are read on a run that changes nothing."""

    source: Reference
    dest: Reference
    kid: str
    key: bytes = field(repr=False)
    architecture: str = "amd64"
    policy: str = ""
    work: str | None = None
    content: bool = False
    replace: bool = False


@dataclass(frozen=True)
class Plan:
    """What is to be done, and why. ``raw`` is what is at the destination, ``before`` the same where it is an image."""

    reason: str
    changed: bool
    source: layout.Image
    pinned: Reference
    raw: bytes | None
    before: layout.Image | None


def make_plan(request: Request, skopeo: Skopeo) -> Plan:
    """Reads, and changes nothing. Raises AttestedError."""
    if request.source == request.dest:
        raise ImageError("source and destination are the same", where=str(request.dest), fix="The plain image would be lost: name another tag",
                         code="image-reference")  # fmt: skip
    source, pinned = _source(request, skopeo)
    verify.check_source(source, str(request.source))
    where, raw, before = str(request.dest), None, None
    try:
        raw = skopeo.manifest(request.dest)
        if raw is None:
            return Plan("there is no image at the destination", True, source, pinned, None, None)
        before = layout.image(raw, where)
        keys = verify.layer_keys(before, request.key, request.kid, where)
    except AttestedError as error:
        if isinstance(error, DependencyError) or error.code in UNREACHABLE:
            raise
        # Somebody else's name, or somebody else's key.
        if not request.replace:
            raise ImageError(f"something else is there: {error}", where=where, code=error.code,
                             fix="If it may be lost, say replace: true. Guests that ask for the other key then find no image for it") from None  # fmt: skip
        return Plan(f"it replaces something else ({error.what})", True, source, pinned, raw, before)
    try:
        verify.check_same(keys, source, where)
        if not record.holds(before.document, request.key, request.kid, source.digest):
            return Plan("the source changed", True, source, pinned, raw, before)
    except ImageError as error:
        if error.code != "image-other-content":
            raise
        return Plan("the source changed", True, source, pinned, raw, before)
    damage = _damage(request, skopeo, before, keys)
    return Plan(damage or "it is encrypted already, under this key and of this source", bool(damage), source, pinned, raw, before)


def carry_out(request: Request, plan: Plan, skopeo: Skopeo) -> layout.Image:
    """Encrypt, look at every byte of the result, publish it, and read it back. Raises AttestedError; then the destination is what it was."""
    with _workplace(request) as folder:
        staged = Reference("oci", os.path.join(folder, "image"), "encrypted")
        with _key_path(request.key) as key_path:
            parameter = f"provider:{packet.PROVIDER}:keypath={key_path}::keyid={request.kid}::algorithm={packet.WRAP_TYPE}"
            arguments = ["--encryption-key", parameter, "--dest-oci-accept-uncompressed-layers", "--remove-signatures"]
            policy = request.policy or (_policy(folder, "oci") if request.source.local else "")
            skopeo.copy(plan.pinned, staged, *arguments, architecture=request.architecture, policy=policy, provider=_provider(folder))
        image = _annotated(request, plan, staged)
        keys = verify.layer_keys(image, request.key, request.kid, staged.place)
        verify.check_same(keys, plan.source, staged.place)
        if plan.source.media_type == layout.OCI_MANIFEST and image.config.digest != plan.source.config.digest:
            raise ImageError("its configuration is not that of the source", where=staged.place, code="image-other-content")
        verify.check_content(staged.place, image, keys)
        # What was looked at is what is published: a manifest names its layers by their digests.
        skopeo.copy(staged, request.dest, "--preserve-digests", "--dest-oci-accept-uncompressed-layers", policy=_policy(folder, "oci"))
    raw = skopeo.manifest(request.dest)
    if raw is None or layout.digest_of(raw) != image.digest:
        raise ImageError("another image is there than was just published", where=str(request.dest), fix="Somebody else writes to this name at the same time",
                         code="image-published")  # fmt: skip
    if request.dest.local and plan.raw is not None:
        with contextlib.suppress(OSError, AttestedError):
            store.forget(request.dest.place, plan.raw)
    return image


def _source(request: Request, skopeo: Skopeo) -> tuple[layout.Image, Reference]:
    where, pinned = str(request.source), request.source
    raw = skopeo.manifest(request.source)
    if raw is None:
        raise ImageError("there is no such image", where=where, code="image-source-missing")
    if layout.is_list(layout.parse(raw, where)):
        digest = layout.choose(raw, request.architecture, where)
        if request.source.local:
            return layout.image(layout.read_blob(request.source.place, digest), where), pinned
        pinned = request.source.at(digest)
        found = skopeo.manifest(pinned)
        if found is None:
            raise ImageError(f"its list names {digest}, which is not there", where=where, code="image-source")
        raw = found
    elif not request.source.local:
        pinned = request.source.at(layout.digest_of(raw))
    return layout.image(raw, where), pinned


def _damage(request: Request, skopeo: Skopeo, before: layout.Image, keys: t.Sequence[packet.LayerKey]) -> str:
    """Why what is there counts no more, though its manifest does; empty if nothing is wrong."""
    if not request.dest.local and not request.content:
        return ""
    try:
        if request.dest.local:
            verify.check_content(request.dest.place, before, keys)
            return ""
        with _workplace(request) as folder:
            copied = Reference("oci", os.path.join(folder, "image"), "published")
            skopeo.copy(request.dest.at(before.digest), copied, "--preserve-digests", policy=_policy(folder, "docker"))
            verify.check_content(copied.place, before, keys)
    except ImageError as error:
        if error.code not in ("image-blob", "image-content"):
            raise
        return f"what is there is damaged ({error.where}: {error.what})"
    return ""


def _annotated(request: Request, plan: Plan, staged: Reference) -> layout.Image:
    """Write into the staged manifest of what it was made."""
    raw = layout.find(staged.place, staged.tag)
    if raw is None:
        raise ImageError("skopeo wrote no image", where=staged.place, code="image-skopeo")
    raw = record.written(layout.image(raw, staged.place).document, request.key, request.kid, plan.source.digest)
    image = layout.image(raw, staged.place)
    entry = {"mediaType": layout.OCI_MANIFEST, "digest": image.digest, "size": len(raw), "annotations": {layout.REF_NAME: staged.tag}}
    for path, data in (
        (layout.blob_path(staged.place, image.digest), raw),
        (os.path.join(staged.place, "index.json"), json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode("ascii")),
    ):
        with open(path, "wb") as stream:
            stream.write(data)
    return image


@contextlib.contextmanager
def _workplace(request: Request) -> t.Iterator[str]:
    """A folder for ciphertext; beside a layout, so that there is as much room as there must be anyway."""
    parent = request.work or (os.path.dirname(request.dest.place) if request.dest.local else None)
    try:
        if parent is not None:
            os.makedirs(parent, exist_ok=True)
        _sweep(parent or tempfile.gettempdir())
        folder, held = _held(parent)
    except OSError as error:
        raise ImageError(f"there is no place to work ({error.strerror})", where=str(parent), code="image-no-space") from None
    try:
        yield folder
    except OSError as error:
        where = str(error.filename or folder)
        raise ImageError(f"it cannot be written or read ({error.strerror})", where=where, fix="Make room, or give work_path", code="image-no-space") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _held(parent: str | None) -> tuple[str, int]:
    """A new folder, and the descriptor that says that somebody works there."""
    while True:
        folder = tempfile.mkdtemp(prefix=WORK_PREFIX, dir=parent)
        try:
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(held, fcntl.LOCK_EX)
        if os.path.isdir(folder):
            return folder, held
        # Somebody who sweeps was quicker.
        os.close(held)


def _sweep(parent: str) -> None:
    """Remove what killed runs of this user left there, ciphertext only: nobody holds it any more."""
    with os.scandir(parent) as entries:
        left = [entry.path for entry in entries if entry.name.startswith(WORK_PREFIX) and entry.is_dir(follow_symlinks=False)
                and entry.stat(follow_symlinks=False).st_uid == os.geteuid()]  # fmt: skip
    for path in left:
        with contextlib.suppress(OSError):
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(held)


@contextlib.contextmanager
def _key_path(key: bytes) -> t.Iterator[str]:
    """A path at which programs of this user that we start find the key, in memory only: it ends with this block."""
    descriptor = os.memfd_create("attested-image-key")
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, key)
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.pwrite(descriptor, bytes(len(key)), 0)
        os.close(descriptor)


def _provider(folder: str) -> str:
    return _json(folder, "keyprovider.json", ocicrypt_keyprovider.configuration())


def _policy(folder: str, transport: str) -> str:
    """Lets one image in that carries no signature, but is looked at here with the key, or is this machine's own."""
    accept = {"default": [{"type": "reject"}], "transports": {transport: {"": [{"type": "insecureAcceptAnything"}]}}}
    return _json(folder, "policy.json", accept)


def _json(folder: str, name: str, value: t.Any) -> str:
    path = os.path.join(folder, name)
    with open(path, "w", encoding="ascii") as stream:
        json.dump(value, stream)
    return path
