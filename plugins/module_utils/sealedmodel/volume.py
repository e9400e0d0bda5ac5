# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A model opened into a volume in memory that somebody else mounted, for instance in the init container of a pod. The volume itself cannot be renamed, so that
the model is opened beside and moved; whoever reads waits until this is done."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Callable, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import marker
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import open as opener
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import FILES
from ansible_collections.attested.ai.plugins.module_utils.target import memory

JOURNAL = ".attested-model.json"
_WORK = ".attested-opening"
_SCHEMA = "attested.ai/model-volume/1"
_OPENING, _OPEN = "opening", "open"


@dataclass(frozen=True)
class Opened:
    """What is there now."""

    changed: bool
    model_id: str
    release: int
    files: int
    size: int


def volume_of(path: str) -> Tuple[str, str]:
    """(directory of the volume, name of the file in it that is looked for or empty): some servers are given a file. Raises ModelError."""
    where = os.path.realpath(path)
    if os.path.isdir(where):
        return where, ""
    parent = os.path.dirname(where)
    if not os.path.isdir(parent):
        raise ModelError("neither it nor the directory above is there", where=path, fix="Mount a volume in memory there", code="model-dest")
    return parent, os.path.basename(where)


def open_in(path: str, source: Any, where: str, release_of: Callable[[opener.Sealed], Any], threads: int) -> Opened:
    """Open the model of ``source``. ``release_of`` gets the key for it and raises if there is none. Raises AttestedError; then nothing of it is left."""
    volume, wanted = volume_of(path)
    memory.require_memory(volume)
    sealed = opener.read_sealed(source)
    state = _state(volume)
    told = (sealed.manifest.model_id, sealed.manifest.release, len(sealed.manifest.files), sealed.manifest.size)
    if state == (_OPEN, sealed.digest):
        return Opened(False, *told)
    if state is None and os.listdir(volume):
        raise ModelError("something is there that was not put there by this", where=volume, fix="Give the model a volume of its own", code="model-dest")
    _clear(volume)
    if sealed.manifest.profile != FILES:
        raise ModelError("its profile is %s" % sealed.manifest.profile, where=where, fix="Encrypt it with the profile files", code="model-profile")
    names = [entry.path for entry in sealed.manifest.files]
    if wanted and wanted not in names:
        raise ModelError("the model has no file %s" % ascii(wanted), where=where, fix="Correct the path that the server is given", code="model-file-missing")
    if any(name.split("/")[0] in (JOURNAL, _WORK) for name in names):
        raise ModelError("a file of it has a name that is needed here", where=where, code="model-dest")
    key = bytearray()
    try:
        release = release_of(sealed)
        opener.check_release(sealed, release, where)
        source.check(sealed.manifest)
        opener.check_space(os.path.join(volume, _WORK), sealed.manifest)
        key = bytearray(release.key)
        memory.lock_memory(key)
        _note(volume, _OPENING, sealed.digest)
        _open(volume, source, where, sealed, key, threads)
        _note(volume, _OPEN, sealed.digest)
    except BaseException as error:
        _clear(volume)
        if isinstance(error, OSError):
            raise ModelError("the model cannot be written (%s)" % error.strerror, where=volume, code="model-dest") from None
        raise
    finally:
        memory.wipe(key)
    return Opened(True, *told)


def _open(volume: str, source: Any, where: str, sealed: opener.Sealed, key: bytearray, threads: int) -> None:
    work = os.path.join(volume, _WORK)
    os.mkdir(work, 0o700)
    made = os.path.join(work, "model")
    opener.decrypt(opener.Target(where, made, threads), sealed, key, None, source)
    os.chmod(made, 0o700)
    for name in sorted(os.listdir(made)):
        os.rename(os.path.join(made, name), os.path.join(volume, name))
    os.rmdir(made)
    os.unlink(marker.path(made))
    os.rmdir(work)


def _state(volume: str) -> Optional[Tuple[str, str]]:
    """(state, digest of the manifest), None if there is no journal; an unreadable one means that the opening was cut."""
    path = os.path.join(volume, JOURNAL)
    if not os.path.lexists(path):
        return None
    try:
        with open(path, "rb") as stream:
            found = json.loads(stream.read(4096).decode("utf-8"))
        return (str(found["state"]), str(found["manifest_sha256"])) if found["schema"] == _SCHEMA else (_OPENING, "")
    except (OSError, ValueError, KeyError, TypeError):
        return _OPENING, ""


def _note(volume: str, state: str, digest: str) -> None:
    marker.replace(os.path.join(volume, JOURNAL), jcs.canonicalize({"schema": _SCHEMA, "state": state, "manifest_sha256": digest}))


def _clear(volume: str) -> None:
    """Everything but the volume; the journal last, for it says that all of this is ours. Raises AttestedError."""
    for name in sorted(os.listdir(volume), key=lambda name: name == JOURNAL):
        memory.wipe_tree(os.path.join(volume, name), overwrite=False)
