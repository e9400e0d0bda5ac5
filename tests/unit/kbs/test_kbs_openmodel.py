# SPDX-License-Identifier: GPL-3.0-or-later
"""openmodel, as the init container of a pod runs it: its own process, a data hub as guest-components has it, our KBS behind that."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import kbs_lab
import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kbs import hub
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import Kek
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.modelkey import ModelKey
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan, unwrap_dek
from ansible_collections.attested.ai.plugins.module_utils.target.memory import memory_filesystem
from cryptography.hazmat.primitives.asymmetric import ec

pytestmark = pytest.mark.skipif(not memory_filesystem("/dev/shm").safe, reason="needs memory without swap at /dev/shm")
REPO = Path(__file__).resolve().parents[3]


class DataHub:
    """The API of guest-components' api-server-rest, with our own guest client behind it: resources as bytes, every refusal 500."""

    def __init__(self, peer) -> None:
        self._peer, self.asked = peer, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802
                status, data = outer.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/cdh/resource"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        if not path.startswith("/cdh/resource/"):
            return 404, b""
        client = self._peer.guest()
        try:
            client.attest("sample", kbs_lab.sample)
            return 200, client.resource(path[len("/cdh/resource/"):])
        except AttestedError as error:
            return 500, str(error).encode()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("openmodel") / "openmodel.pyz"
    subprocess.run([sys.executable, str(REPO / "tools/openmodel/build.py"), str(path)], check=True)  # noqa: S603
    first = path.read_bytes()
    subprocess.run([sys.executable, str(REPO / "tools/openmodel/build.py"), str(path)], check=True)  # noqa: S603
    assert path.read_bytes() == first
    return path


class Pod:
    """A model as ciphertext, its key in a KBS, and the init container's surroundings."""

    def __init__(self, peer, folder: Path, memory: Path, program: Path) -> None:
        self.hub, self.folder, self.memory, self.program = DataHub(peer), folder, memory, program
        self.keys = Keys(Kek("k", os.urandom(32)), ec.generate_private_key(ec.SECP256R1()))
        (folder / "plain" / "tokenizer").mkdir(parents=True)
        self.files = {"weights.gguf": os.urandom(50_000), "tokenizer/vocab.txt": b"a b c", "empty": b""}
        for name, data in self.files.items():
            (folder / "plain" / name).write_bytes(data)
        request = Request(str(folder / "plain"), str(folder / "sealed"), "m", 1, 4096)
        self.manifest = encrypt(make_plan(request, self.keys), self.keys, "2026-01-31T12:00:00Z")
        self.data_key = bytes(unwrap_dek(self.manifest.dek, self.keys.kek))
        self.key = ModelKey("m", 1, 1, self.manifest.key_id, public_jwk(self.keys.signer), self.data_key)
        self.admin = peer.admin()
        self.admin.set_resource(Resource.parse("default/model-key/m-1"), self.key.to_json())
        self.admin.set_resource_policy(kbs_lab.ALLOW)
        self.volume = memory / "models"
        self.volume.mkdir()

    def run(self, **changes) -> tuple[int, str]:
        environment = {
            "PATH": os.environ["PATH"], "HOME": "/tmp", "ATTESTED_CDH_URL": self.hub.url, "ATTESTED_MODEL_URL": str(self.folder / "sealed"),
            "ATTESTED_MODEL_KEYS": "default/model-key/m-1", "ATTESTED_MODEL_PATH": str(self.volume), "ATTESTED_MODEL_CIPHERTEXT": "/nowhere", **changes,
        }  # fmt: skip
        done = subprocess.run([sys.executable, "-E", str(self.program)], env=environment, capture_output=True, text=True, check=False)  # noqa: S603
        assert "Traceback" not in done.stderr and self.data_key.hex() not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    def opened(self) -> dict[str, bytes]:
        files = [path for path in self.volume.rglob("*") if path.is_file() and path.name != ".attested-model.json"]
        return {str(path.relative_to(self.volume)): path.read_bytes() for path in files}

    def store(self, name: str, **changes) -> str:
        self.admin.set_resource(Resource.parse(f"default/model-key/{name}"), dataclasses.replace(self.key, **changes).to_json())
        return f"default/model-key/{name}"


@pytest.fixture
def pod(soft, tmp_path, memory, program):
    made = Pod(soft, tmp_path, memory, program)
    yield made
    made.hub.server.shutdown()
    made.hub.server.server_close()


def test_a_pod_opens_the_model_into_its_volume_once(pod):
    assert pod.run() == (0, f"openmodel: m release 1, 3 files, {sum(map(len, pod.files.values()))} bytes: opened\n")
    assert pod.opened() == pod.files and not [path for path in pod.volume.iterdir() if "opening" in path.name]
    assert all(path.stat().st_mode & 0o777 == 0o400 for path in pod.volume.rglob("*") if path.is_file() and path.name != ".attested-model.json")
    asked = len(pod.hub.asked)
    status, said = pod.run()
    assert status == 0 and "open already" in said and len(pod.hub.asked) == asked
    # Cut in the midst of the move: begun anew.
    (pod.volume / ".attested-model.json").write_text("{")
    (pod.volume / "weights.gguf").unlink()
    assert pod.run()[0] == 0 and pod.opened() == pod.files
    # A server that is given a file.
    assert pod.run(ATTESTED_MODEL_PATH=str(pod.volume / "weights.gguf"))[0] == 0


@pytest.mark.parametrize("what", [
    "denied", "other-key", "signer", "older", "tampered", "down", "foreign", "disk", "named", "hub-outside", "web-http", "unset", "raw",
])  # fmt: skip
def test_a_pod_that_may_not_or_cannot_opens_nothing(pod, tmp_path, what):
    changes, code = {}, ""
    if what == "denied":
        pod.admin.set_resource_policy(kbs_lab.DENY)
        code = "hub-denied"
    elif what == "other-key":
        changes, code = {"ATTESTED_MODEL_KEYS": pod.store("other", key=os.urandom(32))}, "model-tag"
    elif what == "signer":
        changes, code = {"ATTESTED_MODEL_KEYS": pod.store("signer", manifest_signer=public_jwk(ec.generate_private_key(ec.SECP256R1())))}, "model-signature"
    elif what == "older":
        changes, code = {"ATTESTED_MODEL_MINIMUM": "2"}, "release-too-old"
    elif what == "tampered":
        path = tmp_path / "sealed" / "weights.gguf.tink"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        code = "model-tag"
    elif what == "down":
        changes, code = {"ATTESTED_CDH_URL": "http://127.0.0.1:9/cdh/resource"}, "hub-unreachable"
    elif what == "foreign":
        (pod.volume / "mine").write_text("x")
        code = "model-dest"
    elif what == "disk":
        changes, code = {"ATTESTED_MODEL_PATH": str(tmp_path)}, "not-in-memory"
    elif what == "named":
        changes, code = {"ATTESTED_MODEL_PATH": str(pod.volume / "other.gguf")}, "model-file-missing"
    elif what == "hub-outside":
        changes, code = {"ATTESTED_CDH_URL": "https://hub.example.org/cdh/resource"}, "hub-url"
    elif what == "web-http":
        changes, code = {"ATTESTED_MODEL_URL": "http://models.example.org/m"}, "model-remote"
    elif what == "unset":
        changes, code = {"ATTESTED_MODEL_KEYS": " "}, "environment"
    else:
        pod.admin.set_resource(Resource.parse("default/model-key/raw"), pod.data_key)
        changes, code = {"ATTESTED_MODEL_KEYS": "default/model-key/raw"}, "model-key-form"
    status, said = pod.run(**changes)
    assert status == 1 and f"[{code}]" in said, said
    assert what == "foreign" or [path.name for path in pod.volume.iterdir()] == []


def test_the_right_one_of_several_keys_is_taken(pod):
    first = pod.store("m-2", release=2, minimum_release=2, key_id="m-2-x")
    assert pod.run(ATTESTED_MODEL_KEYS=f"default/model-key/none {first} default/model-key/m-1")[0] == 0 and pod.opened() == pod.files


def test_the_hub_is_asked_in_the_guest_only():
    for more in ({}, {"allow_http": True}):
        with pytest.raises(AttestedError, check=lambda error: error.code == "hub-url"):
            hub.Hub("http://192.0.2.1:8006/cdh/resource", **more)
    assert hub.Hub(hub.ADDRESS).parts == ("http", "127.0.0.1", 8006, "/cdh/resource")
