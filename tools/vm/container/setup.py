# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a fresh Debian tree a small imitation of a machine. Runs once, inside of the tree, as its root.

What is real: systemd, apt with signatures, dpkg with hooks of kernels, udev, GRUB's own generator and the drop-ins. What is imitated: the packages of
kernel, QEMU and firmware are all but empty; grub-probe, which would look for the disk; and what a boot leaves in /proc (lab-boot).
The first word is the release of the kernel that runs outside: a container has no other, so the newest kernel here has its name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MIRROR = Path("/srv/mirror")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITE = "trixie"
KERNEL_POSTINST = """#!/bin/sh
set -e
run-parts --exit-on-error --arg={kernel} --arg=/boot/vmlinuz-{kernel} /etc/kernel/postinst.d
# GRUB's own hook does nothing in a container.
update-grub
"""
OLD_KERNEL = "1.0.0-lab"


def packages(kernel: str) -> dict[str, list[tuple[str, str, str]]]:
    """For each suite, name, version and the kernel that a package brings. The versions of Debian itself are too old for TEEs."""
    return {
        SUITE: [("linux-image-amd64", "6.12.41-1", OLD_KERNEL), ("qemu-system-x86", "1:10.0.3+ds-1", ""), ("ovmf", "2025.02-8", "")],
        f"{SUITE}-backports": [
            ("linux-image-amd64", "7.0.4-1~bpo13+1", kernel), ("qemu-system-x86", "1:11.0.0+ds-1~bpo13+1", ""), ("ovmf", "2026.02-1~bpo13+1", ""),
            ("openssh-server", "1:99.0~bpo13+1", ""),
        ],
    }  # fmt: skip


def run(*command: str, **more: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **more}).stdout


def build(suite: str, name: str, version: str, kernel: str) -> str:
    """Makes the package, and returns its paragraph of the list."""
    tree = Path("/tmp/package")
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: lab <lab@example.org>\nDescription: {name} of the lab\n"
    (tree / "DEBIAN/control").write_text(control)
    if kernel:
        (tree / "boot").mkdir()
        (tree / f"boot/vmlinuz-{kernel}").write_text("lab\n")
        postinst = tree / "DEBIAN/postinst"
        postinst.write_text(KERNEL_POSTINST.format(kernel=kernel))
        postinst.chmod(0o755)
    path = MIRROR / f"pool/{suite}/{name}_{version.replace(':', '%3a')}_amd64.deb"
    path.parent.mkdir(parents=True, exist_ok=True)
    run("dpkg-deb", "--root-owner-group", "--build", str(tree), str(path))
    data = path.read_bytes()
    return f"{control}Filename: {path.relative_to(MIRROR)}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"


def publish(suite: str, paragraphs: list[str]) -> None:
    place = MIRROR / "dists" / suite
    (place / "main/binary-amd64").mkdir(parents=True)
    text = "\n".join(paragraphs).encode()
    (place / "main/binary-amd64/Packages").write_bytes(text)
    date = run("date", "-Ru").strip()
    # As Debian marks its backports: apt takes nothing from there without being told.
    quiet = "NotAutomatic: yes\nButAutomaticUpgrades: yes\n" if suite.endswith("-backports") else ""
    (place / "Release").write_text(
        f"Origin: {'Debian Backports' if quiet else 'Debian'}\nLabel: {'Debian Backports' if quiet else 'Debian'}\nSuite: {suite}\nCodename: {suite}\n{quiet}"
        f"Date: {date}\nArchitectures: amd64\nComponents: main\nSHA256:\n {hashlib.sha256(text).hexdigest()} {len(text)} main/binary-amd64/Packages\n"
    )
    run("gpg", "--batch", "--yes", "--clearsign", "--output", str(place / "InRelease"), str(place / "Release"))


def mirror(kernel: str) -> None:
    """Signed with a key that is made here and thrown away, and that this tree alone trusts."""
    os.environ["GNUPGHOME"] = "/tmp/gnupg"
    Path("/tmp/gnupg").mkdir(mode=0o700)
    run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", "lab <lab@example.org>", "ed25519", "sign", "0")
    for suite, wanted in packages(kernel).items():
        publish(suite, [build(suite, *package) for package in wanted])
    with open(KEYRING, "ab") as stream:
        stream.write(subprocess.run(["gpg", "--batch", "--export"], check=True, capture_output=True).stdout)
    subprocess.run(["gpgconf", "--kill", "all"], check=True)
    shutil.rmtree("/tmp/gnupg")
    Path("/etc/apt/sources.list").unlink(missing_ok=True)
    Path("/etc/apt/sources.list.d/lab.sources").write_text(
        f"Types: deb\nURIs: file:{MIRROR}\nSuites: {SUITE}\nComponents: main\nSigned-By: {KEYRING}\n"
    )


def main() -> None:
    kernel = sys.argv[1]
    for name, place in (("grub-probe", "/usr/sbin/grub-probe"), ("udevadm", "/usr/local/bin/udevadm"), ("lab-boot", "/usr/local/sbin/lab-boot")):
        if Path(place).exists():
            run("dpkg-divert", "--quiet", "--rename", "--add", place)
        shutil.copy(HERE / name, place)
        os.chmod(place, 0o755)
    Path("/boot/grub").mkdir(exist_ok=True)
    mirror(kernel)
    run("apt-get", "update")
    run("apt-get", "install", "--yes", "linux-image-amd64", "qemu-system-x86", "ovmf", DEBIAN_FRONTEND="noninteractive")
    run("systemctl", "enable", "lab-boot.service", "ssh.service")
    run("systemctl", "mask", "systemd-sysctl.service", "systemd-modules-load.service")


if __name__ == "__main__":
    main()
