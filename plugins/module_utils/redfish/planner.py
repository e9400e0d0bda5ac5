# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From what a BIOS says now and what shall be to stages, each of which ends with a reboot. Pure: no clock, no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.redfish.registry import Registry, Value, Values, closed_by, same
from ansible_collections.attested.ai.plugins.module_utils.redfish.resolve import Want


@dataclass(frozen=True)
class Stage:
    """``changes`` become true by this stage's reboot. ``patch`` is the part that is still to be written. ``guess``: the registry does not say
    that it will work, only the machine will."""

    changes: Mapping[str, Value]
    patch: Mapping[str, Value]
    guess: bool = False


@dataclass(frozen=True)
class Plan:
    """``blocked`` can never be written, with the reason. ``foreign`` is pending by somebody else's hand and is applied by the same reboot."""

    stages: Tuple[Stage, ...]
    blocked: Mapping[str, str]
    foreign: Mapping[str, Value]
    before: Mapping[str, Value]
    after: Mapping[str, Value]

    @property
    def done(self) -> bool:
        return not self.stages and not self.blocked


def effective(current: Values, pending: Values) -> Dict[str, Value]:
    """What is really pending: some services list only changes there, others all attributes."""
    return {name: value for name, value in pending.items() if value is not None and not same(current.get(name), value)}


def plan(registry: Registry, current: Values, pending: Values, wants: Sequence[Want]) -> Plan:
    """The stages that lead from ``current`` to ``wants``. An attribute is written as soon as what is applied leaves it open."""
    waiting = effective(current, pending)
    wanted = {want.attribute: want.value for want in wants}
    remaining = {name: value for name, value in wanted.items() if not same(current.get(name), value)}
    # Pending values that would undo what is right already.
    undo = {name: wanted[name] for name in waiting if name in wanted and name not in remaining}
    foreign = {name: shown(registry, name, value) for name, value in waiting.items() if name not in wanted}
    values: Dict[str, Value] = dict(current)
    stages: List[Stage] = []
    while remaining or undo:
        first = not stages
        ready = {
            name: value for name, value in remaining.items()
            if (first and same(waiting.get(name), value)) or not closed_by(registry, name, values, None if first else current)
        }  # fmt: skip
        # What is not shown yet cannot be written yet, whatever the registry says.
        if first:
            ready = {name: value for name, value in ready.items() if name in current or name in waiting}
        changes = {**undo, **ready}
        if not changes:
            break
        patch = {name: value for name, value in changes.items() if not (first and same(waiting.get(name), value))}
        stages.append(Stage(changes, patch))
        if first:
            values.update(foreign)
        values.update(ready)
        remaining = {name: value for name, value in remaining.items() if name not in ready}
        undo = {}
    blocked: Dict[str, str] = {}
    if remaining:
        blocked = {name: _reason(registry, name, current, values) for name in remaining}
        open_question = {name: remaining[name] for name, reason in blocked.items() if "does not say" in reason or "not shown" in reason}
        if stages and open_question:
            # A service may state only what is so now. After the reboot it is asked again.
            stages.append(Stage(open_question, open_question, guess=True))
            blocked = {name: reason for name, reason in blocked.items() if name not in open_question}
    changed = sorted({name for stage in stages for name in stage.changes if not same(current.get(name), wanted[name])})
    return Plan(tuple(stages), blocked, foreign, {name: current.get(name) for name in changed}, {name: wanted[name] for name in changed})


def shown(registry: Optional[Registry], name: str, value: Value) -> Value:
    """What may be told of a value. A service should not show passwords, even those that are pending; one that does shall not be quoted."""
    attribute = None if registry is None else registry.attributes.get(name)
    secret = "password" in name.lower() or (attribute is not None and attribute.kind == "Password")
    return "(not shown)" if secret else value


def _reason(registry: Registry, name: str, current: Values, later: Values) -> str:
    return closed_by(registry, name, later, current) or ("not shown by the BIOS" if name not in current else "it cannot be written")


def dropped(stage: Stage, current: Values, pending: Values) -> Tuple[str, ...]:
    """Changes of a stage that are neither applied nor pending any more: the firmware did not take them."""
    waiting = effective(current, pending)
    return tuple(name for name, value in stage.changes.items() if not same(current.get(name), value) and name not in waiting)
