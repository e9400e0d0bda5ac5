# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Doing a planned change: device by device, each verified, then all read again. What fails is taken back; where that fails, too, the machine is quarantined.

A kill at any point leaves the marker, so that the next run knows. Nothing here talks to a machine but through Bench.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ContextManager, Dict, List, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import marker as markers
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import modes, tool
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.holders import Holder
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import Device
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.marker import Marker
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.modes import Reading
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.plan import Change, DeviceChange, Step, steps
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.rules import check_free

SWITCHED, REPAIRED, AS_WANTED = "switched", "repaired", "as-wanted"
ROLLED_BACK, QUARANTINED, UNRECORDED, REFUSED = "rolled-back", "quarantined", "unrecorded", "refused"


class Bench:
    """What a switch may do to a machine. The module gives the real one, tests others. ``limit`` is the time for one run of the tool, in seconds."""

    limit = 0

    def ask(self, args: Sequence[str]) -> tool.Run:
        raise NotImplementedError

    def holders(self, devices: Sequence[Device]) -> Tuple[Holder, ...]:
        raise NotImplementedError

    def present(self, bdf: str) -> bool:
        """Whether the device is on the bus and answers."""
        raise NotImplementedError

    def claim(self, devices: Sequence[Device]) -> ContextManager[None]:
        """Keep others from opening the devices meanwhile, as far as the kernel lets us. Raises HostError with gpu-busy if somebody was first."""
        raise NotImplementedError

    def save(self, marker: Marker) -> None:
        """On disk, for good, before it returns."""
        raise NotImplementedError

    def now(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class Outcome:
    """``devices`` are rows with device, kind, model, before and after."""

    state: str
    devices: Tuple[Dict[str, Any], ...]


class SwitchError(HostError):
    """A switch that failed. ``state`` is rolled-back, quarantined or unrecorded, ``devices`` what each is in now."""

    def __init__(self, error: HostError, state: str, what: str, fix: str, devices: Sequence[Dict[str, Any]]) -> None:
        super().__init__(what, where=error.where, fix=fix, code=error.code)
        self.state = state
        self.devices = list(devices)


def apply(bench: Bench, change: Change) -> Outcome:
    """Raises SwitchError when it failed; HostError when it was refused before anything was done."""
    if not change.needed:
        bench.save(_settled(bench, change))
        return Outcome(REPAIRED if change.repair else AS_WANTED, tuple(_row(entry, entry.reading) for entry in change.devices))
    devices = [entry.device for entry in change.touched]
    check_free(bench.holders(devices))
    with bench.claim(devices):
        before = {entry.device.bdf: entry.back or entry.reading.mode for entry in change.devices}
        bench.save(Marker(markers.SWITCHING, change.desired, bench.now(), "", before))
        begun: List[DeviceChange] = []
        try:
            for entry in change.touched:
                _free(bench, entry.device)
                begun.append(entry)
                _walk(bench, entry, entry.steps, entry.after)
            readings = _read_all(bench, change.devices)
            _check_all(change, readings)
        except HostError as error:
            return _undo(bench, change, begun, error)
    rows = tuple(_row(entry, reading) for entry, reading in zip(change.devices, readings))
    return _close(bench, change, rows)


def planned(change: Change) -> Outcome:
    """What apply would end with if all goes well."""
    state = REPAIRED if change.repair else SWITCHED if change.needed else AS_WANTED
    rows = ({**entry.to_dict(), "pending": entry.after if entry.needed else entry.reading.pending, "wanted": entry.after} for entry in change.devices)
    return Outcome(state, tuple(rows))


def _free(bench: Bench, device: Device) -> None:
    """Once more, right before the act: a tenant may have come, or the device gone."""
    if not bench.present(device.bdf):
        raise HostError("it is not on the bus any more", where=device.title, code="gpu-vanished",
                        fix="Look at `dmesg`; a cold start of the machine brings back what fell off the bus")  # fmt: skip
    check_free(bench.holders((device,)))


def _walk(bench: Bench, entry: DeviceChange, path: Sequence[Step], after: str) -> None:
    """The steps, and then a reading that must say ``after``."""
    for step in path:
        wrong = tool.trouble(bench.ask(step), bench.limit)
        if wrong:
            raise wrong.error(entry.device.title)
    _check(entry.device, modes.read(bench.ask, entry.device, limit=bench.limit), after)


def _check(device: Device, reading: Reading, after: str) -> None:
    if reading.trouble:
        raise reading.trouble.error(device.title)
    if not reading.at(after):
        raise HostError("it was set to %s, and is %s (%s after its next reset)" % (after, reading.mode, reading.pending), where=device.title,
                        code="gpu-not-switched", fix="Cut the power of the machine, start it, and run the task again")  # fmt: skip


def _read_all(bench: Bench, entries: Sequence[DeviceChange]) -> List[Reading]:
    """The second read. Devices that somebody uses were not touched, so what was known of them stays."""
    return [
        entry.reading if entry.reading.source == modes.REMEMBERED else modes.read(bench.ask, entry.device, limit=bench.limit) for entry in entries
    ]  # fmt: skip


def _check_all(change: Change, readings: Sequence[Reading]) -> None:
    for entry, reading in zip(change.devices, readings):
        if entry.needed or entry.reading.at(entry.after):
            _check(entry.device, reading, entry.after)


def _undo(bench: Bench, change: Change, begun: Sequence[DeviceChange], error: HostError) -> Outcome:
    """Back to where each device was. Raises SwitchError, unless all devices turn out to be where they should be."""
    failed: List[str] = []
    # A switch that is repaired may have brought devices to the new mode before: these go back, too.
    for entry in reversed([entry for entry in change.devices if entry in begun or not _stays(entry, entry.reading, begun)]):
        try:
            _take_back(bench, entry)
        except HostError as wrong:
            failed.append(str(wrong))
    readings = _read_all(bench, change.devices)
    rows = [_row(entry, reading) for entry, reading in zip(change.devices, readings)]
    if all(_stays(entry, reading, begun) for entry, reading in zip(change.devices, readings)):
        kept = Marker(markers.SETTLED, "", bench.now(), "", {row["device"]: row["after"] for row in rows if row["after"] != modes.UNKNOWN})
        raise SwitchError(error, ROLLED_BACK, "%s. All devices are as they were%s" % (error.what, _noted(bench, kept)), error.fix, rows)
    if all(reading.at(entry.after) for entry, reading in zip(change.devices, readings)):
        return _close(bench, change, rows)
    reason = "%s; going back failed: %s" % (error.what, "; ".join(failed) or "the devices are in other modes than before")
    before = {entry.device.bdf: entry.back or entry.reading.mode for entry in change.devices}
    kept = Marker(markers.QUARANTINED, change.desired, bench.now(), ("%s: %s" % (error.where, reason))[:1500], before)
    raise SwitchError(
        error, QUARANTINED, reason + ". The machine is quarantined: no later run touches its GPUs" + _noted(bench, kept),
        "Cut its power and start it, then run the task with clear_quarantine: true", rows,
    )  # fmt: skip


def _close(bench: Bench, change: Change, rows: Sequence[Dict[str, Any]]) -> Outcome:
    """All devices are where they should be. A record that cannot be closed makes the next run repair what is whole, and is told."""
    try:
        bench.save(_settled(bench, change))
    except HostError as error:
        raise SwitchError(error, UNRECORDED, "all devices are in the mode, and the record of it cannot be written: %s" % error.what, error.fix, rows) from None
    return Outcome(REPAIRED if change.repair else SWITCHED, tuple(rows))


def _noted(bench: Bench, kept: Marker) -> str:
    """Words about a record that could not be written; the one that a switch has begun is then still there, and the next run repairs."""
    try:
        bench.save(kept)
    except HostError as error:
        return ". The record of it cannot be written (%s)" % error.what
    return ""


def _stays(entry: DeviceChange, reading: Reading, begun: Sequence[DeviceChange]) -> bool:
    """Whether a device is where it was; one that was in no valid mode, and was not touched, is."""
    return reading.at(entry.back) or (not entry.back and entry not in begun and reading.mode == entry.reading.mode)


def _take_back(bench: Bench, entry: DeviceChange) -> None:
    reading = modes.read(bench.ask, entry.device, limit=bench.limit)
    if not reading.known and reading.trouble:
        raise reading.trouble.error(entry.device.title)
    if not entry.back:
        raise HostError("it had no mode to go back to (%s)" % entry.reading.mode, where=entry.device.title, code="gpu-not-switched")
    if not reading.at(entry.back) or reading.pending == modes.UNKNOWN:
        _free(bench, entry.device)
        _walk(bench, entry, steps(entry.device, reading, entry.back, again=reading.pending == modes.UNKNOWN), entry.back)


def _settled(bench: Bench, change: Change) -> Marker:
    return markers.settled(tuple((entry.device.bdf, entry.after) for entry in change.devices if entry.needed or entry.reading.at(entry.after)),
                           bench.now(), change.desired)  # fmt: skip


def _row(entry: DeviceChange, reading: Reading) -> Dict[str, Any]:
    return {**entry.to_dict(), "after": reading.mode, "pending": reading.pending, "wanted": entry.after}
