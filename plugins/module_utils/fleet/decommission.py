# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a decommission may say of its steps: no step without a row, no proof in check mode, and no success where nothing was done."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict

SCHEMA = "attested.ai/decommission/1"
# planned: in check mode. waits: until a reboot. absent: it was not there, so that nothing was taken away. nothing: none was named. listed: looked up only.
DONE = ("ok", "waits", "planned")
OUTCOMES = (*DONE, "absent", "nothing", "listed", "failed")
ON_HOSTS = ("services", "models", "vms", "gpu", "hosts", "bios")
# What names the things of a step: a variable, and a group where there is one.
VARIABLES = {
    "keys": "decommission_resources",
    "pods": "decommission_pods",
    "services": "decommission_services",
    "models": "decommission_models",
    "vms": "decommission_vms",
    "monitor": "attestation_monitor_directory",
}
GROUPS = {"services": "model_servers", "gpu": "gpu_hosts", "hosts": "tdx_hosts or snp_hosts", "bios": "bios_hosts"}
STEPS = ("keys", "pods", *ON_HOSTS, "monitor")
_OWN = ("decommission_steps", "decommission_confirm", "decommission_document", "decommission_kbs", "decommission_ledger")
KNOWN = (*_OWN, *(name for name in VARIABLES.values() if name.startswith("decommission_")))
Row = Dict[str, Any]


def needed(step: str) -> str:
    """How the things of a step are named."""
    ways = (["set " + VARIABLES[step]] if step in VARIABLES else []) + (["put the host into the group " + GROUPS[step]] if step in GROUPS else [])
    return ", or ".join(ways)


def unknown(names: Sequence[str]) -> List[str]:
    """Variables that look like ours and are not: a mistyped one would leave its step without anything to do."""
    return sorted({name for name in names if name.startswith("decommission_")} - set(KNOWN))


def earlier(text: str, where: str) -> List[Row]:
    """What an earlier document says was done. It makes a second run tell what was done before from what never was. Raises FormatError."""
    fix = "Move it away, or name another place in decommission_document"
    if not text.strip():
        return []
    try:
        document = strict.loads(text.encode("utf-8"), where)
    except FormatError as error:
        raise FormatError(str(error), fix=fix) from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA or not isinstance(document.get("steps"), list):
        raise FormatError("it is not the document of a decommission, and would be written over", where=where, fix=fix)
    at = str(document.get("at"))[:32]
    return [{"at": at, **one} for one in document["steps"] if isinstance(one, dict) and one.get("outcome") == "ok"]


def rows(found: Sequence[Mapping[str, Any]], host: str, step: str, told: Mapping[str, Any]) -> List[Row]:
    """The rows of one step on one host. ``told`` has check, asked (whether the steps were named), declared (whether the variable is there) and earlier."""
    made = [{"host": host, "step": step, **_settled(dict(one), host, step, told)} for one in found]
    if all(row["outcome"] == "listed" for row in made):
        made.append({"host": host, "step": step, **_nothing(step, told)})
    return made


def _settled(row: Row, host: str, step: str, told: Mapping[str, Any]) -> Row:
    if row.get("outcome") not in OUTCOMES:
        raise FormatError("a step says how it ended, by one of %s" % ", ".join(OUTCOMES), where="%s on %s" % (step, host))
    if told["check"] and row["outcome"] in ("ok", "waits"):
        return {**row, "outcome": "planned", "proof": "check mode: nothing was done, and nothing read again"}
    if row["outcome"] == "absent":
        for one in told["earlier"]:
            if (one.get("host"), one.get("step"), one.get("what")) == (host, step, row["what"]):
                return {**row, "outcome": "ok", "proof": "done before, says the document of %s; now: %s" % (one["at"], row["proof"])}
    return row


def _nothing(step: str, told: Mapping[str, Any]) -> Row:
    if told["declared"]:
        return {"what": "none", "outcome": "nothing", "proof": "%s is empty" % VARIABLES[step]}
    # Hosts of a run need not all be in a group; a variable that is missing where its step was asked for is a mistake.
    outcome = "failed" if told["asked"] and step in VARIABLES else "nothing"
    hint = " (empty, if there is none)" if outcome == "failed" else ""
    return {"what": "none", "outcome": outcome, "proof": "none was named: %s%s" % (needed(step), hint)}


def _told(row: Mapping[str, Any]) -> str:
    """What failed, in words. A step has several things, and whoever reads only the end of a run needs to know which."""
    what = "" if row["what"] in ("all", "none") else ": " + row["what"]
    return "%s on %s%s: %s" % (row["step"], row["host"], what, row["proof"])


def judged(
    made: Sequence[Mapping[str, Any]], steps: Sequence[str], asked: bool, hosts: Sequence[str], controller: str, before: Sequence[Mapping[str, Any]] = ()
) -> Dict[str, Any]:
    """All rows, one for each step that left none included, who was not reached, and everything that stands against success.

    ``kept`` are the rows of ``before``, what an earlier document proved, of which this run says nothing: its document takes the place of that one.
    """
    all_rows = [dict(row) for row in made]
    unreached = sorted({row["host"] for row in all_rows if row["step"] == "reach"})
    wanted = [(controller, step) for step in steps if step not in ON_HOSTS]
    wanted += [(host, step) for host in hosts if host not in unreached for step in steps if step in ON_HOSTS]
    seen = {(row["host"], row["step"]) for row in all_rows}
    for host, step in wanted:
        if (host, step) not in seen:
            all_rows.append({"host": host, "step": step, "what": "all", "outcome": "failed", "proof": "it gave no answer: it was lost on the way"})
    wrong = [_told(row) for row in all_rows if row["outcome"] == "failed" and row["step"] != "reach"]
    done = {row["step"] for row in all_rows if row["outcome"] in DONE}
    failed = {row["step"] for row in all_rows if row["outcome"] == "failed"}
    if asked:
        wrong += ["%s was asked for, and nothing was done: %s" % (step, needed(step)) for step in steps if step not in done | failed]
    elif not done | failed:
        wrong.append("nothing was taken out of service: nothing is named, or it was not there")
    if unreached:
        wrong.append("not reached: " + ", ".join(unreached))
    told = {(row["host"], row["step"], row["what"]) for row in all_rows}
    kept = [dict(row) for row in before if (row.get("host"), row.get("step"), row.get("what")) not in told]
    return {"rows": all_rows, "kept": kept, "not_reached": unreached, "wrong": wrong}
