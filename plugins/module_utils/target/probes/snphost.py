# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""snphost as a second opinion. Its findings are compared with ours, and decide nothing: where the two differ, one of them misreads.

Its checks are named in src/ok/mod.rs of virtee/snphost; the text form is that of 0.7.0, which packages ship and which has no other.
"""

from __future__ import annotations

import json
import re
from typing import Dict, List, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import FAIL, PASS, Probe, Question

COMMAND = ("snphost", "ok")
AGREES = Question(
    "snp.snphost-agrees",
    "firmware",
    "snphost ok finds the same",
    "snphost ok",
    "Look at both by hand and report the difference, with a recording. Our findings stand as they are; a waiver opens the gate",
)

# What snphost calls it, and our probe of the same thing.
SAME: Dict[str, str] = {
    "SME": "snp.bios-sme",
    "Secure Nested Paging (SEV-SNP)": "snp.cpu-support",
    "SNP": "snp.bios-snp",
    "SNP initialized": "snp.firmware-initialized",
    "RMP table initialized": "snp.firmware-initialized",
    "Alias check": "snp.firmware-alias",
    "SEV firmware version": "snp.firmware-version",
    "SEV-SNP enabled in KVM": "snp.kvm-param",
    "Comparing TCB values": "snp.tcb-match",
    "/dev/sev readable": "snp.device",
}
# These say that it could not look, not that something is wrong.
_BLIND = re.compile(r"unable to open|MSR read failed|Permission denied|Not readable", re.I)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LINE = re.compile(r"^\[\s*(PASS|FAIL|SKIP)\s*\]\s*-\s*(.+)$")


def parse_ok(text: str) -> List[Tuple[str, str, str]]:
    """(outcome, name, message) of each line. Lines that go on with a message have no bracket, and are left out; so are colours.

    Versions after 0.7.0 can print JSON, which is read, too: in recordings that somebody else made.
    """
    if text.lstrip().startswith("{"):
        return _parse_json(text)
    found = []
    for line in _COLOUR.sub("", text).splitlines():
        match = _LINE.match(line.strip())
        if match:
            rest = match.group(2).strip()
            name = next((known for known in SAME if rest == known or rest.startswith(known + ":")), rest.partition(": ")[0])
            found.append((match.group(1).lower(), name, rest[len(name) :].lstrip(": ")))
    return found


def _parse_json(text: str) -> List[Tuple[str, str, str]]:
    try:
        document = json.loads(text)
        found = [(str(test["status"]).lower(), str(test["name"]), str(test.get("message", ""))) for test in document["tests"]]
        skipped = [("skip", str(name), "") for name in document.get("skipped", [])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return [item for item in found + skipped if item[0] in ("pass", "fail", "skip") and item[1]]


def cross_check(host: Host, ours: Sequence[Probe]) -> Probe:
    """One probe: unknown where snphost and ``ours`` contradict each other. What one of them could not read is no contradiction."""
    answer = host.command(COMMAND)
    if isinstance(answer, Unreadable):
        if answer.kind == ABSENT:
            return AGREES.skipped("snphost is not installed; it is not needed")
        return AGREES.skipped("it cannot be run: %s" % answer.reason)
    said = parse_ok(answer.out)
    if not said:
        return AGREES.skipped("it ends with status %d and names no check" % answer.rc)
    outcomes = {probe.id: probe.outcome for probe in ours}
    compared, differences = 0, []
    for outcome, name, message in said:
        mine = outcomes.get(SAME.get(name, ""))
        if mine not in (PASS, FAIL) or outcome not in (PASS, FAIL) or _BLIND.search(message):
            continue
        compared += 1
        # One of our probes may answer for two of its lines, so its pass settles nothing about ours that failed.
        if outcome != mine and not (mine == FAIL and sum(SAME.get(other) == SAME[name] for other in SAME) > 1):
            differences.append("%s: %s says %s, snphost says %s" % (name, SAME[name], mine, outcome))
    if differences:
        return AGREES.unknown("; ".join(differences), AGREES.fix)
    return AGREES.passed("%d checks compared" % compared) if compared else AGREES.skipped("none of its checks can be compared")
