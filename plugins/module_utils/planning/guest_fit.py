# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How much memory a guest needs, and its host. Plain arithmetic."""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass

from ansible_collections.attested.ai.plugins.module_utils.planning.model import Model
from ansible_collections.attested.ai.plugins.module_utils.planning.tables import GIB, MIB, Figure, assumption, table

TMPFS, IMAGE = "files", "image"


@dataclass(frozen=True)
class Memory:
    """Bytes. ``guest`` is what the guest is started with, ``host`` what its host needs for it alone, ``figures`` how both come about."""

    guest: int
    host: int
    figures: tuple[Figure, ...]


def bounce_buffers(ram: int) -> int:
    """What the guest's kernel sets aside by itself (swiotlb)."""
    rule = table("assumptions")["swiotlb"]
    return int(min(max(ram * rule["share"], rule["least_mib"] * MIB), rule["most_mib"] * MIB))


def whole_gib(amount: float) -> int:
    return math.ceil(amount / GIB) * GIB


def with_bounce_buffers(needed: int) -> int:
    """The least whole GiB of RAM of which ``needed`` is left beside the bounce buffers."""
    ram = whole_gib(needed)
    while ram - bounce_buffers(ram) < needed:
        ram += GIB
    return ram


def guest_memory(model: Model, gpus: int, profile: str, tee: str, options: t.Mapping[str, float]) -> Memory:
    """``gpus`` 0: the model runs on the CPU, and its KV cache lies in the same memory."""
    system, engine = assumption("system_gib", options), assumption("engine_gib", options)
    processes = max(gpus, 1) + (1 if gpus > 1 else 0)
    copy = model.weights if profile == TMPFS or gpus == 0 else 0
    cache = model.kv_per_token(1) * model.tokens if gpus == 0 else 0
    needed = copy + cache + int(system.value * GIB) + int(engine.value * GIB) * processes
    ram = with_bounce_buffers(needed)
    swiotlb = table("assumptions")["swiotlb"]
    figures = [
        _gib("model-copy", "the model in the guest's memory", copy, "rule", _copy_source(profile, gpus)),
        _gib("system", "operating system of the guest", int(system.value * GIB), system.mark, system.source),
        _gib("engine", f"engine, {processes} processes", int(engine.value * GIB) * processes, engine.mark, engine.source),
        _gib("bounce-buffers", "bounce buffers (swiotlb)", bounce_buffers(ram), swiotlb["mark"], swiotlb["source"]),
        _gib("guest-ram", "RAM of the guest, in whole GiB", ram, "rule", "sum of the above"),
    ]
    if gpus == 0:
        figures.insert(1, _gib("kv-cache", "KV cache, in RAM", cache, "rule", "2 x layers x heads of keys and values x their size x bytes x tokens"))
    rule = table("assumptions")["snp_guest_mib"]
    extra = rule["value"] * MIB if tee == "snp" else 0
    if extra:
        figures.append(_gib("vmm", "locked memory of QEMU beside the guest's RAM", extra, rule["mark"], rule["source"]))
    return Memory(ram, ram + extra, tuple(figures))


def _copy_source(profile: str, gpus: int) -> str:
    if profile == TMPFS:
        return "profile files: decrypted into a tmpfs, once, and not swapped; it may go after the engine is ready, but must fit until then"
    return (
        "profile image: mapped, and all of it is read again and again"
        if gpus == 0
        else "profile image: mapped, decrypted on demand into the page cache, which may go"
    )


def tee_tables(host_ram: int, tee: str) -> tuple[Figure, ...]:
    """What the TEE keeps of all the RAM of a host."""
    if tee != "tdx":
        return ()
    rule = table("assumptions")["pamt_share"]
    return (_gib("tee-tables", "tables of the TDX module, for all RAM of the host", math.ceil(host_ram * rule["value"]), rule["mark"], rule["source"]),)


def _gib(key: str, title: str, amount: int, mark: str, source: str) -> Figure:
    return Figure(key, title, amount / GIB, "GiB", mark, source)
