# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which of the published figures are about such a host, and how long it takes to load the model."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.planning.model import Model
from ansible_collections.attested.ai.plugins.module_utils.planning.tables import Gpu, assumption, table


def expected(model: Model, gpu: Gpu | None, options: t.Mapping[str, float]) -> list[dict[str, str]]:
    """Rows of id, claim, setup, source and mark. They are not added up: each measured another bottleneck."""
    rows = [
        {key: str(row[key]) for key in ("id", "claim", "setup", "source", "mark")} for row in table("performance")["figures"] if _about(row["applies"], gpu)
    ]
    if gpu is not None:
        link = assumption("link_gb_per_s", options)
        seconds = model.weights / (link.value * 1e9)
        rows.append(
            {
                "id": "load-time",
                "claim": f"loading the weights takes at least {seconds:.0f} s at {link.value:g} GB/s",
                "setup": "arithmetic",
                "source": link.source,
                "mark": link.mark,
            }
        )
    return rows


def _about(applies: t.Mapping[str, t.Any], gpu: Gpu | None) -> bool:
    if gpu is None:
        return applies.get("gpu") is False
    if applies.get("gpu") is False:
        return False
    return gpu.architecture in applies.get("architecture", [gpu.architecture]) and gpu.key in applies.get("gpus", [gpu.key])
