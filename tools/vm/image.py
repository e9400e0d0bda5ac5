# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk images of Debian with a real GRUB: made once per recipe, without loop devices and without mounting anything. Beside each lies the memory of a
machine that has just booted from it, from which others go on in two seconds.

mmdebstrap makes the tree, mkfs.ext4 -d fills a file system from it, the partition table is one entry, and GRUB is installed from inside by a
first boot that is given the kernel directly.
"""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import Machine, say

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from debian_mirror import mirror  # noqa: E402

RECIPES = configparser.ConfigParser()
RECIPES.read(HERE / "recipes.ini")
DISK_MIB, FIRST_MIB = 6144, 1
PACKAGES = (
    "systemd systemd-sysv dbus udev kmod procps iproute2 initramfs-tools zstd grub-pc openssh-server python3 python3-apt sudo ca-certificates"
).split()
# What a test machine never reads makes every later package slower under emulation.
WITHOUT = ("man", "doc", "locale", "info", "help")
# Enough to reach the root file system on virtio. `most` would take minutes to pack for each new kernel, `dep` cannot be made in a chroot.
INITRAMFS = {"initramfs.conf": "MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\n", "modules": "virtio_pci\nvirtio_blk\next4\ncrc32c_generic\n"}
# Timers of apt would hold its lock while a test wants it, and what else costs a boot under emulation and serves no test.
UNWANTED = (
    "apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer systemd-networkd-wait-online.service"
).split()
FILES = {
    "etc/fstab": "/dev/vda1 / ext4 defaults,noatime 0 1\n",
    "etc/systemd/network/50-all.network": "[Match]\nType=ether\n[Network]\nDHCP=ipv4\n[DHCPv4]\nUseDNS=no\n",
    # The name server of QEMU's own network.
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
    "etc/default/grub.d/20-lab.cfg": 'GRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT="console=ttyS0"\nGRUB_TERMINAL=console\nGRUB_DISABLE_OS_PROBER=true\n',
    "etc/apt/apt.conf.d/90lab": 'APT::Install-Recommends "false";\nAcquire::Languages "none";\nAcquire::Retries "3";\n',
    "etc/dpkg/dpkg.cfg.d/90lab": "force-unsafe-io\n" + "".join(f"path-exclude=/usr/share/{name}/*\n" for name in WITHOUT),
    "etc/ssh/sshd_config.d/lab.conf": "UseDNS no\nPermitRootLogin prohibit-password\n",
}


class LabError(Exception):
    """Something that the person before the screen can do something about."""


def hardware_of(release: str) -> str:
    return RECIPES[release].get("hardware", "")


def digest(release: str) -> str:
    """Changes with the recipe, and with what would not understand the memory of another."""
    emulator = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=False).stdout
    command = Machine("x", Path("x"), Path("."), port=1).command()
    parts = [repr(sorted(RECIPES[release].items())), Path(__file__).read_text(), " ".join(command), emulator]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def image(release: str, cache: Path) -> Path:
    """The place of disk.img, booted.qcow2, booted.state and the SSH key of ``release``, made if its recipe changed or it never was."""
    if release not in RECIPES:
        raise LabError(f"no recipe for {release}; there are {', '.join(RECIPES.sections())} (tools/vm/recipes.ini)")
    place = cache / f"{release}-{digest(release)}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{release}.lock").open("w") as lock:
        # Another run may be making it just now.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").is_file():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            _make(release, place)
            (place / "done").touch()
            # Machines that run from an older one go on.
            used = "".join(path.read_text() for path in (cache.parent / "labs").glob("*/state.json"))
            for old in set(cache.glob(f"{release}-*")) - {place}:
                if str(old) not in used:
                    shutil.rmtree(old, ignore_errors=True)
    return place


def _run(command: list[str], log: Path) -> None:
    with log.open("a") as stream:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise LabError(f"{command[0]} ended with {code}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]))


def _make(release: str, place: Path) -> None:
    recipe, log = RECIPES[release], place / "build.log"
    debian, hardware = recipe.get("release", release), hardware_of(release)
    _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(place / "key")], log)
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        root, overlay = Path(scratch) / "root", Path(scratch) / "overlay"
        _write_overlay(overlay, release, (place / "key.pub").read_text())
        say(f"{release}: making the tree")
        command = ["mmdebstrap", "--variant=minbase", "--format=directory", "--dpkgopt=force-unsafe-io", "--dpkgopt=force-confold"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in WITHOUT]
        # Before any kernel is configured, so that its initramfs is made by these settings.
        command += [f"--essential-hook=copy-in {overlay}/etc /", f"--include={','.join([*PACKAGES, recipe['kernel']])}"]
        command += [f'--customize-hook=chroot "$1" systemctl enable systemd-networkd ssh && chroot "$1" systemctl mask {" ".join(UNWANTED)}']
        command += [f"--customize-hook=copy-in {overlay}/etc {overlay}/root /"]
        _run([*command, debian, str(root), *source(debian, recipe["components"])], log)
        for name in ("vmlinuz", "initrd.img"):
            (newest,) = (root / "boot").glob(f"{name}-*")
            shutil.copy(newest, place / name)
        say(f"{release}: making the disk")
        _make_disk(root, place / "disk.img", log)
    kernel = (place / "vmlinuz", place / "initrd.img", "root=/dev/vda1 rw console=ttyS0")
    machine = Machine(release, place / "disk.img", place, raw=True, kernel=kernel, hardware=hardware)
    with machine:
        say(f"{release}: installing GRUB from inside")
        machine.wait()
        machine.ssh("grub-install /dev/vda && update-grub && sync")
        machine.power_off()
    overlay_of(place / "disk.img", place / "booted.qcow2", "raw")
    with Machine("booted", place / "booted.qcow2", place, hardware=hardware) as machine:
        say(f"{release}: first boot by GRUB, and keeping its memory")
        machine.wait()
        machine.ssh("systemctl is-system-running --wait", check=False)
        machine.save(place / "booted.state")


def overlay_of(base: Path, disk: Path, kind: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", kind, str(disk)], check=True)


def source(release: str, components: str) -> list[str]:
    """Where this machine has its own Debian from. Elsewhere mmdebstrap knows a mirror."""
    found = mirror()
    return [f"deb {found} {release} {components}"] if found else []


def _write_overlay(overlay: Path, release: str, key: str) -> None:
    files = {**FILES, "etc/hostname": "lab\n", "root/.ssh/authorized_keys": key}
    files.update({f"etc/initramfs-tools/{name}": text for name, text in INITRAMFS.items()})
    for name, text in files.items():
        path = overlay / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    os.chmod(overlay / "root", 0o700)
    os.chmod(overlay / "root/.ssh", 0o700)
    os.chmod(overlay / "root/.ssh/authorized_keys", 0o600)


def _make_disk(root: Path, disk: Path, log: Path) -> None:
    part = disk.with_suffix(".part")
    size = DISK_MIB - 2 * FIRST_MIB
    _run(["truncate", "-s", f"{size}M", str(part)], log)
    _run(["mkfs.ext4", "-q", "-d", str(root), str(part)], log)
    _run(["truncate", "-s", f"{DISK_MIB}M", str(disk)], log)
    # Active, type 0x83, from the second MiB on: GRUB keeps its core image in the first.
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", FIRST_MIB * 2048, size * 2048)
    with disk.open("r+b") as stream:
        stream.seek(446)
        stream.write(entry + bytes(48) + b"\x55\xaa")
    _run(["dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={FIRST_MIB}", "conv=notrunc,sparse"], log)
    part.unlink()
