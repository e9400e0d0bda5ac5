# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When to alert, to quarantine, to revoke and to let back in: counters with a memory, so that a host that comes and goes does not flap.

A bad round is forgotten only after ``recover_after`` good ones in a row. What shall be done stays wanted until somebody says that it was done: an alert
that was not delivered, or a node that could not be cordoned, is tried again in the next round.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import parse_time
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.fleet.drift import Change
from ansible_collections.attested.ai.plugins.module_utils.formats import strict

GOOD, BAD, MISSING = "good", "bad", "missing"
OK, FAILING = "ok", "failing"
ALERT, QUARANTINE, REVOKE, RELEASE = ACTS = ("alert", "quarantine", "revoke", "release")
COUNT_MAX = 1_000_000
UNTOLD_MAX = 64
_LATER = ("asked", "outcome", "said", "foretold")


@dataclass(frozen=True)
class Rules:
    """Numbers of rounds; 0 means never. ``alert_on`` are kinds of drift, ``bad_on`` those that count as a bad round although the policy accepts."""

    alert_after: int = 1
    quarantine_after: int = 2
    revoke_after: int = 0
    missing_after: int = 2
    quarantine_missing_after: int = 0
    recover_after: int = 3
    release: bool = False
    alert_on: Tuple[str, ...] = ()
    bad_on: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("alert_after", "quarantine_after", "revoke_after", "missing_after", "quarantine_missing_after"):
            if not 0 <= getattr(self, name) <= COUNT_MAX:
                raise FormatError("a number of rounds from 0 to %d was expected" % COUNT_MAX, where=name)
        if not 1 <= self.recover_after <= COUNT_MAX:
            raise FormatError("at least one good round is needed to recover", where="recover_after")


@dataclass(frozen=True)
class Memory:
    """What is remembered of a host between two rounds. ``asked`` is when it was last part of one, ``outcome`` and ``said`` are what came of that, and
    ``foretold`` is when it was asked for the evidence that its kept forecast is about. A state of before these four were kept lacks them."""

    good: int = 0
    bad: int = 0
    missing: int = 0
    condition: str = OK
    told: str = OK
    quarantined: bool = False
    revoked: bool = False
    untold: Tuple[Mapping[str, str], ...] = ()
    drift_total: int = 0
    baseline: Optional[Mapping[str, Any]] = None
    seen: str = ""
    asked: str = ""
    outcome: str = ""
    said: str = ""
    foretold: str = ""

    def to_dict(self) -> Dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.__dict__.items()}

    @classmethod
    def parse(cls, value: Any, where: str) -> Memory:
        """From the state on disk. Raises FormatError rather than begin at nothing: a host in quarantine must not be forgotten."""
        required = tuple(name for name in cls.__dataclass_fields__ if name not in _LATER)
        kept = {**dict.fromkeys(_LATER, ""), **strict.members(value, required, _LATER, where=where)}
        for name, default in ((name, one.default) for name, one in cls.__dataclass_fields__.items()):
            wanted = (list,) if isinstance(default, tuple) else (dict, type(None)) if default is None else (type(default),)
            if type(kept[name]) not in wanted:
                raise FormatError("%s is damaged" % name, where=where)
        for name in ("asked", "foretold"):
            if kept[name]:
                parse_time(kept[name], "%s %s" % (where, name))
        return cls(**{**kept, "untold": tuple(kept["untold"])})


@dataclass(frozen=True)
class Observation:
    """One round of one host. ``changes`` are against the last accepted result, ``present`` is what to remember of this one, ``seen`` tells it
    from the one before: a result that was counted already is not counted again."""

    kind: str
    changes: Tuple[Change, ...] = ()
    present: Optional[Mapping[str, Any]] = None
    seen: str = ""


@dataclass(frozen=True)
class Decision:
    """What to do now, in this order, and what is news."""

    acts: Tuple[str, ...]
    news: Tuple[str, ...] = field(default=())


def step(memory: Memory, found: Observation, rules: Rules) -> Tuple[Memory, Decision]:
    """Count one round. The memory that is returned is to be kept before anything is done."""
    if found.seen and found.seen == memory.seen:
        return memory, Decision(wanted(memory, rules))
    kind = BAD if found.kind == GOOD and any(change.kind in rules.bad_on for change in found.changes) else found.kind
    memory = replace(memory, seen=found.seen)
    if kind == GOOD:
        memory = _good(memory, found, rules)
    elif kind == BAD:
        memory = replace(memory, good=0, missing=0, bad=_more(memory.bad))
    else:
        memory = replace(memory, good=0, missing=_more(memory.missing))
    before = memory.condition
    memory = replace(memory, condition=_condition(memory, rules))
    news: List[str] = [] if before == memory.condition else [memory.condition if memory.condition != OK else "recovered"]
    if kind != MISSING and found.changes:
        news.append("drift")
    return memory, Decision(wanted(memory, rules), tuple(news))


def wanted(memory: Memory, rules: Rules) -> Tuple[str, ...]:
    """What is still to be done, by what is remembered alone."""
    acts = []
    if memory.condition != memory.told or memory.untold:
        acts.append(ALERT)
    bad = _reached(memory.bad, rules.quarantine_after) or _reached(memory.missing, rules.quarantine_missing_after)
    if bad and not memory.quarantined:
        acts.append(QUARANTINE)
    if _reached(memory.bad, rules.revoke_after) and not memory.revoked:
        acts.append(REVOKE)
    if memory.quarantined and not bad and rules.release and memory.good >= rules.recover_after:
        acts.append(RELEASE)
    return tuple(acts)


def settle(memory: Memory, act: str) -> Memory:
    """Remember that ``act`` was done."""
    if act == ALERT:
        return replace(memory, told=memory.condition, untold=())
    if act == QUARANTINE:
        return replace(memory, quarantined=True)
    if act == REVOKE:
        return replace(memory, revoked=True)
    if act == RELEASE:
        return replace(memory, quarantined=False)
    raise FormatError("%s is none of %s" % (ascii(act)[:40], ", ".join(ACTS)), where="settled")


def _good(memory: Memory, found: Observation, rules: Rules) -> Memory:
    told = [change.to_dict() for change in found.changes if change.kind in rules.alert_on]
    good = _more(memory.good)
    memory = replace(
        memory, good=good, missing=0, baseline=found.present, drift_total=memory.drift_total + len(found.changes),
        untold=tuple([*memory.untold, *told][-UNTOLD_MAX:]),
    )  # fmt: skip
    return replace(memory, bad=0) if good >= rules.recover_after else memory


def _condition(memory: Memory, rules: Rules) -> str:
    if _reached(memory.bad, rules.alert_after):
        return FAILING
    if _reached(memory.missing, rules.missing_after):
        return MISSING
    # One good round ends being missed: there is nothing to flap about, it answers. What failed must hold for a while.
    return OK if memory.bad == 0 and memory.missing == 0 or memory.condition == MISSING and memory.good else memory.condition


def _reached(count: int, threshold: int) -> bool:
    return 0 < threshold <= count


def _more(count: int) -> int:
    return min(count + 1, COUNT_MAX)
