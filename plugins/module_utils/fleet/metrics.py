# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Metrics of a fleet as Prometheus's textfile collector reads them.

Times are exported as times, never as ages: an age that nobody renews stands still when the monitor does, and looks well. Let PromQL subtract.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import parse_time
from ansible_collections.attested.ai.plugins.module_utils.fleet.reaction import BAD, GOOD, MISSING, Memory
from ansible_collections.attested.ai.plugins.module_utils.fleet.standing import STATES
from ansible_collections.attested.ai.plugins.module_utils.fleet.summary import Summary

Sample = Tuple[Mapping[str, str], float]
FAMILIES = {
    "attested_host_info": "What the host is: its TEE, what its evidence rests on, the policy.",
    "attested_host_state": "1 for the state that the host is in, 0 for the others.",
    "attested_host_accepted": "Whether the last evidence was accepted.",
    "attested_host_evaluated_timestamp_seconds": "When the last result was made. Its age is time() minus this.",
    "attested_host_expires_timestamp_seconds": "When the first of what the result rests on ends: collateral, certificate, reference value.",
    "attested_host_tcb_distance": "Steps that the TCB in use lacks to the one at hand. Of Intel 0 or 1.",
    "attested_host_tcb_date_timestamp_seconds": "Date of the TCB level that Intel puts the machine into.",
    "attested_host_evaluation_number": "Intel's TCB evaluation data number that the machine was judged by.",
    "attested_host_asked_timestamp_seconds": "When the host was last part of a round, whatever came of it.",
    "attested_host_bad_rounds": "Bad rounds that are not forgotten yet.",
    "attested_host_missing_rounds": "Rounds in a row without an answer.",
    "attested_host_quarantined": "Whether the monitor has put the host into quarantine.",
    "attested_host_revoked": "Whether the monitor has revoked the keys of the host.",
    "attested_host_drift_total": "Changes between accepted results that were seen so far.",
    "attested_forecast_refusal_timestamp_seconds": "From when on the host will be refused, by what it is known today.",
    "attested_forecast_timestamp_seconds": "When the host was asked for the evidence that its forecast is about.",
    "attested_round_timestamp_seconds": "When the last round ended, of whatever part of the fleet.",
    "attested_round_hosts": "Hosts by what came of the last round that each was part of.",
}
_COUNTERS = ("attested_host_drift_total",)


@dataclass(frozen=True)
class HostMetrics:
    """One host: its state, its last result if there ever was one, what is remembered of it, and what was foretold of it last."""

    host: str
    state: str
    summary: Optional[Summary]
    memory: Memory
    foretold: Optional[Sequence[Mapping[str, Any]]] = None


def render(hosts: Sequence[HostMetrics], at: datetime) -> str:
    """The whole file, of all hosts that are remembered: who was not part of this round must not vanish from it."""
    families: Dict[str, List[Sample]] = {name: [] for name in FAMILIES}
    for one in sorted(hosts, key=lambda one: one.host):
        for name, labels, value in _host(one):
            families[name].append(({"host": one.host, **labels}, value))
    families["attested_round_timestamp_seconds"].append(({}, at.timestamp()))
    counts = Counter(one.memory.outcome for one in hosts)
    families["attested_round_hosts"] += [({"outcome": name}, float(counts[name])) for name in (BAD, GOOD, MISSING)]
    return "".join(_family(name, samples) for name, samples in families.items() if samples)


def _host(one: HostMetrics) -> Iterable[Tuple[str, Mapping[str, str], float]]:
    for state in STATES:
        yield "attested_host_state", {"state": state}, float(state == one.state)
    memory = one.memory
    if memory.asked:
        yield "attested_host_asked_timestamp_seconds", {}, parse_time(memory.asked, "asked").timestamp()
    yield "attested_host_bad_rounds", {}, float(memory.bad)
    yield "attested_host_missing_rounds", {}, float(memory.missing)
    yield "attested_host_quarantined", {}, float(memory.quarantined)
    yield "attested_host_revoked", {}, float(memory.revoked)
    yield "attested_host_drift_total", {}, float(memory.drift_total)
    if one.foretold is not None and memory.foretold:
        yield "attested_forecast_timestamp_seconds", {}, parse_time(memory.foretold, "foretold").timestamp()
        for labels, moment in _refusals(one.foretold):
            yield "attested_forecast_refusal_timestamp_seconds", labels, moment
    summary = one.summary
    if summary is None:
        return
    yield "attested_host_info", {"tee": ",".join(summary.tees), "anchor": summary.anchor, "policy": summary.policy_id, "reaches": summary.reaches}, 1.0
    yield "attested_host_accepted", {}, float(summary.accepted)
    yield "attested_host_evaluated_timestamp_seconds", {}, summary.evaluated_at.timestamp()
    if summary.expires_at is not None:
        yield "attested_host_expires_timestamp_seconds", {}, summary.expires_at.timestamp()
    for item in summary.items:
        labels = {"item": item.name, "tee": item.tee}
        if item.distance is not None:
            yield "attested_host_tcb_distance", labels, float(item.distance)
        if "tcb_date" in item.values:
            yield "attested_host_tcb_date_timestamp_seconds", labels, parse_time(item.values["tcb_date"], "tcb_date").timestamp()
        if "evaluation_number" in item.tcb:
            yield "attested_host_evaluation_number", labels, float(item.tcb["evaluation_number"])


def _refusals(foretold: Sequence[Mapping[str, Any]]) -> Iterable[Sample]:
    """One sample for each set of labels, the first moment: Prometheus refuses the whole file for one that occurs twice."""
    first: Dict[Tuple[str, str, str], float] = {}
    for event in foretold:
        if event.get("at") is not None:
            labels = (str(event["item"]), str(event["code"]), str(event["because"]))
            moment = parse_time(event["at"], "forecast").timestamp()
            first[labels] = min(moment, first.get(labels, moment))
    for (item, code, because), moment in first.items():
        yield {"item": item, "code": code, "because": because}, moment


def _family(name: str, samples: Sequence[Sample]) -> str:
    kind = "counter" if name in _COUNTERS else "gauge"
    lines = ["# HELP %s %s" % (name, FAMILIES[name]), "# TYPE %s %s" % (name, kind)]
    lines += [name + _labels(labels) + " " + _number(value) for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    shown = ",".join('%s="%s"' % (name, _escape(value)) for name, value in labels.items())
    return "{%s}" % shown if shown else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", " ")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
