# SPDX-License-Identifier: GPL-3.0-or-later
"""What attesting a fleet costs the controller, whole: real ansible-playbook, attested.ai.attest beside ansible.builtin.ping, on many hosts.

All hosts are this machine (connection local), and one Soft TEE answers for all of them; its own processor time is measured apart and is not in the figures.
Each task runs on half of the hosts and on all: the difference is the price of one host, without that of starting. Times are processor time of the run and all
its children, so that neighbours on the machine count little. Collateral is fetched once before, and no run opens a connection to fetch more.
The output is that of ansible-playbook as it comes, a line per host: who has whole results printed pays for that, too.

    PYTHONPATH=<collections> ANSIBLE_COLLECTIONS_PATH=<collections> python bench/fleet_play.py --hosts 1000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1.2
TICKS = os.sysconf("SC_CLK_TCK")


def softtee(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools" / "softtee")}
    done = subprocess.run([sys.executable, "-m", "softtee", *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"softtee {arguments[0]} failed: {done.stderr}")
    return done.stdout


def spent(pid: int) -> float:
    """Seconds of processor time of one process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Run:
    """One run of a play: seconds of processor time, of the clock, and the most memory of the largest process, which is the controller's own."""

    def __init__(self, folder: Path, task: dict, hosts: int, forks: int) -> None:
        (folder / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [{"name": "It", **task}]}]), encoding="utf-8")
        (folder / "ansible.cfg").write_text("[defaults]\n", encoding="ascii")
        facts = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = {"all": {"hosts": {f"guest{number}": {} for number in range(hosts)}, "vars": facts}}
        (folder / "hosts.json").write_text(json.dumps(inventory), encoding="utf-8")
        environment = {
            **os.environ, "ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "ANSIBLE_PIPELINING": "1", "ANSIBLE_FORKS": str(forks),
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(folder / "remote"), "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        }  # fmt: skip
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.json", "play.yml"]
        with (folder / "said").open("wb") as said:
            started = os.times().elapsed
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
            _pid, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        text = (folder / "said").read_text(encoding="utf-8", errors="replace")
        if process.returncode:
            raise SystemExit(text[-4000:])
        self.cpu = usage.ru_utime + usage.ru_stime
        self.wall = os.times().elapsed - started
        self.mib = usage.ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--forks", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1, help="the best of so many counts")
    parser.add_argument("--tee", choices=("sev-snp", "tdx"), default="sev-snp")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if options.hosts < 4:
        parser.error("--hosts must be 4 or more")
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        folder = Path(name)
        state, mount = folder / "state", folder / "mount"
        where = ("--state", str(state), "--mount", str(mount), "--handover", str(folder / "handed"), "--pidfile", str(folder / "pid"))
        handed = softtee("serve", "--tee", options.tee, *where, "--daemon")
        try:
            found = measure(folder, attesting(handed), int((folder / "pid").read_text(encoding="ascii")), options)
        finally:
            softtee("stop", "--state", str(state))
    print(f"limit: {LIMIT} x ping, {'kept' if found['targets_met'] else 'NOT kept'}")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0 if found["targets_met"] else 1


def attesting(handed: str) -> dict:
    """The task that attests, with what the Soft TEE handed over. The connection is no ssh: there is no host key to compare."""
    given = json.loads(handed)
    log = given.pop("event_log", None)
    return {"attested.ai.attest": {**given, "method": "configfs", **({"event_log": "required", "event_log_path": log} if log else {})}}


def measure(folder: Path, attest: dict, pid: int, options: argparse.Namespace) -> dict:
    tasks = {"ping": {"ansible.builtin.ping": {}}, "attest": attest}
    rows: dict[str, dict] = {}
    print(f"{'':8} {'hosts':>6} {'cpu s':>8} {'ms a host':>10} {'half s':>8} {'growth':>7} {'clock s':>8} {'MiB':>6} {'MiB half':>9} {'TEE ms':>7}")
    for name, task in tasks.items():
        Run(folder, task, 2, options.forks)
        best: dict[int, Run] = {}
        tee = 0.0
        for hosts in (options.hosts // 2, options.hosts):
            for _round in range(options.rounds):
                before = spent(pid)
                run = Run(folder, task, hosts, options.forks)
                tee = (spent(pid) - before) / hosts
                if hosts not in best or run.cpu < best[hosts].cpu:
                    best[hosts] = run
        half, whole = best[options.hosts // 2], best[options.hosts]
        each = (whole.cpu - half.cpu) / (options.hosts - options.hosts // 2)
        rows[name] = {
            "hosts": options.hosts, "cpu": whole.cpu, "half": half.cpu, "each": each, "wall": whole.wall, "mib": whole.mib, "mib_half": half.mib,
            "tee_each": tee,
        }  # fmt: skip
        print(
            f"{name:8} {options.hosts:>6} {whole.cpu:>8.2f} {1e3 * each:>10.1f} {half.cpu:>8.2f} {whole.cpu / half.cpu:>6.2f}x {whole.wall:>8.2f} "
            f"{whole.mib:>6.0f} {half.mib:>9.0f} {1e3 * tee:>7.1f}"
        )
    ratio = rows["attest"]["each"] / rows["ping"]["each"]
    print(f"attest costs {ratio:.2f} x ping a host, the Soft TEE's own time not counted")
    return {"tasks": rows, "ratio": ratio, "limit": LIMIT, "forks": options.forks, "tee": options.tee, "targets_met": ratio <= LIMIT}


if __name__ == "__main__":
    sys.exit(main())
