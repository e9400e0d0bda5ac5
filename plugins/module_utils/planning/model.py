# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The model of a plan: how large its weights are, and what one token costs in the KV cache."""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.attested.ai.plugins.module_utils.planning.failure import PlanError
from ansible_collections.attested.ai.plugins.module_utils.planning.config import from_config
from ansible_collections.attested.ai.plugins.module_utils.planning.given import count, mapping, only, size, whole

# Bytes of one weight, with the scales of its block: NVFP4 has one byte for 16 weights, MXFP4 one for 32, 4-bit integers two for 128.
DTYPES: t.Final[t.Mapping[str, float]] = {
    "fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "nvfp4": 0.5625, "mxfp4": 0.53125, "int4": 0.515625,
}  # fmt: skip
KV_DTYPES: t.Final[t.Mapping[str, float]] = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0}
KEYS = ("name", "parameters", "size", "dtype", "kv_dtype", "layers", "heads", "kv_heads", "head_dim", "latent_width", "context", "concurrency", "config")


@dataclass(frozen=True)
class Model:
    """``weights`` in bytes. ``latent_width`` is not 0 where all heads share one compressed vector (MLA), which no GPU can take a part of."""

    name: str
    weights: int
    weights_from: str
    dtype: str
    kv_dtype: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    latent_width: int
    context: int
    concurrency: int

    @property
    def tokens(self) -> int:
        """Of all requests at once, each as long as it may be."""
        return self.context * self.concurrency

    def kv_per_token(self, parts: int) -> int:
        """Bytes of one token on each of ``parts`` GPUs that share the heads. A head is not split; where there are fewer heads than GPUs, each has a copy."""
        if self.latent_width:
            return int(self.layers * self.latent_width * KV_DTYPES[self.kv_dtype])
        return int(2 * self.layers * math.ceil(self.kv_heads / parts) * self.head_dim * KV_DTYPES[self.kv_dtype])

    def with_dtype(self, dtype: str) -> Model:
        """Another type of weights: a guess by the ratio of their sizes."""
        return replace(self, dtype=dtype, weights=int(self.weights * DTYPES[dtype] / DTYPES[self.dtype]), weights_from=f"scaled from {self.dtype}")


def parse_model(given: t.Any) -> Model:
    """Raises PlanError. What is given wins over what the model's own config.json says."""
    raw = mapping(given, "model")
    only(raw, KEYS, "model")
    known = dict(from_config(raw["config"])) if raw.get("config") is not None else {}
    known.update({key: value for key, value in raw.items() if key != "config" and value not in (None, "")})
    missing = [key for key in ("dtype", "layers", "context", "concurrency") if key not in known]
    if "latent_width" not in known:
        missing += [key for key in ("kv_heads", "head_dim") if key not in known]
    if missing:
        raise PlanError(f"{', '.join(missing)} is missing", where="model", fix="Give it, or the model's config.json")
    dtype = _choice(known["dtype"], DTYPES, "model.dtype")
    weights, source = _weights(known, dtype)
    most = known.get("max_context")
    context = whole(known["context"], "model.context", most=100_000_000)
    if most is not None and context > most:
        raise PlanError(f"the model knows contexts up to {most}, not {context}", where="model.context")
    heads = whole(known.get("heads", known.get("kv_heads", 1)), "model.heads", most=4096)
    kv_heads = whole(known.get("kv_heads", heads), "model.kv_heads", most=4096)
    if heads % kv_heads:
        raise PlanError(f"{heads} heads cannot share {kv_heads} of keys and values evenly", where="model.kv_heads")
    return Model(
        name=str(known.get("name", "model")), weights=weights, weights_from=source, dtype=dtype,
        kv_dtype=_choice(known.get("kv_dtype", "bf16"), KV_DTYPES, "model.kv_dtype"),
        layers=whole(known["layers"], "model.layers", most=10_000), heads=heads, kv_heads=kv_heads,
        head_dim=whole(known.get("head_dim", 1), "model.head_dim", most=65_536),
        latent_width=whole(known.get("latent_width", 0), "model.latent_width", least=0, most=65_536),
        context=context, concurrency=whole(known["concurrency"], "model.concurrency", most=1_000_000),
    )  # fmt: skip


def _weights(known: t.Mapping[str, t.Any], dtype: str) -> tuple[int, str]:
    if "size" in known:
        return size(known["size"], "model.size"), "size as given"
    if "parameters" not in known:
        raise PlanError("neither size nor parameters is there", where="model", fix="Give one of them, or a config.json from which they can be counted")
    parameters = count(known["parameters"], "model.parameters")
    # Embeddings stay at 16 bits in the usual quantized checkpoints.
    embedded = min(float(known.get("embedding_parameters", 0)), parameters) if DTYPES[dtype] < 2 else 0.0
    total = (parameters - embedded) * DTYPES[dtype] + embedded * 2.0
    how = known.get("parameters_from", "parameters as given")
    return math.ceil(total), f"{how}: {parameters / 1e9:.2f} billion in {dtype}" + (", embeddings at 16 bits" if embedded else "")


def _choice(value: t.Any, choices: t.Mapping[str, float], where: str) -> str:
    if value not in choices:
        raise PlanError(f"{ascii(value)[:40]} is not known", where=where, fix=f"There are {', '.join(choices)}")
    return str(value)
