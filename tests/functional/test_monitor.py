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
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tests" / "unit" / "kbs"))

import kbs_lab  # noqa: E402

TOKEN = "token-of-the-test"


@contextlib.contextmanager
def receiver():
    """A server that keeps what is posted to it."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.headers.get("Authorization"), json.loads(self.rfile.read(int(self.headers["Content-Length"]))), self.path))
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


# No machine's own systemctl is touched: the module of Ansible finds this one first.
SYSTEMCTL = """#!/bin/sh
case "$1" in
show) printf 'LoadState=loaded\\nActiveState=%s\\n' "$(cat {folder}/active)" ;;
stop) echo inactive > {folder}/active; echo "$*" >> {folder}/asked ;;
start) echo active > {folder}/active; echo "$*" >> {folder}/asked ;;
*) echo "$*" >> {folder}/asked ;;
esac
"""


@contextlib.contextmanager
def surroundings(fleet, monkeypatch):
    """What a guest is shut out of: a load balancer's hook, a service, and a key broker that gives it a key."""
    directory, key = fleet.directory, Resource.parse("default/key/model")
    programs = directory / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text(SYSTEMCTL.format(folder=programs))
    (programs / "systemctl").chmod(0o755)
    (programs / "active").write_text("active")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with kbs_lab.soft_peer(directory) as peer, receiver() as (got, url):
        peer.admin().set_resource(key, b"of the model")
        peer.admin().set_resource_policy(kbs_lab.ALLOW)
        (directory / "ca.pem").write_text(peer.ca)
        kbs_lab.secret(directory / "admin.pem", kbs_lab.private_pem(peer.admin_key))
        good = fleet.inventory["all"]["children"]["guests"]["hosts"]["good"]
        good["attestation_monitor_quarantine"] += [
            {"kind": "http", "url": url + "/close", "release_url": url + "/open", "token_file": str(directory / "token")},
            {"kind": "service", "name": "llm.service", "become": False},
        ]
        good["attestation_monitor_revoke"] = [key.path, "default/key/misspelt"]
        broker = {"url": [peer.url], "ca_path": "ca.pem", "admin_key": "admin.pem", "issuer": kbs_lab.ISSUER, "state_path": "kbs.json"}
        fleet.write(attestation_monitor_kbs=broker)

        def fetch():
            # Attested each time: a token ends after minutes, and a round may take as long.
            guest = peer.guest()
            guest.attest("sample", kbs_lab.sample)
            return guest.resource(key.path)

        yield got, url, programs / "asked", fetch


def test_rounds_over_a_fleet(fleet, soft_guest, monkeypatch):
    """Nothing, drift, alerts that arrive and that do not, acts by a command, a hook, a service and the key broker, and the way back. Each round costs
    seconds, so that one test goes through all of it."""
    directory, token = fleet.directory, str(fleet.directory / "token")
    rules = {"quarantine_after": 1, "revoke_after": 1, "recover_after": 1, "release": True}
    with surroundings(fleet, monkeypatch) as (got, url, asked, key):
        # Check mode, with everything to be done, touches nothing.
        soft_guest.misbehave("debug")
        status, said = fleet.round("--check", "-e", "attestation_monitor_fail_on=acts", attestation_monitor_rules=rules)
        assert status == 0 and not (directory / "kept").exists() and not (directory / "attested.prom").exists(), said
        assert "quarantine" in said and "Would do" in said and "Done" not in said
        assert not got and not asked.exists() and not (directory / "hooked").exists() and key() == b"of the model"
        soft_guest.misbehave("none")
        status, said = fleet.round()
        assert status == 0 and "1 good, 0 bad, 1 without an answer" in said, said
        assert 'attested_host_state{host="good",state="affirming"} 1' in (directory / "attested.prom").read_text()
        page = (directory / "report" / "report.html").read_text()
        assert "The fleet" in page and "affirming" in page and TOKEN not in page

        # It misbehaves, and nobody listens: it is put into quarantine all the same, and the alert stays wanted.
        soft_guest.misbehave("debug")
        nowhere = [{"url": "http://127.0.0.1:9/alert", "token_file": token}]
        status, said = fleet.round(attestation_monitor_webhooks=nowhere)
        assert status == 2 and "alert: Post them failed for good, lost" in said and "the next round tries again" in said, said
        assert (directory / "hooked").read_text().splitlines() == ['{"host": "good", "act": "quarantine"} close'] and TOKEN not in said
        assert got == [(f"Bearer {TOKEN}", {"host": "good", "act": "quarantine"}, "/alert/close")] and asked.read_text().split() == ["stop", "llm.service"]
        with pytest.raises(AttestedError) as refused:
            key()
        assert refused.value.code == "kbs-plugin-failed"
        assert fleet.history() == [("good", "failing"), ("lost", "missing"), ("good", "quarantined"), ("good", "revoked")]
        assert '"detail": "default/key/model: deleted, default/key/misspelt: was not there"' in (directory / "kept" / "history.jsonl").read_text()
        # What was done in this round is in its report.
        assert "misspelt: was not there" in (directory / "report" / "report.html").read_text()

        got.clear()
        status, said = fleet.round(attestation_monitor_webhooks=[{"url": url, "token_file": token}])
        assert status == 2 and "Not ok: good (failing: policy-debug" in said, said
        ((authorization, message, _path),) = got
        assert authorization == f"Bearer {TOKEN}" and message["schema"] == "attested.ai/alert/1" and message["hosts"] == ["good", "lost"]
        assert message["alerts"][0]["reasons"] == ["policy-debug"] and message["alerts"][1]["condition"] == "missing"
        assert len((directory / "hooked").read_text().splitlines()) == 1  # not once more

        # What the inventory makes of it.
        config = directory / "fleet.attested.yml"
        source = {"plugin": "attested.ai.attested", "results": ["kept/results"], "public_keys": ["monitor.pub.pem"], "expect": ["guests"]}
        config.write_text(yaml.safe_dump(source))
        command = [sys.executable, "-m", "ansible", "inventory", "-i", "hosts.json", "-i", str(config), "--graph"]
        graph = subprocess.run(command, cwd=directory, env={**os.environ}, capture_output=True, text=True, check=True).stdout
        assert "@attested_state_contraindicated:\n  |  |--good" in graph and "@attested_state_missing:\n  |  |--lost" in graph, graph

        # Honest again: what was shut is opened, and the keys stay revoked. No metrics can be written, which costs none of that, and fails the run.
        soft_guest.misbehave("none")
        got.clear()
        nowhere = str(directory / "nowhere" / "attested.prom")
        status, said = fleet.round(attestation_monitor_metrics_file=nowhere, attestation_monitor_fail_on="never")
        assert status == 2 and "Action failed: metrics: " in said and "release of good" not in said, said
        assert got[0] == (f"Bearer {TOKEN}", {"host": "good", "act": "release"}, "/alert/open")
        assert asked.read_text().split() == ["stop", "llm.service", "start", "llm.service"]
        assert (directory / "hooked").read_text().splitlines()[1:] == ['{"host": "good", "act": "release"} open']
        assert fleet.history()[-2:] == [("good", "recovered"), ("good", "released")]
        with pytest.raises(AttestedError) as refused:
            key()
        assert refused.value.code == "kbs-plugin-failed"


# Which Python asked says whose variables were used.
WHO = """#!/bin/sh
case "$1" in
show) printf 'LoadState=loaded\\nActiveState=active\\n' ;;
*) echo "$PYTHON_OF $*" >> {folder}/asked ;;
esac
"""


def test_a_step_that_fails_costs_no_other_step_and_no_other_host(fleet, soft_guest, monkeypatch):
    """A guest behind ssh, which is not there, whose inventory names no connection: its service is not looked for on the controller. A dead hook keeps no
    service running, and a dead webhook no command from being told. All in one round, because it costs seconds."""
    directory = fleet.directory
    for name, text in (("systemctl", WHO.format(folder=directory)), ("python-of-good", f'#!/bin/sh\nexport PYTHON_OF=good\nexec {sys.executable} "$@"\n')):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    hosts = fleet.inventory["all"]["children"]["guests"]["hosts"]
    hosts["absent"] = {name: value for name, value in hosts.pop("lost").items() if name != "ansible_connection"}
    hook, dead = hosts["good"]["attestation_monitor_quarantine"], {"kind": "http", "url": "http://127.0.0.1:9/close"}
    service = {"kind": "service", "become": False}
    hosts["absent"]["attestation_monitor_quarantine"] = [{**service, "name": "of-absent.service"}, *hook]
    hosts["good"]["ansible_python_interpreter"] = str(directory / "python-of-good")
    hosts["good"]["attestation_monitor_quarantine"] = [{"kind": "htpp"}, dead, {**service, "name": "of-good.service"}]
    hosts["near"] = {"ansible_connection": "local"}
    hosts["near"]["attestation_monitor_quarantine"] = [{**service, "name": "of-near.service", "host": "localhost"}]
    soft_guest.misbehave("debug")
    status, said = fleet.round(
        attestation_monitor_rules={"quarantine_after": 1, "quarantine_missing_after": 1, "alert_after": 1, "missing_after": 1},
        attestation_monitor_webhooks=[{"url": "http://127.0.0.1:9/alert"}], attestation_monitor_commands=[[str(directory / "hook.sh"), "told"]],
    )  # fmt: skip
    assert status == 2, said
    assert (directory / "asked").read_text().splitlines() == ["good stop of-good.service", " stop of-near.service"], said
    closed, told = (directory / "hooked").read_text().split("\n", 1)
    assert closed == '{"host": "absent", "act": "quarantine"} close'
    assert told.endswith(" told\n") and json.loads(told[: -len(" told\n")])["hosts"] == ["absent", "good", "near"]
    (failed,) = [line for line in said.splitlines() if line.startswith("fatal: ") and "the next round tries again" in line]
    assert "quarantine of absent: Stop where its machine did not answer: absent is unreachable: " in failed and "alert: Post them failed for absent" in failed
    assert "quarantine of good: Stop where it is not said right: " in failed and "; Call the hook of the load balancer: " in failed, failed
    # What was not done is not noted as done, and what was is.
    assert [event for event in fleet.history() if event[1] == "quarantined"] == [("near", "quarantined")]
    assert (directory / "report" / "report.html").exists()


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
        # The other sender, in the form of Alertmanager's webhook. What is resolved, or another alert, starts nothing.
        labels, before = {"alertname": "AttestedResultOld", "severity": "warning"}, record.read_bytes()
        old = {"version": "4", "status": "firing", "receiver": "eda", "commonLabels": labels, "alerts": [{"labels": {**labels, "host": "good"}}]}
        for other in ({"status": "resolved"}, {"commonLabels": {**labels, "alertname": "AttestedTcbBehind"}}, {}):
            assert post(f"http://127.0.0.1:{port}/endpoint", {**old, "groupKey": str(other), **other}, TOKEN) == 200
        deadline = time.monotonic() + 240
        while record.read_bytes() == before:
            assert process.poll() is None and time.monotonic() < deadline, told()
            time.sleep(1)
        assert told().count("PLAY [Judge the round]") <= 2
    finally:
        process.terminate()
        process.wait(30)
        log.close()
