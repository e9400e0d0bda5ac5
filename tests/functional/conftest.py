# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest on loopback: a real sshd with host keys of its own, and the Soft TEE as its report interface."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def softtee(*arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(REPO / "tools" / "softtee")}
    done = subprocess.run([sys.executable, "-m", "softtee", *arguments], env=environment, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"softtee {arguments} failed: {done.stderr}")
    return done


@dataclasses.dataclass
class SoftGuest:
    state: pathlib.Path
    tsm_path: pathlib.Path
    policy: pathlib.Path
    reference_values: pathlib.Path

    def misbehave(self, how: str) -> None:
        softtee("misbehave", "--state", str(self.state), how)


@pytest.fixture(scope="session")
def soft_guest(tmp_path_factory):
    """A Soft TEE that runs for the whole session, with the policy and reference values that fit it."""
    base = tmp_path_factory.mktemp("softtee")
    state, mount = base / "state", base / "mount"
    mount.mkdir()
    softtee("serve", "--state", str(state), "--mount", str(mount), "--daemon")
    try:
        policy, values = base / "policy.yml", base / "reference-values.json"
        policy.write_text(softtee("policy", "--state", str(state)).stdout)
        values.write_text(softtee("reference-values", "--state", str(state)).stdout)
        yield SoftGuest(state, mount / "report", policy, values)
    finally:
        softtee("stop", "--state", str(state), check=False)


@pytest.fixture(autouse=True)
def behaves_again(request):
    """Whatever a test made the guest do, the next one meets an honest guest."""
    yield
    if "soft_guest" in request.fixturenames:
        request.getfixturevalue("soft_guest").misbehave("none")


@dataclasses.dataclass
class Sshd:
    port: int
    directory: pathlib.Path
    process: subprocess.Popen

    def known_host_line(self, port: int = 0) -> str:
        kind, blob = (self.directory / "ssh_host_ed25519_key.pub").read_text().split()[:2]
        return f"[127.0.0.1]:{port or self.port} {kind} {blob}\n"

    def host(self, client_key: pathlib.Path, known_hosts: pathlib.Path, *extra: str) -> dict:
        """Inventory variables of a guest behind this server."""
        common = f"-F none -o UserKnownHostsFile={known_hosts} -o GlobalKnownHostsFile=none -o IdentitiesOnly=yes"
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_ssh_private_key_file": str(client_key),
            "ansible_ssh_common_args": " ".join((common, *extra)),
        }


def start_sshd(directory: pathlib.Path, client_key: pathlib.Path) -> Sshd:
    """Run /usr/sbin/sshd on loopback as the user of the tests, with a host key made here."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
    if sshd is None:
        pytest.fail("sshd is missing: install openssh-server")
    directory.mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "ssh_host_ed25519_key")], check=True)
    shutil.copy(client_key.with_suffix(".pub"), directory / "authorized_keys")
    port = free_port()
    (directory / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/ssh_host_ed25519_key\nAuthorizedKeysFile {directory}/authorized_keys\n"
        f"PidFile {directory}/pid\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\n"
    )
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    log = open(directory / "log", "w", encoding="utf-8")
    process = subprocess.Popen([sshd, "-D", "-e", "-f", str(directory / "sshd_config")], stderr=log, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return Sshd(port, directory, process)
        time.sleep(0.05)
    process.terminate()
    raise AssertionError("sshd did not come up: " + (directory / "log").read_text())


@pytest.fixture
def client_key(tmp_path):
    path = tmp_path / "client"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture
def sshd(tmp_path, client_key):
    """Call it to start a server; all are ended afterwards."""
    started = []

    def start(name: str) -> Sshd:
        started.append(start_sshd(tmp_path / name, client_key))
        return started[-1]

    yield start
    for server in started:
        server.process.terminate()
        server.process.wait(10)


@dataclasses.dataclass
class PlayResult:
    status: int
    output: str
    results: dict

    def __getitem__(self, name):
        return self.results[name]


@pytest.fixture
def play(tmp_path):
    """Run a play by the real ansible-playbook. Tasks are given as data; registered variables come back from a file."""
    control = tempfile.mkdtemp(prefix="at-", dir="/tmp")  # short: a control socket's path is limited to 108 bytes

    def run(tasks, *, host=None, arguments=(), check_mode=False, variables=None) -> PlayResult:
        answers = tmp_path / "answers.json"
        answers.unlink(missing_ok=True)
        names = sorted({task["register"] for task in tasks if "register" in task})
        saved = "{{ {" + ", ".join(f"'{name}': {name} | default(none)" for name in names) + "} | to_json }}"
        save = {
            "name": "Save what was registered",
            "ansible.builtin.copy": {"content": saved, "dest": str(answers), "mode": "0600"},
            "delegate_to": "localhost",
            "check_mode": False,
            "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
        }
        playbook = tmp_path / "play.yml"
        block = {"name": "The test", "block": tasks, "always": [save]}
        playbook.write_text(json.dumps([{"hosts": "guest", "gather_facts": False, "vars": variables or {}, "tasks": [block]}]))
        inventory = tmp_path / "inventory.json"
        facts = {"ansible_python_interpreter": sys.executable, **(host or {"ansible_connection": "local"})}
        inventory.write_text(json.dumps({"all": {"hosts": {"guest": facts}}}))
        environment = {
            **os.environ,
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": control,
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local-tmp"),
            "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote-tmp"),
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
        }
        command = [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), str(playbook), *arguments]
        if check_mode:
            command.append("--check")
        done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, cwd=tmp_path)
        results = json.loads(answers.read_text()) if answers.exists() else {}
        return PlayResult(done.returncode, done.stdout + done.stderr, results)

    yield run
    shutil.rmtree(control, ignore_errors=True)
