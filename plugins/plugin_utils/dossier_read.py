# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify a dossier: the chain, each record at its own time, and where it is silent."""

from __future__ import annotations

import typing as t
from datetime import datetime, timedelta

from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import parse_time
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, PASS
from ansible_collections.attested.ai.plugins.module_utils.dossier.gaps import find_gaps
from ansible_collections.attested.ai.plugins.module_utils.dossier.judge import Judged, judge
from ansible_collections.attested.ai.plugins.module_utils.dossier.record import Record
from ansible_collections.attested.ai.plugins.module_utils.dossier.states import states_of
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.plugin_utils.dossier_files import DossierFiles

# Clocks are set now and then; more than this back is no such thing.
BACKWARDS = timedelta(minutes=5)
# A refusal that a record tells is good bookkeeping. These say that the record itself is not what it was.
INTEGRITY = ("file", "reproduced", "ear", "manifest", "releases", "order")
# What the report calls the steps.
_STEPS = (("manifest", "encrypt"), ("releases", "release"), ("served-model", "open"), ("channel", "serve"))


def verify(files: DossierFiles, public_key: t.Mapping[str, t.Any], options: t.Mapping[str, t.Any], until: datetime) -> dict[str, t.Any]:
    """What the task returns. Raises LedgerError where the chain itself does not hold."""
    report = files.verify(public_key, options["known_head"])
    cache, wanted = VerificationCache(), options["deployment"]
    entries, runs, latest, before = [], [], {}, None
    for line in report.entries:
        late = before is not None and parse_time(line["at"], "at") < before - BACKWARDS
        before = parse_time(line["at"], "at")
        if wanted not in (None, line["deployment"]):
            continue
        entry, judged = _entry(line, files, public_key, cache, late)
        entries.append(entry)
        latest[line["deployment"]] = entry
        if judged is not None:
            runs += _runs(entry, judged)
    gaps = [] if options["max_gap_hours"] is None else [gap.to_dict() for gap in find_gaps(entries, options["max_gap_hours"], until)]
    return {
        "changed": False, "count": report.count, "head": report.head, "entries": entries, "gaps": gaps, "runs": runs,
        "states": {name: entry["states"] for name, entry in latest.items()}, **_verdict(entries, gaps, wanted),
    }  # fmt: skip


def _entry(line: t.Mapping[str, t.Any], files: DossierFiles, public_key: t.Mapping[str, t.Any], cache: VerificationCache,
           late: bool) -> tuple[dict[str, t.Any], Judged | None]:  # fmt: skip
    record = Record.parse({name: value for name, value in line.items() if name not in ("seq", "prev", "hash")})
    about = {"seq": line["seq"], "hash": line["hash"], "at": record.at, "deployment": record.deployment, "version": record.version}
    try:
        judged = judge(record, files.blobs_of(record), public_key, cache)
    except AttestedError as error:
        checks = [{"id": "file", "outcome": FAIL, "detail": str(error)}]
        return {**about, "accepted": False, "intact": False, "status": "none", "anchor": "none", "checks": checks, "states": []}, None
    checks = [check.to_dict() for check in judged.checks.values()]
    order = "its time is before that of the record in front of it" if late else "its time follows"
    checks.append({"id": "order", "outcome": FAIL if late else PASS, "detail": order})
    failed = {check["id"] for check in checks if check["outcome"] == FAIL}
    # The same verdict as then, unless the record tells of a refusal by the connection.
    agrees = judged.result.accepted == record.accepted or bool(record.problem)
    return {
        **about, "accepted": record.accepted and not failed, "intact": agrees and not failed.intersection(INTEGRITY), "status": judged.result.status,
        "anchor": judged.result.anchor, "checks": checks, "states": [state.to_dict() for state in states_of(judged.checks)],
    }, judged  # fmt: skip


def _runs(entry: t.Mapping[str, t.Any], judged: Judged) -> list[dict[str, t.Any]]:
    """The record as the role report takes it."""
    about = {"name": f"{entry['deployment']} record {entry['seq']}", "host": "", "workload": entry["deployment"], "at": entry["at"]}
    shown = [{**about, "step": "attest", "result": judged.result.to_dict()}]
    for name, step in _STEPS:
        check = judged.checks[name]
        if check.outcome in (PASS, FAIL):
            shown.append({**about, "step": step, "ok": check.outcome == PASS, "detail": check.detail})
    return shown


def _verdict(entries: t.Sequence[t.Mapping[str, t.Any]], gaps: t.Sequence[t.Mapping[str, t.Any]], wanted: str | None) -> dict[str, t.Any]:
    damaged = [entry for entry in entries if not entry["intact"]]
    refused = [entry for entry in entries if entry["intact"] and not entry["accepted"]]
    said = f"{len(entries)} records, {len(entries) - len(damaged) - len(refused)} accepted, {len(refused)} refused, {len(damaged)} not what was signed"
    if gaps:
        first = gaps[0]
        said += f", {len(gaps)} gaps, the first of {first['hours']} hours after record {first['after']} of {first['deployment']}"
    for entry in damaged[:1]:
        worst = next((check for check in entry["checks"] if check["outcome"] == FAIL), None)
        said += f". Record {entry['seq']}: {worst['id']}: {worst['detail']}" if worst else f". Record {entry['seq']} tells another verdict than its evidence"
    if not entries:
        said = f"there is no record of {wanted}" if wanted else "there is no record"
    return {"failed": bool(damaged or gaps or not entries), "verified": bool(entries) and not damaged, "refused": len(refused), "msg": said}
