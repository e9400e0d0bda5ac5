# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents of two sides, made up as they are measured."""

from __future__ import annotations

import random

MACHINE = {
    "architecture": "x86_64", "cpu": "Some CPU", "cpus": 8, "memory_gib": 64, "kernel": "6.12.0", "python": "3.13.0", "numpy": None, "torch": "2.9",
    "gpu": "Some GPU", "gpu_capability": "10.0", "driver": "590.48.01", "hypervisor": True,
}  # fmt: skip


def passes(make, number=12, **given):
    """As many passes as an interval needs, each with noise of its own."""
    return [make(seed=2 * one + (make is plain), **given) for one in range(number)]


def side(tee="tdx", slower=1.0, rounds=3, seed=1, names=("gpu.load",), machine=(), cc="on"):
    source = random.Random(seed)
    measures = {name: {"seconds": [0.01 * slower * source.uniform(0.97, 1.03) for _number in range(rounds)], "bytes": 4096} for name in names}
    return {
        "schema": "attested.ai/overhead/1",
        "machine": {**MACHINE, "tee": tee, "gpu_cc": cc, **dict(machine)},
        "settings": {"rounds": rounds},
        "measures": measures,
        "absent": {},
        "swiotlb": {"slots": 32768, "used_before": 1, "used_most": 7, "high_water": 9, "why": ""},
    }


def plain(**given):
    return side(**{"tee": "none", "cc": "off", **given})
