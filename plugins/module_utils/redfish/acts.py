# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The three things that are done to a machine, each so that it may be done once more by the next run: write, make a job, reset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Set, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.redfish.client import Client, Dropped
from ansible_collections.attested.ai.plugins.module_utils.redfish.jobs import bios_job
from ansible_collections.attested.ai.plugins.module_utils.redfish.machine import Snapshot, Target, read
from ansible_collections.attested.ai.plugins.module_utils.redfish.planner import Stage, shown
from ansible_collections.attested.ai.plugins.module_utils.redfish.registry import Registry, Value, same

RESETS = {"graceful": "GracefulRestart", "force": "ForceRestart", "power_cycle": "PowerCycle"}
APPLY_TIMES = {"on_reset": "OnReset", "immediate": "Immediate"}
# What a controller may say while the machine, or it itself, restarts.
PASSING = ("redfish-unreachable", "redfish-busy", "redfish-not-found", "redfish-refused", "redfish-answer", "redfish-bios")
SENDS = 3


@dataclass(frozen=True)
class Options:
    """Times in seconds. ``settle``: a value that is neither applied nor pending for so long was not taken."""

    reboot_ok: bool = False
    apply_time: str = "auto"
    reset_type: str = "graceful"
    reboot_timeout: float = 1800.0
    poll: float = 15.0
    settle: float = 300.0


@dataclass
class Run:
    """What one run needs and collects. ``registry`` is the one that the last plan was made of."""

    client: Client
    target: Target
    options: Options
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    tell: Callable[[str], None]
    trace: List[Mapping[str, Any]] = field(default_factory=list)
    reboots: int = 0
    registry: Optional[Registry] = None
    ended: Set[str] = field(default_factory=set)

    def note(self, stage: int, step: str, values: Optional[Mapping[str, Value]] = None, detail: str = "", **more: Any) -> None:
        # What somebody else left pending comes by here, too.
        told = {name: shown(self.registry, name, value) for name, value in (values or {}).items()}
        self.trace.append({"stage": stage, "step": step, "attributes": told, "detail": detail, **more})
        text = ", ".join("%s=%s" % item for item in sorted(told.items()))
        self.tell("%s: stage %d: %s%s%s" % (self.client.where, stage, step, " " + text if text else "", " (%s)" % detail if detail else ""))

    def read(self) -> Snapshot:
        return read(self.client, self.target, self.registry)

    def job(self) -> str:
        return bios_job(self.client, self.target, self.ended) if self.target.jobs else ""


def write(run: Run, number: int, stage: Stage, snapshot: Snapshot) -> bool:
    """Make the stage pending. False if somebody else changed the settings meanwhile, so that a new plan is needed."""
    before = {name: snapshot.current.get(name) for name, value in stage.patch.items() if not same(snapshot.current.get(name), value)}
    time = _apply_time(run, snapshot)
    body: Dict[str, Any] = {"Attributes": dict(stage.patch)}
    if time:
        body["@Redfish.SettingsApplyTime"] = {"ApplyTime": time}
    elif not run.options.reboot_ok and at_once(run, snapshot):
        raise RedfishError(
            "it would apply settings at once, with a restart", where=run.client.where + run.target.settings,
            fix="Set reboot_ok when the machine may be restarted; nothing was written", code="redfish-apply-time",
        )  # fmt: skip
    for attempt in range(1, SENDS + 1):
        try:
            run.client.patch(run.target.settings, body, snapshot.etag)
            break
        except Dropped as error:
            # Writing the same values twice does no harm, but first it is looked up whether they arrived.
            snapshot = run.read()
            if not absent(stage, snapshot):
                break
            if attempt == SENDS or error.code == "redfish-busy":
                raise
        except RedfishError as error:
            if error.code == "redfish-changed":
                run.note(number, "changed meanwhile")
                return False
            raise
    run.note(number, "write", stage.patch, before=before)
    if not at_once(run, snapshot):
        _see_pending(run, number, stage)
    return True


def _apply_time(run: Run, snapshot: Snapshot) -> str:
    """What a request names, empty for nothing."""
    auto = "OnReset" if run.options.apply_time == "auto" and "OnReset" in snapshot.apply_times else ""
    return APPLY_TIMES.get(run.options.apply_time, auto)


def at_once(run: Run, snapshot: Snapshot) -> bool:
    """Whether a request makes the service restart the machine by itself."""
    immediate, time = APPLY_TIMES["immediate"], _apply_time(run, snapshot)
    return time == immediate or (not time and (snapshot.apply_default == immediate or set(snapshot.apply_times) == {immediate}))


def absent(stage: Stage, snapshot: Snapshot) -> Tuple[str, ...]:
    """What was written and is neither pending nor applied."""
    return tuple(name for name, value in stage.patch.items() if not any(same(values.get(name), value) for values in (snapshot.pending, snapshot.current)))


def _see_pending(run: Run, number: int, stage: Stage) -> None:
    """A service may accept a request and show what came of it later, or never. Whether a reset applies it is then seen after the reset; without
    leave for one, nothing may be called pending that is not."""
    for look in range(SENDS):
        if look:
            run.sleep(run.options.poll)
        missing = absent(stage, run.read())
        if not missing:
            return
    if not run.options.reboot_ok:
        raise RedfishError(
            "%s: accepted, but not shown as pending" % ", ".join("%s=%s" % (name, stage.patch[name]) for name in missing),
            where=run.client.where + run.target.settings, fix="See its log; with reboot_ok it is seen after the reset whether they are applied",
            code="redfish-not-taken",
        )  # fmt: skip
    run.note(number, "not shown as pending", {name: stage.patch[name] for name in missing})


def ensure_job(run: Run, number: int) -> None:
    """Values that are pending on some controllers are applied by a job only; whether there is one is asked before and after."""
    for attempt in range(1, SENDS + 1):
        if run.job():
            return
        try:
            run.client.post(run.target.jobs, {"TargetSettingsURI": run.target.settings})
        except Dropped:
            if attempt == SENDS:
                raise
            continue
        run.note(number, "job", detail="to apply what is pending")
        return


def reset_kind(run: Run, snapshot: Snapshot) -> str:
    """How this machine can be reset as it was asked for; ForceOff stands for off and on again. Raises RedfishError."""
    types, wish = run.target.reset_types, RESETS[run.options.reset_type]
    if snapshot.power == "Off":
        return "On"
    if not types or wish in types:
        return wish
    if run.options.reset_type == "power_cycle" and "ForceOff" in types and "On" in types:
        return "ForceOff"
    raise RedfishError(
        "it knows no %s, but %s" % (wish, ", ".join(types)),
        where=run.client.where + run.target.reset,
        fix="Set reset_type to another one of %s" % ", ".join(RESETS),
        code="redfish-reset",
    )


def reset(run: Run, number: int, snapshot: Snapshot) -> None:
    kind = reset_kind(run, snapshot)
    _send_reset(run, number, kind)
    if kind == "ForceOff":
        end = run.clock() + run.options.reboot_timeout
        while _power(run) != "Off":
            if run.clock() > end:
                raise too_late(run, "it does not power off")
            run.sleep(run.options.poll)
        _send_reset(run, number, "On")
    run.reboots += 1


def _power(run: Run) -> str:
    """Empty where it cannot be told now. No more than the system is asked: some show no BIOS of a machine that is off."""
    try:
        return str(run.client.get(run.target.system).body.get("PowerState") or "")
    except RedfishError as error:
        if error.code not in PASSING:
            raise
        return ""


def _send_reset(run: Run, number: int, kind: str) -> None:
    try:
        run.client.post(run.target.reset, {"ResetType": kind})
    except Dropped as error:
        if error.code == "redfish-busy":
            raise
        # A second reset could hit the machine in the middle of the first; whether it restarts is seen while waiting.
        run.note(number, "reset", detail=kind + ", not answered")
        return
    run.note(number, "reset", detail=kind)


def too_late(run: Run, what: str) -> RedfishError:
    return RedfishError(
        what,
        where=run.client.where + run.target.system,
        code="redfish-timeout",
        fix="See on its console whether it restarted. If the "
        "operating system ignored the request, set reset_type to force; run it again in any case, it goes on from what it finds",
    )
