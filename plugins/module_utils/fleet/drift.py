# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What differs between the result of a host that was accepted last and the present one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping

from ansible_collections.attested.ai.plugins.module_utils.fleet.summary import Summary

KINDS = (
    "verdict", "anchor", "items", "machine", "device", "measurement", "chain", "tcb-lower", "tcb-raised", "tcb-status", "firmware", "policy", "ssh-host-keys",
)  # fmt: skip
_KIND_OF = {
    "machine": "machine", "csp_id": "machine", "product": "machine", "device": "device", "measurement": "measurement", "tcb_status": "tcb-status",
    "tcb_date": "tcb-status", "module_identity": "firmware", "firmware_version": "firmware", "driver_version": "firmware",
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """``what`` of ``item`` (empty: of the whole) was ``before`` and is ``after``."""

    kind: str
    item: str
    what: str
    before: str
    after: str

    def to_dict(self) -> Dict[str, str]:
        return {"kind": self.kind, "item": self.item, "what": self.what, "before": self.before, "after": self.after}


def fingerprint(summary: Summary) -> Dict[str, Any]:
    """What is remembered of a result to compare later ones with. No time and no nonce is in it: these differ always."""
    items = {item.name: {"tee": item.tee, "values": dict(item.values), "tcb": dict(item.tcb)} for item in summary.items}
    whole = {"anchor": summary.anchor, "chain": summary.reaches, "policy": summary.policy_id + "@" + summary.policy_digest}
    return {"status": summary.status, "whole": whole, "ssh_host_keys": list(summary.ssh_host_keys), "items": items}


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> List[Change]:
    """All changes, those of the whole first."""
    changes: List[Change] = []

    def note(kind: str, item: str, what: str, old: Any, new: Any) -> None:
        if old != new:
            changes.append(Change(kind, item, what, _say(old), _say(new)))

    note("verdict", "", "status", before["status"], after["status"])
    for name in ("anchor", "chain", "policy"):
        note(name, "", name, before["whole"].get(name), after["whole"].get(name))
    note("ssh-host-keys", "", "SSH host keys", before["ssh_host_keys"], after["ssh_host_keys"])
    names = list(dict.fromkeys((*before["items"], *after["items"])))
    for name in names:
        old, new = before["items"].get(name), after["items"].get(name)
        if old is None or new is None or old["tee"] != new["tee"]:
            note("items", name, "evidence", None if old is None else old["tee"], None if new is None else new["tee"])
            continue
        for key in sorted({*old["values"], *new["values"]}):
            note(_KIND_OF.get(key, "firmware"), name, key, old["values"].get(key), new["values"].get(key))
        for key in sorted({*old["tcb"], *new["tcb"]}):
            left, right = old["tcb"].get(key, -1), new["tcb"].get(key, -1)
            note("tcb-raised" if right > left else "tcb-lower", name, "tcb " + key, old["tcb"].get(key), new["tcb"].get(key))
    return changes


def _say(value: Any) -> str:
    if value is None:
        return "none"
    return ", ".join(str(part) for part in value)[:512] if isinstance(value, (list, tuple)) else str(value)[:512]
