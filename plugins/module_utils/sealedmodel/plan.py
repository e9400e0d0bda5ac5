# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an encryption would do: compare the model directory with what is published, and write nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import profiles, state, tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import FILES, MAX_SIZE, Manifest, check_model_id, check_release
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import DEFAULT_SEGMENT, KEY_SIZE
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.signature import verify_manifest
from ansible_collections.attested.ai.plugins.module_utils.target.memory import wipe

# done and total plaintext bytes
Meter = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """What is asked for. ``src`` and ``dest`` are absolute paths without links; sizes are bytes. ``verify`` is "stat" or "content". For an image
    ``threads`` are processes."""

    src: str
    dest: str
    model_id: str
    release: int
    segment_size: int = DEFAULT_SEGMENT
    threads: int = 2
    verify: str = "stat"
    replace: bool = False
    key_uris: Tuple[str, ...] = ()
    profile: str = FILES

    @property
    def partial(self) -> str:
        return self.dest + ".partial"

    @property
    def partial_state(self) -> str:
        return self.dest + ".partial.state"

    @property
    def state(self) -> str:
        return self.dest + ".state"


@dataclass(frozen=True)
class Keys:
    """``kek`` wraps the data key, ``signer`` (EC P-256) signs the manifest, ``recipients`` may unwrap the data key too."""

    kek: Any
    signer: Any
    recipients: Tuple[Any, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The outcome: ``before`` is the published manifest, ``stale_state`` says that only the local notes have to be renewed."""

    request: Request
    files: Tuple[tree.SourceFile, ...]
    before: Optional[Manifest]
    changed: bool
    reason: str
    stale_state: bool = False


def make_plan(request: Request, keys: Optional[Keys], meter: Optional[Meter] = None) -> Plan:
    """Compare. ``keys`` may be None in check mode, while they are still to be made.

    Raises ModelError for a source that cannot be encrypted, for a lower release, and for another content under the same release.
    """
    check_model_id(request.model_id)
    check_release(request.release)
    for one, two in ((request.src, request.dest), (request.dest, request.src)):
        if one == two or one.startswith(two.rstrip("/") + "/"):
            raise ModelError("source and destination lie in each other", where=request.dest, fix="Encrypt into a directory of its own", code="model-dest")
    files = tree.walk(request.src)
    before = read_published(request, keys)
    if before is None:
        return Plan(request, files, None, True, "there is no encrypted model yet")
    if before.model_id != request.model_id:
        raise ModelError("it holds the model %s" % ascii(before.model_id), where=request.dest, fix="Choose another destination", code="model-other")
    if before.release > request.release:
        raise ModelError(
            "release %d is published there, %d is lower" % (before.release, request.release),
            where=request.dest,
            fix="Releases only rise",
            code="model-release-lower",
        )
    if before.release < request.release:
        return Plan(request, files, before, True, "release %d follows %d" % (request.release, before.release))
    difference, stale = _difference(request, keys, files, before, meter)
    if not difference:
        broken = profiles.broken(request.dest, before)
        if not broken:
            return Plan(request, files, before, False, "nothing changed", stale)
        return Plan(request, files, before, True, "the ciphertext of %s is missing or damaged" % broken)
    if not request.replace:
        raise ModelError(
            "release %d is published already, and %s" % (before.release, difference),
            where=request.dest,
            fix="Raise release, so that guests can tell the two apart, or set replace to true",
            code="model-release-same",
        )
    return Plan(request, files, before, True, difference)


def read_published(request: Request, keys: Optional[Keys]) -> Optional[Manifest]:
    """The manifest at ``dest``, its signature checked with our own key unless ``replace`` is set. None if there is nothing."""
    if not os.path.lexists(request.dest):
        return None
    path = os.path.join(request.dest, tree.MANIFEST)
    try:
        if not os.path.lexists(path) and not os.listdir(request.dest):
            return None
        raw = read_small(path)
        manifest = Manifest.parse(raw, path)
        if keys is not None and not request.replace:
            verify_manifest(raw, read_small(os.path.join(request.dest, tree.SIGNATURE)), public_jwk(keys.signer), path)
    except (OSError, FormatError) as error:
        raise ModelError(
            "it is there, and it is no encrypted model that this signing key made (%s)" % (getattr(error, "strerror", None) or error),
            where=request.dest,
            fix="Choose another destination, or remove it",
            code="model-dest",
        ) from None
    return manifest


def read_small(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(MAX_SIZE + 1)


def _difference(request: Request, keys: Optional[Keys], files: Tuple[tree.SourceFile, ...], before: Manifest, meter: Optional[Meter]) -> Tuple[str, bool]:
    """Why the published model is not the one asked for ("" if it is), and whether the local notes are out of date."""
    if keys is None:
        return "the keys are new", False
    if before.profile != request.profile:
        return "it is of profile %s" % before.profile, False
    if before.profile == FILES and before.segment_size != request.segment_size:
        return "its segments are %d bytes long" % before.segment_size, False
    if before.key_uris != request.key_uris:
        return "its key_uris differ", False
    here, there = {file.path: file.size for file in files}, {entry.path: entry.size for entry in before.files}
    for path in sorted(set(here) | set(there)):
        if here.get(path) != there.get(path):
            return "%s differs" % path, False
    try:
        dek = unwrap_dek(before.dek, keys.kek)
    except AttestedError:
        return "its data key is wrapped with another key than %s" % keys.kek.kid, False
    try:
        known = request.verify == "stat" and _known(request, keys, files, before)
        if known:
            return "", False
        changed = _changed_content(request, dek, files, before, meter)
        return ("%s differs" % changed, False) if changed else ("", not known)
    finally:
        wipe(dek)


def _known(request: Request, keys: Keys, files: Tuple[tree.SourceFile, ...], before: Manifest) -> bool:
    """Whether the local notes say that exactly these files, unchanged since, were encrypted to exactly this manifest."""
    head, records = state.read(request.state, state.mac_key(keys.kek.notes_secret))
    if head is None or head.get("key_id") != before.key_id or head.get("dek") != before.dek or head.get("release") != before.release:
        return False
    noted = {record["path"]: record for record in records}
    return all(
        entry.path in noted and noted[entry.path].get("header_sha256") == entry.header_sha256 and noted[entry.path].get("source") == source_identity(file)
        for file, entry in zip(files, before.files)
    )


def _changed_content(request: Request, dek: bytearray, files: Tuple[tree.SourceFile, ...], before: Manifest, meter: Optional[Meter]) -> str:
    """The first file whose published ciphertext does not decrypt to what lies in the source, or ""."""
    done, total = [0], sum(file.size for file in files)

    def advance(count: int) -> None:
        done[0] += count
        if meter is not None:
            meter(done[0], total)

    return profiles.changed_content(request, dek, files, before, advance)


def unwrap_dek(dek: Mapping[str, Any], kek: Any) -> bytearray:
    """The data key, in a buffer that the caller wipes. Raises an AttestedError."""
    key = bytearray(jwe.unwrap_general(dict(dek), kek.key, kek.kid))
    if len(key) != KEY_SIZE:
        raise ModelError("the data key is %d bytes long, %d expected" % (len(key), KEY_SIZE))
    return key


def source_identity(file: tree.SourceFile) -> List[str]:
    """Size, modification time and inode, as text: nanoseconds since 1970 do not fit into a JSON number."""
    return [str(number) for number in file.identity]
