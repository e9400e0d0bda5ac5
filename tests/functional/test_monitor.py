# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/monitor.yml before the Soft TEE: rounds, drift, alerts to a real server, a hook that quarantines; and ansible-rulebook, which starts a round.

ansible-rulebook needs Java 17 and an environment of its own (python -m venv, pip install ansible-rulebook ansible-runner ansible-core cryptography).
ANSIBLE_RULEBOOK names the program if it is not on the PATH. Without it that test is skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

REPO = Path(__file__).resolve().parents[2]
TOKEN = "token-of-the-test"


@contextlib.contextmanager
def receiver():
    """A server that keeps what is posted to it."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.headers.get("Authorization"), json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield got, f"http://127.0.0.1:{server.server_port}/alert"
    finally:
        server.shutdown()
        server.server_close()


class Fleet:
    """A folder with inventory, keys and variables, in which rounds are run."""

    def __init__(self, directory, guest):
        self.directory, self.guest = directory, guest
        private = ec.generate_private_key(ec.SECP256R1())
        self.key = directory / "monitor.pem"
        self.key.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        self.key.chmod(0o600)
        spki = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (directory / "monitor.pub.pem").write_bytes(spki)
        (directory / "token").write_text(TOKEN)
        hook = directory / "hook.sh"
        hook.write_text(f'#!/bin/sh\necho "$(cat) $1" >> {directory}/hooked\n')
        hook.chmod(0o755)
        steps = [{"kind": "command", "argv": [str(hook), "close"], "release_argv": [str(hook), "open"]}]
        self.variables = {
            "ansible_python_interpreter": sys.executable, "attestation_monitor_policy": str(guest.policy), "attestation_monitor_tsm_path": str(guest.tsm_path),
            "attestation_monitor_reference_values": str(guest.reference_values), "attestation_monitor_directory": str(directory / "kept"),
            "attestation_monitor_signing_key": str(self.key), "attestation_monitor_metrics_file": str(directory / "attested.prom"),
            "attestation_monitor_report_directory": str(directory / "report"), "attestation_monitor_rules": {"quarantine_after": 1},
        }  # fmt: skip
        refused = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9, "ansible_ssh_common_args": "-F none -o ConnectTimeout=3"}
        hosts = {"good": {"ansible_connection": "local", "attestation_monitor_quarantine": steps}, "lost": refused}
        self.inventory = {"all": {"children": {"guests": {"hosts": hosts}}, "vars": self.variables}}

    def write(self, **variables):
        self.variables.update(variables)
        (self.directory / "hosts.json").write_text(json.dumps(self.inventory))

    def round(self, *arguments, **variables):
        self.write(**variables)
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.json", "attested.ai.monitor", *arguments]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"}
        done = subprocess.run(command, cwd=self.directory, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    def history(self):
        return [(event["host"], event["event"]) for event in map(json.loads, (self.directory / "kept" / "history.jsonl").read_text().splitlines())]


@pytest.fixture
def fleet(tmp_path, soft_guest):
    return Fleet(tmp_path, soft_guest)


def test_rounds_over_a_fleet(fleet, soft_guest):
    directory = fleet.directory
    status, said = fleet.round("--check")
    assert status == 0 and not (directory / "kept").exists() and not (directory / "attested.prom").exists(), said
    status, said = fleet.round()
    assert status == 0 and "1 good, 0 bad, 1 without an answer" in said, said
    assert 'attested_host_state{host="good",state="affirming"} 1' in (directory / "attested.prom").read_text()
    page = (directory / "report" / "report.html").read_text()
    assert "The fleet" in page and "affirming" in page and TOKEN not in page

    # It misbehaves, and nobody listens: it is put into quarantine all the same, and the alert stays wanted.
    soft_guest.misbehave("debug")
    nowhere = [{"url": "http://127.0.0.1:9/alert", "token_file": str(directory / "token")}]
    status, said = fleet.round(attestation_monitor_webhooks=nowhere)
    assert status == 2 and "alert: Post them failed for good, lost" in said and "the next round tries again" in said, said
    assert (directory / "hooked").read_text().splitlines() == ['{"host": "good", "act": "quarantine"} close'] and TOKEN not in said
    assert fleet.history() == [("good", "failing"), ("lost", "missing"), ("good", "quarantined")]

    with receiver() as (got, url):
        status, said = fleet.round(attestation_monitor_webhooks=[{"url": url, "token_file": str(directory / "token")}])
    assert status == 2 and "Not ok: good (failing: policy-debug" in said, said
    ((authorization, message),) = got
    assert authorization == f"Bearer {TOKEN}" and message["schema"] == "attested.ai/alert/1" and message["hosts"] == ["good", "lost"]
    assert message["alerts"][0]["reasons"] == ["policy-debug"] and message["alerts"][1]["condition"] == "missing"
    assert len((directory / "hooked").read_text().splitlines()) == 1  # not once more

    # What the inventory makes of it.
    config = directory / "fleet.attested.yml"
    config.write_text(yaml.safe_dump({"plugin": "attested.ai.attested", "results": ["kept/results"], "public_keys": ["monitor.pub.pem"], "expect": ["guests"]}))
    command = [sys.executable, "-m", "ansible", "inventory", "-i", "hosts.json", "-i", str(config), "--graph"]
    graph = subprocess.run(command, cwd=directory, env={**os.environ}, capture_output=True, text=True, check=True).stdout
    assert "@attested_state_contraindicated:\n  |  |--good" in graph and "@attested_state_missing:\n  |  |--lost" in graph, graph


@pytest.fixture
def rulebook():
    found = os.environ.get("ANSIBLE_RULEBOOK") or shutil.which("ansible-rulebook")
    if not found or not shutil.which("java"):
        pytest.skip("ansible-rulebook or java is not at hand: see the head of this file")
    return found


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def post(url, message, token):
    request = urllib.request.Request(url, json.dumps(message).encode(), {"Content-Type": "application/json", "Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status


def test_an_alert_starts_a_round(fleet, rulebook):
    """The rulebook in ansible-rulebook itself: an alert comes in over HTTP, the playbook runs, a record is kept. Without the token nothing happens."""
    directory = fleet.directory
    fleet.write(attestation_monitor_report_directory="", attestation_monitor_fail_on="never", ansible_playbook_python=sys.executable)
    port = free_port()
    (directory / "eda.yml").write_text(yaml.safe_dump({"attested_eda_host": "127.0.0.1", "attested_eda_port": port, "attested_eda_token": TOKEN}))
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "PATH": f"{Path(rulebook).parent}:{os.environ['PATH']}"}
    # Its Ansible is its own; what belongs to the Python of the tests must not reach it.
    environment.pop("PYTHONPATH", None)
    command = [rulebook, "--rulebook", "attested.ai.attestation", "-i", "hosts.json", "--vars", "eda.yml", "--verbose"]
    log = open(directory / "rulebook.log", "w", encoding="utf-8")
    process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    message = {"schema": "attested.ai/alert/1", "hosts": ["good"], "counts": {"good": 0, "bad": 1, "missing": 0}, "alerts": []}

    def told():
        return (directory / "rulebook.log").read_text()

    try:
        deadline = time.monotonic() + 240
        while True:
            assert process.poll() is None and time.monotonic() < deadline, told()
            try:
                post(f"http://127.0.0.1:{port}/endpoint", message, "wrong")
            except urllib.error.HTTPError as error:
                assert error.code == 401
                break
            except OSError:
                time.sleep(1)
        assert post(f"http://127.0.0.1:{port}/endpoint", message, TOKEN) == 200
        record = directory / "kept" / "results" / "good.jws"
        while not record.exists():
            assert process.poll() is None and time.monotonic() < deadline, told()
            time.sleep(1)
        assert sorted(path.name for path in record.parent.iterdir()) == ["good.jws"]
    finally:
        process.terminate()
        process.wait(30)
        log.close()
