# SPDX-License-Identifier: GPL-3.0-or-later
"""The smaller parts: limits, the relay, the two halves of the front, the holder's rules, the bundle, ONNX Runtime's protocol."""

from __future__ import annotations

import io
import json
import os
import socket
import stat
import struct
import subprocess
import sys
import threading
import urllib.request
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, CollectError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.modelserver import bundle, collector, holder, notify, onnx_server, order
from ansible_collections.attested.ai.plugins.module_utils.modelserver.judging import judge_from
from ansible_collections.attested.ai.plugins.module_utils.modelserver.rate import PEERS_MAX, Limiter, Rate
from ansible_collections.attested.ai.plugins.module_utils.modelserver.relay import Relay
from ansible_collections.attested.ai.plugins.module_utils.modelserver.settings import parse as parse_settings

REPO = Path(__file__).resolve().parents[3]
np = pytest.importorskip("numpy")


def test_peers_do_not_take_from_each_other_and_all_share_one_limit():
    limiter = Limiter(Rate(1.0, 4), Rate(1.0, 2))
    assert [limiter.take("a", 0) > 0 for _try in range(4)] == [False, False, True, True]
    assert [limiter.take("b", 0) > 0 for _try in range(3)] == [False, False, True]
    assert limiter.take("c", 0) == 1.0 and limiter.take("c", 1.0) == 0
    for number in range(2 * PEERS_MAX):
        limiter.take(str(number), 2.0)
    assert len(limiter._peers) == PEERS_MAX


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 3)), max_size=60))
def test_no_order_of_questions_gets_more_than_the_rate(steps):
    limiter, now, taken = Limiter(Rate(2.0, 5), Rate(1.0, 3)), 0.0, {}
    for peer, pause in steps:
        now += pause
        if limiter.take(peer, now) == 0:
            taken.setdefault(peer, []).append(now)
    assert sum(map(len, taken.values())) <= 5 + 2.0 * now
    assert all(len(times) <= 3 + 1.0 * now for times in taken.values())


@given(st.text("/v1.%2feE\\admin?", max_size=24))
def test_no_path_leads_out_of_what_is_served(text):
    settings = parse_settings({"name": "a", "address": "127.0.0.1", "port": 1, "user": "", "runtime": "/run/x", "paths": ["/v1/"]})
    if settings.allows("/" + text):
        path = ("/" + text).partition("?")[0].replace("%2f", "/").replace("%2F", "/").replace("%2e", ".").replace("%2E", ".").replace("\\", "/")
        assert os.path.normpath(path).startswith("/v1")


def test_relay_carries_both_ways_and_to_the_one_who_may_connect(tmp_path):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        relay = Relay(str(tmp_path / "s"), server.getsockname())
        assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o600
        relay.start()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            inner, _address = server.accept()
            with inner:
                payload = os.urandom(1 << 20)
                threading.Thread(target=client.sendall, args=(payload,)).start()
                got = b""
                while len(got) < len(payload):
                    got += inner.recv(1 << 16)
                assert got == payload and relay.active == 1
                inner.sendall(b"answer")
                inner.shutdown(socket.SHUT_WR)
                assert client.recv(100) == b"answer" and client.recv(100) == b""
        # Closed: nobody new, and what was open ended by itself.
        relay.close()
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(OSError):
            late.connect(str(tmp_path / "s"))


def test_half_without_rights_learns_only_what_it_may():
    ours, theirs = socket.socketpair()

    def collect(nonce):
        if nonce == "AAAA":
            raise CollectError("the TEE is busy")
        return {"nonce": nonce}

    thread = threading.Thread(target=collector.answer, args=(ours, collect))
    thread.start()
    asking = collector.Asking(theirs)
    assert asking.collect(b"n" * 16) == {"nonce": "bm5ubm5ubm5ubm5ubm5ubg=="}
    with pytest.raises(CollectError, match="busy"):
        asking.collect(b"\0\0\0")
    # More than a nonce can be is no question: it ends the conversation.
    theirs.sendall(b"\xff\xff\xff\xff")
    thread.join(10)
    ours.close()
    with pytest.raises(CollectError) as caught:
        asking.collect(b"n" * 16)
    assert caught.value.code == "collector"


@given(st.binary(max_size=40))
def test_whatever_comes_over_the_socket_of_the_halves_is_a_message_or_an_error(raw):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(raw)
        theirs.shutdown(socket.SHUT_WR)
        try:
            assert isinstance(collector.receive(ours, 30), dict)
        except (OSError, ValueError):
            pass


def make_order(**more):
    return order.parse({"name": "m", "src": "/srv/m", "dest": "/var/lib/x", "runtime": "/run/m/x", "command": ["/bin/s", "{path}", '{"a": {}}', "-p{port}"],
                        "user": "nobody", "front_user": "nobody", "session": "s", "session_directory": "/run/attested-ai", **more})  # fmt: skip


def test_command_is_filled_in_and_json_in_it_stays():
    assert holder.Holder(make_order(port=9000)).command() == ["/bin/s", "/var/lib/x/model", '{"a": {}}', "-p9000"]
    assert holder.Holder(make_order(file="a/b.gguf")).command()[1] == "/var/lib/x/model/a/b.gguf"


def test_environment_of_the_model_server_is_made_anew(monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
    monkeypatch.setenv("SECRET", "x")
    found = holder.Holder(make_order(env={"HF_HUB_OFFLINE": "1"})).environment()
    assert found["HF_HUB_OFFLINE"] == "1" and not {"SECRET", "NOTIFY_SOCKET"} & set(found)


def test_holder_opens_nothing_where_others_could_see_it(tmp_path):
    # A folder in memory, but no file system of its own.
    with pytest.raises(AttestedError) as caught:
        holder.Holder(make_order(dest="/dev/shm/attested-test-missing")).run()
    assert caught.value.code in ("not-private", "not-in-memory")
    with pytest.raises(AttestedError) as caught:
        holder.require_private(str(tmp_path))
    assert caught.value.code in ("not-private", "not-in-memory")


def test_credentials_reach_the_model_server_alone(tmp_path):
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "api-key").write_bytes(b"x")
    holder.hand_credentials(str(tmp_path / "given"), str(tmp_path / "dest"), os.getuid(), os.getgid())
    assert (tmp_path / "dest" / "api-key").read_bytes() == b"x" and stat.S_IMODE(os.stat(tmp_path / "dest" / "api-key").st_mode) == 0o400
    holder.hand_credentials("", str(tmp_path / "other"), 0, 0)
    assert not (tmp_path / "other").exists()


def test_systemd_is_told_and_nobody_else(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "n"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        assert notify.tell("READY=1", "STATUS=a\nREADY=0")
        assert channel.recv(100) == b"READY=1\nSTATUS=a READY=0"
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not notify.tell("READY=1")


def test_bundle_is_the_same_each_time_and_runs_alone(tmp_path):
    first, second = (bundle.build(str(REPO / "plugins" / "module_utils")) for _time in range(2))
    assert first == second
    names = zipfile.ZipFile(io.BytesIO(first)).namelist()
    assert any(name.endswith("target/tsm.py") for name in names) and not any("kubernetes" in name or "appraisal" in name for name in names)
    program = tmp_path / "p.pyz"
    program.write_bytes(first)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", str(program), "front", str(tmp_path / "missing")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "it cannot be read" in done.stderr and "Traceback" not in done.stderr


class Session:
    """A model of ONNX Runtime: doubles its input."""

    def get_inputs(self):
        return [SimpleNamespace(name="x", type="tensor(float)", shape=["batch", 2])]

    def get_outputs(self):
        return [SimpleNamespace(name="y", type="tensor(float)", shape=["batch", 2])]

    def run(self, names, feed):
        if feed["x"].shape[-1] != 2:
            raise RuntimeError("patient data in the message")
        return [feed["x"] * 2 for _name in names]


@pytest.fixture
def onnx():
    return onnx_server.Model("double", Session(), np)


def tensor(**more):
    return {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2], **more}


def test_onnx_answers_in_the_open_inference_protocol(onnx):
    assert onnx.infer({"id": "7", "inputs": [tensor()]}) == {
        "model_name": "double", "id": "7", "outputs": [{"name": "y", "shape": [1, 2], "datatype": "FP32", "data": [3.0, 4.0]}]}  # fmt: skip
    assert onnx.infer({"inputs": [tensor(data=[[1.5, 2]])], "outputs": [{"name": "y"}]})["outputs"][0]["data"] == [3.0, 4.0]
    assert onnx.metadata()["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]


@pytest.mark.parametrize(
    "request_body",
    [
        {}, [], {"inputs": 1}, {"inputs": []}, {"inputs": [tensor(), tensor()]}, {"inputs": [tensor(name="z")]}, {"inputs": [tensor(datatype="INT8")]},
        {"inputs": [tensor(shape=[3])]}, {"inputs": [tensor(shape=[-1, 2])]}, {"inputs": [tensor(data=["a", "b"])]}, {"inputs": [tensor(shape=[2, 1])]},
        {"inputs": [tensor()], "outputs": [{"name": "q"}]}, {"inputs": ["x"]}, {"inputs": [tensor(shape="x")]}, {"inputs": [tensor(data=None)]},
    ],
)  # fmt: skip
def test_onnx_refuses_what_does_not_fit(onnx, request_body):
    with pytest.raises(FormatError) as caught:
        onnx.infer(request_body)
    assert "patient" not in str(caught.value)


def test_onnx_says_nothing_of_who_only_looked_whether_it_answers(onnx, capfd):
    with onnx_server.Server(0, onnx) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for _attempt in range(3):
            with socket.create_connection(server.server_address) as client:
                # It ends with a reset.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/v2/health/live", timeout=10) as answer:
            assert answer.status == 200
        server.shutdown()
    assert "Traceback" not in capfd.readouterr().err


def test_onnx_wants_one_model(tmp_path):
    with pytest.raises(AttestedError, match="0 ONNX files"):
        onnx_server.find_model(str(tmp_path))
    (tmp_path / "a.onnx").write_bytes(b"")
    assert onnx_server.find_model(str(tmp_path)) == str(tmp_path / "a.onnx") == onnx_server.find_model(str(tmp_path / "a.onnx"))


@pytest.mark.parametrize("raw", ["{}", "[]", json.dumps({"name": "m", "command": "x"}), "{"])
def test_order_that_is_none_is_told_in_one_line(tmp_path, raw):
    (tmp_path / "o").write_text(raw)
    with pytest.raises(AttestedError):
        order.load(str(tmp_path / "o"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("policy.yml",), "policy"),
        (({"schema": "attested.ai/policy/1", "id": "a", "mood": "lenient"},), "mood"),
        (({"schema": "attested.ai/policy/1", "id": "a"}, "reference-values.yml"), "reference"),
        (({"schema": "attested.ai/policy/1", "id": "a"}, {"schema": "attested.ai/reference-values/1", "values": 5}), "values"),
        (({"schema": "attested.ai/policy/1", "id": "a"}, None, ["collateral"]), "collateral_inputs"),
    ],
)
def test_judge_refuses_what_is_no_document_before_a_server_is_asked(arguments, words):
    with pytest.raises(AttestedError, match=words):
        judge_from(*arguments)
