# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the inventory says of a host: variables, groups, and the form in which both can be cached."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import format_time, parse_time
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.fleet.record import Kept
from ansible_collections.attested.ai.plugins.module_utils.fleet.standing import Standing, expiry_groups
from ansible_collections.attested.ai.plugins.module_utils.fleet.summary import Item, Summary


def variables_of(kept: Kept, where: Standing) -> dict[str, t.Any]:
    """All begin with attested_, so that none meets a variable of the host's own."""
    summary = kept.summary
    found: dict[str, t.Any] = {
        "state": where.state, "why": where.why, "age_hours": where.age_hours, "days_to_expiry": where.days, "signed": kept.proven,
        "tees": [], "anchor": "none", "accepted": False, "status": "none", "evaluated_at": "", "expires_at": "", "policy": "", "policy_digest": "",
        "chain_reaches": "", "machine": "", "reasons": [], "tcb_distance": None,
    }  # fmt: skip
    if summary is not None:
        found.update(
            tees=list(summary.tees), anchor=summary.anchor, accepted=summary.accepted, status=summary.status, policy=summary.policy_id,
            evaluated_at=format_time(summary.evaluated_at), expires_at=format_time(summary.expires_at) if summary.expires_at else "",
            policy_digest=summary.policy_digest, chain_reaches=summary.reaches, machine=summary.machine,
            reasons=[code for code, _detail in summary.reasons], tcb_distance=summary.distance,
        )  # fmt: skip
    return {"attested_" + name: value for name, value in found.items()}


def groups_of(kept: Kept, where: Standing, steps: t.Sequence[int]) -> list[str]:
    """Names without the prefix. What a result says that nobody vouches for makes no group but that of its state."""
    groups = ["state_" + where.state]
    if kept.summary is not None and kept.proven:
        groups += ["tee_" + tee for tee in kept.summary.tees] + ["anchor_" + kept.summary.anchor]
        groups += ["expires_" + group if group != "expired" else group for group in expiry_groups(where.days, steps)]
    return groups


def store(kept: Kept) -> dict[str, t.Any]:
    """For the cache."""
    return {"host": kept.host, "proven": kept.proven, "problem": kept.problem, "summary": None if kept.summary is None else kept.summary.to_dict()}


def load(value: t.Any) -> Kept:
    """From the cache. Raises FormatError if that is damaged."""
    try:
        one = value["summary"]
        return Kept(str(value["host"]), None if one is None else _summary(one), value["proven"] is True, str(value["problem"]))
    except (KeyError, TypeError, AttributeError):
        raise FormatError("it is damaged", where="inventory cache", fix="Run once with --flush-cache") from None


def _summary(one: t.Mapping[str, t.Any]) -> Summary:
    items = tuple(Item(item["name"], item["tee"], item["status"], item["values"], item["tcb"], item["distance"]) for item in one["items"])
    return Summary(
        one["accepted"] is True, one["authentic"], one["status"], one["anchor"], parse_time(one["evaluated_at"], "inventory cache"),
        None if one["expires_at"] is None else parse_time(one["expires_at"], "inventory cache"), one["policy"]["id"], one["policy"]["digest"],
        one["reaches"], one["evidence_digest"], tuple((reason["id"], reason["detail"]) for reason in one["reasons"]), tuple(one["ssh_host_keys"]), items,
    )  # fmt: skip
