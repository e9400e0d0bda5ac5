# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of one host: which GPUs, which mode, how much memory, what it costs, and what to do where it does not fit."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.attested.ai.plugins.module_utils.planning import guest_fit, tables
from ansible_collections.attested.ai.plugins.module_utils.planning.advice import of_gpus, of_ram
from ansible_collections.attested.ai.plugins.module_utils.planning.failure import PlanError
from ansible_collections.attested.ai.plugins.module_utils.planning.given import mapping, number, only, whole
from ansible_collections.attested.ai.plugins.module_utils.planning.gpu_fit import Fit, best, most_requests
from ansible_collections.attested.ai.plugins.module_utils.planning.model import Model, parse_model
from ansible_collections.attested.ai.plugins.module_utils.planning.overhead import expected
from ansible_collections.attested.ai.plugins.module_utils.planning.tables import GIB, Figure, Gpu, assumption

SCHEMA = "attested.ai/plan/1"
TEES = ("tdx", "snp", "cca")
HOST_KEYS = ("name", "gpu", "gpus", "ram_gib", "tee", "profile")


@dataclass(frozen=True)
class PlanHost:
    """``gpu`` is None for a host without GPUs. ``ram`` in bytes."""

    name: str
    gpu: Gpu | None
    gpus: int
    ram: int
    tee: str
    profile: str


def parse_host(given: t.Any, index: int) -> PlanHost:
    where = f"hosts[{index}]"
    raw = mapping(given, where)
    only(raw, HOST_KEYS, where)
    name = str(raw.get("name") or where)
    known = tables.gpus()
    key = str(raw.get("gpu") or "").lower()
    if key and key not in known:
        raise PlanError(
            f"nothing is known of {ascii(key)[:40]}", where=f"{where}.gpu", fix=f"There are {', '.join(known)}. Others cannot do confidential computing"
        )
    tee, profile = raw.get("tee"), raw.get("profile", guest_fit.TMPFS)
    if tee not in TEES:
        raise PlanError(f"{ascii(tee)[:40]} is no TEE", where=f"{where}.tee", fix=f"There are {', '.join(TEES)}")
    if profile not in (guest_fit.TMPFS, guest_fit.IMAGE):
        raise PlanError(f"{ascii(profile)[:40]} is no profile", where=f"{where}.profile", fix="There are files and image")
    if "ram_gib" not in raw:
        raise PlanError("ram_gib is missing", where=where, fix="Say how much memory the host has")
    number_of = whole(raw.get("gpus", 1), f"{where}.gpus", most=72) if key else 0
    return PlanHost(name, known[key] if key else None, number_of, int(number(raw["ram_gib"], f"{where}.ram_gib", 1e6) * GIB), tee, profile)


def parse_options(given: t.Any) -> dict[str, float]:
    raw = mapping(given or {}, "options")
    only(raw, tables.SETTABLE, "options")
    found = {name: number(value, f"options.{name}", 1e6) for name, value in raw.items()}
    if found.get("gpu_use", 0) > 1:
        raise PlanError("more than all of it", where="options.gpu_use", fix="Give a part, such as 0.9")
    return found


def plan(model: t.Any, hosts: t.Any, options: t.Any = None) -> dict[str, t.Any]:
    """The whole document. Raises PlanError."""
    wanted, settings = parse_model(model), parse_options(options)
    if not isinstance(hosts, (list, tuple)) or not hosts:
        raise PlanError("a list of hosts was expected", where="hosts")
    found = [plan_host(wanted, parse_host(host, index), settings) for index, host in enumerate(hosts)]
    return {"schema": SCHEMA, "model": _model(wanted), "fits": any(one["fits"] for one in found), "hosts": found}


def plan_host(model: Model, host: PlanHost, options: t.Mapping[str, float]) -> dict[str, t.Any]:
    answer: dict[str, t.Any] = {"host": host.name, "tee": host.tee, "fits": False, "mode": None, "gpu": host.gpu.title if host.gpu else None}
    if host.gpu is None:
        return {**answer, **_with_memory(model, host, None, options)}
    if host.tee == "cca":
        why = "NVIDIA names no support of GPUs for CCA"
        return {**answer, "why": why, "next": "Take a TDX or SEV-SNP host, or leave the GPUs out", "figures": [], "overhead": []}
    chosen, nearest = best(model, host.gpu, host.gpus, options)
    if chosen is None:
        why, step = of_gpus(model, host.gpu, host.gpus, nearest, options)
        return {**answer, "why": why, "next": step, "figures": [one.to_dict() for one in _gpu_figures(model, nearest, options)], "overhead": []}
    return {**answer, **_with_memory(model, host, chosen, options)}


def _with_memory(model: Model, host: PlanHost, chosen: Fit | None, options: t.Mapping[str, float]) -> dict[str, t.Any]:
    reserve = assumption("host_system_gib", options)
    shape = chosen.shape if chosen else None
    memory = guest_fit.guest_memory(model, shape.number if shape else 0, host.profile, host.tee, options)
    tables_of_tee = guest_fit.tee_tables(host.ram, host.tee)
    free = host.ram - int(reserve.value * GIB) - sum(int(one.value * GIB) for one in tables_of_tee)
    by_ram = max(free, 0) // memory.host
    by_gpus = host.gpus // shape.number if shape else by_ram
    # Protected PCIe and several GPUs of one board leave nothing to share; single GPUs may go to several guests.
    guests = min(by_ram, by_gpus if shape is None or shape.mode != "ppcie" else 1)
    kept = Figure("host-system", "kept for the host itself", reserve.value, "GiB", reserve.mark, reserve.source)
    figures = [*_gpu_figures(model, chosen, options), *memory.figures, *tables_of_tee, kept]
    found: dict[str, t.Any] = {
        "fits": guests > 0,
        "guest_ram_gib": memory.guest // GIB,
        "guests_per_host": guests,
        "figures": [one.to_dict() for one in figures],
        "overhead": expected(model, host.gpu, options),
    }
    if shape is not None and chosen is not None:
        driver, says = tables.driver(shape.gpu, shape.mode, shape.number, max(guests, 1))
        found.update(
            mode=shape.mode, gpus_used=shape.number, tensor_parallel=shape.parallel, replicas=shape.replicas, most_requests=most_requests(model, chosen),
            driver={"least": driver, "says": says},
        )  # fmt: skip
        found["gpu_gib"] = {"needed": round(chosen.needed / GIB, 1), "usable": round(chosen.usable / GIB, 1)}
    if guests > 0:
        return {**found, "why": "", "next": _next(host, shape.mode if shape else "")}
    other = guest_fit.guest_memory(model, shape.number if shape else 0, guest_fit.IMAGE, host.tee, options)
    why, step = of_ram(memory.host, free, host.profile, other.host if shape else memory.host, reserve.value)
    return {**found, "why": why, "next": step}


def _next(host: PlanHost, mode: str) -> str:
    if not mode:
        return f"Make it a {host.tee.upper()} host (attested.ai.hosts)"
    what = "all GPUs and switches" if mode == "ppcie" else "all GPUs of the host"
    return f"Set {what} to {mode} (attested.ai.gpu_cc_mode): NVIDIA does not support hosts with some GPUs in another mode"


def _gpu_figures(model: Model, one: Fit | None, options: t.Mapping[str, float]) -> list[Figure]:
    if one is None:
        return []
    use, space = assumption("gpu_use", options), assumption("gpu_workspace_gib", options)
    split = f"over {one.shape.parallel} GPUs" if one.shape.parallel > 1 else "on one GPU"
    formula = (
        "layers x width of the compressed vector x bytes x tokens"
        if model.latent_width
        else "2 x layers x heads of keys and values x their size x bytes x tokens"
    )
    return [
        Figure("gpu-weights", f"weights on each GPU, {split}", one.weights / GIB, "GiB", "rule", model.weights_from),
        Figure("gpu-kv-cache", f"KV cache on each GPU, {model.kv_dtype}", one.kv_cache / GIB, "GiB", "rule", formula),
        Figure("gpu-workspace", "working memory on each GPU", one.workspace / GIB, "GiB", space.mark, space.source),
        Figure(
            "gpu-usable",
            f"usable of {one.shape.gpu.memory / GIB:.1f} GiB",
            one.usable / GIB,
            "GiB",
            use.mark,
            f"{use.source}; size of the card: {one.shape.gpu.mark}",
        ),
    ]


def _model(model: Model) -> dict[str, t.Any]:
    return {
        "name": model.name, "weights_gib": round(model.weights / GIB, 2), "weights_from": model.weights_from, "dtype": model.dtype, "kv_dtype": model.kv_dtype,
        "layers": model.layers, "context": model.context, "concurrency": model.concurrency, "kv_bytes_per_token": model.kv_per_token(1),
    }  # fmt: skip
