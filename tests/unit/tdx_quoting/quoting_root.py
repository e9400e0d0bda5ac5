# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines in folders, on which the role tdx_quoting is played whole: files of the packages, firmware, and stand-ins for systemctl, npm and others."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from quoting_files import PCCS, QCNL, QGS
from softpccs import qgs
from softpccs.platform import Platform

BASE = "https://pccs.example.com:8081/sgx/certification/v4/"
SYSTEMCTL = """#!/bin/sh
# show, is-enabled, enable, disable, start, stop and restart of units that are files in a folder.
state="$(dirname "$0")/../units"
[ "$1" = daemon-reload ] && exit 0
verb="$1"; unit="$2"
echo "$verb $unit" >> "$state/log"
if [ ! -e "$state/$unit" ]; then
  [ "$verb" = show ] && { printf 'Id=%s\\nLoadState=not-found\\nActiveState=inactive\\n' "$unit"; exit 0; }
  echo "Unit $unit not found." >&2; exit 4
fi
case "$verb" in
  show)
    printf 'Id=%s\\nLoadState=loaded\\nActiveState=%s\\n' "$unit" "$(cat "$state/$unit")"
    echo "ActiveEnterTimestamp=$(LC_ALL=C date -u -r "$state/$unit" '+%a %Y-%m-%d %H:%M:%S UTC')" ;;
  is-enabled) [ -e "$state/$unit.enabled" ] && echo enabled || { echo disabled; exit 1; } ;;
  enable) touch "$state/$unit.enabled" ;;
  disable) rm -f "$state/$unit.enabled" ;;
  stop) echo inactive > "$state/$unit" ;;
  start|restart) echo active > "$state/$unit"; [ -x "$state/$unit.run" ] && "$state/$unit.run" ;;
esac
exit 0
"""


class Root:
    """One machine. ``given`` are its variables."""

    def __init__(self, folder: Path, agent_enabled: bool = False, **given) -> None:
        self.folder, self.root, self.given = folder, folder / "root", given
        self.platform = Platform.make(folder / "platform", keys=folder.name, agent_enabled=agent_enabled)
        for name, text in (("etc/qgs.conf", QGS), ("etc/sgx_default_qcnl.conf", QCNL), ("opt/intel/sgx-dcap-pccs/config/default.json", PCCS)):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text)
        for name in ("usr/local/share/ca-certificates", "etc/modules-load.d", "var/opt/qgsd", "var/lib", "var/log", "sys/firmware/efi", "etc/ssl/certs"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        # Every machine has it; the program that gathers authorities writes it anew.
        (self.root / "etc/ssl/certs/ca-certificates.crt").touch()
        (self.root / "sys/firmware/efi/efivars").symlink_to(self.platform.efivars)
        (self.root / "opt/intel/sgx-pck-id-retrieval-tool").symlink_to(self.platform.folder)
        (self.root / "var/log/mpa_registration.log").symlink_to(self.platform.folder / "mpa.log")
        units = folder / "units"
        units.mkdir()
        for unit in ("qgsd.service", "pccs.service") + (("mpa_registration_tool.service",) if agent_enabled else ()):
            (units / unit).write_text("inactive\n")
        (units / "mpa_registration_tool.service.run").symlink_to(self.platform.folder / "mpa_registration")
        programs = folder / "bin"
        programs.mkdir()
        for name, text in (
            ("systemctl", SYSTEMCTL),
            ("update-ca-certificates", '#!/bin/sh\ncd "$(dirname "$0")/.." && echo gathered >> units/log && touch root/etc/ssl/certs/ca-certificates.crt\n'),
            ("runuser", '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"\n'),
            ("npm", "#!/bin/sh\nmkdir -p node_modules && touch node_modules/.package-lock.json\n"),
        ):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)

    def text(self, name: str) -> str:
        return (self.root / name).read_text()

    def asked(self) -> list[str]:
        log = self.folder / "units" / "log"
        return [line for line in log.read_text().splitlines() if not line.startswith(("show", "is-enabled"))] if log.exists() else []

    def tree(self) -> dict[str, str]:
        """All that is on the machine, so that it can be seen whether anything has changed."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and "units/log" not in str(path):
                found[str(path.relative_to(self.folder))] = "%o %s" % (path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest())
        return found

    def recording(self, crl: bytes, **changed) -> dict:
        """What the doctor would find there when all is well."""
        document = json.loads((Path(__file__).resolve().parents[1] / "tee_info" / "recorded" / "tdx-good.json").read_text())
        query = "pckcert?qeid=%s&cpusvn=%s&pcesvn=0d00&pceid=0000" % (self.platform.qe_id.hex(), self.platform.cpu_svn.hex())
        answer = qgs.answer(self.platform, bytes.fromhex("0000001001000100040000001000000000000000")).hex()
        document["exchanges"] = {"vsock:1:4050": answer}
        document["https"] = {
            BASE + "rootcacrl": {"status": 200, "body": crl.hex()},
            BASE + query: {"status": 200, "body": b"-----BEGIN CERTIFICATE-----".hex()},
        }
        document.update(changed)
        return document


def command(directory: Path, machines: dict[str, Root], *options: str, **variables) -> tuple[list[str], dict]:
    shared = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "tdx_quoting_install": False, "tdx_quoting_qgsd_groups": []}
    hosts = {name: {"where": str(machine.folder), **machine.given} for name, machine in machines.items()}
    (directory / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": shared}}))
    environment = {"PATH": "{{ where }}/bin:" + os.environ["PATH"]}
    told = {"ansible.builtin.debug": {"msg": "launch={{ tdx_quoting_launch | default('') }}"}}
    play = {"name": "Test", "hosts": "all", "gather_facts": False, "environment": environment, "roles": [{"role": "attested.ai.tdx_quoting"}], "tasks": [told]}
    (directory / "play.json").write_text(json.dumps([play]))
    # Variables of a role are only overridden from the command line.
    user = getpass.getuser()
    given = {
        "__tdx_quoting_root": "{{ where }}/root",
        "__tdx_quoting_pccs_user": user,
        "__tdx_quoting_qgsd_user": user,
        "__tdx_quoting_qgs_address": "none",
        "tdx_quoting_directory": str(directory / "controller"),
        **variables,
    }
    program = shutil.which("ansible-playbook") or os.path.join(os.path.dirname(sys.executable), "ansible-playbook")
    # Modules go to Python's standard input, and no shell copies them.
    settings = dict(os.environ, COLUMNS="200", ANSIBLE_HOME=str(directory / "home"), ANSIBLE_LOCALHOST_WARNING="0", ANSIBLE_FORKS="4", ANSIBLE_NOCOLOR="1",
                    ANSIBLE_PIPELINING="1")  # fmt: skip
    return [program, "-i", str(directory / "inventory.json"), str(directory / "play.json"), "-e", json.dumps(given), *options], settings


def play(directory: Path, machines: dict[str, Root], *options: str, **variables):
    """The role on all machines in one play: what was printed, the exit status, and the counts of each machine."""
    line, settings = command(directory, machines, *options, **variables)
    done = subprocess.run(line, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800, check=False)
    recap = done.stdout.rpartition("PLAY RECAP")[2]
    counts = {row.split()[0]: dict(pair.split("=") for pair in row.split(":", 1)[1].split()) for row in recap.splitlines() if " : ok=" in row}
    return done, {name: {key: int(value) for key, value in count.items()} for name, count in counts.items()}


def killed(directory: Path, machines: dict[str, Root], when: Path, **variables) -> None:
    """The play, ended with all it has started as soon as there is a file."""
    line, settings = command(directory, machines, **variables)
    running = subprocess.Popen(line, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + 1200
        while not when.exists() and running.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        assert when.exists() and running.poll() is None
    finally:
        for number in (running.pid, *([int(when.read_text())] if when.suffix == ".pid" and when.exists() else [])):
            try:
                os.killpg(os.getpgid(number), signal.SIGKILL)
            except ProcessLookupError:
                pass
        running.wait()
