# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine in a folder, on which the role trustee is played whole. Its systemctl starts the ExecStart line of the unit that the role wrote."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REAL = os.environ.get("TRUSTEE_KBS", "")
SYSTEMCTL = """#!/usr/bin/env python3
import os, shlex, signal, subprocess, sys, time
from pathlib import Path
machine = Path(sys.argv[0]).resolve().parents[1]
verb, unit = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
with (machine / "asked").open("a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
if verb == "daemon-reload":
    sys.exit(0)
text, pid = machine / "units" / unit, machine / (unit + ".pid")
def alive():
    try:
        os.kill(int(pid.read_text()), 0)
        return "Z" not in Path("/proc/%s/stat" % pid.read_text()).read_text().rpartition(")")[2]
    except (OSError, ValueError):
        return False
def stop():
    if alive():
        os.kill(int(pid.read_text()), signal.SIGTERM)
        while alive():
            time.sleep(0.02)
def start():
    line = next(one for one in text.read_text().splitlines() if one.startswith("ExecStart=")).partition("=")[2]
    level = next(one for one in text.read_text().splitlines() if one.startswith("Environment=RUST_LOG=")).rpartition("=")[2]
    with (machine / (unit + ".log")).open("ab") as log:
        made = subprocess.Popen(shlex.split(line), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, umask=0o077,
                                env={"PATH": "/usr/bin:/bin", "RUST_LOG": level})
    pid.write_text(str(made.pid))
if not text.exists():
    if verb == "show":
        print("Id=%s\\nLoadState=not-found\\nActiveState=inactive" % unit)
        sys.exit(0)
    sys.exit("Unit %s not found." % unit)
enabled = machine / (unit + ".enabled")
if verb == "show":
    print("Id=%s\\nLoadState=loaded\\nActiveState=%s" % (unit, "active" if alive() else "inactive"))
elif verb == "is-enabled":
    print("enabled" if enabled.exists() else "disabled")
    sys.exit(0 if enabled.exists() else 1)
elif verb == "enable":
    enabled.touch()
elif verb == "disable":
    enabled.unlink(missing_ok=True)
elif verb == "stop":
    stop()
elif verb == "restart":
    stop(); start()
elif verb == "start" and not alive():
    start()
"""


class Machine:
    def __init__(self, folder: Path, attempts: int = 8, **given: Any) -> None:
        self.folder, self.attempts = folder, attempts
        for name in ("bin", "units", "quadlets", "etc", "var"):
            (folder / name).mkdir(parents=True)
        (folder / "bin" / "systemctl").write_text(SYSTEMCTL)
        (folder / "bin" / "systemctl").chmod(0o755)
        if REAL and not REAL.startswith("http"):
            self.source = Path(REAL)
        else:
            self.source = folder / "kbs-source"
            self.source.write_text(f"#!/bin/sh\nexec {sys.executable} {HERE / 'trustee_program.py'} \"$@\"\n")
            self.source.chmod(0o755)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        program = str(folder / "bin" / "kbs")
        self.given: dict[str, Any] = {
            "trustee_way": "binaries", "trustee_url": f"https://127.0.0.1:{self.port}", "trustee_names": ["127.0.0.1", "kbs.example.org"],
            "trustee_listen": [f"127.0.0.1:{self.port}"], "trustee_issuer": "ops.example.org", "trustee_directory": str(folder / "controller"),
            "trustee_programs": {"kbs": program}, "trustee_program_files": {"kbs": str(self.source)},
            "trustee_program_sha256": {"kbs": hashlib.sha256(self.source.read_bytes()).hexdigest()}, "trustee_user": getpass.getuser(),
            "trustee_manage_user": False, "trustee_install": False, "trustee_config_dir": str(folder / "etc" / "trustee"),
            "trustee_data_dir": str(folder / "var" / "trustee"), "trustee_backup_dir": str(folder / "var" / "backups"), **given,
        }  # fmt: skip

    def take(self, program: str) -> None:
        """This program in the place of the KBS."""
        self.source = self.folder / "another-source"
        self.source.write_text(program)
        self.source.chmod(0o755)
        self.given["trustee_program_files"] = {"kbs": str(self.source)}
        self.given["trustee_program_sha256"] = {"kbs": hashlib.sha256(self.source.read_bytes()).hexdigest()}

    def play(self, *options: str, hosts: dict[str, dict[str, Any]] | None = None, **more: Any) -> tuple[subprocess.CompletedProcess, dict[str, dict[str, int]]]:
        """The role: what was printed, and the counts by host. ``hosts`` are others in the place of this one, each with what differs."""
        shared = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **self.given, **more}
        inventory = {"all": {"hosts": hosts or {"one": {}}, "vars": shared}}
        (self.folder / "inventory.json").write_text(json.dumps(inventory))
        environment = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}"}
        told = {"ansible.builtin.debug": {"msg": "RESULT={{ trustee_result | default({}) | to_json }}"}}
        play = {"name": "Test", "hosts": "all", "gather_facts": False, "environment": environment, "roles": [{"role": "attested.ai.trustee"}], "tasks": [told]}
        (self.folder / "play.json").write_text(json.dumps([play]))
        # Variables of a role are only overridden from the command line.
        given = {"__trustee_units": str(self.folder / "units"), "__trustee_quadlets": str(self.folder / "quadlets"), "__trustee_attempts": self.attempts}
        program = shutil.which("ansible-playbook") or os.path.join(os.path.dirname(sys.executable), "ansible-playbook")
        settings = dict(os.environ, COLUMNS="200", ANSIBLE_HOME=str(self.folder / "home"), ANSIBLE_LOCALHOST_WARNING="0", ANSIBLE_NOCOLOR="1",
                        ANSIBLE_PIPELINING="1", ANSIBLE_FORKS="4")  # fmt: skip
        done = subprocess.run(
            [program, "-i", str(self.folder / "inventory.json"), str(self.folder / "play.json"), "-e", json.dumps(given), *options],
            env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1200, check=False,
        )  # fmt: skip
        rows = [row for row in done.stdout.rpartition("PLAY RECAP")[2].splitlines() if " : ok=" in row]
        counts = {row.split()[0]: dict(pair.split("=") for pair in row.split(":", 1)[1].split()) for row in rows}
        return done, {name: {key: int(value) for key, value in count.items()} for name, count in counts.items()}

    def result(self, done: subprocess.CompletedProcess) -> dict[str, Any]:
        """The fact trustee_result."""
        text = done.stdout.partition("RESULT=")[2].partition('}"')[0] + "}"
        return json.loads(text.replace('\\"', '"'))

    def running(self) -> bool:
        pid = self.folder / "trustee-kbs.service.pid"
        try:
            os.kill(int(pid.read_text()), 0)
            return "Z" not in Path(f"/proc/{pid.read_text()}/stat").read_text().rpartition(")")[2]
        except (OSError, ValueError):
            return False

    def end(self) -> None:
        if self.running():
            os.kill(int((self.folder / "trustee-kbs.service.pid").read_text()), signal.SIGTERM)

    def tree(self) -> dict[str, str]:
        """All that the role may change there and on the controller."""
        found = {}
        for name in ("etc", "var", "units", "quadlets", "controller"):
            for path in sorted((self.folder / name).rglob("*")):
                if path.is_file():
                    found[str(path.relative_to(self.folder))] = "%o %s" % (path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest())
        return found
