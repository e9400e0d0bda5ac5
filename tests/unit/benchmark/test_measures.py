# SPDX-License-Identifier: GPL-3.0-or-later
"""Measurements on this machine: they hold what they promise, name what they cannot do, and leave nothing behind."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time

import pytest

from ansible_collections.attested.ai.plugins.module_utils.benchmark.compare import compare
from ansible_collections.attested.ai.plugins.module_utils.benchmark.failure import BenchmarkError
from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures import gpu as gpu_measures
from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures import serving
from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.measure import Found, Measure, label
from ansible_collections.attested.ai.plugins.module_utils.benchmark.run import Wanted, measure
from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost

SMALL = {"rounds": 2, "sizes": (4096,), "file_size": 65536}


class Stream(http.server.BaseHTTPRequestHandler):
    """Five events, 4 ms apart, the first after 12; by path also what servers do wrong."""

    protocol_version = "HTTP/1.1"
    seen: list = []

    def do_POST(self):
        self.seen.append((self.headers.get("Authorization"), self.rfile.read(int(self.headers["Content-Length"]))))
        path = self.path.partition("?")[0]
        if path == "/refused":
            self.send_error(401)
            return
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        if path == "/silent":
            return
        time.sleep(0.012)
        for number in range(5):
            self.wfile.write(b": a comment\ndata: {}\n\n")
            self.wfile.flush()
            time.sleep(0.004 if number < 4 else 0)
        self.wfile.write(b"data: [DONE]\n\ndata: late\n\n")

    def log_message(self, *_words):
        pass


@pytest.fixture(scope="module")
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stream)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def endpoint(url):
    return serving.Endpoint(url, b'{"stream": true}', {"Authorization": "Bearer secret-word"}, timeout=10)


def test_a_stream_is_timed_event_by_event(server):
    times = serving.batch(endpoint(server + "/v1/stream"), 2)
    assert set(times) == {"serving.ttft.2", "serving.itl.2", "serving.whole.2"}
    assert len(serving.stream(endpoint(server + "/"))) == 1 + 5
    # Sleeping takes at least as long as it says, and a busy machine longer.
    assert times["serving.ttft.2"] >= 0.012 and times["serving.itl.2"] >= 0.003 and times["serving.whole.2"] >= (0.012 + 4 * 0.004) / 10
    assert Stream.seen[-1] == ("Bearer secret-word", b'{"stream": true}')


@pytest.mark.parametrize(("path", "says"), [("/refused", "status 401"), ("/silent", "no server-sent event")])
def test_a_server_that_does_not_stream_is_named_without_its_query(server, path, says):
    with pytest.raises(BenchmarkError, match=says) as caught:
        serving.batch(endpoint(f"{server}{path}"), 1)
    wanted = Wanted(("cpu", "serving"), endpoint=endpoint(f"{server}{path}?key=secret-word"), concurrency=(1,), **SMALL)
    document = measure(wanted, LocalHost())
    assert "serving.1" in document["absent"] and "cpu.hash" in document["measures"] and caught.value.code == "serving"
    assert "secret-word" not in json.dumps(document)


def test_a_header_that_is_none_is_not_shown(server):
    bad = serving.Endpoint(server, b"{}", {"Authorization": "Bearer secret-word\nX: y"}, timeout=5)
    with pytest.raises(BenchmarkError, match="not allowed") as caught:
        serving.stream(bad)
    assert "secret-word" not in str(caught.value)


def test_a_signal_ends_the_run_and_not_one_measurement(monkeypatch):
    def ends():
        raise CollectError("ended by a signal", code="interrupted")

    monkeypatch.setattr(
        "ansible_collections.attested.ai.plugins.module_utils.benchmark.run.gpu", lambda found, _sizes: found.measures.append(Measure("gpu.load", ends)) or {}
    )
    with pytest.raises(CollectError, match="signal"):
        measure(Wanted(("gpu",), **SMALL), LocalHost())


@pytest.mark.parametrize("url", ["", "ftp://x/", "http://", "http://user:word@x/", "http://x:none/", "http://[::1"])
def test_addresses_that_are_none_are_refused(url):
    with pytest.raises(BenchmarkError, match="no address"):
        serving.serving(Found(), endpoint(url), (1,))


def test_a_machine_against_itself_shows_no_cost(tmp_path):
    (tmp_path / "swiotlb").mkdir()
    for name, text in (("io_tlb_used", "7\n"), ("io_tlb_nslabs", "32768\n")):
        (tmp_path / "swiotlb" / name).write_text(text)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(b"weights" * 999)
    wanted = Wanted(
        ("cpu", "memory", "file", "model", "attestation", "gpu", "serving"), directory=str(tmp_path), model=str(tmp_path / "model"),
        tsm_path=str(tmp_path / "none"), swiotlb=str(tmp_path / "swiotlb"), **SMALL,
    )  # fmt: skip
    on, off = [], []
    for number in range(14):
        for one in (on, off) if number % 2 else (off, on):
            one.append(measure(wanted, LocalHost()))
    document = compare(on, off, confidence=0.999)
    assert not document["differences"] and {row["effect"] for row in document["rows"]} == {"none-seen"}, document["rows"]
    assert {row["id"] for row in document["rows"]} >= {"cpu.hash", "memory.copy.4k", "memory.alloc-copy.4k", "file.read.64k", "file.model"}
    assert {"attestation", "gpu", "serving"} <= set(document["on"]["absent"]) and document["on"]["swiotlb"]["used_most"] == 7
    assert sorted(os.listdir(tmp_path)) == ["model", "swiotlb"]


def test_what_fails_in_one_round_is_left_out_of_all_and_named(monkeypatch):
    calls = []

    def fails():
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of memory\nand a long story")
        return {"gpu.load": 1.0}

    def prepared(found, _sizes):
        found.measures.append(Measure("gpu.load", fails))
        return {}

    monkeypatch.setattr("ansible_collections.attested.ai.plugins.module_utils.benchmark.run.gpu", prepared)
    document = measure(Wanted(("cpu", "gpu"), **SMALL), LocalHost())
    assert document["absent"]["gpu.load"] == "out of memory" and "gpu.load" not in document["measures"] and len(calls) == 3


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"parts": ("gpu",)}, "nothing-measured"),
        ({"parts": ()}, "parts"),
        ({"parts": ("cpu", "gup")}, "parts"),
        ({"rounds": 0}, "settings"),
        ({"sizes": (1 << 40,)}, "settings"),
        ({"sizes": ()}, "settings"),
        ({"concurrency": (0,)}, "settings"),
        ({"endpoint": serving.Endpoint("http://127.0.0.1:9", b"{}", {}, timeout=-1)}, "settings"),
        ({"parts": ("model",), "model": "/nowhere/at/all"}, "model-path"),
    ],
)
def test_what_cannot_be_measured_is_refused(given, code, monkeypatch):
    monkeypatch.setattr(gpu_measures, "optional", lambda _name: None)
    with pytest.raises(BenchmarkError) as caught:
        measure(Wanted(**{"parts": ("cpu",), **SMALL, **given}), LocalHost())
    assert caught.value.code == code


def test_sizes_have_short_names():
    assert [label(size) for size in (512, 4096, 1 << 20, 3 << 30, 1500)] == ["512b", "4k", "1m", "3g", "1500b"]
