# SPDX-License-Identifier: GPL-3.0-or-later
"""Real Debian machines under QEMU for tests of roles that install kernels, edit GRUB and reboot. No KVM and no root is used.

    python tools/vm/lab.py up --lab snp one:trixie two:bookworm     # boots them, writes .cache/vm/labs/snp/inventory.yml
    python tools/vm/lab.py ssh --lab snp one 'uname -r'
    python tools/vm/lab.py down --lab snp

Images are made once (about two minutes each) and kept under .cache/vm; each machine starts from a fresh overlay.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from image import LabError, image
from machine import Machine, end, say

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "vm"


def up(lab: Path, wanted: list[str]) -> None:
    down(lab)
    lab.mkdir(parents=True)
    state, machines = {}, []
    for word in wanted:
        name, _colon, release = word.partition(":")
        release = release or "trixie"
        begin = time.monotonic()
        base = image(release, CACHE / "images")
        if time.monotonic() - begin > 1:
            say(f"{release}: image made in {time.monotonic() - begin:.0f} s")
        disk = lab / f"{name}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base / "disk.img"), "-F", "raw", str(disk)], check=True)
        machine = Machine(name, disk, lab, key=base / "key")
        machine.start()
        machines.append(machine)
        assert machine.process is not None
        state[name] = {"pid": machine.process.pid, "port": machine.port, "disk": str(disk), "key": str(machine.key), "release": release}
        (lab / "state.json").write_text(json.dumps(state, indent=1))
    for machine in machines:
        say(f"{machine.name}: answers after {machine.wait():.0f} s")
        machine.ssh(f"echo {machine.name} >/etc/hostname && hostname {machine.name}")
    (lab / "inventory.yml").write_text(json.dumps(inventory(state), indent=1) + "\n")
    print(lab / "inventory.yml")


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
    path = lab / "state.json"
    if path.is_file():
        for facts in json.loads(path.read_text()).values():
            end(facts["pid"], facts["disk"])
    shutil.rmtree(lab, ignore_errors=True)


def ssh(lab: Path, name: str, words: list[str]) -> int:
    facts = json.loads((lab / "state.json").read_text())[name]
    machine = Machine(name, Path(facts["disk"]), lab, key=Path(facts["key"]), port=facts["port"])
    return subprocess.run([*machine.ssh_command(), *words], check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("up", "down", "ssh", "image"))
    parser.add_argument("--lab", default="lab", help="name of the group of machines")
    parser.add_argument("words", nargs="*", metavar="NAME:RELEASE | RELEASE | NAME COMMAND")
    options = parser.parse_intermixed_args()
    lab = CACHE / "labs" / options.lab
    places = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [name for name in ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mkfs.ext4") if not shutil.which(name, path=places)]
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
        else:
            return ssh(lab, options.words[0], options.words[1:])
    except (LabError, RuntimeError) as error:
        print(f"lab: {error}", file=sys.stderr)
        if options.action == "up":
            keep = CACHE / "last-failure"
            shutil.rmtree(keep, ignore_errors=True)
            if lab.is_dir():
                shutil.copytree(lab, keep, ignore=shutil.ignore_patterns("*.qcow2"))
            down(lab)
        return 1
    except KeyboardInterrupt:
        down(lab)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
