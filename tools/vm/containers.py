# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers with systemd, apt and GRUB in the place of machines: seconds instead of minutes, for what needs no kernel of its own.

    python tools/vm/containers.py check                       # ends with 77 and the reason where none can run
    python tools/vm/containers.py up --lab try tdx snp        # writes .cache/containers/labs/try/inventory.yml
    python tools/vm/containers.py exec --lab try tdx 'cat /proc/cmdline'
    python tools/vm/containers.py down --lab try

They have no network, no devices and no privilege outside: their root is nobody there. SSH reaches them through the standard input of `podman exec`.
The image is made once for each state of its recipe (tools/vm/container) and kernel outside.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from image import LabError, source
from machine import say

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "containers"
# Sockets live here: their paths must be short, and podman wants its notes of running containers gone after a boot.
RUN = Path("/run") / f"attested-ai-{hashlib.sha256(str(CACHE).encode()).hexdigest()[:10]}"
PODMAN = [str(HERE / "container/podman.sh"), str(CACHE), str(RUN)]
RELEASE, IMAGE = "trixie", "localhost/attested-ai-lab"
# Users of the container are these outside, who are nobody.
FIRST_UID, UIDS = 1_600_000_000, 65536
PACKAGES = "systemd systemd-sysv dbus udev kmod procps python3 python3-apt openssh-server grub-common grub2-common gpg gpg-agent ca-certificates".split()
# static_dir is where podman would look by itself, too: the process that starts a container anew does not read this.
CONTAINERS_CONF = """[containers]
default_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]
pids_limit = 0
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
static_dir = "{cache}/store/libpod"
tmp_dir = "{run}/libpod"
volume_path = "{cache}/volumes"
[network]
network_config_dir = "{cache}/networks"
"""
STORAGE_CONF = '[storage]\ndriver = "overlay"\ngraphroot = "{cache}/store"\nrunroot = "{run}/store"\n'
SKIPPED = 77


def unable() -> str:
    """Why no container can run here, or nothing."""
    if os.geteuid() != 0:
        return "containers of systemd need root (a mount namespace, and a range of users)"
    places = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [name for name in ("podman", "crun", "unshare", "nsenter", "mmdebstrap") if not shutil.which(name, path=places)]
    return f"{', '.join(missing)} not found. Run tools/dev/system_packages.sh vm" if missing else ""


def podman(*words: str, check: bool = True, text: str = "") -> str:
    done = subprocess.run([*PODMAN, *words], input=text, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise LabError(f"podman {words[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout


def configure() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    RUN.mkdir(mode=0o700, exist_ok=True)
    for name, text in (("containers.conf", CONTAINERS_CONF), ("storage.conf", STORAGE_CONF)):
        (CACHE / name).write_text(text.format(cache=CACHE, run=RUN))


def digest() -> str:
    """Changes with the recipe, and with the kernel outside."""
    files = sorted(path for path in (HERE / "container").rglob("*") if path.is_file())
    parts = [" ".join(PACKAGES).encode(), RELEASE.encode(), platform.release().encode(), *(path.read_bytes() for path in files)]
    return hashlib.sha256(bytes(1).join(parts)).hexdigest()[:16]


def image() -> str:
    """The name of the image, made if its recipe changed or it never was."""
    name = f"{IMAGE}:{digest()}"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if name not in images():
            begin = time.monotonic()
            make(name)
            say(f"image made in {time.monotonic() - begin:.0f} s")
            for old in set(images()) - {name}:
                podman("rmi", old, check=False)
    return name


def images() -> list[str]:
    return podman("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={IMAGE}").split()


def make(name: str) -> None:
    recipe = HERE / "container"
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        tree = Path(scratch) / "root.tar"
        command = ["mmdebstrap", "--variant=minbase", "--dpkgopt=force-unsafe-io", f"--include={','.join(PACKAGES)}"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale", "info")]
        command += [f'--customize-hook=cp -r {shlex.quote(str(recipe))} "$1/opt/lab" && cp -r "$1/opt/lab/etc" "$1/"']
        command += [f'--customize-hook=chroot "$1" python3 /opt/lab/setup.py {shlex.quote(platform.release())}', '--customize-hook=rm -r "$1/opt/lab"']
        # At its end mmdebstrap removes all lists: apt knows as little as on a machine that was just made.
        command += [RELEASE, str(tree), *source(RELEASE, "main")]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"mmdebstrap ended with {done.returncode}:\n" + "\n".join(done.stderr.splitlines()[-20:]))
        podman("import", "--change", 'CMD ["/sbin/init"]', str(tree), name)


def full_name(lab: Path, name: str) -> str:
    return f"attested-ai-{lab.name}-{name}"


def up(lab: Path, names: list[str]) -> None:
    base = image()
    down(lab)
    lab.mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(lab / "key")], check=True)
    (lab / "names.json").write_text(json.dumps(names))
    users = f"0:{FIRST_UID}:{UIDS}"
    for name in names:
        mounts = []
        # What a boot changes of the kernel's own files (tools/vm/container/lab-boot).
        for file in ("cmdline", "stat"):
            path = lab / f"{name}.{file}"
            path.write_text(Path("/proc", file).read_text())
            os.chown(path, FIRST_UID, FIRST_UID)
            mounts += ["--volume", f"{path}:/proc/{file}"]
        podman(
            "run", "--detach", "--name", full_name(lab, name), "--hostname", name, "--network", "none", "--uidmap", users, "--gidmap", users, *mounts,
            "--systemd=always", "--restart=always", base, "/sbin/init",
        )  # fmt: skip
    for name in names:
        wait(lab, name)
        take = "umask 077; mkdir -p /root/.ssh; cat >/root/.ssh/authorized_keys"
        podman("exec", "-i", full_name(lab, name), "sh", "-c", take, text=(lab / "key.pub").read_text())
    (lab / "inventory.yml").write_text(json.dumps(inventory(lab, names), indent=1) + "\n")
    print(lab / "inventory.yml")


def wait(lab: Path, name: str, seconds: float = 60) -> None:
    begin = time.monotonic()
    state = ""
    while time.monotonic() - begin < seconds:
        # Asked too early there is no bus yet, and nothing is said.
        state = podman("exec", full_name(lab, name), "systemctl", "is-system-running", "--wait", check=False).strip()
        if state == "running":
            return
        if state == "degraded":
            break
        time.sleep(0.2)
    failed = podman("exec", full_name(lab, name), "systemctl", "--failed", "--no-legend", check=False).strip()
    raise LabError(f"{name}: systemd is {state or 'silent'} after {time.monotonic() - begin:.0f} s {failed}")


def inventory(lab: Path, names: list[str]) -> dict[str, object]:
    """YAML is a superset of JSON."""
    hosts = {}
    for name in names:
        proxy = shlex.join([*PODMAN, "exec", "-i", full_name(lab, name), "/usr/sbin/sshd", "-i"])
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        hosts[name] = {
            "ansible_host": f"{name}.{lab.name}.example.org", "ansible_user": "root", "ansible_ssh_private_key_file": str(lab / "key"),
            "ansible_ssh_common_args": f"{options} -o ProxyCommand={shlex.quote(proxy)}", "ansible_python_interpreter": "/usr/bin/python3",
        }  # fmt: skip
    return {"all": {"hosts": hosts}}


def down(lab: Path) -> None:
    for name in podman("ps", "--all", "--format", "{{.Names}}").split():
        if name.startswith(full_name(lab, "")):
            remove(name)
    shutil.rmtree(lab, ignore_errors=True)
    if not podman("ps", "--all", "--quiet").strip():
        subprocess.run(["umount", str(RUN / "namespace"), str(RUN)], check=False)
        (RUN / "namespace").unlink(missing_ok=True)


def remove(name: str, tries: int = 5) -> None:
    """What starts a container anew after its end may win against what removes it; then once more."""
    for left in reversed(range(tries)):
        podman("rm", "--force", "--ignore", "--time", "0", name, check=not left)
        if name not in podman("ps", "--all", "--format", "{{.Names}}").split():
            return
        time.sleep(0.5)
    raise LabError(f"{name} is there again each time it is removed")


def script(lab: Path, name: str, text: str) -> tuple[int, str]:
    """Status and output. 255 where the container does not run, as with ssh."""
    done = subprocess.run([*PODMAN, "exec", full_name(lab, name), "sh", "-c", text], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return (255 if done.returncode in (125, 126, 137) else done.returncode), done.stdout


def cut(lab: Path, name: str) -> None:
    """Kill all of it at once. Its policy, or this, starts it again."""
    podman("kill", "--signal", "KILL", full_name(lab, name), check=False)
    time.sleep(0.5)
    podman("start", full_name(lab, name), check=False)
    wait(lab, name)


def report(lab: Path) -> None:
    """What a person wants to see of each container when something failed."""
    script = "cat /proc/cmdline; systemctl --failed --no-legend; journalctl --no-pager --lines 40"
    for name in json.loads((lab / "names.json").read_text()):
        print(f"== {name}")
        print(podman("exec", full_name(lab, name), "sh", "-c", script, check=False))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("check", "up", "down", "exec", "report"))
    parser.add_argument("--lab", default="lab", help="name of the group of containers")
    parser.add_argument("words", nargs="*", metavar="NAME | NAME COMMAND")
    options = parser.parse_intermixed_args()
    lab = CACHE / "labs" / options.lab
    reason = unable()
    if reason:
        print(reason, file=sys.stderr)
        return SKIPPED
    configure()
    try:
        if options.action == "up":
            up(lab, options.words or ["one"])
        elif options.action == "down":
            down(lab)
        elif options.action == "report":
            report(lab)
        elif options.action == "exec":
            return subprocess.run([*PODMAN, "exec", full_name(lab, options.words[0]), "sh", "-c", " ".join(options.words[1:])], check=False).returncode
    except LabError as error:
        print(f"containers: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
