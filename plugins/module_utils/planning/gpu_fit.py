# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a model fits into the GPUs of one guest. Plain arithmetic, per GPU."""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass

from ansible_collections.attested.ai.plugins.module_utils.planning.model import Model
from ansible_collections.attested.ai.plugins.module_utils.planning.tables import GIB, Gpu, assumption


@dataclass(frozen=True)
class Shape:
    """What one guest gets: ``number`` GPUs in ``mode``; ``parallel`` of them share one copy of the model, and there are ``replicas`` copies."""

    gpu: Gpu
    mode: str
    number: int
    parallel: int

    @property
    def replicas(self) -> int:
        return self.number // self.parallel


@dataclass(frozen=True)
class Fit:
    """Bytes on each GPU. ``spare`` is negative where it does not fit."""

    shape: Shape
    weights: int
    kv_cache: int
    workspace: int
    usable: int

    @property
    def needed(self) -> int:
        return self.weights + self.kv_cache + self.workspace

    @property
    def spare(self) -> int:
        return self.usable - self.needed


def shapes(gpu: Gpu, available: int) -> list[Shape]:
    """All ways to give a guest some of ``available`` GPUs, the smallest first. Protected PCIe takes the whole board, so it needs exactly its number."""
    found = []
    for mode, numbers in gpu.shapes.items():
        for number in numbers:
            if (number == available) if mode == "ppcie" else (number <= available):
                found += [Shape(gpu, mode, number, parallel) for parallel in (1, 2, 4, 8) if parallel <= number and number % parallel == 0]
    return sorted(found, key=lambda shape: (shape.number, -shape.parallel))


def fit(model: Model, shape: Shape, options: t.Mapping[str, float]) -> Fit:
    """Weights are split evenly, the KV cache by heads, requests among copies."""
    requests = math.ceil(model.concurrency / shape.replicas)
    return Fit(
        shape,
        weights=math.ceil(model.weights / shape.parallel),
        kv_cache=model.kv_per_token(shape.parallel) * model.context * requests,
        workspace=int(assumption("gpu_workspace_gib", options).value * GIB),
        usable=int(shape.gpu.memory * assumption("gpu_use", options).value),
    )


def splits(model: Model, shape: Shape) -> bool:
    """Engines give each GPU the same number of heads."""
    return model.heads % shape.parallel == 0


def best(model: Model, gpu: Gpu, available: int, options: t.Mapping[str, float]) -> tuple[Fit | None, Fit | None]:
    """The smallest guest into which it fits, and the one that comes nearest where none does."""
    tried = [fit(model, shape, options) for shape in shapes(gpu, available) if splits(model, shape)]
    good = [one for one in tried if one.spare >= 0]
    # Among guests of one size the one with most room left.
    least = min((one.shape.number for one in good), default=0)
    chosen = max((one for one in good if one.shape.number == least), key=lambda one: one.spare, default=None)
    return chosen, max(tried, key=lambda one: one.spare, default=None)


def most_requests(model: Model, one: Fit) -> int:
    """How many requests of the model's context go into this shape; 0 if not even one does."""
    room = one.usable - one.weights - one.workspace
    each = model.kv_per_token(one.shape.parallel) * model.context
    return max(room // each, 0) * one.shape.replicas


def most_context(model: Model, one: Fit) -> int:
    """The longest context at the model's concurrency; 0 if the weights alone do not fit."""
    room = one.usable - one.weights - one.workspace
    each = model.kv_per_token(one.shape.parallel) * math.ceil(model.concurrency / one.shape.replicas)
    return max(room // each, 0)
