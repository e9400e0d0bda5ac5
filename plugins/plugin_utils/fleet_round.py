# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One round of the monitor over a fleet: keep what came, compare it with what came before, decide what is to be done."""

from __future__ import annotations

import hashlib
import json
import typing as t
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import format_time
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.fleet import metrics, reaction
from ansible_collections.attested.ai.plugins.module_utils.fleet.drift import Change, compare, fingerprint
from ansible_collections.attested.ai.plugins.module_utils.fleet.reaction import BAD, GOOD, MISSING, Memory, Observation, Rules
from ansible_collections.attested.ai.plugins.module_utils.fleet.record import Kept, sign_record
from ansible_collections.attested.ai.plugins.module_utils.fleet.standing import MISSING as NO_RESULT
from ansible_collections.attested.ai.plugins.module_utils.fleet.standing import Standing, standing
from ansible_collections.attested.ai.plugins.module_utils.fleet.summary import Summary, summarise
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import plain
from ansible_collections.attested.ai.plugins.plugin_utils import fleet_forecast
from ansible_collections.attested.ai.plugins.plugin_utils.fleet_store import FleetStore

Row = dict[str, t.Any]
SAID_MAX = 1000


@dataclass(frozen=True)
class Seen:
    """What a task registered for a host: a result, or why there is none."""

    result: t.Mapping[str, t.Any] | None
    evidence: t.Any
    said: str


@dataclass(frozen=True)
class Round:
    """What holds for all hosts of a round. ``trusted`` are the public halves of ``key``, so that old records are read as what they are."""

    store: FleetStore
    rules: Rules
    now: datetime
    max_age: timedelta
    key: t.Any
    trusted: tuple[t.Any, ...]
    keep_evidence: bool
    # act -> the hosts for which somebody said how to do it.
    able: t.Mapping[str, t.Collection[str]]
    # What collateral foretold in this round.
    forecast: t.Mapping[str, t.Any] | None = None


def seen_of(registered: t.Any) -> Seen:
    """From the variable that attest registered on a host."""
    if not isinstance(registered, t.Mapping):
        return Seen(None, None, "there is no result: the host was not reached, or the task did not run")
    result = registered.get("result")
    if isinstance(result, t.Mapping):
        return Seen(plain(result, "result"), registered.get("evidence"), "")
    return Seen(None, None, " ".join(str(registered.get("msg") or "the task gave no result").split())[:SAID_MAX])


def observe(task: Round, found: t.Mapping[str, Seen], memories: dict[str, Memory]) -> tuple[list[Row], list[Row], list[metrics.HostMetrics]]:
    """Rows for people, events for the history, and metrics; ``memories`` is brought up to date."""
    rows, events, measured = [], [], []
    # Read before anything is written: what is no forecast must not cost half a round.
    foretold = fleet_forecast.by_host(task.forecast, {host: seen.evidence for host, seen in found.items()}) if task.forecast else {}
    for host, seen in sorted(found.items()):
        row, event, one = _host(task, host, seen, memories, foretold.get(host))
        rows.append(row)
        measured.append(one)
        if event:
            events.append(event)
    # A forecast over more than this round, as a play of somebody's own may ask for.
    for host in sorted((set(foretold) - set(found)) & set(memories)):
        task.store.foretell(host, foretold[host])
        memories[host] = replace(memories[host], foretold=format_time(task.now))
    return rows, events, measured


def remembered(task: Round, host: str, memory: Memory) -> metrics.HostMetrics:
    """The metrics of a host that was not part of this round."""
    kept, where = _kept(task, host, memory)
    return _measured(task, host, where, kept, memory)


def fleet(task: Round, memories: t.Mapping[str, Memory]) -> dict[str, t.Any]:
    """All hosts that are remembered as they are kept, for a report: rows, runs with the whole results, and one forecast over all of them."""
    rows, runs, foretold = [], [], {}
    for host, memory in sorted(memories.items()):
        kept, where = _kept(task, host, memory)
        changes: tuple[Change, ...] = ()
        if kept is not None and kept.summary is not None and memory.baseline is not None and memory.outcome in (GOOD, BAD):
            changes = tuple(compare(memory.baseline, fingerprint(kept.summary)))
        rows.append(_row(host, memory, kept, where, changes))
        runs.append(_run(task, host, memory, kept))
        one = task.store.foretold(host) if memory.foretold else None
        if one is not None:
            foretold[host] = one
    forecast = fleet_forecast.merged(foretold, task.forecast, task.now) if foretold else {}
    return {"hosts": rows, "runs": runs, "forecast": forecast}


def _run(task: Round, host: str, memory: Memory, kept: Kept | None) -> Row:
    """As the filter report_runs gives it. A host that did not answer has failed, whatever it was before, and so has one whose record is not what we signed."""
    run = {"name": host, "host": host, "step": "attest"}
    if kept is None or memory.outcome == MISSING:
        return {**run, "ok": False, "detail": memory.said or "there is no record of it"}
    if kept.summary is None or task.trusted and not kept.proven:
        return {**run, "ok": False, "detail": kept.problem}
    return {**run, "result": task.store.result(host)}


def _kept(task: Round, host: str, memory: Memory) -> tuple[Kept | None, Standing]:
    kept = task.store.kept(host, task.trusted)
    return kept, standing(kept, task.now, task.max_age) if kept is not None else Standing(NO_RESULT, memory.said, None, None)


def _measured(
    task: Round, host: str, where: Standing, kept: Kept | None, memory: Memory, foretold: t.Mapping[str, t.Any] | None = None
) -> metrics.HostMetrics:
    if foretold is None and memory.foretold:
        foretold = task.store.foretold(host)
    return metrics.HostMetrics(host, where.state, kept.summary if kept is not None else None, memory, None if foretold is None else foretold["events"])


def outcomes(rows: t.Sequence[Row]) -> dict[str, int]:
    return {**dict.fromkeys((GOOD, BAD, MISSING), 0), **Counter(row["outcome"] for row in rows)}


def _host(
    task: Round, host: str, seen: Seen, memories: dict[str, Memory], foretold: t.Mapping[str, t.Any] | None
) -> tuple[Row, Row | None, metrics.HostMetrics]:
    memory = memories.get(host, Memory())
    summary, said = None, seen.said
    observation, kept = Observation(MISSING), None
    if seen.result is not None:
        summary, observation, said = _judged(host, seen.result, memory)
        kept = Kept(host, summary, summary is not None and task.key is not None, "it is not signed" if summary is not None else said)
        mark = observation.seen
        # A signature is another one each time; what lies there already is left alone.
        if mark != memory.seen or task.store.kept(host, task.trusted) is None:
            token = sign_record(host, seen.result, task.key) if task.key is not None else None
            task.store.keep(host, token, seen.result, plain(seen.evidence, "evidence") if task.keep_evidence and seen.evidence is not None else None)
    memory, decision = reaction.step(memory, observation, task.rules)
    # Of a result its own time, so that the same result leaves the same state behind.
    asked = format_time(min(task.now, summary.evaluated_at) if summary is not None else task.now)
    memory = replace(memory, asked=asked, outcome=observation.kind, said=said[:SAID_MAX])
    if foretold is not None:
        task.store.foretell(host, foretold)
        memory = replace(memory, foretold=asked)
    memories[host] = memory
    kept = kept or task.store.kept(host, task.trusted)
    where = standing(kept, task.now, task.max_age) if kept is not None else Standing(NO_RESULT, said, None, None)
    acts = [act for act in decision.acts if host in task.able.get(act, ())]
    row = {
        **_row(host, memory, kept, where, observation.changes), "acts": acts, "no_means": [act for act in decision.acts if act not in acts],
        "news": list(decision.news),
    }  # fmt: skip
    event = _event(task.now, row) if decision.news else None
    return row, event, _measured(task, host, where, kept, memory, foretold)


def _judged(host: str, result: t.Mapping[str, t.Any], memory: Memory) -> tuple[Summary | None, Observation, str]:
    """A result that cannot be read is a bad round of its host, and of no other: one guest must not keep the others from being judged."""
    try:
        summary = summarise(result, f"result of {host}")
    except AttestedError as error:
        digest = hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()
        return None, Observation(BAD, (), None, "unreadable " + digest), str(error)[:SAID_MAX]
    present = fingerprint(summary)
    changes = tuple(compare(memory.baseline, present)) if memory.baseline is not None else ()
    mark = format_time(summary.evaluated_at) + " " + summary.evidence_digest
    said = "; ".join(f"{code}: {detail}" for code, detail in summary.reasons[:3])
    return summary, Observation(GOOD if summary.accepted else BAD, changes, present, mark), said


def _row(host: str, memory: Memory, kept: Kept | None, where: Standing, changes: t.Sequence[Change]) -> Row:
    return {
        "host": host, "outcome": memory.outcome, "state": where.state, "why": where.why or memory.said, "condition": memory.condition,
        "changes": [change.to_dict() for change in changes], "untold": list(memory.untold), "quarantined": memory.quarantined, "revoked": memory.revoked,
        "bad_rounds": memory.bad, "missing_rounds": memory.missing, "drift_total": memory.drift_total, "age_hours": where.age_hours, "days": where.days,
        **_shown(kept.summary if kept is not None else None),
    }  # fmt: skip


def _shown(summary: Summary | None) -> Row:
    if summary is None:
        return {"tees": [], "anchor": "none", "evaluated_at": None, "expires_at": None, "distance": None, "policy": "", "reasons": []}
    shown = summary.to_dict()
    return {
        "tees": list(summary.tees), "anchor": summary.anchor, "evaluated_at": shown["evaluated_at"], "expires_at": shown["expires_at"],
        "distance": summary.distance, "policy": summary.policy_id, "reasons": [code for code, _detail in summary.reasons],
    }  # fmt: skip


def _event(now: datetime, row: Row) -> Row:
    return {
        "at": format_time(now), "host": row["host"], "event": row["news"][0], "state": row["state"], "detail": row["why"][:1000], "changes": row["changes"],
    }  # fmt: skip


def settle(memories: dict[str, Memory], settled: t.Sequence[Row], now: datetime) -> list[Row]:
    """Remember what was done. Returns the events. Raises AttestedError for a host that nobody knows."""
    events = []
    for number, one in enumerate(settled):
        host = one["host"]
        if host not in memories:
            raise AttestedError(f"{host} is not known to the monitor", where=f"settled[{number}]")
        after = reaction.settle(memories[host], one["act"])
        if after != memories[host] and one["act"] != reaction.ALERT:
            what = {reaction.QUARANTINE: "quarantined", reaction.REVOKE: "revoked", reaction.RELEASE: "released"}[one["act"]]
            events.append({"at": format_time(now), "host": host, "event": what, "state": "", "detail": one.get("detail") or "", "changes": []})
        memories[host] = after
    return events


def forget(store: FleetStore, memories: dict[str, Memory], hosts: t.Iterable[str]) -> list[str]:
    """Drop all that is kept and remembered of ``hosts``. Returns those of which there was something."""
    found = []
    for host in dict.fromkeys(hosts):
        before = len(store.changed)
        known = memories.pop(host, None) is not None
        store.forget(host)
        if known or len(store.changed) > before:
            found.append(host)
    return found
