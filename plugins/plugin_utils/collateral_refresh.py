# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The operations fetch and check of the action collateral."""

from __future__ import annotations

import os
import typing as t
from datetime import timedelta

from ansible_collections.attested.ai.plugins.module_utils.endorsements import kds, pcs
from ansible_collections.attested.ai.plugins.module_utils.endorsements.fetch import ADDED, BAD, FRESH, KEPT, PLANNED, Mode, Outcome, refresh
from ansible_collections.attested.ai.plugins.module_utils.endorsements.needs import Planner, Sources, Wishes, vcek_of
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Entry, format_time
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, EndorsementError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import read_secret
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_task import Progress, Task, told

OK, EXPIRING, EXPIRED, DAMAGED, UNLISTED = "ok", "expiring", "expired", "damaged", "unlisted"


def fetch(task: Task, rim_token_file: str | None) -> dict[str, t.Any]:
    """Bring the store up to date for all evidence and all names that the task gives. Raises AttestedError."""
    options = task.options
    planner = Planner(_sources(options, rim_token_file), _wishes(options), task.roots_of, task.store, task.at)
    _plan(task, planner)
    if not planner.needs and not planner.found and not planner.notes:
        raise AttestedError("there is nothing to fetch for", where="options", fix="Give evidence, amd, intel or rims")
    asks = not task.check and not options["offline"]
    client = task.client() if asks else None
    mode = Mode(task.at, timedelta(days=options["refresh_within"]), options["force"], asks, options["offline"])
    progress = Progress(task.tell)
    outcomes = _take(task, planner)
    # CA certificates first, the rest may need them; last what manifests need in turn.
    first = [need for need in planner.needs if need.kind == "amd-chain"]
    rest = [need for need in planner.needs if need.kind != "amd-chain"]
    outcomes += refresh(first, task.store, client, mode, options["parallelism"], progress)
    outcomes += refresh(rest, task.store, client, mode, options["parallelism"], progress)
    outcomes += refresh(planner.followers(), task.store, client, mode, options["parallelism"], progress)
    bad = [outcome for outcome in outcomes if outcome.status in BAD]
    return {
        **told(outcomes),
        "complete": not bad,
        "missing": [outcome.path for outcome in bad],
        "notes": planner.notes,
        "requests": 0 if client is None else client.requests,
        "failed": bool(bad) and options["fail_on_problem"],
        "msg": _summary(outcomes, bad, task),
    }


def _plan(task: Task, planner: Planner) -> None:
    for name, document in task.documents().items():
        planner.add_document(document, name)
    for wanted in task.options["amd"]:
        if wanted["chip_id"] is None:
            planner.add_product(kds.product_of(wanted["product"]))
            continue
        if wanted["tcb"] is None:
            raise EndorsementError("a chip_id needs the tcb that its certificate is for", where="amd %s" % wanted["product"])
        tcb = {name: value for name, value in wanted["tcb"].items() if value is not None}
        planner.add_vcek(vcek_of(wanted["product"], wanted["chip_id"], tcb))
    for wanted in task.options["intel"]:
        planner.add_fmspc(wanted["fmspc"].lower(), wanted["ca"])
    for rim_id in task.options["rims"]:
        planner.add_rim(rim_id)


def _take(task: Task, planner: Planner) -> list[Outcome]:
    """Store what came along with the evidence and is not there yet."""
    index = task.store.index()
    outcomes: list[Outcome] = []
    for piece, source in planner.found.values():
        before = index.entries.get(piece.path)
        if before is not None and task.store.intact(before):
            outcomes.append(Outcome(piece.path, piece.kind, piece.about, FRESH, before=before))
            continue
        entry = piece.entry(source, task.at)
        if not task.check:
            task.store.put([(piece, entry)])
        outcomes.append(Outcome(piece.path, piece.kind, piece.about, PLANNED if task.check else ADDED, "it came with the evidence", before=before, after=entry))
    return outcomes


def _sources(options: t.Mapping[str, t.Any], rim_token_file: str | None) -> Sources:
    token = ""
    if rim_token_file is not None and not options["offline"]:
        try:
            token = read_secret(rim_token_file, "token", 16384).decode("ascii").strip()
        except UnicodeDecodeError:
            token = ""
        if not token or not token.isprintable():
            raise AttestedError("it holds no token: one line of printable characters was expected", where=rim_token_file)
    urls = {name: options[name].rstrip("/") for name in ("kds_url", "pcs_url", "root_crl_url", "rim_url", "ocsp_url")}
    service = pcs.Service(urls["pcs_url"], urls["root_crl_url"], options["pccs_url"])
    return Sources(urls["kds_url"], service, urls["rim_url"], urls["ocsp_url"], token)


def _wishes(options: t.Mapping[str, t.Any]) -> Wishes:
    return Wishes(tuple(options["tcbs"]), options["update"], options["tcb_evaluation_data_number"], options["revocation"])


def _summary(outcomes: t.Sequence[Outcome], bad: t.Sequence[Outcome], task: Task) -> str:
    if bad:
        shown = "; ".join(f"{outcome.path}: {outcome.detail}" for outcome in bad[:3])
        return f"{len(bad)} of {len(outcomes)} pieces cannot be had. {shown}" + (f" (and {len(bad) - 3} more)" if len(bad) > 3 else "")
    planned = sum(outcome.status == PLANNED for outcome in outcomes)
    if planned:
        return f"{planned} of {len(outcomes)} pieces would be asked for or stored"
    kept = [outcome for outcome in outcomes if outcome.status == KEPT and outcome.code]
    said = f"{len(outcomes)} pieces are in {task.store.root}"
    return said + (f"; {len(kept)} hold still, but nothing better could be had. {kept[0].path}: {kept[0].detail}" if kept else "")


def check(task: Task) -> dict[str, t.Any]:
    """Look at every file of the store: is it as it was stored, and how long does it hold? Raises AttestedError if there is none."""
    with task.store.reading() as index:
        if not index.entries:
            raise EndorsementError("there is no collateral in it", where=task.store.root, fix="Fetch or import first", code="store-missing")
        found = [_look(task, entry) for entry in index.entries.values()]
        found += [{"path": path, "status": UNLISTED, "detail": "no index names it, so it is not used"} for path in task.store.unlisted(index)]
    found.sort(key=lambda item: (item.get("expires_at") or "9999", item["path"]))
    bad = [item for item in found if item["status"] in (DAMAGED, EXPIRED)]
    counts = {status: sum(item["status"] == status for item in found) for status in (OK, EXPIRING, EXPIRED, DAMAGED, UNLISTED)}
    return {
        "changed": False,
        "pieces": found,
        "counts": counts,
        "complete": not bad,
        "failed": bool(bad) and task.options["fail_on_problem"],
        "msg": ", ".join(f"{count} {status}" for status, count in counts.items() if count) + f" in {os.path.basename(task.store.root) or task.store.root}",
    }


def _look(task: Task, entry: Entry) -> dict[str, t.Any]:
    status, detail = OK, ""
    if not task.store.intact(entry):
        status, detail = DAMAGED, "it is missing or was changed: fetch or import it again"
    elif entry.expires_at is not None and entry.expires_at <= task.at:
        status, detail = EXPIRED, f"it ended at {format_time(entry.expires_at)}"
    elif entry.expires_at is not None and entry.expires_at <= task.at + task.horizon:
        status, detail = EXPIRING, f"it ends at {format_time(entry.expires_at)}"
    return {"path": entry.path, "status": status, "detail": detail, **entry.to_dict()}
