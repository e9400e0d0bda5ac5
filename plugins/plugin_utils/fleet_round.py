# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One round of the monitor over a fleet: keep what came, compare it with what came before, decide what is to be done."""

from __future__ import annotations

import typing as t
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import format_time
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.fleet import metrics, reaction
from ansible_collections.attested.ai.plugins.module_utils.fleet.drift import compare, fingerprint
from ansible_collections.attested.ai.plugins.module_utils.fleet.reaction import BAD, GOOD, MISSING, Memory, Observation, Rules
from ansible_collections.attested.ai.plugins.module_utils.fleet.record import Kept, sign_record
from ansible_collections.attested.ai.plugins.module_utils.fleet.standing import MISSING as NO_RESULT
from ansible_collections.attested.ai.plugins.module_utils.fleet.standing import Standing, standing
from ansible_collections.attested.ai.plugins.module_utils.fleet.summary import Summary, summarise
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import plain
from ansible_collections.attested.ai.plugins.plugin_utils.fleet_store import FleetStore

Row = dict[str, t.Any]


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


def seen_of(registered: t.Any) -> Seen:
    """From the variable that attest registered on a host."""
    if not isinstance(registered, t.Mapping):
        return Seen(None, None, "there is no result: the host was not reached, or the task did not run")
    result = registered.get("result")
    if isinstance(result, t.Mapping):
        return Seen(plain(result, "result"), registered.get("evidence"), "")
    return Seen(None, None, " ".join(str(registered.get("msg") or "the task gave no result").split())[:1000])


def observe(task: Round, found: t.Mapping[str, Seen], memories: dict[str, Memory]) -> tuple[list[Row], list[Row], list[metrics.HostMetrics]]:
    """Rows for people, events for the history, and metrics; ``memories`` is brought up to date."""
    rows, events, measured = [], [], []
    for host, seen in sorted(found.items()):
        row, event, one = _host(task, host, seen, memories)
        rows.append(row)
        measured.append(one)
        if event:
            events.append(event)
    return rows, events, measured


def remembered(task: Round, host: str, memory: Memory) -> metrics.HostMetrics:
    """The metrics of a host that was not part of this round."""
    kept = task.store.kept(host, task.trusted)
    state = standing(kept, task.now, task.max_age).state if kept is not None else NO_RESULT
    return metrics.HostMetrics(host, state, kept.summary if kept is not None else None, memory)


def outcomes(rows: t.Sequence[Row]) -> dict[str, int]:
    return {**dict.fromkeys((GOOD, BAD, MISSING), 0), **Counter(row["outcome"] for row in rows)}


def _host(task: Round, host: str, seen: Seen, memories: dict[str, Memory]) -> tuple[Row, Row | None, metrics.HostMetrics]:
    memory = memories.get(host, Memory())
    summary, changes, said = None, (), seen.said
    kind, observation = MISSING, Observation(MISSING)
    if seen.result is not None:
        summary = summarise(seen.result, f"result of {host}")
        present = fingerprint(summary)
        changes = tuple(compare(memory.baseline, present)) if memory.baseline is not None else ()
        kind = GOOD if summary.accepted else BAD
        mark = format_time(summary.evaluated_at) + " " + summary.evidence_digest
        observation = Observation(kind, changes, present, mark)
        said = "; ".join(f"{code}: {detail}" for code, detail in summary.reasons[:3])
        # A signature is another one each time; what lies there already is left alone.
        if mark != memory.seen or task.store.kept(host, task.trusted) is None:
            token = sign_record(host, seen.result, task.key) if task.key is not None else None
            task.store.keep(host, token, seen.result, plain(seen.evidence, "evidence") if task.keep_evidence and seen.evidence is not None else None)
    memory, decision = reaction.step(memory, observation, task.rules)
    memories[host] = memory
    kept = Kept(host, summary, task.key is not None, "it is not signed") if summary is not None else task.store.kept(host, task.trusted)
    where = standing(kept, task.now, task.max_age) if kept is not None else Standing(NO_RESULT, said, None, None)
    acts = [act for act in decision.acts if host in task.able.get(act, ())]
    row = {
        "host": host, "outcome": kind, "state": where.state, "why": where.why or said, "condition": memory.condition, "acts": acts,
        "no_means": [act for act in decision.acts if act not in acts], "news": list(decision.news), "changes": [change.to_dict() for change in changes],
        "untold": list(memory.untold), "quarantined": memory.quarantined, "revoked": memory.revoked, "bad_rounds": memory.bad,
        "missing_rounds": memory.missing, "drift_total": memory.drift_total, "age_hours": where.age_hours, "days": where.days,
        **_shown(kept.summary if kept is not None else None),
    }  # fmt: skip
    event = _event(task.now, row) if decision.news else None
    return row, event, metrics.HostMetrics(host, where.state, kept.summary if kept is not None else None, memory)


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
