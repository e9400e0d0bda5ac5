# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""all-MiniLM-L6-v2 without PyTorch: BERT's forward pass in numpy, mean pooling, unit length.

Three small dependencies (numpy, safetensors, tokenizers) instead of two gigabytes, so that the demo shows a real model with real
weights on any machine. The model directory is only ever read.

Shapes: B sentences, T tokens of the longest one, H hidden size, A attention heads of size D = H / A. All arithmetic is float32.
"""

from __future__ import annotations

import json
import math
import typing as t
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Array = np.ndarray


class EmbeddingError(Exception):
    """The model directory does not hold a model that this code computes; says what, where and what to do."""


@dataclass(frozen=True)
class Shape:
    """The few numbers of config.json that the forward pass needs."""

    layers: int
    heads: int
    hidden: int
    epsilon: float
    max_tokens: int

    @classmethod
    def read(cls, directory: Path) -> Shape:
        config = _read_json(directory / "config.json")
        if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
            raise EmbeddingError(f"{directory}/config.json describes no BERT model with GELU; only that kind is computed here")
        sentence_path = directory / "sentence_bert_config.json"
        limit = _read_json(sentence_path).get("max_seq_length") if sentence_path.is_file() else None
        return cls(
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            hidden=config["hidden_size"],
            epsilon=config["layer_norm_eps"],
            max_tokens=limit or config["max_position_embeddings"],
        )


class EmbeddingModel:
    """Sentences to unit vectors. Thread-safe: nothing is written after construction."""

    def __init__(self, directory: str | Path) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        directory = Path(directory)
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            if not (directory / name).is_file():
                raise EmbeddingError(f"{directory} has no {name}, so it is no model directory; give the folder that holds that file")
        self.shape = Shape.read(directory)
        self._weights: dict[str, Array] = load_file(directory / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.enable_truncation(self.shape.max_tokens)
        self._tokenizer.enable_padding()

    def embed(self, sentences: t.Sequence[str]) -> Array:
        """Unit vectors of the sentences, float32 of shape (B, H)."""
        if not sentences:
            return np.empty((0, self.shape.hidden), dtype=np.float32)
        encoded = self._tokenizer.encode_batch(list(sentences))
        ids = np.array([one.ids for one in encoded])
        mask = np.array([one.attention_mask for one in encoded], dtype=np.float32)
        return unit_length(mean_pool(self.hidden_states(ids, mask), mask))

    def rank(self, question: str, candidates: t.Sequence[str]) -> list[dict[str, t.Any]]:
        """The candidates, best answer first: ``{"rank", "text", "score"}`` with the cosine similarity, six decimals."""
        vectors = self.embed([question, *candidates])
        scores = vectors[1:] @ vectors[0]
        order = sorted(range(len(candidates)), key=lambda index: (-scores[index], index))
        return [{"rank": place, "text": candidates[index], "score": round(float(scores[index]), 6)} for place, index in enumerate(order, 1)]

    def hidden_states(self, ids: Array, mask: Array) -> Array:
        """Last hidden state, (B, T, H), for token ids (B, T) and a mask (B, T) with 1 for tokens and 0 for padding."""
        weights, epsilon = self._weights, self.shape.epsilon
        state = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        state = layer_norm(state, weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"], epsilon)
        for number in range(self.shape.layers):
            prefix = f"encoder.layer.{number}."
            layer = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
            state = encoder_layer(state, mask, layer, self.shape.heads, epsilon)
        return state


def encoder_layer(state: Array, mask: Array, weights: t.Mapping[str, Array], heads: int, epsilon: float) -> Array:
    """One transformer layer of BERT (post-norm): attention and a two-layer perceptron, each with a residual and a norm."""
    batch, tokens, hidden = state.shape
    size = hidden // heads

    def dense(value: Array, name: str) -> Array:
        return value @ weights[name + ".weight"].T + weights[name + ".bias"]

    def split(name: str) -> Array:
        return dense(state, "attention.self." + name).reshape(batch, tokens, heads, size).transpose(0, 2, 1, 3)

    def add_and_norm(value: Array, residual: Array, name: str) -> Array:
        return layer_norm(value + residual, weights[name + ".weight"], weights[name + ".bias"], epsilon)

    scores = split("query") @ split("key").transpose(0, 1, 3, 2) / np.float32(math.sqrt(size))
    # Padding must not draw attention; the lowest float32 is what the reference implementation adds too.
    scores = scores + (1.0 - mask[:, None, None, :]) * np.finfo(np.float32).min
    context = (softmax(scores) @ split("value")).transpose(0, 2, 1, 3).reshape(batch, tokens, hidden)
    state = add_and_norm(dense(context, "attention.output.dense"), state, "attention.output.LayerNorm")
    inner = gelu(dense(state, "intermediate.dense"))
    return add_and_norm(dense(inner, "output.dense"), state, "output.LayerNorm")


def layer_norm(value: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    centred = value - value.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + np.float32(epsilon)) * weight + bias


def softmax(value: Array) -> Array:
    raised = np.exp(value - value.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def gelu(value: Array) -> Array:
    """GELU in its exact form, x * Phi(x), as the model was trained with (not the tanh approximation)."""
    return value * np.float32(0.5) * (np.float32(1.0) + erf(value * np.float32(math.sqrt(0.5))))


def erf(value: Array) -> Array:
    """Error function, absolute error below 5e-7 in float32: Abramowitz and Stegun, formula 7.1.26. numpy has none."""
    size = np.abs(value)
    s = 1.0 / (1.0 + np.float32(0.3275911) * size)
    series = s * (0.254829592 + s * (-0.284496736 + s * (1.421413741 + s * (-1.453152027 + s * np.float32(1.061405429)))))
    return np.sign(value) * (1.0 - series * np.exp(-size * size))


def mean_pool(state: Array, mask: Array) -> Array:
    """Mean over the tokens that are no padding: (B, T, H), (B, T) -> (B, H)."""
    weights = mask[:, :, None]
    return (state * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), np.float32(1e-9))


def unit_length(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32(1e-12))


def _read_json(path: Path) -> dict[str, t.Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EmbeddingError(f"{path} cannot be read as JSON: {error}") from None
