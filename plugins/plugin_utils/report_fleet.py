# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Shape a fleet into what the report shows: its matrix, its drift history, its forecast. Pure, and only named members are taken over."""

from __future__ import annotations

import typing as t
from collections import Counter

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.fleet.standing import STATES

Data = t.Mapping[str, t.Any]
HISTORY_SHOWN = 200
# Worst first, so that nobody has to look for it.
ORDER = ("contraindicated", "missing", "unproven", "stale", "warning", "affirming")
_PILL = {"affirming": "ok", "warning": "mixed", "stale": "mixed", "unproven": "mixed", "missing": "bad", "contraindicated": "bad"}
_TEXTS = ("host", "state", "why", "condition", "anchor", "evaluated_at", "expires_at", "policy")
_EVENTS = {"drift": "mixed", "failing": "bad", "missing": "bad", "recovered": "ok", "quarantined": "mixed", "released": "ok", "revoked": "bad"}
_FORECAST = ("guest", "item", "code", "at", "days", "because", "detail")


def fleet_view(fleet: t.Any, history: t.Any, forecast: t.Any) -> dict[str, t.Any]:
    """What the page shows of the rows, events and forecast that attestation_watch and collateral returned. Raises FormatError."""
    rows = [_row(row, number) for number, row in enumerate(_list(fleet, "report_fleet"))]
    rows.sort(key=lambda row: (ORDER.index(row["state"]), row["condition"] == "ok", row["host"]))
    counts = Counter(row["state"] for row in rows)
    events = [_event(event, number) for number, event in enumerate(_list(history, "report_history"))]
    return {
        "hosts": rows,
        "worst": [row for row in rows if row["pill"] != "ok" or row["condition"] != "ok" or row["quarantined"] or row["revoked"]],
        "counts": [{"state": state, "pill": _PILL[state], "hosts": counts[state]} for state in ORDER if counts[state]],
        "history": sorted(events, key=lambda event: event["at"], reverse=True)[:HISTORY_SHOWN],
        "history_left_out": max(0, len(events) - HISTORY_SHOWN),
        "forecast": _forecast(forecast),
        "generated_at": max([row["evaluated_at"] for row in rows] + [event["at"] for event in events], default=""),
    }


def _row(row: t.Any, number: int) -> dict[str, t.Any]:
    where = f"report_fleet[{number}]"
    found = _mapping(row, where)
    if found.get("state") not in STATES or not isinstance(found.get("host"), str):
        raise FormatError("host and state are expected, state one of %s" % ", ".join(STATES), where=where, fix="give what attestation_watch returned as hosts")
    shown = {name: str(found.get(name) or "") for name in _TEXTS}
    shown.update({name: found.get(name) if isinstance(found.get(name), (int, float)) else None for name in ("days", "distance", "age_hours", "drift_total")})
    shown.update({name: found.get(name) is True for name in ("quarantined", "revoked")})
    shown["tees"] = [str(tee) for tee in found.get("tees") or []]
    shown["pill"] = _PILL[shown["state"]]
    shown["changes"] = [_change(change) for change in found.get("changes") or [] if isinstance(change, t.Mapping)]
    return shown


def _change(change: Data) -> str:
    item = f"{change.get('item')}: " if change.get("item") else ""
    return f"{item}{change.get('what')}: {_short(change.get('before'))} \u2192 {_short(change.get('after'))}"


def _short(value: t.Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "\u2026" + text[-6:]


def _event(event: t.Any, number: int) -> dict[str, t.Any]:
    found = _mapping(event, f"report_history[{number}]")
    if not isinstance(found.get("at"), str) or not isinstance(found.get("host"), str):
        raise FormatError("at and host are expected", where=f"report_history[{number}]", fix="give what attestation_watch returned as history")
    kind = str(found.get("event") or "")
    changes = [_change(change) for change in found.get("changes") or [] if isinstance(change, t.Mapping)]
    detail = str(found.get("detail") or "")
    return {"at": found["at"], "host": found["host"], "event": kind, "pill": _EVENTS.get(kind, "none"), "detail": detail, "changes": changes}


def _forecast(forecast: t.Any) -> dict[str, t.Any] | None:
    if not forecast:
        return None
    found = _mapping(forecast, "report_forecast")
    if not isinstance(found.get("forecast"), (list, tuple)):
        raise FormatError("the answer of collateral with operation forecast is expected", where="report_forecast")
    events = [{name: event.get(name) for name in _FORECAST} for event in found["forecast"]]
    kinds: dict[tuple[str, str], dict[str, t.Any]] = {}
    for event in events:
        fresh = {"because": event["because"], "code": event["code"], "at": event["at"], "guests": set()}
        one = kinds.setdefault((str(event["because"]), str(event["code"])), fresh)
        one["guests"].add(str(event["guest"]))
        one["at"] = min(filter(None, (one["at"], event["at"])), default=None)
    ordered = sorted(kinds.values(), key=lambda one: (one["at"] is None, one["at"] or "", -len(one["guests"]), one["code"]))
    return {
        "msg": str(found.get("msg") or ""),
        "horizon_end": str(found.get("horizon_end") or ""),
        "kinds": [{**one, "guests": len(one["guests"])} for one in ordered],
        "events": events,
        "recoveries": [
            {"number": one["number"], "guests": one["guests"], "refused": list(one["refused"]), "unknown": list(one["unknown"])}
            for one in found.get("recoveries") or []
        ],
        "ending": [{"path": str(one["path"]), "expires_at": str(one["expires_at"])} for one in found.get("collateral_ending") or []],
    }


def evidence_of_hosts(hostvars: t.Mapping[str, Data], hosts: t.Sequence[str], variable: str) -> dict[str, t.Any]:
    """The evidence that a play registered, by host, for a forecast over the fleet. Hosts without any are left out: they have none to look at."""
    found = {}
    for host in hosts:
        registered = hostvars[host].get(variable) if host in hostvars else None
        if isinstance(registered, t.Mapping) and isinstance(registered.get("evidence"), t.Mapping):
            found[host] = registered["evidence"]
    return found


def _list(value: t.Any, where: str) -> t.Sequence[t.Any]:
    if not isinstance(value, (list, tuple)):
        raise FormatError("a list is expected", where=where)
    return value


def _mapping(value: t.Any, where: str) -> Data:
    if not isinstance(value, t.Mapping):
        raise FormatError("a dictionary is expected", where=where)
    return value
