# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What to do where a model does not fit: the smallest change that helps comes first."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.attested.ai.plugins.module_utils.planning import tables
from ansible_collections.attested.ai.plugins.module_utils.planning.gpu_fit import Fit, best, most_context, most_requests
from ansible_collections.attested.ai.plugins.module_utils.planning.model import DTYPES, Model
from ansible_collections.attested.ai.plugins.module_utils.planning.tables import GIB, Gpu


def of_gpus(model: Model, gpu: Gpu, available: int, nearest: Fit | None, options: t.Mapping[str, float]) -> tuple[str, str]:
    """Why it does not fit, and the steps."""
    if nearest is None:
        return _no_shape(model, gpu, available), _elsewhere(model, options) or "Give the number of GPUs that the host really has"
    where = f"{nearest.shape.number} x {gpu.title} ({nearest.shape.mode})"
    why = f"each GPU of {where} would need {nearest.needed / GIB:.1f} GiB of {nearest.usable / GIB:.1f} usable"
    left_out = _left_out(gpu, available, nearest)
    steps = []
    requests, context = most_requests(model, nearest), most_context(model, nearest)
    if requests > 0:
        steps.append(f"lower the concurrency to {requests}")
    if context >= 1024:
        steps.append(f"lower the context to {context}")
    if model.kv_dtype != "fp8" and best(replace(model, kv_dtype="fp8"), gpu, available, options)[0]:
        steps.append("keep the KV cache in fp8")
    smaller = next((name for name in _below(model.dtype) if best(model.with_dtype(name), gpu, available, options)[0]), None)
    if smaller:
        steps.append(f"take weights in {smaller}")
    elsewhere = _elsewhere(model, options)
    if elsewhere:
        steps.append(elsewhere)
    text = "; or ".join(steps) or "No host that is known takes it: split the model, or take a smaller one"
    return why + left_out, text[0].upper() + text[1:]


def of_ram(needed: int, free: int, profile: str, mapped: int, reserve: float) -> tuple[str, str]:
    why = f"the guest needs {needed / GIB:.0f} GiB of its host, which has {max(free, 0) / GIB:.0f} beside the {reserve:g} kept for itself"
    if profile == "files" and mapped <= free:
        return why, f"Take the profile image, which maps the model ({mapped / GIB:.0f} GiB); or add memory to the host"
    return why, f"Add {(needed - free) / GIB:.0f} GiB of memory to the host, or take a smaller dtype"


def _no_shape(model: Model, gpu: Gpu, available: int) -> str:
    return f"no guest can be given a part of {available} x {gpu.title} over which {model.heads} heads split evenly"


def _left_out(gpu: Gpu, available: int, nearest: Fit) -> str:
    """Hopper joins GPUs only as a whole board, others do not join them at all."""
    if nearest.shape.number >= available:
        return ""
    if "ppcie" in gpu.shapes:
        return f". A guest gets one GPU, or all 8 with their switches (ppcie); {available} do not make a board"
    return (
        f". The other {available - nearest.shape.number} cannot join in: {gpu.title} is supported with one GPU for each guest"
        if max(gpu.shapes["on"]) == 1
        else ""
    )


def _below(dtype: str) -> list[str]:
    return [name for name in ("fp8", "nvfp4", "int4") if DTYPES[name] < DTYPES[dtype]]


def _elsewhere(model: Model, options: t.Mapping[str, float]) -> str:
    """Which GPUs would take it, the fewest first."""
    found = []
    for gpu in tables.gpus().values():
        chosen, _nearest = best(model, gpu, 8, options)
        if chosen:
            found.append((chosen.shape.number, chosen.shape.gpu.memory, f"{chosen.shape.number} x {gpu.title} ({chosen.shape.mode})"))
    named = [text for _number, _memory, text in sorted(found)[:3]]
    return "take " + " or ".join(named) if named else ""
