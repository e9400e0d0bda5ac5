# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put a TDX module on the EFI partition, where the BIOS's loader looks for it, and take it back.

What was there before is kept aside first, so that a run that is killed anywhere is finished or undone by the next. The state file tells what was
kept and what was placed; both files of a module change one after the other, which nobody sees before the next boot.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError

FOLDER = "EFI/TDX"
NAMES = ("TDX-SEAM.so", "TDX-SEAM.so.sigstruct")
STATE = "state.json"
_MOUNTS = ("/boot/efi", "/efi", "/boot")


@dataclass(frozen=True)
class Disk:
    """``read`` gives None for a file that is not there. ``write`` replaces a file whole and durably, and makes its folder. ``free`` is in bytes."""

    read: Callable[[str], Optional[bytes]]
    write: Callable[[str, bytes], None]
    remove: Callable[[str], None]
    remove_empty: Callable[[str], None]
    free: Callable[[str], int]
    now: Callable[[], int]


@dataclass(frozen=True)
class Change:
    """``contents`` maps paths to bytes, None where a file goes. ``state`` is the state file afterwards, None where it goes."""

    before: Mapping[str, str]
    after: Mapping[str, str]
    contents: Mapping[str, Optional[bytes]]
    keep: Mapping[str, bytes]
    state: Optional[Mapping[str, Any]]
    needed: bool
    reboot_required: bool


def esp_of(mounts: str, wanted: str = "") -> str:
    """Where the EFI partition is mounted. ``mounts`` is /proc/mounts. Raises HostError."""
    found = [fields[1] for fields in (line.split() for line in mounts.splitlines()) if len(fields) > 2 and fields[2] == "vfat"]
    if wanted:
        if wanted.rstrip("/") not in found:
            raise HostError("no FAT file system is mounted there", where=wanted, fix="Mount the EFI partition, or name where it is", code="tdx-module-esp")
        return wanted.rstrip("/")
    place = next((mount for mount in _MOUNTS if mount in found), None)
    if place is None:
        raise HostError(
            "no EFI partition is mounted at %s" % ", ".join(_MOUNTS), fix="Mount it, or give esp. Without UEFI there is none", code="tdx-module-esp"
        )
    return place


def plan_present(disk: Disk, esp: str, aside: str, files: Tuple[bytes, bytes], booted: int) -> Change:
    """``files`` are module and sigstruct. Raises HostError where there is no room."""
    state = _state(disk, aside)
    paths = ["%s/%s/%s" % (esp, FOLDER, name) for name in NAMES]
    there = {path: disk.read(path) for path in paths}
    wanted = dict(zip(paths, files))
    open_files: Dict[str, Optional[bytes]] = {path: data for path, data in wanted.items() if there[path] != data}
    if not open_files:
        return Change(_told(there), _told(wanted), {}, {}, None, False, state.get("changed_at", 0) > booted)
    # Both are written beside the old ones before either replaces its own.
    room = sum(len(data) for data in wanted.values())
    if disk.free(esp) < room:
        raise HostError(
            "there is room for %d bytes, %d are needed" % (disk.free(esp), room), where=esp, fix="Remove what is not needed there", code="tdx-module-esp"
        )
    keep: Dict[str, bytes] = {}
    # All that were placed since: a run that dies now leaves the one before.
    was = state["placed"] if "kept" in state else {}
    if "kept" not in state:
        keep = {"%s/%s" % (aside, name): data for name, data in zip(NAMES, there.values()) if data is not None}
        state["kept"] = [name for name, data in zip(NAMES, there.values()) if data is not None]
        state["esp"] = esp
    state["placed"] = {name: sorted({*was.get(name, ()), _digest(data)}) for name, data in zip(NAMES, files)}
    return Change(_told(there), _told(wanted), open_files, keep, state, True, True)


def plan_absent(disk: Disk, aside: str, booted: int) -> Change:
    """What was there before comes back. Raises HostError where somebody else has changed it since."""
    state = _state(disk, aside)
    if "kept" not in state:
        waits = state.get("changed_at", 0) > booted
        return Change({}, {}, {}, {}, None, False, waits)
    paths = ["%s/%s/%s" % (state["esp"], FOLDER, name) for name in NAMES]
    there = {path: disk.read(path) for path in paths}
    wanted = {path: disk.read("%s/%s" % (aside, name)) if name in state["kept"] else None for path, name in zip(paths, NAMES)}
    for (path, data), name in zip(there.items(), NAMES):
        if name in state["kept"] and wanted[path] is None:
            raise HostError(
                "what was kept is gone",
                where="%s/%s" % (aside, name),
                fix="Place the module that shall be there by hand, and remove " + aside,
                code="tdx-module-kept",
            )
        if data is not None and data != wanted[path] and _digest(data) not in state["placed"].get(name, ()):
            raise HostError(
                "somebody else has placed another since", where=path, fix="See what it is; remove %s to leave it" % aside, code="tdx-module-foreign"
            )
    contents = {path: data for path, data in wanted.items() if there[path] != data}
    return Change(_told(there), _told(wanted), contents, {}, {}, True, True)


def apply(disk: Disk, esp: str, aside: str, change: Change) -> None:
    """The copy first, then the note of it, then the files."""
    if change.state is None:
        return
    for path, data in change.keep.items():
        disk.write(path, data)
    state = dict(change.state, changed_at=disk.now())
    if state.get("kept") is not None:
        _write_state(disk, aside, state)
    for path, content in change.contents.items():
        if content is None:
            disk.remove(path)
        else:
            disk.write(path, content)
    if state.get("kept") is None:
        _write_state(disk, aside, state)
        for name in NAMES:
            disk.remove("%s/%s" % (aside, name))
        disk.remove_empty("%s/%s" % (esp, FOLDER))


def esp_of_state(disk: Disk, aside: str) -> str:
    return str(_state(disk, aside).get("esp", ""))


def _state(disk: Disk, aside: str) -> Dict[str, Any]:
    data = disk.read("%s/%s" % (aside, STATE))
    if data is None:
        return {}
    where = "%s/%s" % (aside, STATE)
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    good = isinstance(found, dict) and isinstance(found.get("changed_at", 0), int)
    if good and "kept" in found:
        placed = found.get("placed")
        good = (
            isinstance(found["kept"], list) and all(name in NAMES for name in found["kept"]) and isinstance(found.get("esp"), str)
            and isinstance(placed, dict)
            and all(isinstance(digests, list) and all(isinstance(digest, str) for digest in digests) for digests in placed.values())
        )  # fmt: skip
    if not good:
        raise HostError("it is damaged", where=where, fix="See what lies beside it, put it back by hand, and remove the folder", code="tdx-module-kept")
    return dict(found)


def _write_state(disk: Disk, aside: str, state: Mapping[str, Any]) -> None:
    disk.write("%s/%s" % (aside, STATE), json.dumps(state, sort_keys=True).encode("ascii"))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _told(files: Mapping[str, Optional[bytes]]) -> Dict[str, str]:
    return {path: "" if data is None else "sha256:%s" % _digest(data) for path, data in files.items()}


def text(files: Mapping[str, str]) -> str:
    """For a diff."""
    lines: List[str] = ["%s %s\n" % (path, digest) for path, digest in files.items() if digest]
    return "".join(lines)
