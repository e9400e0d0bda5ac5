# SPDX-License-Identifier: GPL-3.0-or-later
"""Models and hosts of plans."""

from __future__ import annotations

from hypothesis import strategies as st

SHAPE = {
    "name": "llama-70b",
    "parameters": "70.6B",
    "dtype": "fp8",
    "layers": 80,
    "heads": 64,
    "kv_heads": 8,
    "head_dim": 128,
    "context": 32768,
    "concurrency": 16,
}
HOST = {"name": "host1", "gpu": "h100", "gpus": 8, "ram_gib": 2048, "tee": "tdx"}
# The decoder of a published 8B model, as its config.json has it.
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 131072, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "vocab_size": 128256,
}  # fmt: skip


def models():
    """Shapes of models as they are built, from very small to too large for anything."""
    return st.fixed_dictionaries({
        "parameters": st.floats(1e8, 2e12), "dtype": st.sampled_from(["fp32", "bf16", "fp8", "nvfp4", "int4"]), "kv_dtype": st.sampled_from(["bf16", "fp8"]),
        "layers": st.integers(1, 160), "heads": st.sampled_from([8, 16, 32, 40, 64, 96, 128]), "kv_heads": st.sampled_from([1, 2, 4, 8]),
        "head_dim": st.sampled_from([64, 96, 128, 256]), "context": st.integers(1, 2_000_000), "concurrency": st.integers(1, 4096),
    })  # fmt: skip


def hosts():
    return st.fixed_dictionaries({
        "name": st.just("host1"), "gpu": st.sampled_from(["h100", "h100-nvl", "h200", "b200", "b300", "rtx-pro-6000", ""]), "gpus": st.integers(1, 9),
        "ram_gib": st.integers(8, 8192), "tee": st.sampled_from(["tdx", "snp"]), "profile": st.sampled_from(["files", "image"]),
    })  # fmt: skip
