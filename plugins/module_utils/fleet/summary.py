# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a fleet needs to know of one result: the verdict, what it rests on, and what would show if a machine became another one.

A result may come from anywhere, so nothing is taken over that does not have the form of attested.ai/result/1.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ar4si
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import format_time, parse_time
from ansible_collections.attested.ai.plugins.module_utils.endorsements.floors import load_floors
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

RESULT = "attested.ai/result/1"
DEVICES = ("nvidia-gpu", "nvidia-switch", "nvidia-nras")
ITEMS_MAX = 256
UP_TO_DATE = "UpToDate"
# Names and numbers of an item that a change of shows in the drift. Only these are kept of the claims.
TEXTS = ("machine", "measurement", "device", "firmware_version", "driver_version", "module_identity", "tcb_status", "tcb_date", "product", "csp_id")


@dataclass(frozen=True)
class Item:
    """One attester. ``tcb`` are the security version numbers in use by name, ``distance`` the number of steps that they lack (None: not known)."""

    name: str
    tee: str
    status: str
    values: Mapping[str, str]
    tcb: Mapping[str, int]
    distance: Optional[int]

    def to_dict(self) -> Dict[str, Any]:
        return {"name": self.name, "tee": self.tee, "status": self.status, "values": dict(self.values), "tcb": dict(self.tcb), "distance": self.distance}


@dataclass(frozen=True)
class Summary:
    """One result. ``tees`` are the types of its CPUs first, then of its devices, each once."""

    accepted: bool
    authentic: Optional[bool]
    status: str
    anchor: str
    evaluated_at: datetime
    expires_at: Optional[datetime]
    policy_id: str
    policy_digest: str
    reaches: str
    evidence_digest: str
    reasons: Tuple[Tuple[str, str], ...]
    ssh_host_keys: Tuple[str, ...]
    items: Tuple[Item, ...]

    @property
    def tees(self) -> Tuple[str, ...]:
        return tuple(dict.fromkeys(sorted((item.tee for item in self.items), key=lambda tee: tee in DEVICES)))

    @property
    def distance(self) -> Optional[int]:
        """The steps that all items lack together; None if nothing is known of any."""
        known = [item.distance for item in self.items if item.distance is not None]
        return sum(known) if known else None

    @property
    def machine(self) -> str:
        return next((item.values["machine"] for item in self.items if "machine" in item.values), "")

    def to_dict(self) -> Dict[str, Any]:
        return {
            "accepted": self.accepted,
            "authentic": self.authentic,
            "status": self.status,
            "anchor": self.anchor,
            "evaluated_at": format_time(self.evaluated_at),
            "expires_at": None if self.expires_at is None else format_time(self.expires_at),
            "policy": {"id": self.policy_id, "digest": self.policy_digest},
            "reaches": self.reaches,
            "evidence_digest": self.evidence_digest,
            "reasons": [{"id": code, "detail": detail} for code, detail in self.reasons],
            "ssh_host_keys": list(self.ssh_host_keys),
            "items": [item.to_dict() for item in self.items],
        }


def summarise(result: Any, where: str) -> Summary:
    """Take from a result (parsed JSON) what a fleet looks at. Raises FormatError if it does not have the form."""
    document = _mapping(result, where)
    if document.get("schema") != RESULT:
        raise FormatError("it is no attestation result", where=where, fix="Give results of attest (schema %s)" % RESULT)
    policy, chain, binding = (_mapping(document.get(name), "%s %s" % (where, name)) for name in ("policy", "chain_of_trust", "binding"))
    submods = _mapping(document.get("submods"), where + " submods")
    if len(submods) > ITEMS_MAX:
        raise FormatError("it has more than %d submods" % ITEMS_MAX, where=where)
    accepted, authentic, status = document.get("accepted"), document.get("authentic"), document.get("status")
    if not isinstance(accepted, bool) or authentic not in (True, False, None) or status not in ar4si.TIERS:
        raise FormatError("accepted, authentic or status are not what a result says", where=where)
    if accepted and (authentic is not True or status not in (ar4si.AFFIRMING, ar4si.WARNING)):
        raise FormatError("it says accepted, and contradicts itself: authentic %s, status %s" % (authentic, status), where=where)
    expires_at = document.get("expires_at")
    return Summary(
        accepted=accepted,
        authentic=authentic,
        status=status,
        anchor=_text(document.get("anchor"), where + " anchor", 32),
        evaluated_at=parse_time(document.get("evaluated_at"), where + " evaluated_at"),
        expires_at=None if expires_at is None else parse_time(expires_at, where + " expires_at"),
        policy_id=_text(policy.get("id"), where + " policy id"),
        policy_digest=_text(policy.get("digest"), where + " policy digest"),
        reaches=_text(chain.get("reaches") or "nothing", where + " chain_of_trust"),
        evidence_digest=_text(document.get("evidence_digest"), where + " evidence_digest"),
        reasons=tuple(_reason(reason, where) for reason in _list(document.get("reasons"), where + " reasons")),
        ssh_host_keys=tuple(sorted(_text(key, where + " ssh_host_keys") for key in _list(binding.get("ssh_host_keys") or [], where))),
        items=tuple(_item(name, item, where) for name, item in submods.items()),
    )


def _item(name: str, item: Any, where: str) -> Item:
    place = "%s submod %s" % (where, ascii(name)[:40])
    found = _mapping(item, place)
    claims = _mapping(found.get("claims", {}), place)
    tee = _text(found.get("tee"), place, 64)
    values = {key: claims[key][:256] for key in TEXTS if isinstance(claims.get(key), str) and claims[key]}
    number = claims.get("tcb_evaluation_data_number")
    tcb = _numbers(_sub(claims, "tcb", "reported"))
    if isinstance(number, int) and not isinstance(number, bool):
        tcb["evaluation_number"] = number
    return Item(str(name)[:64], tee, _text(found.get("status"), place, 32), values, tcb, _distance(claims, tcb))


def _distance(claims: Mapping[str, Any], tcb: Mapping[str, int]) -> Optional[int]:
    """Steps to the TCB that is at hand: of AMD the sum over the components, up to what the machine has installed and what the shipped floors ask for;
    of Intel 0 or 1, because a quote does not count them. What waits for Intel's next list is the forecast's business."""
    status = claims.get("tcb_status")
    if isinstance(status, str):
        return 0 if status == UP_TO_DATE else 1
    goal = _numbers(_sub(claims, "tcb", "current"))
    if not goal:
        return None
    for floor in load_floors():
        if floor.product == claims.get("product"):
            goal.update({name: max(least, goal.get(name, 0)) for name, least in floor.minimum.items()})
    return sum(max(0, least - tcb.get(name, 0)) for name, least in goal.items())


def _sub(claims: Mapping[str, Any], *path: str) -> Any:
    found: Any = claims
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _numbers(value: Any) -> Dict[str, int]:
    if not isinstance(value, Mapping):
        return {}
    return {str(name)[:32]: number for name, number in value.items() if isinstance(number, int) and not isinstance(number, bool)}


def _reason(reason: Any, where: str) -> Tuple[str, str]:
    found = _mapping(reason, where + " reasons")
    return _text(found.get("id"), where + " reasons", 128), _text(found.get("detail"), where + " reasons", 4096)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise FormatError("an object was expected", where=where)
    return value


def _list(value: Any, where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise FormatError("a list was expected", where=where)
    return value


def _text(value: Any, where: str, limit: int = 256) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise FormatError("a text of at most %d characters was expected" % limit, where=where)
    return value
