# SPDX-License-Identifier: GPL-3.0-or-later
"""Real Debian machines under QEMU for tests of roles that install kernels, edit GRUB and reboot. No KVM and no root is used.

    python tools/vm/lab.py up --lab snp one:trixie two:bookworm     # boots them, writes .cache/vm/labs/snp/inventory.yml
    python tools/vm/lab.py ssh --lab snp one 'uname -r'
    python tools/vm/lab.py down --lab snp

Images are made once (about two minutes each) and kept under .cache/vm. Each machine starts from a fresh overlay, and from the memory of one that has
just booted. Packages that were downloaded once are kept there, too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from image import LabError, hardware_of, image, overlay_of
from machine import Machine, _ask, end, say

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "vm"
PROXY = str(Path(__file__).with_name("aptcache.py"))
# The host of QEMU's own network.
APT = 'Acquire::http::Proxy "http://10.0.2.2:%d"; Acquire::https::Proxy "DIRECT";'


def up(lab: Path, wanted: list[str]) -> None:
    down(lab)
    lab.mkdir(parents=True)
    state: dict[str, dict[str, object]] = {}
    proxy, port = start_cache(lab)
    note(lab, state, proxy)
    machines = []
    for word in wanted:
        name, _colon, release = word.partition(":")
        release = release or "trixie"
        begin = time.monotonic()
        base = image(release, CACHE / "images")
        if time.monotonic() - begin > 1:
            say(f"{release}: image made in {time.monotonic() - begin:.0f} s")
        disk = lab / f"{name}.qcow2"
        overlay_of(base / "booted.qcow2", disk, "qcow2")
        machine = Machine(name, disk, lab, key=base / "key", state=base / "booted.state", hardware=hardware_of(release))
        machine.start()
        machines.append(machine)
        assert machine.process is not None
        state[name] = {"pid": machine.process.pid, "port": machine.port, "disk": str(disk), "key": str(machine.key), "release": release}
        note(lab, state, proxy)
    for machine in machines:
        say(f"{machine.name}: answers after {machine.wait():.0f} s")
        # Its clock stood still, and its name is that of all.
        machine.ssh(f"date -s @{int(time.time())} && echo {machine.name} >/etc/hostname && hostname {machine.name}")
        machine.ssh(f"echo '{APT % port}' >/etc/apt/apt.conf.d/91lab")
    (lab / "inventory.yml").write_text(json.dumps(inventory(state), indent=1) + "\n")
    print(lab / "inventory.yml")


def note(lab: Path, machines: dict[str, dict[str, object]], proxy: int) -> None:
    """What `down` needs to end all of it, at whatever point it is called."""
    (lab / "state.json").write_text(json.dumps({"machines": machines, "cache": {"pid": proxy}}, indent=1))


def start_cache(lab: Path) -> tuple[int, int]:
    """The process and the port of a proxy that keeps packages."""
    with (lab / "aptcache.log").open("wb") as log:
        command = [sys.executable, PROXY, str(CACHE / "apt"), str(lab)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.strip().isdigit():
        raise LabError(f"the cache of packages did not start: {(lab / 'aptcache.log').read_text()[-300:]}")
    return process.pid, int(line)


def inventory(state: dict[str, dict[str, object]]) -> dict[str, object]:
    """YAML is a superset of JSON. The machines are made anew each time, and so are their host keys."""
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ServerAliveInterval=15 -o ServerAliveCountMax=20"
    hosts = {
        name: {
            "ansible_host": "127.0.0.1", "ansible_port": facts["port"], "ansible_user": "root", "ansible_ssh_private_key_file": facts["key"],
            "ansible_ssh_common_args": options, "ansible_python_interpreter": "/usr/bin/python3", "ansible_ssh_timeout": 60,
        }
        for name, facts in state.items()
    }  # fmt: skip
    return {"all": {"hosts": hosts}}


def down(lab: Path) -> None:
    """End them. What they said is kept until the next time."""
    path = lab / "state.json"
    if path.is_file():
        state = json.loads(path.read_text())
        for facts in state["machines"].values():
            end(facts["pid"], facts["disk"])
        end(state["cache"]["pid"], PROXY)
    if lab.is_dir():
        kept = CACHE / "last" / lab.name
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(lab, kept, ignore=shutil.ignore_patterns("*.qcow2", "*.monitor"))
        shutil.rmtree(lab)


def machine_of(lab: Path, name: str) -> Machine:
    facts = json.loads((lab / "state.json").read_text())["machines"].get(name)
    if facts is None:
        raise LabError(f"no machine {name} in {lab.name}")
    return Machine(name, Path(facts["disk"]), lab, key=Path(facts["key"]), port=facts["port"], hardware=hardware_of(facts["release"]))


def cut(lab: Path, name: str, disk: Path | None = None) -> None:
    """Take the power from a machine, and give it back. What its kernel had not written is lost. With ``disk`` it starts from this copy (raw)."""
    state = json.loads((lab / "state.json").read_text())
    facts = state["machines"][name]
    if not end(facts["pid"], facts["disk"]):
        raise LabError(f"{name} does not run")
    if disk is not None:
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(disk), facts["disk"]], check=True, stdin=subprocess.DEVNULL)
    machine = machine_of(lab, name)
    machine.start()
    assert machine.process is not None
    facts["pid"] = machine.process.pid
    (lab / "state.json").write_text(json.dumps(state, indent=1))
    say(f"{name}: answers after {machine.wait():.0f} s")


def monitor(lab: Path, name: str, *words: str, seconds: float = 60) -> str:
    """What QEMU says to the last of these commands. Raises LabError where it says that one failed."""
    said = ""
    with socket.socket(socket.AF_UNIX) as connection:
        # Unix sockets have short paths only.
        connection.connect(os.path.relpath(lab / f"{name}.monitor"))
        connection.settimeout(seconds)
        _ask(connection, "")
        for word in words:
            said = _ask(connection, word)
            if "rror" in said:
                raise LabError(f"{word}: {said}")
    return said


def report(lab: Path) -> None:
    """What a person wants to see of each machine when something failed."""
    for name in json.loads((lab / "state.json").read_text())["machines"]:
        print(f"== {name}: the end of its console (all of it: {CACHE / 'last' / lab.name / (name + '.console')})")
        print("\n".join((lab / f"{name}.console").read_text(errors="replace").splitlines()[-40:]))
        print(f"== {name}: what it says now")
        script = "cat /proc/cmdline; uname -r; systemctl --failed --no-legend; dpkg --audit; tail -n 5 /var/log/dpkg.log; journalctl -p warning -n 9 --no-pager"
        print(machine_of(lab, name).ssh(script, check=False, seconds=60) or "nothing")


def ssh(lab: Path, name: str, words: list[str]) -> int:
    return subprocess.run([*machine_of(lab, name).ssh_command(), *words], check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("up", "down", "ssh", "cut", "report", "image"))
    parser.add_argument("--lab", default="lab", help="name of the group of machines")
    parser.add_argument("words", nargs="*", metavar="NAME:RELEASE | RELEASE | NAME COMMAND")
    options = parser.parse_intermixed_args()
    lab = CACHE / "labs" / options.lab
    places = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [name for name in ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mkfs.ext4", "zstd") if not shutil.which(name, path=places)]
    try:
        if missing:
            raise LabError(f"{', '.join(missing)} not found. Run tools/dev/system_packages.sh vm")
        if options.action == "up":
            up(lab, options.words or ["one:trixie"])
        elif options.action == "image":
            for release in options.words or ["trixie"]:
                print(image(release, CACHE / "images"))
        elif options.action == "down":
            down(lab)
        elif options.action == "cut":
            for name in options.words:
                cut(lab, name)
        elif options.action == "report":
            report(lab)
        else:
            return ssh(lab, options.words[0], options.words[1:])
    except (LabError, RuntimeError, OSError, subprocess.CalledProcessError) as error:
        print(f"lab: {error}", file=sys.stderr)
        if options.action == "up":
            down(lab)
        return 1
    except KeyboardInterrupt:
        down(lab)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
