# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Minimum TCB versions by silicon, from data/tcb_floors.json."""

from __future__ import annotations

import functools
import pkgutil
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict

COMPONENTS = ("fmc", "bootloader", "tee", "snp", "microcode")
SCHEMA = "attested.ai/tcb-floors/1"


@dataclass(frozen=True)
class TcbFloor:
    """A minimum for one range of silicon. ``minimum`` maps component names to the lowest accepted value; a component that is
    not named has no known floor. ``unverified`` is true while nobody compared the values with the vendor's own bulletin."""

    key: str
    product: str
    family: int
    models: Tuple[int, int]
    minimum: Mapping[str, int]
    source: str
    unverified: bool


@functools.lru_cache(maxsize=None)
def load_floors() -> Tuple[TcbFloor, ...]:
    """The shipped floors. Raises EndorsementError if the data file is missing or damaged."""
    raw = pkgutil.get_data(__name__, "data/tcb_floors.json")
    if raw is None:
        raise EndorsementError("the table of TCB floors is missing", where="data/tcb_floors.json", fix="Install the collection again.")
    document = strict.loads(raw, "data/tcb_floors.json")
    if document.get("schema") != SCHEMA:
        raise EndorsementError("unknown schema %r" % (document.get("schema"),), where="data/tcb_floors.json")
    return tuple(_floor(entry) for entry in document["floors"])


def _floor(entry: Mapping[str, Any]) -> TcbFloor:
    minimum: Dict[str, int] = dict(entry["minimum"])
    first, last = entry["models"]
    return TcbFloor(
        "%02x-%02x-%02x" % (entry["family"], first, last), entry["product"], entry["family"], (first, last),
        minimum, entry["source"], entry["unverified"],
    )  # fmt: skip


def floor_for(family: int, model: int) -> Optional[TcbFloor]:
    """The shipped floor of this silicon (CPUID family and model), None if none is known."""
    for floor in load_floors():
        if floor.family == family and floor.models[0] <= model <= floor.models[1]:
            return floor
    return None
