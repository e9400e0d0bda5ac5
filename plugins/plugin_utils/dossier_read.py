# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify a dossier: the chain, each record at its own time, and where it is silent."""

from __future__ import annotations

import typing as t
from datetime import datetime, timedelta, timezone

from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import parse_time
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, PASS, Check, failed, passed
from ansible_collections.attested.ai.plugins.module_utils.dossier.gaps import find_gaps
from ansible_collections.attested.ai.plugins.module_utils.dossier.judge import Judged, judge
from ansible_collections.attested.ai.plugins.module_utils.dossier.record import Record
from ansible_collections.attested.ai.plugins.module_utils.dossier.states import AT_REST, IN_TRANSIT, INTEGRITY, states_of
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.result import ANCHOR_VENDOR
from ansible_collections.attested.ai.plugins.plugin_utils.dossier_files import DossierFiles

Data = t.Dict[str, t.Any]
# Clocks are set now and then, and differ; more than this is no such thing.
TOLERANCE = timedelta(minutes=5)
# What the report calls the steps: the check, and the state that it belongs to.
_STEPS = (("manifest", AT_REST, "encrypt"), ("releases", AT_REST, "release"), ("served-model", AT_REST, "open"), ("channel", IN_TRANSIT, "serve"))


class _Order:
    """What only all records together say of one: whether its time follows, and whether its nonce is its own."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._before: datetime | None = None
        self._nonces: dict[str, int] = {}

    def checks(self, line: t.Mapping[str, t.Any]) -> list[Check]:
        at, first = parse_time(line["at"], "at"), self._nonces.setdefault(line["nonce"], line["seq"])
        if at > self._now + TOLERANCE:
            order = failed("order", "its time has not come yet")
        elif self._before is not None and at < self._before - TOLERANCE:
            order = failed("order", "its time is before that of a record in front of it")
            # One clock that was ahead does not damn all that comes after.
            self._before = at
        else:
            order = passed("order", "its time follows")
            # The latest so far, so that many small steps back show.
            self._before = at if self._before is None else max(at, self._before)
        if first != line["seq"]:
            return [order, failed("fresh", f"its nonce is that of record {first}: evidence of then says nothing of later")]
        return [order, passed("fresh", "its nonce is in no record before it")]


def verify(files: DossierFiles, public_key: t.Mapping[str, t.Any], options: t.Mapping[str, t.Any], until: datetime) -> dict[str, t.Any]:
    """What the task returns. Raises LedgerError where the chain itself does not hold."""
    report = files.verify(public_key, options["known_head"])
    cache, wanted, order = VerificationCache(), options["deployment"], _Order(max(until, datetime.now(timezone.utc)))
    entries: list[Data] = []
    runs: list[Data] = []
    latest: dict[str, tuple[Data, list[Data]]] = {}
    for line in report.entries:
        around = order.checks(line)
        if wanted not in (None, line["deployment"]):
            continue
        entry, shown = _entry(line, files, public_key, cache, around)
        entries.append(entry)
        latest[line["deployment"]] = entry, shown
        # A year of good records makes no page; what was not good stays on it.
        runs += [] if entry["accepted"] else shown
    runs += [run for entry, shown in latest.values() if entry["accepted"] for run in shown]
    gaps = [] if options["max_gap_hours"] is None else [gap.to_dict() for gap in find_gaps(entries, options["max_gap_hours"], until)]
    return {
        "changed": False, "count": report.count, "head": report.head, "entries": entries, "gaps": gaps, "runs": runs,
        "states": {name: entry["states"] for name, (entry, _shown) in latest.items()}, **_verdict(entries, gaps, wanted),
    }  # fmt: skip


def _entry(line: t.Mapping[str, t.Any], files: DossierFiles, public_key: t.Mapping[str, t.Any], cache: VerificationCache,
           around: t.Sequence[Check]) -> tuple[Data, list[Data]]:  # fmt: skip
    """(what is returned of a record, its runs)."""
    record = Record.parse({name: value for name, value in line.items() if name not in ("seq", "prev", "hash")})
    about = {"seq": line["seq"], "hash": line["hash"], "at": record.at, "deployment": record.deployment, "version": record.version}
    run = {"name": f"{record.deployment} record {line['seq']}", "host": "", "workload": record.deployment, "at": record.at}
    try:
        judged = judge(record, files.blobs_of(record), public_key, cache)
    except AttestedError as error:
        checks = [failed("file", str(error)).to_dict()]
        entry = {**about, "accepted": False, "intact": False, "status": "none", "anchor": "none", "checks": checks, "states": []}
        return entry, [{**run, "step": "attest", "ok": False, "detail": checks[0]["detail"]}]
    found = {**judged.checks, **{check.id: check for check in around}}
    wrong = {name for name, check in found.items() if check.outcome == FAIL}
    intact = judged.accepted is record.accepted and not wrong.intersection(INTEGRITY)
    states = states_of(found)
    entry = {
        **about, "accepted": record.accepted and not wrong, "intact": intact, "status": judged.result.status, "anchor": judged.result.anchor,
        "checks": [check.to_dict() for check in found.values()], "states": [state.to_dict() for state in states],
    }  # fmt: skip
    return entry, _runs(run, entry, judged, {state.name for state in states if state.shown})


def _runs(about: Data, entry: Data, judged: Judged, shown: t.Container[str]) -> list[Data]:
    """The record as the role report takes it: what failed, and what passed if the state that it stands for is shown."""
    runs: list[Data] = [{**about, "step": "attest", "result": judged.result.to_dict()}]
    if not entry["intact"]:
        runs[0].update(ok=False, detail=_wrong(entry))
    for name, state, step in _STEPS:
        check = judged.checks[name]
        if check.outcome == FAIL or (check.outcome == PASS and state in shown):
            runs.append({**about, "step": step, "ok": check.outcome == PASS, "detail": check.detail})
    return runs


def _wrong(entry: t.Mapping[str, t.Any]) -> str:
    """Why a record is not intact."""
    worst = next((check for check in entry["checks"] if check["outcome"] == FAIL and check["id"] in INTEGRITY), None)
    return f"{worst['id']}: {worst['detail']}" if worst else "it tells another verdict than its evidence"


def _verdict(entries: t.Sequence[t.Mapping[str, t.Any]], gaps: t.Sequence[t.Mapping[str, t.Any]], wanted: str | None) -> dict[str, t.Any]:
    damaged = [entry for entry in entries if not entry["intact"]]
    refused = [entry for entry in entries if entry["intact"] and not entry["accepted"]]
    said = f"{len(entries)} records, {len(entries) - len(damaged) - len(refused)} accepted, {len(refused)} refused, {len(damaged)} not what was signed"
    outside = sum(entry["accepted"] and entry["anchor"] != ANCHOR_VENDOR for entry in entries)
    if outside:
        said += f", {outside} with a root that is NOT a vendor's"
    if gaps:
        first = gaps[0]
        said += f", {len(gaps)} gaps, the first of {first['hours']} hours after record {first['after']} of {first['deployment']}"
    for entry in damaged[:1]:
        said += f". Record {entry['seq']}: {_wrong(entry)}"
    if not entries:
        said = f"there is no record of {wanted}" if wanted else "there is no record"
    return {"failed": bool(damaged or gaps or not entries), "verified": bool(entries) and not damaged, "refused": len(refused), "msg": said}
