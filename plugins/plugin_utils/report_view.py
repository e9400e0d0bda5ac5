# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Shape runs into what the report shows. Pure: data in, data out; the template only places it.

Only named members are taken over, so that nothing that was registered by accident reaches a page that people pass on.
"""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.plugin_utils.report_items import found, item_links

Data = t.Mapping[str, t.Any]

SCHEMA = "attested.ai/report/1"
STEPS = (
    ("encrypt", "Encrypt", "controller", "every file, with a key of its own"),
    ("attest", "Attest", "guest", "evidence for a fresh nonce"),
    ("release", "Release", "controller", "data key to the attested key only"),
    ("open", "Open", "guest", "decrypted into memory"),
    ("serve", "Serve", "guest", "TLS 1.3 to an attested key"),
)
STEP_NAMES = tuple(step for step, _title, _where, _text in STEPS)
ACCEPTED, REFUSED = "accepted", "refused"
OK, BAD, MIXED, NONE = "ok", "bad", "mixed", "none"
WORST_FIRST = ("fail", "not_checked", "pass")
STATES = (
    ("At rest", ("encrypt",), "Each file is encrypted with AES-256-GCM in Tink's streaming format. Storage, registry and host see ciphertext."),
    (
        "In transit",
        ("release", "serve"),
        "The data key travels as a JWE to a key that exists only in the guest's memory. Requests travel over TLS 1.3 to a key that the evidence binds.",
    ),
    (
        "In use",
        ("attest", "open"),
        "The model is plaintext only in memory that the CPU encrypts, in a guest whose measurement, firmware and configuration the policy accepted.",
    ),
)


def report_view(runs: t.Sequence[Data], title: str) -> dict[str, t.Any]:
    """Everything that the page shows, as plain data. Raises FormatError that names the run and the member."""
    if not isinstance(runs, (list, tuple)):
        raise FormatError("a list is expected", where="report_runs", fix="give one dictionary per run, see the role's documentation")
    shown = [_run(run, number) for number, run in enumerate(runs)]
    results = [run for run in shown if run["result"]]
    anchors = sorted({run["result"]["anchor"] for run in results} - {"vendor", "none"})
    return {
        "title": title,
        "runs": shown,
        "guests": sorted({run["host"] for run in shown if run["host"]}),
        "as_expected": sum(run["as_expected"] for run in shown),
        "accepted": sum(run["outcome"] == ACCEPTED for run in results),
        "refused": sum(run["outcome"] == REFUSED for run in shown),
        "status": NONE if not shown else OK if all(run["as_expected"] for run in shown) else BAD,
        "nonvendor": bool(anchors),
        "generated_at": max((run["at"] for run in shown if run["at"]), default=""),
        "steps": [_step(step, shown) for step in STEPS],
        "states": [_data_state(state, shown) for state in STATES],
        "workloads": _workloads(shown),
        "refusals": [run for run in shown if run["outcome"] == REFUSED],
        "proofs": [_proof(run) for run in _last_accepted(results)],
        "matrix": _matrix(results),
        "policies": sorted({(run["result"]["policy"]["id"], run["result"]["policy"]["digest"]) for run in results}),
        "out_of_scope": list(dict.fromkeys(line for run in results for line in run["result"]["out_of_scope"])),
    }


def report_document(runs: t.Sequence[Data], title: str) -> dict[str, t.Any]:
    """The same as data for other programs: the runs with their whole results."""
    view = report_view(runs, title)
    members = ("name", "host", "workload", "step", "expected", "outcome", "as_expected", "detail", "at", "result")
    return {
        "schema": SCHEMA,
        "title": title,
        "generated_at": view["generated_at"],
        "summary": {name: view[name] for name in ("status", "as_expected", "accepted", "refused", "nonvendor", "guests")},
        "runs": [{name: run[name] for name in members} for run in view["runs"]],
    }


def runs_of_hosts(hostvars: t.Mapping[str, Data], hosts: t.Sequence[str], variable: str, step: str = "attest") -> list[dict[str, t.Any]]:
    """One run per host from the variable that a play registered; a host without it counts as failed, never as absent."""
    runs = []
    for host in hosts:
        registered = hostvars[host].get(variable) if host in hostvars else None
        if isinstance(registered, t.Mapping) and isinstance(registered.get("result"), t.Mapping):
            runs.append({"name": host, "host": host, "step": step, "result": registered["result"]})
        else:
            said = registered.get("msg") if isinstance(registered, t.Mapping) else None
            detail = str(said or "there is no result: the host was not reached, or the task did not run")
            runs.append({"name": host, "host": host, "step": step, "ok": False, "detail": detail})
    return runs


def _run(run: t.Any, number: int) -> dict[str, t.Any]:
    where = f"report_runs[{number}]"
    if not isinstance(run, t.Mapping):
        raise FormatError("a dictionary is expected", where=where, fix="give at least name and result, or name and ok")
    step, expected, result = run.get("step", "attest"), run.get("expected", ACCEPTED), run.get("result")
    if step not in STEP_NAMES:
        raise FormatError(f"{step} is no step", where=f"{where}.step", fix=f"take one of {', '.join(STEP_NAMES)}")
    if expected not in (ACCEPTED, REFUSED):
        raise FormatError(f"{expected} cannot be expected", where=f"{where}.expected", fix="take accepted or refused")
    if result is None and not isinstance(run.get("ok"), bool):
        raise FormatError("neither a result nor ok (true or false) is given", where=where, fix="give one of them")
    taken = None if result is None else _result(result, f"{where}.result")
    ok = run["ok"] if isinstance(run.get("ok"), bool) else bool(taken and taken["accepted"])
    if taken and not taken["accepted"]:
        ok = False  # whatever the caller says, refused evidence is never shown as good
    outcome = ACCEPTED if ok else REFUSED
    reasons = taken["reasons"] if taken else []
    return {
        "name": str(run.get("name") or run.get("host") or f"run {number + 1}"),
        "host": str(run.get("host") or ""),
        "workload": str(run.get("workload") or ""),
        "step": step,
        "expected": expected,
        "outcome": outcome,
        "as_expected": outcome == expected,
        "detail": str(run.get("detail") or "; ".join(f"{reason['id']}: {reason['detail']}" for reason in reasons[:1]) or ""),
        "reasons": reasons,
        "at": str((taken or {}).get("evaluated_at") or run.get("at") or ""),
        "counts": _counts(taken) if taken else None,
        "result": taken,
    }


def _result(result: t.Any, where: str) -> dict[str, t.Any]:
    if not isinstance(result, t.Mapping) or result.get("schema") != "attested.ai/result/1":
        raise FormatError("this is no attestation result (schema attested.ai/result/1)", where=where, fix="give the member result that attest returned")
    members = (
        "schema accepted authentic status anchor evaluated_at expires_at nonce evidence_digest policy binding"
        " chain_of_trust reasons checks submods out_of_scope"
    )
    missing = [name for name in members.split() if name not in result]
    if missing:
        raise FormatError(f"{', '.join(missing)} are missing", where=where, fix="give the member result as attest returned it, whole")
    return {name: result[name] for name in members.split()}


def _checks(result: Data) -> list[Data]:
    return [*(check for item in result["submods"].values() for check in item["checks"]), *result["checks"]]


def _counts(result: Data) -> dict[str, int]:
    outcomes = list(_by_id(result).values())
    return {outcome: sum(found["outcome"] == outcome for found in outcomes) for outcome in WORST_FIRST}


def _by_id(result: Data) -> dict[str, Data]:
    """Each check once, with its worst outcome: an id may be answered for several items and by two layers."""
    worst: dict[str, Data] = {}
    for check in _checks(result):
        known = worst.get(check["id"])
        if known is None or WORST_FIRST.index(check["outcome"]) < WORST_FIRST.index(known["outcome"]):
            worst[check["id"]] = check
    return worst


def _step(step: tuple[str, str, str, str], runs: t.Sequence[Data]) -> dict[str, t.Any]:
    name, title, where, text = step
    # What was meant to be refused shows in the refusals; the thread shows the work.
    mine = [run for run in runs if run["step"] == name and run["expected"] == ACCEPTED]
    stopped = sum(run["step"] == name and run["expected"] == REFUSED and run["outcome"] == REFUSED for run in runs)
    good = sum(run["outcome"] == ACCEPTED for run in mine)
    return {
        "name": name,
        "title": title,
        "where": where,
        "text": text,
        "state": _state(good, len(mine)),
        "good": good,
        "total": len(mine),
        "stopped": stopped,
    }


def _state(good: int, total: int) -> str:
    return NONE if total == 0 else OK if good == total else BAD if good == 0 else MIXED


def _data_state(state: tuple[str, tuple[str, ...], str], runs: t.Sequence[Data]) -> dict[str, t.Any]:
    title, steps, text = state
    mine = [run for run in runs if run["step"] in steps and run["expected"] == ACCEPTED]
    good = sum(run["outcome"] == ACCEPTED for run in mine)
    seen = {run["step"] for run in mine}
    complete = good == len(mine) and len(seen) == len(steps)
    return {
        "title": title,
        "text": text,
        "state": OK if mine and complete else _state(good, len(mine)) if good < len(mine) else NONE if not mine else MIXED,
        "steps": steps,
    }


def _workloads(runs: t.Sequence[Data]) -> list[dict[str, t.Any]]:
    """The three states for each workload that the caller named. What nobody named is no workload."""
    names = dict.fromkeys(run["workload"] for run in runs if run["workload"])
    return [{"name": name, "states": [_data_state(state, [run for run in runs if run["workload"] == name]) for state in STATES]} for name in names]


def _last_accepted(results: t.Sequence[Data]) -> list[Data]:
    """One accepted run per host, the last: later ones bind more."""
    return list({run["host"] or run["name"]: run for run in results if run["outcome"] == ACCEPTED}.values())


def _proof(run: Data) -> dict[str, t.Any]:
    result = run["result"]
    links = []
    for name, item in result["submods"].items():
        links += item_links(name, item)
    binding, chain = result["binding"], result["chain_of_trust"]
    bound = [("Bound guest key", binding.get("tee_pubkey_thumbprint")), ("Bound TLS key", binding.get("tls_spki"))]
    bound += [("Bound SSH host key", key) for key in binding.get("ssh_host_keys") or []]
    links.append({"title": "Freshness", "text": found(result["checks"], "freshness"), "values": [("Nonce", result["nonce"]), *bound]})
    waived = f" Waived by the policy: {chain['reason']}" if chain["waived"] else ""
    links.append({"title": "Chain of trust", "text": f"Reaches {chain['reaches'] or 'nothing known'}, required is {chain['required']}.{waived}", "values": []})
    policy = result["policy"]
    links.append(
        {
            "title": "Policy",
            "text": f"Accepted under {policy['id']} as {result['status']}.",
            "values": [("Policy digest", policy["digest"]), ("Evidence digest", result["evidence_digest"])],
        }
    )
    for link in links:
        link["values"] = [(label, str(value)) for label, value in link["values"] if value]
    return {
        "name": run["host"] or run["name"],
        "run": run["name"],
        "anchor": result["anchor"],
        "at": result["evaluated_at"],
        "expires_at": result["expires_at"],
        "links": links,
    }


def _matrix(results: t.Sequence[Data]) -> dict[str, t.Any]:
    """Checks as rows, runs as columns. Rows in which anything but a pass occurs come first and apart from the others."""
    columns, names = [_by_id(run["result"]) for run in results], [run["name"] for run in results]
    rows = []
    for code in dict.fromkeys(code for column in columns for code in column):
        cells = [
            {"outcome": column[code]["outcome"], "detail": str(column[code]["detail"])} if code in column else {"outcome": "absent", "detail": ""}
            for column in columns
        ]
        counts = {outcome: sum(cell["outcome"] == outcome for cell in cells) for outcome in WORST_FIRST}
        rows.append({"id": code, "cells": cells, "found": _found(cells, names), **counts})
    rows.sort(key=lambda row: (row["fail"] == 0, row["not_checked"] == 0))
    open_rows = [row for row in rows if row["fail"] or row["not_checked"]]
    return {"columns": names, "open": open_rows, "passed": [row for row in rows if row not in open_rows]}


def _found(cells: t.Sequence[Data], names: t.Sequence[str]) -> list[dict[str, t.Any]]:
    """What one check found, once, with the runs in which it did: for whoever cannot point at a cell, and for paper."""
    runs: dict[tuple[str, str], list[str]] = {}
    for cell, name in zip(cells, names):
        if cell["outcome"] in WORST_FIRST:
            runs.setdefault((cell["outcome"], cell["detail"]), []).append(name)
    worst_first = sorted(runs.items(), key=lambda one: WORST_FIRST.index(one[0][0]))
    return [{"outcome": outcome, "detail": detail, "runs": who} for (outcome, detail), who in worst_first]
