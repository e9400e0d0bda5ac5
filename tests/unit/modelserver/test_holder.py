# SPDX-License-Identifier: GPL-3.0-or-later
"""One instance, for real: the program in namespaces of its own, a model that is opened there, a model server as a user without rights."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
from datetime import datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from modelserver_lab import wait_for

from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import Kek
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import KeyRelease, seal
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.session import create_session, prepare_directory
from ansible_collections.attested.ai.plugins.module_utils.modelserver import bundle, upstream
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan, unwrap_dek
from ansible_collections.attested.ai.plugins.module_utils.target.memory import memory_filesystem

REPO = pathlib.Path(__file__).resolve().parents[3]
# A connection that breaks off does it in one of these ways.
BROKEN = (OSError, http.client.HTTPException)
WEIGHTS = bytes(range(256)) * 100
PYTHON = "/usr/bin/python3"
# Tells what it sees: the model's digest, who it is, and which networks there are.
SERVER = """
import hashlib, http.server, json, os, sys
model, port = sys.argv[1], int(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(3)
        found = {"sha256": hashlib.sha256(open(model + "/weights.bin", "rb").read()).hexdigest(), "uid": os.getuid(), "pid": os.getpid(),
                 "networks": open("/proc/net/dev").read().count(":"), "environment": sorted(os.environ)}
        data = json.dumps(found).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(data))); self.end_headers(); self.wfile.write(data)
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def possible() -> str:
    """Why it cannot be tried here, if so."""
    if os.geteuid() != 0:
        return "namespaces and other users need root"
    if not memory_filesystem("/dev/shm").safe:
        return "needs memory without swap"
    if not (shutil.which("unshare") and shutil.which("ip") and os.path.exists(PYTHON)):
        return "needs unshare, ip and the system's Python"
    has = subprocess.run([PYTHON, "-c", "import cryptography"], capture_output=True, check=False)
    return "" if has.returncode == 0 else "the system's Python has no cryptography"


pytestmark = pytest.mark.skipif(bool(possible()), reason=possible())


class Machine:
    def __init__(self, root: pathlib.Path, memory: pathlib.Path) -> None:
        self.root, self.memory = root, memory
        # The user without rights must get as far as the mount, as it does below /var/lib.
        memory.chmod(0o711)
        self.open, self.runtime, self.sessions = memory / "open", root / "runtime", memory / "sessions"
        for folder in (root / "plain", self.open, self.runtime):
            folder.mkdir()
        (root / "plain" / "weights.bin").write_bytes(WEIGHTS)
        self.keys = Keys(Kek("kek-test", os.urandom(32)), ec.generate_private_key(ec.SECP256R1()))
        self.manifest = encrypt(make_plan(Request(str(root / "plain"), str(root / "sealed"), "tiny", 4, 4096), self.keys), self.keys, "2026-01-31T12:00:00Z")
        (root / "program.pyz").write_bytes(bundle.build(str(REPO / "plugins" / "module_utils")))
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told.bind(str(root / "notify"))
        self.told.settimeout(300)
        self.process = None

    def session(self) -> str:
        prepare_directory(str(self.sessions))
        made = create_session(str(self.sessions), "one", 300)
        release = KeyRelease(
            model_id="tiny", release=4, minimum_release=1, key_id=self.manifest.key_id, manifest_signer=public_jwk(self.keys.signer), evidence_digest="00" * 32,
            not_after=datetime.now(timezone.utc).replace(microsecond=0) + timedelta(minutes=5), key=bytes(unwrap_dek(self.manifest.dek, self.keys.kek)),
        )  # fmt: skip
        made.store_release(seal(release, made.jwk()))
        return "one"

    def start(self, **more) -> None:
        order = {
            "name": "tiny", "src": str(self.root / "sealed"), "dest": str(self.open), "runtime": str(self.runtime), "user": "nobody", "front_user": "nobody",
            "command": [PYTHON, "-I", "-c", SERVER, "{path}", "{port}"], "session": self.session(), "session_directory": str(self.sessions), "port": 8000,
            "probe": "/", "start_seconds": 300, "restarts": 1, "drain_seconds": 1, **more,
        }  # fmt: skip
        (self.root / "order.json").write_text(json.dumps(order))
        script = 'mount -t tmpfs -o mode=0711 open "$1" && ip link set lo up && exec "$2" -I "$3" hold "$4"'
        command = ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", script, "sh", str(self.open), PYTHON,
                   str(self.root / "program.pyz"), str(self.root / "order.json")]  # fmt: skip
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                        env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(self.root / "notify"), "SECRET": "x"})  # fmt: skip

    def wait_told(self, what: str) -> str:
        while True:
            text = self.told.recv(4096).decode()
            if what in text:
                return text

    def ask(self, path: str = "/") -> dict:
        status, _headers, data = upstream.fetch(str(self.runtime / "model.sock"), 20, "GET", path, {}, None, 1 << 20)
        assert status == 200
        return json.loads(data)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(300)


@pytest.fixture
def machine(tmp_path):
    memory = pathlib.Path(tempfile.mkdtemp(prefix="attested-test-", dir="/dev/shm"))
    made = Machine(tmp_path, memory)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()
    made.told.close()
    shutil.rmtree(memory, ignore_errors=True)


def test_instance_from_key_to_answer_and_back(machine):
    machine.start()
    assert "READY=1" in machine.wait_told("READY=1")
    found = machine.ask()
    assert found["sha256"] == hashlib.sha256(WEIGHTS).hexdigest() and found["uid"] == 65534
    assert found["networks"] == 1 and "SECRET" not in found["environment"] and "NOTIFY_SOCKET" not in found["environment"]
    assert json.loads((machine.runtime / "served.json").read_text())["release"] == 4
    # From here the place is empty, and the key is gone.
    assert os.listdir(machine.open) == [] and os.listdir(machine.sessions) == []
    # It falls over once, and is back on the same model.
    with pytest.raises(BROKEN):
        machine.ask("/die")
    machine.wait_told("Serves again")
    again = machine.ask()
    assert again["pid"] != found["pid"] and again["sha256"] == found["sha256"]
    assert machine.end() == 0
    assert "Traceback" not in machine.process.stderr.read()


def test_instance_that_falls_over_too_often_ends(machine):
    machine.start(restarts=0)
    machine.wait_told("READY=1")
    with pytest.raises(BROKEN):
        machine.ask("/die")
    assert "not started again" in machine.wait_told("STATUS=/usr/bin")
    assert machine.process.wait(300) == 1


@pytest.mark.parametrize("case", ["changed", "no-server", "ends"])
def test_what_does_not_open_or_start_is_told_and_leaves_nothing(machine, case):
    if case == "changed":
        path = machine.root / "sealed" / "weights.bin.tink"
        data = bytearray(path.read_bytes())
        data[5000] ^= 1
        path.write_bytes(data)
    command = {"changed": None, "no-server": ["/nonexistent/server"], "ends": [PYTHON, "-c", "raise SystemExit(7)"]}[case]
    machine.start(**({"command": command} if command else {}))
    assert machine.process.wait(300) == 1
    said = machine.process.stderr.read()
    expected = {"changed": "weights.bin", "no-server": "cannot be started", "ends": "status 7"}[case]
    assert expected in said and "Traceback" not in said, said
    assert os.listdir(machine.sessions) == [] and os.listdir(machine.open) == [] and not (machine.runtime / "model.sock").exists()
    wait_for(lambda: machine.process.poll() is not None)
