# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Shape what tee_info found on many hosts into a table and a document. Pure: data in, data out."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

Data = t.Mapping[str, t.Any]

SCHEMA = "attested.ai/preflight/1"
READY, NOT_READY, UNKNOWN = "ready", "not-ready", "unknown"
WAIVED = "waived"
WORST_FIRST = ("fail", "unknown", WAIVED, "skipped", "pass")
BLOCKING = ("fail", "unknown")
MEMBERS = ("id", "area", "outcome", "observed", "expected", "source", "fix")


def view(hostvars: t.Mapping[str, Data], hosts: t.Sequence[str], variable: str, waivers: Data) -> dict[str, t.Any]:
    """What the table, the page and the gate show. A host without a result is not ready, never absent.

    ``waivers`` maps ids of probes to the reason why they may fail or stay unknown. Raises FormatError for a waiver without a reason.
    """
    if not isinstance(waivers, t.Mapping) or not all(isinstance(reason, str) and reason.strip() for reason in waivers.values()):
        raise FormatError("each waiver needs a reason", where="waivers", fix="give a dictionary of ids and reasons")
    shown = [_host(host, hostvars[host].get(variable) if host in hostvars else None, waivers) for host in hosts]
    used = {check["id"] for host in shown for check in host["checks"]}
    return {
        "schema": SCHEMA,
        "ready": bool(shown) and all(host["verdict"] == READY for host in shown),
        "hosts": shown,
        "unused_waivers": sorted(set(waivers) - used),
        "notes": list(dict.fromkeys(note for host in shown for note in host["notes"])),
        "rows": [row for host in shown for row in _rows(host)],
    }


def _host(name: str, registered: t.Any, waivers: Data) -> dict[str, t.Any]:
    probes = registered.get("probes") if isinstance(registered, t.Mapping) else None
    if not isinstance(probes, (list, tuple)):
        said = registered.get("msg") if isinstance(registered, t.Mapping) else None
        reason = str(said or "there is no result: the host was not reached, or the task did not run")
        empty = {"machine": {}, "identity": {}, "notes": [], "checks": [], "counts": {}}
        return {"host": name, "scope": "", "tee": "", "verdict": NOT_READY, "reason": reason, **empty}
    checks = [_check(probe, waivers) for probe in probes]
    outcomes = [check["outcome"] for check in checks]
    decided = any(outcome in ("pass", *BLOCKING, WAIVED) for outcome in outcomes)
    verdict = NOT_READY if "fail" in outcomes else UNKNOWN if "unknown" in outcomes or not decided else READY
    return {
        "host": name,
        "scope": str(registered.get("scope", "")),
        "tee": str(registered.get("tee", "")),
        "verdict": verdict,
        "reason": "",
        "machine": registered.get("machine", {}),
        "identity": registered.get("identity", {}),
        "notes": [str(note) for note in registered.get("notes") or ()],
        "checks": sorted(checks, key=lambda check: WORST_FIRST.index(check["outcome"])),
        "counts": {outcome: outcomes.count(outcome) for outcome in WORST_FIRST},
    }


def _check(probe: t.Any, waivers: Data) -> dict[str, str]:
    if not isinstance(probe, t.Mapping) or probe.get("outcome") not in WORST_FIRST:
        raise FormatError("this is no probe of tee_info", where="probes", fix="give what tee_info returned, whole")
    check = {member: str(probe.get(member, "")) for member in MEMBERS}
    if check["outcome"] in BLOCKING and check["id"] in waivers:
        return {**check, "outcome": WAIVED, "fix": f"Waived: {waivers[check['id']]}"}
    return check


def _rows(host: Data) -> list[dict[str, str]]:
    """One row per finding that needs attention, and one for a host that has none."""
    found = [check for check in host["checks"] if check["outcome"] in (*BLOCKING, WAIVED)]
    rows = [
        {"host": host["host"], "outcome": check["outcome"], "check": check["id"], "found": ". ".join(filter(None, (check["observed"], check["fix"])))}
        for check in found
    ]
    if rows:
        return rows
    if host["reason"]:
        return [{"host": host["host"], "outcome": "fail", "check": "-", "found": host["reason"]}]
    if host["verdict"] != READY:
        return [{"host": host["host"], "outcome": "unknown", "check": "-", "found": "nothing was checked"}]
    counts = host["counts"]
    return [{"host": host["host"], "outcome": "pass", "check": "all", "found": f"{counts['pass']} checks passed, {counts['skipped']} do not apply"}]
