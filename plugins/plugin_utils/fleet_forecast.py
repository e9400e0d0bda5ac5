# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What was foretold of each host, kept by host: a round over a part of the fleet must not take back what is known of the others."""

from __future__ import annotations

import re
import typing as t
from datetime import datetime

from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import parse_time
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_recovery import TDX_TYPES

FORECAST = "attested.ai/fleet-forecast/1"
_MEMBERS = ("item", "code", "at", "because", "detail")
REFUSED, UNKNOWN, ACCEPTED = "refused", "unknown", "accepted"
_NUMBER = re.compile(r"[0-9]{1,9}\Z")

Data = t.Mapping[str, t.Any]


def by_host(forecast: t.Any, evidence: t.Mapping[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    """The answer of collateral (operation forecast) by host. Of a host with ``evidence`` and without an event nothing is foretold, which is news as well."""
    events, recoveries = _list(forecast, "forecast"), _list(forecast, "recoveries")
    found: dict[str, dict[str, t.Any]] = {host: {"schema": FORECAST, "events": [], "recoveries": {}} for host, one in evidence.items() if one is not None}
    for event in events:
        kept = {name: event.get(name) for name in _MEMBERS}
        _checked(kept, "forecast")
        found.setdefault(str(event.get("guest")), {"schema": FORECAST, "events": [], "recoveries": {}})["events"].append(kept)
    tdx = [host for host, one in evidence.items() if _is_tdx(one)]
    for recovery in recoveries:
        sides = {**dict.fromkeys(recovery.get("unknown") or (), UNKNOWN), **dict.fromkeys(recovery.get("refused") or (), REFUSED)}
        for host in {*tdx, *sides} & set(found):
            found[host]["recoveries"][str(recovery.get("number"))] = sides.get(host, ACCEPTED)
    return found


def parse(data: bytes, where: str) -> dict[str, t.Any] | None:
    """From a file. What is damaged foretells nothing; the next round writes it anew."""
    try:
        document = strict.members(strict.loads(data, where), ("schema", "events", "recoveries"), where=where)
        if document["schema"] != FORECAST or not isinstance(document["events"], list) or not isinstance(document["recoveries"], dict):
            return None
        for event in document["events"]:
            _checked(event, where)
        if not all(_NUMBER.match(number) and side in (REFUSED, UNKNOWN, ACCEPTED) for number, side in document["recoveries"].items()):
            return None
    except FormatError:
        return None
    return dict(document)


def merged(kept: t.Mapping[str, Data], last: t.Any, now: datetime) -> dict[str, t.Any]:
    """One forecast over all hosts, in the form that collateral returns. ``last`` is what it returned in this round, for what belongs to no host."""
    last = last if isinstance(last, t.Mapping) else {}
    events = [{"guest": host, **event, "days": _days(event["at"], now)} for host, one in kept.items() for event in one["events"]]
    events.sort(key=lambda event: (event["at"] is None, event["at"] or "", event["guest"], str(event["item"]), event["code"]))
    recoveries: dict[str, dict[str, t.Any]] = {}
    for host, one in sorted(kept.items()):
        for number, side in one["recoveries"].items():
            told = recoveries.setdefault(number, {"number": int(number), "refused": [], "unknown": [], "guests": 0})
            told["guests"] += 1
            if side in (REFUSED, UNKNOWN):
                told[side].append(host)
    guests = sorted({event["guest"] for event in events if event["at"] is not None})
    end = str(last.get("horizon_end") or "")
    until, first = f" by {end}" if end else "", f", the first at {events[0]['at']}" if guests else ""
    return {
        "forecast": events,
        "guests_at_risk": guests,
        "recoveries": [recoveries[number] for number in sorted(recoveries, key=int)],
        "collateral_ending": list(last.get("collateral_ending") or []),
        "horizon_end": end,
        "msg": f"{len(guests)} of {len(kept)} guests would be refused{until}{first}",
    }


def _checked(event: t.Any, where: str) -> None:
    strict.members(event, _MEMBERS, where=where)
    if event["at"] is not None:
        parse_time(event["at"], where + " at")
    if not all(isinstance(event[name], str) for name in ("item", "code", "because", "detail")):
        raise FormatError("item, code, because and detail are expected to be texts", where=where, fix="Give what collateral returned with operation forecast")


def _days(at: str | None, now: datetime) -> int | None:
    return None if at is None else max(0, (parse_time(at, "forecast") - now).days)


def _is_tdx(evidence: t.Any) -> bool:
    items = evidence.get("items") if isinstance(evidence, t.Mapping) else None
    return any(isinstance(item, t.Mapping) and item.get("type") in TDX_TYPES for item in items or ())


def _list(forecast: t.Any, name: str) -> list[Data]:
    found = forecast.get(name, []) if isinstance(forecast, t.Mapping) else None
    if not isinstance(found, (list, tuple)) or not all(isinstance(one, t.Mapping) for one in found):
        raise FormatError("the answer of collateral with operation forecast is expected", where="forecast " + name)
    return list(found)
