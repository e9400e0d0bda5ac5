# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a BIOS to its goal, stage by stage: read, plan, write, reset, wait, read again.

Nothing is remembered between runs. Each round plans anew from what the machine says, so that a run that was cut off anywhere is continued by the
next one: values that are pending already are not written again, and only their reset is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.redfish.acts import (
    APPLY_TIMES, PASSING, SENDS, Options, Run, at_once, ensure_job, reset, reset_kind, too_late, write,
)  # fmt: skip
from ansible_collections.attested.ai.plugins.module_utils.redfish.client import Client
from ansible_collections.attested.ai.plugins.module_utils.redfish.jobs import at_work, bios_job
from ansible_collections.attested.ai.plugins.module_utils.redfish.machine import IN_BIOS, Snapshot, Target, read, read_registry
from ansible_collections.attested.ai.plugins.module_utils.redfish.planner import Plan, Stage, dropped, effective, plan
from ansible_collections.attested.ai.plugins.module_utils.redfish.registry import Registry, Value, Values, same, spelled
from ansible_collections.attested.ai.plugins.module_utils.redfish.resolve import Unresolved, Want

# The machine has gone through its BIOS.
_BOOTED = ("OSBootStarted", "OSRunning", "SetupEntered")
_STAGES_MAX = 12

# What shall be, for the registry and the values of this moment.
Wants = Callable[[Registry, Values], Tuple[Tuple[Want, ...], Tuple[Unresolved, ...]]]


@dataclass(frozen=True)
class Outcome:
    """The change, planned or made. ``after`` and ``pending_after`` are what is applied and what waits when this run ends."""

    changed: bool
    needs_reboot: bool
    before: Mapping[str, Value]
    after: Mapping[str, Value]
    pending_before: Mapping[str, Value]
    pending_after: Mapping[str, Value]
    stages: Tuple[Stage, ...]
    wants: Tuple[Want, ...]
    unresolved: Tuple[Unresolved, ...]
    foreign: Mapping[str, Value]
    trace: Tuple[Mapping[str, Any], ...] = ()
    reboots: int = 0


def look(client: Client, target: Target, wants_of: Wants, options: Options) -> Tuple[Outcome, Snapshot]:
    """What would be done, without doing it. Raises RedfishError where the goal cannot be reached."""
    return _look(client, target, wants_of, options)[:2]


def _look(client: Client, target: Target, wants_of: Wants, options: Options, ended: Optional[Set[str]] = None) -> Tuple[Outcome, Snapshot, Registry]:
    registry, snapshot = _read_both(client, target)
    snapshot = replace(snapshot, current=spelled(registry, dict(snapshot.current)), pending=spelled(registry, dict(snapshot.pending)))
    wants, unresolved = wants_of(registry, snapshot.current)
    found = plan(registry, snapshot.current, snapshot.pending, wants)
    _check_blocked(found, client.where + target.bios)
    waiting = effective(snapshot.current, snapshot.pending)
    ours = {name: value for name, value in waiting.items() if name not in found.foreign}
    first = dict(found.stages[0].changes) if found.stages else {}
    staying = {name: value for name, value in first.items() if not same(snapshot.current.get(name), value)}
    made = bool(found.stages) and (options.reboot_ok or bool(found.stages[0].patch) or (bool(target.jobs) and not bios_job(client, target, ended)))
    after, pending = (found.after, {}) if options.reboot_ok else (found.before, staying)
    return Outcome(made, bool(found.stages), found.before, after, ours, pending, found.stages, wants, unresolved, found.foreign), snapshot, registry


def _read_both(client: Client, target: Target) -> Tuple[Registry, Snapshot]:
    """Registry and values of one moment: a machine that leaves its BIOS in between would show those of two."""
    before = read(client, target)
    for _look in range(SENDS):
        registry, after = read_registry(client, target), read(client, target)
        if (before.current, before.pending) == (after.current, after.pending):
            break
        before = after
    return registry, after


def converge(
    client: Client, target: Target, wants_of: Wants, options: Options, clock: Callable[[], float], sleep: Callable[[float], None],
    tell: Callable[[str], None] = lambda line: None,
    trace: Optional[List[Mapping[str, Any]]] = None,
) -> Outcome:  # fmt: skip
    """Reach the goal, or, without ``reboot_ok``, leave the first stage pending. Raises RedfishError; ``trace`` then tells
    what was done before."""
    run = Run(client, target, options, clock, sleep, tell, [] if trace is None else trace)
    if options.apply_time == "immediate" and not options.reboot_ok:
        raise RedfishError(
            "it lets the controller restart the machine at once", where="apply_time immediate", fix="Set reboot_ok as well", code="redfish-reboot"
        )
    start, first, run.registry = _look(client, target, wants_of, options, run.ended)
    outcome, snapshot, number = start, first, 0
    refused: Dict[str, int] = {}
    before: Dict[str, Value] = dict(start.before)
    if outcome.stages and options.reboot_ok:
        _check_ways(run, first)
    while outcome.stages:
        number += 1
        if number > _STAGES_MAX:
            raise RedfishError(
                "it is not done after %d stages" % _STAGES_MAX, where=client.where + target.bios, fix="See trace for what changes back", code="redfish-stuck"
            )
        stage, job = outcome.stages[0], run.job()
        ours = not (job and stage.patch)
        for name in stage.changes:
            # What was hidden at first has its value from before once it shows.
            if before.get(name) is None:
                before[name] = snapshot.current.get(name)
        if not ours:
            stage = _committed(run, number, snapshot, job)
        elif stage.patch and not write(run, number, stage, snapshot):
            outcome, snapshot, run.registry = _look(client, target, wants_of, options, run.ended)
            continue
        elif target.jobs:
            ensure_job(run, number)
        if not options.reboot_ok:
            return _with(start, run, start.before, start.before, start.pending_after, True)
        if ours and stage.patch and at_once(run, snapshot):
            run.reboots += 1
        elif not at_work(job):
            reset(run, number, snapshot)
        for name in _await(run, number, stage, snapshot):
            refused[name] = refused.get(name, 0) + 1
            # One that depends on another of the same stage may be taken the second time.
            if ours and (refused[name] > 1 or len(stage.changes) == 1):
                raise _not_taken(run, name, stage.changes[name], run.read())
        outcome, snapshot, run.registry = _look(client, target, wants_of, options, run.ended)
    after = {name: snapshot.current.get(name) for name in before}
    return _with(start, run, before, after, {}, False, outcome)


def _check_ways(run: Run, snapshot: Snapshot) -> None:
    """Before anything is written: whether this machine can be reset, or its settings applied, in the way that was asked for."""
    if run.options.apply_time != "immediate":
        reset_kind(run, snapshot)
    elif APPLY_TIMES["immediate"] not in snapshot.apply_times:
        raise RedfishError(
            "it does not offer to apply settings at once, but %s" % (", ".join(snapshot.apply_times) or "names no times"),
            where=run.client.where + run.target.bios, fix="Leave apply_time out, or set it to on_reset", code="redfish-apply-time",
        )  # fmt: skip


def _committed(run: Run, number: int, snapshot: Snapshot, state: str) -> Stage:
    """What a job of an earlier run, or of somebody else, is about to apply. While it waits nothing can be written."""
    waiting = effective(snapshot.current, snapshot.pending)
    if not run.options.reboot_ok:
        raise RedfishError(
            "a job waits (%s) to apply %s, and nothing can be written before" % (ascii(state)[1:33], ", ".join(sorted(waiting)) or "settings"),
            where=run.client.where + run.target.jobs, fix="Restart the machine, or take the job from the queue, and run it again", code="redfish-job",
        )  # fmt: skip
    run.note(number, "earlier job", detail="%s from before is %s" % (", ".join(sorted(waiting)) or "one", "waited for" if at_work(state) else "applied first"))
    return Stage(waiting, {})


def changed(trace: Sequence[Mapping[str, Any]]) -> bool:
    """Whether anything was done to a machine, and not only looked at."""
    return any(event["step"] in ("write", "job", "reset") for event in trace)


def _with(start: Outcome, run: Run, before: Values, after: Values, pending: Values, needs_reboot: bool, last: Optional[Outcome] = None) -> Outcome:
    end = last or start
    return Outcome(
        changed(run.trace), needs_reboot, before, after, start.pending_before, pending, start.stages,
        end.wants, end.unresolved, start.foreign, tuple(run.trace), run.reboots,
    )  # fmt: skip


def _check_blocked(found: Plan, where: str) -> None:
    if found.blocked:
        raise RedfishError(
            "; ".join("%s is %s" % item for item in sorted(found.blocked.items())),
            where=where,
            code="redfish-blocked",
            fix="Mend what " "it depends on: another setting (add it under attributes), empty DIMM slots, or a BIOS that is too old",
        )


def _await(run: Run, number: int, stage: Stage, before: Snapshot) -> Sequence[str]:
    """Wait until every change of the stage is applied, or was not taken; returns the latter, as far as they are shown at all."""
    began = run.clock()
    since: Optional[float] = None
    looks = 0
    while True:
        if run.clock() - began > run.options.reboot_timeout:
            raise too_late(run, "the settings are not applied after %d seconds" % run.options.reboot_timeout)
        run.sleep(run.options.poll)
        try:
            now, job = run.read(), run.job()
        except RedfishError as error:
            if error.code not in PASSING:
                raise
            continue
        lost = dropped(stage, now.current, now.pending)
        good = {name: value for name, value in stage.changes.items() if same(now.current.get(name), value)}
        if len(good) + len(lost) < len(stage.changes) or job or now.power not in ("On", ""):
            since, looks = None, 0
            continue
        looks += 1
        since = run.clock() if since is None else since
        settled = run.clock() - since > run.options.settle
        # The next reset shall not come in the middle of this boot, as far as the machine tells where it is.
        if not lost and (settled or now.boot not in IN_BIOS):
            run.note(number, "applied", good)
            return ()
        if lost and (settled or (looks >= 3 and now.boot in _BOOTED and now.mark != before.mark)):
            if good:
                run.note(number, "applied", good)
            shown = [name for name in lost if name in now.current]
            run.note(number, "not taken" if shown else "not shown any more", {name: stage.changes[name] for name in shown or lost})
            return shown


def _not_taken(run: Run, name: str, value: Value, now: Snapshot) -> RedfishError:
    return RedfishError(
        "the BIOS did not take %s=%s%s" % (name, value, ": " + "; ".join(now.messages) if now.messages else ""), where=run.client.where + run.target.bios,
        fix="Look in its setup and its log what this setting depends on", code="redfish-not-taken",
    )  # fmt: skip
