# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The three things that are done to a machine, each so that it may be done once more by the next run: write, make a job, reset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.redfish.client import Client, Dropped
from ansible_collections.attested.ai.plugins.module_utils.redfish.machine import Snapshot, Target, members, read
from ansible_collections.attested.ai.plugins.module_utils.redfish.planner import Stage
from ansible_collections.attested.ai.plugins.module_utils.redfish.registry import Value, same

RESETS = {"graceful": "GracefulRestart", "force": "ForceRestart", "power_cycle": "PowerCycle"}
APPLY_TIMES = {"on_reset": "OnReset", "immediate": "Immediate"}
_JOB_ENDED = ("Completed", "CompletedWithErrors", "Failed", "RebootCompleted", "RebootFailed")
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
    """What one run needs and collects."""

    client: Client
    target: Target
    options: Options
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    tell: Callable[[str], None]
    trace: List[Mapping[str, Any]] = field(default_factory=list)
    reboots: int = 0

    def note(self, stage: int, step: str, values: Optional[Mapping[str, Value]] = None, detail: str = "") -> None:
        self.trace.append({"stage": stage, "step": step, "attributes": dict(values or {}), "detail": detail})
        text = ", ".join("%s=%s" % item for item in sorted((values or {}).items()))
        self.tell("%s: stage %d: %s%s%s" % (self.client.where, stage, step, " " + text if text else "", " (%s)" % detail if detail else ""))


def write(run: Run, number: int, stage: Stage, snapshot: Snapshot) -> bool:
    """Make the stage pending. False if somebody else changed the settings meanwhile, so that a new plan is needed."""
    time = APPLY_TIMES.get(run.options.apply_time, "OnReset" if run.options.apply_time == "auto" and "OnReset" in snapshot.apply_times else "")
    body: Dict[str, Any] = {"Attributes": dict(stage.patch)}
    if time:
        body["@Redfish.SettingsApplyTime"] = {"ApplyTime": time}
    for attempt in range(1, SENDS + 1):
        try:
            run.client.patch(run.target.settings, body, snapshot.etag)
            break
        except Dropped as error:
            # Writing the same values twice does no harm, but first it is looked up whether they arrived.
            snapshot = read(run.client, run.target)
            if all(same(snapshot.pending.get(name), value) for name, value in stage.patch.items()):
                break
            if attempt == SENDS or error.code == "redfish-busy":
                raise
        except RedfishError as error:
            if error.code == "redfish-changed":
                run.note(number, "changed meanwhile")
                return False
            raise
    run.note(number, "write", stage.patch)
    return True


def ensure_job(run: Run, number: int) -> None:
    """Values that are pending on some controllers are applied by a job only; whether there is one is asked before and after."""
    for attempt in range(1, SENDS + 1):
        if job_waits(run.client, run.target):
            return
        try:
            run.client.post(run.target.jobs, {"TargetSettingsURI": run.target.settings})
        except Dropped:
            if attempt == SENDS:
                raise
            continue
        run.note(number, "job", detail="to apply what is pending")
        return


def job_waits(client: Client, target: Target) -> bool:
    """Whether there is a job that has still to apply something."""
    for path in members(client.get(target.jobs).body):
        job = client.find(path)
        if job is not None and job.body.get("JobType") == "BIOSConfiguration" and job.body.get("JobState") not in _JOB_ENDED:
            return True
    return False


def reset(run: Run, number: int, snapshot: Snapshot) -> None:
    if run.options.apply_time == "immediate":
        return
    types, wish = run.target.reset_types, RESETS[run.options.reset_type]
    if snapshot.power == "Off":
        _send_reset(run, number, "On")
    elif not types or wish in types:
        _send_reset(run, number, wish)
    elif run.options.reset_type == "power_cycle" and "ForceOff" in types and "On" in types:
        _send_reset(run, number, "ForceOff")
        end = run.clock() + run.options.reboot_timeout
        while read(run.client, run.target).power != "Off":
            if run.clock() > end:
                raise too_late(run, "it does not power off")
            run.sleep(run.options.poll)
        _send_reset(run, number, "On")
    else:
        raise RedfishError(
            "it knows no %s, but %s" % (wish, ", ".join(types)),
            where=run.client.where + run.target.reset,
            fix="Set reset_type to another one of %s; what was written stays pending" % ", ".join(RESETS),
            code="redfish-reset",
        )
    run.reboots += 1


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
