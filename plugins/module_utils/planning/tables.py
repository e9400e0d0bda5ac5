# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What plans rest on: GPUs, assumptions and published figures, each with its source. Data beside this file; checked where it is read."""

from __future__ import annotations

import functools
import json
import pkgutil
import typing as t
from dataclasses import dataclass

from ansible_collections.attested.ai.plugins.module_utils.planning.failure import PlanError

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Figure:
    """One number of a plan. ``mark`` is source, rule, assumption, unverified or given."""

    id: str
    title: str
    value: float
    unit: str
    mark: str
    source: str

    def to_dict(self) -> dict[str, t.Any]:
        return {"id": self.id, "title": self.title, "value": round(self.value, 3), "unit": self.unit, "mark": self.mark, "source": self.source}


@dataclass(frozen=True)
class Gpu:
    """``shapes`` are the numbers of GPUs that one guest can be given, by mode."""

    key: str
    title: str
    architecture: str
    memory: int
    mark: str
    shapes: t.Mapping[str, tuple[int, ...]]


@functools.lru_cache(maxsize=None)
def table(name: str) -> t.Mapping[str, t.Any]:
    raw = pkgutil.get_data(__name__, f"data/{name}.json")
    if raw is None:
        raise PlanError("it is missing", where=f"data/{name}.json", fix="Install the collection again")
    return t.cast("t.Mapping[str, t.Any]", json.loads(raw))


@functools.lru_cache(maxsize=None)
def gpus() -> t.Mapping[str, Gpu]:
    return {
        key: Gpu(
            key, row["title"], row["architecture"], row["memory_mib"] * MIB, row["mark"],
            {mode: tuple(numbers) for mode, numbers in row["shapes"].items()},
        )
        for key, row in table("gpus")["gpus"].items()
    }  # fmt: skip


def driver(gpu: Gpu, mode: str, number: int, guests: int) -> tuple[str, str]:
    """The least driver, and what its release brought."""
    if gpu.architecture == "hopper":
        kind = "all" if mode == "ppcie" else "several-guests" if guests > 1 else "one"
    else:
        kind = "one" if number == 1 else "many"
    row = table("gpus")["drivers"][f"{gpu.architecture}/{mode}/{kind}"]
    return row["least"], row["says"]


def assumption(name: str, options: t.Mapping[str, float]) -> Figure:
    """The value of the table, or the one that was given."""
    row = table("assumptions")[name]
    if name in options:
        return Figure(name, name, float(options[name]), row["unit"], "given", "options")
    return Figure(name, name, float(row["value"]), row["unit"], row["mark"], row["source"])


SETTABLE = ("gpu_use", "gpu_workspace_gib", "system_gib", "engine_gib", "host_system_gib", "link_gb_per_s")
