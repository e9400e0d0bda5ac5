# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Backups in a folder: one more where something has changed, the oldest removed; and a restore that replaces whole folders or nothing."""

from __future__ import annotations

import os
import re
import shutil
import stat
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.trustee import archive
from ansible_collections.attested.ai.plugins.module_utils.trustee.problem import TrusteeError

_STAMP = r"-\d{8}T\d{6}Z\.tar\Z"
_NEW, _OLD = ".attested-new", ".attested-before"


@dataclass(frozen=True)
class Saved:
    """The newest backup in a folder."""

    path: str
    digest: str
    sha256: str


def newest(folder: str, name: str) -> Optional[Saved]:
    """The newest whole one; a damaged one is a failure, for it would be missed when it is needed."""
    found = _all(folder, name)
    if not found:
        return None
    path = os.path.join(folder, found[-1])
    _about, entries = archive.verify(path)
    return Saved(path, archive.digest_of(entries), archive.digest_of_file(path)[0])


def make(folders: Mapping[str, str], folder: str, name: str, stamp: str, about: Mapping[str, Any], entries: List[archive.Entry], keep: int) -> Saved:
    """One more. ``stamp`` is the time as 20260131T120000Z."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if stat.S_IMODE(os.stat(folder).st_mode) & 0o077:
            raise TrusteeError("others can look into the folder of backups", where=folder, fix="chmod 700 it", code="trustee-backup-mode")
    except OSError as error:
        raise TrusteeError("it cannot be made (%s)" % error.strerror, where=folder, code="trustee-backup-write") from None
    path = os.path.join(folder, "%s-%s.tar" % (name, stamp))
    if os.path.lexists(path):
        raise TrusteeError("a backup of this second is there already", where=path, code="trustee-backup-write")
    sha256 = archive.save(folders, entries, path, about)
    for old in _all(folder, name)[:-keep]:
        os.unlink(os.path.join(folder, old))
    return Saved(path, archive.digest_of(entries), sha256)


def restore(path: str, entries: List[archive.Entry], folders: Mapping[str, str], owner: Optional[Tuple[int, int]]) -> Dict[str, str]:
    """Put the folders back; what was there stays beside it. Returns where. Raises TrusteeError, and then all is as it was.

    All is extracted and compared first. Then folders change places one after the other, and go back if one of them cannot.
    """
    names = sorted({entry.path.partition("/")[0] for entry in entries})
    unknown = [name for name in names if name not in folders]
    missing = [name for name in sorted(folders) if name not in names]
    if unknown or missing:
        raise TrusteeError("the backup holds %s, and %s was to be restored" % (", ".join(names), ", ".join(sorted(folders))), where=path,
                           code="trustee-restore")
    new = {name: folders[name] + _NEW for name in names}
    _clear(new.values())
    try:
        archive.extract(path, entries, new, owner)
        _compare(new, entries)
        return _exchange(folders, new, names)
    finally:
        _clear(new.values())


def _compare(roots: Mapping[str, str], entries: List[archive.Entry]) -> None:
    """What lies on the disk now, read again."""
    found = {(entry.path, entry.size, entry.sha256) for entry in archive.survey(roots)}
    if found != {(entry.path, entry.size, entry.sha256) for entry in entries}:
        raise TrusteeError("what was written is not what is in the backup", where=", ".join(sorted(roots.values())),
                           fix="Look at the disk; nothing was replaced", code="trustee-restore")


def _exchange(folders: Mapping[str, str], new: Mapping[str, str], names: List[str]) -> Dict[str, str]:
    kept: Dict[str, str] = {}
    done: List[str] = []
    try:
        for name in names:
            place, before = folders[name], folders[name] + _OLD
            # Of an earlier restore: one generation is kept.
            _clear([before])
            if os.path.lexists(place):
                os.rename(place, before)
                kept[name] = before
            done.append(name)
            os.rename(new[name], place)
    except (OSError, AttestedError) as error:
        # A signal, too, is one of ours.
        for name in reversed(done):
            if os.path.lexists(folders[name]):
                os.rename(folders[name], new[name])
            if name in kept:
                os.rename(kept[name], folders[name])
        raise TrusteeError("the folders cannot change places (%s)" % error, fix="All is as it was", code="trustee-restore") from None
    return kept


def _all(folder: str, name: str) -> List[str]:
    pattern = re.compile(re.escape(name) + _STAMP)
    try:
        return sorted(one for one in os.listdir(folder) if pattern.match(one))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TrusteeError("it cannot be read (%s)" % error.strerror, where=folder, code="trustee-backup-read") from None


def _clear(places: Any) -> None:
    for place in places:
        if os.path.isdir(place) and not os.path.islink(place):
            shutil.rmtree(place)
        elif os.path.lexists(place):
            os.unlink(place)
