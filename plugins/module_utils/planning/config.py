# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a model's config.json (Hugging Face) says of its shape. Only decoders of the usual build are counted; others need their parameters given."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.planning.failure import PlanError
from ansible_collections.attested.ai.plugins.module_utils.planning.given import mapping, whole

_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float8_e4m3fn": "fp8"}
_QUANTIZED = {"fp8": "fp8", "fbgemm_fp8": "fp8", "awq": "int4", "gptq": "int4", "mxfp4": "mxfp4", "modelopt_fp4": "nvfp4"}
# Builds of which the simple count would be wrong: shared experts, layers without experts among those with.
_OTHERWISE = ("n_shared_experts", "shared_expert_intermediate_size", "first_k_dense_replace", "mlp_only_layers")


def from_config(given: t.Any) -> dict[str, t.Any]:
    """Layers, heads, dtype, and the number of parameters where it can be counted. Raises PlanError."""
    outer = mapping(given, "model.config")
    # Models that also see or hear keep the decoder's settings in a section of their own.
    config = {**outer, **mapping(outer["text_config"], "model.config.text_config")} if "text_config" in outer else outer
    layers, heads, hidden = (_whole(config, key) for key in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    if layers is None or heads is None or hidden is None:
        raise PlanError(
            "num_hidden_layers, num_attention_heads or hidden_size is missing", where="model.config", fix="Give layers, kv_heads and head_dim instead"
        )
    kv_heads = _whole(config, "num_key_value_heads") or heads
    head_dim = _whole(config, "head_dim") or max(hidden // heads, 1)
    found: dict[str, t.Any] = {"layers": layers, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    rank = _whole(config, "kv_lora_rank")
    if rank is not None:
        found["latent_width"] = rank + (_whole(config, "qk_rope_head_dim") or 0)
    limit = _whole(config, "max_position_embeddings")
    if limit is not None:
        found["max_context"] = limit
    dtype = _dtype(outer, config)
    if dtype:
        found["dtype"] = dtype
    if rank is None and not any(config.get(key) for key in _OTHERWISE):
        found.update(_parameters(config, layers, heads, kv_heads, head_dim, hidden))
    return found


def _whole(config: t.Mapping[str, t.Any], key: str) -> int | None:
    return None if config.get(key) is None else whole(config[key], f"model.config.{key}", least=1, most=10**9)


def _dtype(outer: t.Mapping[str, t.Any], config: t.Mapping[str, t.Any]) -> str | None:
    quantized = outer.get("quantization_config", config.get("quantization_config"))
    if quantized is not None:
        method = str(mapping(quantized, "model.config.quantization_config").get("quant_method", ""))
        # None: config.json does not tell, and whoever makes the plan has to.
        return _QUANTIZED.get(method)
    return _DTYPES.get(str(config.get("torch_dtype", config.get("dtype", outer.get("torch_dtype", "")))))


def _parameters(config: t.Mapping[str, t.Any], layers: int, heads: int, kv_heads: int, head_dim: int, hidden: int) -> dict[str, t.Any]:
    """Embeddings, attention, gated feed-forward with all its experts. Norms and biases are left out: less than one in a thousand."""
    vocabulary, inner = _whole(config, "vocab_size"), _whole(config, "intermediate_size")
    if vocabulary is None or inner is None:
        return {}
    attention = hidden * head_dim * (2 * heads + 2 * kv_heads)
    experts = _whole(config, "num_local_experts") or _whole(config, "num_experts") or 1
    width = _whole(config, "moe_intermediate_size") or inner
    forward = 3 * hidden * (inner if experts == 1 else experts * width)
    router = hidden * experts if experts > 1 else 0
    embedding = vocabulary * hidden * (1 if config.get("tie_word_embeddings", False) else 2)
    total = embedding + layers * (attention + forward + router)
    return {"parameters": total, "embedding_parameters": embedding, "parameters_from": "counted from config.json"}
