# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The operation forecast of the action collateral: each guest's evidence is appraised at the times at which something ends."""

from __future__ import annotations

import typing as t
from dataclasses import replace
from datetime import datetime

from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import UNCHECKED, Endorsements, appraise
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import parse_time
from ansible_collections.attested.ai.plugins.module_utils.appraisal.snp_policy import TcbFloor
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL
from ansible_collections.attested.ai.plugins.module_utils.endorsements import kds
from ansible_collections.attested.ai.plugins.module_utils.endorsements import forecast as core
from ansible_collections.attested.ai.plugins.module_utils.endorsements.forecast import Event, Verdict
from ansible_collections.attested.ai.plugins.module_utils.endorsements.needs import Planner, Sources, Wishes
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Entry, format_time
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceDocument
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import parse_report
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_inputs import load_store
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_recovery import TDX_TYPES, Recovery
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_task import Task
from ansible_collections.attested.ai.plugins.plugin_utils.text_table import Column, render

_COLUMNS = (Column("when", "WHEN"), Column("days", "DAYS", right=True), Column("guest", "GUEST"), Column("item", "ITEM"), Column("code", "REFUSED BY"),
            Column("detail", "WHY"))  # fmt: skip
_WIDTH = 200
_EARLY = "-early.json"
# Kinds that are fetched for the evidence that needs them. What is of another kind may concern any.
_FETCHED = ("amd-vek", "amd-crl", "tdx", "rim", "ocsp")
# What fails where the certificate of the chip is missing and those of others are tried.
_LEAF_CODES = ("vek-missing", "report-signature", "vek-hwid-mismatch", "vek-tcb-mismatch")


def forecast(task: Task) -> dict[str, t.Any]:
    """What would be refused within the horizon, sorted by time. Raises AttestedError."""
    documents = task.documents()
    if not documents:
        raise AttestedError("there is no evidence to forecast for", where="evidence", fix="Give evidence of the guests, as attest or tee_evidence return it")
    now, until = task.at, task.at + task.horizon
    values = task.inputs.reference_values(task.options["reference_values"])
    own = _timeless(task.policy, task.options["reference_values"] is not None)
    planned = [_planned(task, number, plan) for number, plan in enumerate(task.options["planned"], 1)]
    with task.store.reading() as index:
        entries = dict(index.entries)
        endorsements = load_store(task.store.root)
        early = _early(task, entries, endorsements)
        pieces = {path: task.store.read(entry) for path, entry in entries.items() if entry.kind == "tdx"} if task.options["recoveries"] else {}
    recoveries = [Recovery(number, pieces) for number in sorted(set(task.options["recoveries"]))]
    cache = VerificationCache()
    events: list[Event] = []
    for guest, document in documents.items():
        judge = _Judge(document, values, cache)
        today = judge(own, endorsements, now)
        boundaries = _boundaries(task, guest, document, entries)
        events += core.expiries(guest, lambda at: judge(own, endorsements, at), now, until, boundaries)  # noqa: B023 - used at once
        for at, policy in planned:
            if now < at <= until:
                # The same collateral as today: what has ended by then is told by itself.
                after = judge(_timeless(policy, task.options["reference_values"] is not None), endorsements, now)
                events += core.differences(guest, today, after, at, core.PLANNED_POLICY)
        if early is not None:
            events += core.differences(guest, today, judge(own, early, now), None, core.EARLY_TCB)
        for recovery in recoveries if any(item.type in TDX_TYPES for item in document.items) else ():
            events += recovery.events(guest, today, judge(recovery.policy(own), recovery.endorsements(endorsements), now))
        if not own.sev_snp.min_tcb.shipped:
            shipped = replace(own, sev_snp=replace(own.sev_snp, min_tcb=TcbFloor(shipped=True), min_launch_tcb=TcbFloor(shipped=True)))
            events += core.differences(guest, today, judge(shipped, endorsements, now), None, core.SHIPPED_FLOOR)
        events += _missing_vceks(guest, document, entries, today, now)
    found = [event.to_dict(now) for event in core.order(events)]
    ending = [entry.to_dict() | {"path": entry.path} for entry in entries.values() if entry.expires_at is not None and now < entry.expires_at <= until]
    guests = {event["guest"] for event in found if event["at"] is not None}
    return {
        "changed": False,
        "forecast": found,
        "table": table(found),
        "collateral_ending": sorted(ending, key=lambda entry: (entry["expires_at"], entry["path"])),
        "guests_at_risk": sorted(guests),
        "recoveries": [recovery.told() for recovery in recoveries],
        "horizon_end": format_time(until),
        "msg": f"{len(guests)} of {len(documents)} guests would be refused by {format_time(until)}" + (f", the first at {found[0]['at']}" if guests else ""),
    }


class _Judge:
    """Appraises one document under any policy, collateral and time; freshness is not asked for."""

    def __init__(self, document: EvidenceDocument, values: ReferenceValues, cache: VerificationCache) -> None:
        self._document = document
        self._values = values
        self._cache = cache

    def __call__(self, policy: Policy, endorsements: Endorsements, at: datetime) -> Verdict:
        result = appraise(
            self._document, policy=policy, reference_values=self._values, endorsements=endorsements, expected_nonce=UNCHECKED, at=at,
            connection=None, cache=self._cache,
        )  # fmt: skip
        failures = {(name, check.id): check.detail for name, item in result.items.items() for check in item.failures}
        failures.update({("", check.id): check.detail for check in result.checks if check.outcome == FAIL})
        return Verdict(failures, tuple(item.expires_at for item in result.items.values() if item.expires_at is not None))


def _boundaries(task: Task, guest: str, document: EvidenceDocument, entries: t.Mapping[str, Entry]) -> dict[datetime, list[str]]:
    """When files end that may matter to this document: those that it would be fetched, in any view, and those that nobody fetches."""
    planner = Planner(Sources(), Wishes(kds.TCB_NAMES), task.roots_of, task.store, task.at)
    planner.add_document(document, guest)
    planner.followers()
    wanted = {need.path for need in planner.needs} | set(planner.found)
    stems = {path.rpartition("-")[0] for path in wanted if path.endswith(".json")}
    found: dict[datetime, list[str]] = {}
    for path, entry in entries.items():
        concerns = path in wanted or entry.kind not in _FETCHED or entry.kind == "tdx" and path.rpartition("-")[0] in stems
        if entry.expires_at is not None and concerns:
            found.setdefault(entry.expires_at, []).append(path)
    return found


def _timeless(policy: Policy, measured: bool) -> Policy:
    """The policy without what belongs to one connection, and without measurements if there is nothing to compare them with."""
    return replace(policy, ssh_binding="off", ssh_keys_in_memory=False, measurements_required=policy.measurements_required and measured)


def _planned(task: Task, number: int, plan: t.Mapping[str, t.Any]) -> tuple[datetime, Policy]:
    try:
        return parse_time(plan["at"], "at"), task.inputs.policy(plan["policy"])
    except AttestedError as error:
        raise AttestedError(str(error), where=f"planned {number}") from None


def _early(task: Task, entries: t.Mapping[str, Entry], endorsements: Endorsements) -> Endorsements | None:
    """The collateral with Intel's early view in place of the standard one, where the store has both."""
    views = {path: path[: -len(_EARLY)] + "-standard.json" for path in entries if path.endswith(_EARLY)}
    pairs = {standard: early for early, standard in views.items() if standard in entries}
    if not pairs:
        return None
    standard = {task.store.read(entries[path]) for path in pairs}
    early = tuple(task.store.read(entries[path]) for path in pairs.values())
    return replace(endorsements, tdx=tuple(data for data in endorsements.tdx if data not in standard) + early)


def _missing_vceks(guest: str, document: EvidenceDocument, entries: t.Mapping[str, Entry], today: Verdict, now: datetime) -> list[Event]:
    """VCEKs that the store lacks: for the TCB that a machine reports if that is why it is refused, and for one that it has installed and may
    report from its next boot on."""
    events: list[Event] = []
    refused_for_it = any(code in _LEAF_CODES for _item, code in today.failures)
    for number, item in enumerate(document.items):
        if item.type != "sev-snp":
            continue
        try:
            report = parse_report(item.evidence)
        except FormatError:
            continue
        reported = kds.vceks_of_report(report)
        for vcek in kds.vceks_of_report(report, kds.TCB_NAMES):
            if vcek.path in entries:
                continue
            if vcek not in reported:
                detail = "the machine may report the TCB %s from its next boot on, and the store has no VCEK for it: fetch with tcbs" % vcek.tcb
                events.append(Event(guest, f"item {number}", "vek-missing", None, core.FIRMWARE_UPDATE, detail))
            elif refused_for_it and not any(code == "vek-missing" for _item, code in today.failures):
                events.append(Event(guest, f"item {number}", "vek-missing", now, core.NOW, "the store has no %s: fetch it" % vcek.about))
    return events


def table(found: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """The forecast as lines of text."""
    if not found:
        return []
    rows = [{**event, "when": event["at"] or event["because"], "detail": event["detail"]} for event in found]
    return [line.text for line in render(_COLUMNS, rows, _WIDTH)]
