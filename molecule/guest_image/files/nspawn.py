# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine with systemd, libvirt and a real kernel, but no emulation: a container of systemd-nspawn with Debian 13, reached by SSH on loopback.

    python nspawn.py check        # ends with 77 and the reason where it cannot run
    python nspawn.py up NAME      # makes the tree once, starts it, writes .cache/vm/labs/NAME/inventory.yml
    python nspawn.py down NAME

Guests that it starts are then emulated once, not twice. It shares the network of the machine, so nothing in it may set up networks. Root or sudo is needed.
Images that were built are kept in .cache/vm/guest-images, whose folder is mounted in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPO / "tools" / "vm"))

from image import LabError, source  # noqa: E402
from lab import CACHE, inventory  # noqa: E402
from machine import Machine, free_port, say  # noqa: E402

ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]
PACKAGES = "systemd systemd-sysv dbus udev openssh-server python3 python3-apt sudo iproute2 procps ca-certificates debian-archive-keyring".split()
# The newest libvirt and QEMU that Debian 13 can have: their schema knows TDX and SEV-SNP.
PREFERENCES = (
    "Package: src:libvirt src:qemu src:seabios\nPin: release n=trixie-backports\nPin-Priority: 700\n\n"
    # Nothing comes from there by itself; firmware for SEV-SNP and TDX is taken from there by name.
    "Package: *\nPin: release n=sid\nPin-Priority: 50\n"
)
LIBVIRTD = '[Service]\nPrivateMounts=yes\nExecStart=\nExecStart=/bin/sh -c "umount -R -l /sys/fs/cgroup; exec /usr/sbin/libvirtd --timeout 120"\n'
BUILT = CACHE / "guest-images"
START_SECONDS = 60
SKIPPED = 77


def run(*words: str, **more: object) -> None:
    done = subprocess.run([*ROOT, *words], capture_output=True, text=True, check=False, **more)
    if done.returncode:
        raise LabError(f"{words[0]} ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-800:]}")


def base() -> Path:
    """A packed tree, made once for each change of what is in it."""
    lines = source("trixie", "main")
    words = hashlib.sha256(json.dumps([PACKAGES, PREFERENCES, lines]).encode()).hexdigest()[:16]
    packed = CACHE / "images" / f"nspawn-{words}.tar"
    if not packed.is_file():
        packed.parent.mkdir(parents=True, exist_ok=True)
        say("nspawn: making the tree")
        partial = packed.with_suffix(".partial.tar")
        run("mmdebstrap", "--variant=minbase", "--format=tar", f"--include={','.join(PACKAGES)}", "trixie", str(partial), *lines)
        run("mv", str(partial), str(packed))
    return packed


def up(name: str) -> None:
    lab = CACHE / "labs" / name
    down(name)
    lab.mkdir(parents=True)
    BUILT.mkdir(parents=True, exist_ok=True)
    tree, key, port = lab / "tree", lab / "key", free_port()
    tree.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(key)], check=True)
    run("tar", "-C", str(tree), "-xf", str(base()))
    # Mirrors that are copied now and then lag behind the dates of what changes daily.
    sources = "\n".join(line.replace("deb ", "deb [check-valid-until=no] ", 1) for release in ("trixie-backports", "sid") for line in source(release, "main"))
    files = {
        "etc/hostname": "lab\n",
        "etc/machine-id": "",
        "root/.ssh/authorized_keys": key.with_suffix(".pub").read_text(),
        "etc/ssh/sshd_config.d/lab.conf": f"Port {port}\nListenAddress 127.0.0.1\nUseDNS no\n",
        "etc/apt/sources.list.d/backports.list": sources + "\n",
        "etc/apt/preferences.d/lab": PREFERENCES,
        # Where the machine has control groups of both versions, libvirt finds neither as it wants it: it sees none.
        "etc/libvirt/qemu.conf": "cgroup_controllers = []\n",
        "etc/systemd/system/libvirtd.service.d/lab.conf": LIBVIRTD,
    }
    for path, text in files.items():
        run("install", "-D", "-m", "600" if "root" in path else "644", "/dev/stdin", str(tree / path), input=text)
    (lab / "inventory.yml").write_text(json.dumps(inventory({"host": {"port": port, "key": str(key)}}), indent=1) + "\n")
    words = ["systemd-nspawn", "--register=no", "--keep-unit", "--quiet", "--boot", f"--directory={tree}", "--capability=all", "--resolv-conf=copy-host"]
    words += [f"--bind={BUILT}:/var/lib/attested-ai/images", "--console=pipe"]
    with (lab / "console").open("wb") as log:
        process = subprocess.Popen([*ROOT, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (lab / "state.json").write_text(json.dumps({"pid": process.pid, "port": port}))
    machine = Machine("host", tree, lab, key=key, port=port)
    machine.process = process
    (lab / "host.qemu").write_text("")
    (lab / "host.console").touch()
    say(f"{name}: answers after {machine.wait(START_SECONDS):.0f} s")


def down(name: str) -> None:
    lab = CACHE / "labs" / name
    try:
        pid = json.loads((lab / "state.json").read_text())["pid"]
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (OSError, ValueError):
        pid, words = 0, ""
    if str(lab / "tree") in words:
        # The number may be that of sudo, whose child it is.
        subprocess.run([*ROOT, "kill", "-TERM", str(pid)], check=False)
        for _attempt in range(300):
            if not Path(f"/proc/{pid}").exists():
                break
            time.sleep(0.1)
        else:
            raise LabError(f"{name}: process {pid} does not end")
    if lab.exists():
        run("rm", "-rf", "--one-file-system", str(lab))


def unable() -> str:
    """Why it cannot run here, or nothing."""
    missing = [word for word in ("systemd-nspawn", "mmdebstrap", "ssh") if not shutil.which(word)]
    if missing:
        return f"{', '.join(missing)} not found. Run tools/dev/system_packages.sh vm"
    if ROOT and (not shutil.which(ROOT[0]) or subprocess.run([*ROOT, "true"], capture_output=True, check=False).returncode):
        return "a container of its own needs root, or sudo that asks for no password"
    return ""


def main() -> int:
    action, *names = sys.argv[1:]
    reason = unable()
    if action == "check":
        print(reason or "it can run here", file=sys.stderr)
        return SKIPPED if reason else 0
    try:
        if reason:
            raise LabError(reason)
        {"up": up, "down": down}[action](*names)
    except (LabError, RuntimeError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
