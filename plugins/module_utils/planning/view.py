# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A plan as rows for attested.ai.summary_table."""

from __future__ import annotations

import typing as t


def summary(document: t.Mapping[str, t.Any]) -> list[dict[str, str]]:
    return [_summary(host) for host in document["hosts"]]


def _summary(host: t.Mapping[str, t.Any]) -> dict[str, str]:
    used = f"{host['gpus_used']} x {host['gpu']}, {host['mode']}" if host["mode"] else "CPU" if host["gpu"] is None else host["gpu"]
    found = f"{host['why']}. {host['next']}" if host["why"] else host["next"]
    if "driver" in host:
        found = f"{found}. Driver {host['driver']['least']} or later"
    gpu = host.get("gpu_gib")
    return {
        "host": host["host"],
        "outcome": "ok" if host["fits"] else "fail",
        "answer": "fits" if host["fits"] else "does not fit",
        "gpus": used,
        "gpu_memory": f"{gpu['needed']:g} of {gpu['usable']:g}" if gpu else "",
        "guest_ram": str(host.get("guest_ram_gib", "")),
        "guests": str(host.get("guests_per_host", "")),
        "found": found,
    }


def figures(document: t.Mapping[str, t.Any]) -> list[dict[str, str]]:
    return [
        {"host": host["host"], "figure": one["title"], "value": f"{one['value']:.2f} {one['unit']}", "mark": one["mark"], "source": one["source"]}
        for host in document["hosts"]
        for one in host["figures"]
    ]


def overhead(document: t.Mapping[str, t.Any]) -> list[dict[str, str]]:
    """Hosts to which the same figure applies share a row."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for host in document["hosts"]:
        for one in host["overhead"]:
            row = rows.setdefault((one["id"], one["claim"]), {"hosts": "", **one, "found": f"{one['claim']} ({one['setup']}; {one['source']})"})
            row["hosts"] = f"{row['hosts']}, {host['host']}" if row["hosts"] else host["host"]
    return list(rows.values())
