# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""The demo's tools: arithmetic against an independent computation, TLS against wrong pins, the server against wrong models."""

from __future__ import annotations

import json
import math
import os
import random
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools" / "demo"))

np = pytest.importorskip("numpy")
import ciphertext  # noqa: E402
import embedding  # noqa: E402
import embedding_client  # noqa: E402
import embedding_server  # noqa: E402
import tls  # noqa: E402

MODEL = Path(os.environ.get("ATTESTED_DEMO_MODEL", ROOT / ".cache" / "demo" / "model"))


def test_gelu_is_the_exact_one():
    values = np.linspace(-8, 8, 4001, dtype=np.float32)
    exact = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in values.tolist()]
    assert np.abs(embedding.gelu(values) - exact).max() < 3e-6


def plain_layer(x, keep, w, heads, epsilon):
    """One BERT layer for one sentence in plain Python, index by index, after the paper's formulas."""

    def dense(rows, name):
        return [[sum(a * b for a, b in zip(row, line)) + bias for line, bias in zip(w[name + ".weight"], w[name + ".bias"])] for row in rows]

    def norm(rows, name):
        out = []
        for row in rows:
            mean = sum(row) / len(row)
            spread = math.sqrt(sum((v - mean) ** 2 for v in row) / len(row) + epsilon)
            out.append([(v - mean) / spread * g + b for v, g, b in zip(row, w[name + ".weight"], w[name + ".bias"])])
        return out

    q, k, v = (dense(x, "attention.self." + name) for name in ("query", "key", "value"))
    size = len(x[0]) // heads
    context = [[0.0] * len(x[0]) for _row in x]
    for head in range(heads):
        part = range(head * size, (head + 1) * size)
        for i in range(len(x)):
            raised = [math.exp(sum(q[i][d] * k[j][d] for d in part) / math.sqrt(size)) * keep[j] for j in range(len(x))]
            for d in part:
                context[i][d] = sum(r * v[j][d] for j, r in enumerate(raised)) / sum(raised)
    x = norm([[a + b for a, b in zip(*pair)] for pair in zip(dense(context, "attention.output.dense"), x)], "attention.output.LayerNorm")
    inner = [[0.5 * a * (1 + math.erf(a / math.sqrt(2))) for a in row] for row in dense(x, "intermediate.dense")]
    return norm([[a + b for a, b in zip(*pair)] for pair in zip(dense(inner, "output.dense"), x)], "output.LayerNorm")


def test_a_layer_equals_an_independent_computation():
    chance, hidden, inner, tokens = random.Random(7), 8, 12, 5

    def draw(*shape):
        return np.array([chance.uniform(-1, 1) for _value in range(math.prod(shape))], dtype=np.float32).reshape(shape)

    shapes = {"attention.self.query": (hidden, hidden), "attention.self.key": (hidden, hidden), "attention.self.value": (hidden, hidden)}
    shapes |= {"attention.output.dense": (hidden, hidden), "intermediate.dense": (inner, hidden), "output.dense": (hidden, inner)}
    weights = {name + ".weight": draw(*shape) for name, shape in shapes.items()} | {name + ".bias": draw(shape[0]) for name, shape in shapes.items()}
    for name in ("attention.output.LayerNorm", "output.LayerNorm"):
        weights |= {name + ".weight": draw(hidden), name + ".bias": draw(hidden)}
    state, keep = draw(1, tokens, hidden), [1, 1, 1, 0, 0]
    found = embedding.encoder_layer(state, np.array([keep], dtype=np.float32), weights, 2, 1e-12)[0]
    expected = plain_layer(state[0].tolist(), keep, {name: value.tolist() for name, value in weights.items()}, 2, 1e-12)
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.skipif(not MODEL.is_dir(), reason="the demo's model is not here; run make demo, or set ATTESTED_DEMO_MODEL")
def test_similarities_are_those_that_the_authors_of_the_model_publish():
    """The three sentences and figures of the quickstart in the documentation of Sentence Transformers."""
    vectors = embedding.EmbeddingModel(MODEL).embed(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    assert np.allclose(vectors @ vectors.T, [[1, 0.6660, 0.1046], [0.6660, 1, 0.1411], [0.1046, 0.1411, 1]], atol=1e-4)


class Echo:
    def rank(self, question, candidates):
        return [{"rank": 1, "text": candidates[0], "score": float(len(question))}]


@pytest.fixture
def server():
    identity = tls.make_server_identity()
    running = embedding_server.EmbeddingServer(Echo(), "echo", identity, 0)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"https://127.0.0.1:{running.server_port}", identity.spki
    running.shutdown()
    thread.join()
    running.server_close()


def test_the_attested_key_is_answered_over_tls_13(server):
    answer = embedding_client.ask(*server, {"question": "four", "candidates": ["a"]})
    assert answer["tls"] == "TLSv1.3" and answer["ranking"] == [{"rank": 1, "text": "a", "score": 4.0}]


def test_another_key_gets_no_request(server):
    with pytest.raises(tls.PinError, match="nothing was sent"):
        embedding_client.ask(server[0], "sha256:" + "00" * 32, {"question": "secret", "candidates": ["a"]})


@pytest.mark.parametrize("body", [{"question": 1, "candidates": ["a"]}, {"question": "q", "candidates": []}, {"question": "q"}, ["q"]])
def test_bad_requests_get_one_line(server, body):
    with pytest.raises(embedding_client.ClientError, match="refused the request"):
        embedding_client.ask(*server, body)


def test_only_the_opened_model_is_served(tmp_path, monkeypatch):
    model, manifest = tmp_path / "model", tmp_path / "model-manifest.json"
    model.mkdir()
    (model / "config.json").write_text("{}")
    manifest.write_text(json.dumps({"model_id": "m", "files": [{"path": "config.json", "size": 2}]}))
    monkeypatch.setattr(embedding_server, "file_system_type", lambda path: "ext4")
    with pytest.raises(embedding_server.ServerError, match="not in memory"):
        embedding_server.check_model_directory(model, manifest)
    monkeypatch.setattr(embedding_server, "file_system_type", lambda path: "tmpfs")
    assert embedding_server.check_model_directory(model, manifest) == "m"
    (model / "extra.py").write_text("")
    with pytest.raises(embedding_server.ServerError, match=r"extra\.py differ"):
        embedding_server.check_model_directory(model, manifest)


def test_figures_tell_plain_from_random(tmp_path):
    header = json.dumps({"layer.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "plain").write_bytes(len(header).to_bytes(8, "little") + header + bytes(65536))
    (tmp_path / "random").write_bytes(random.Random(1).randbytes(65536))
    plain, secret = ciphertext.figures(tmp_path / "plain"), ciphertext.figures(tmp_path / "random")
    assert plain["tensor_names"] == 1 and plain["entropy"] < 1 and plain["compresses_to"] < 0.1
    assert secret["tensor_names"] == 0 and secret["entropy"] > 7.99 and secret["compresses_to"] >= 1
