# SPDX-License-Identifier: GPL-3.0-or-later
"""The grubby of a distribution over a folder that it takes for the machine: in a namespace of its own, /etc and /boot are bound to that folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.system import System

# Where it is, if it is not installed: the script grubby-bls of the package's sources does.
GRUBBY = os.environ.get("ATTESTED_GRUBBY") or shutil.which("grubby") or ""
EDITENV = shutil.which("grub2-editenv") or shutil.which("grub-editenv") or os.environ.get("ATTESTED_GRUB_EDITENV", "")
KERNELS = {"5.14.0-503.el9.x86_64": "ro iommu=pt console=tty0 quiet", "5.14.0-427.el9.x86_64": "ro iommu=pt console=tty0"}
MACHINE = "5f0f2f5b1c7a4a7b8a2f4d1c3b6e9a70"


def why_not() -> str:
    """Why it cannot be run here, empty if it can."""
    if not GRUBBY:
        return "there is no grubby; ATTESTED_GRUBBY may name one"
    if not shutil.which("unshare") or subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False).returncode:
        return "mounts of one's own are not allowed here"
    return ""


class RealGrubby:
    """A machine of the RHEL family as far as grubby sees it."""

    def __init__(self, folder: Path, kernels: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.ran: list[list[str]] = []
        entries = folder / "boot/loader/entries"
        for path in (entries, folder / "boot/grub2", folder / "etc/default", folder / "etc/kernel", folder / "var", folder / "bin"):
            path.mkdir(parents=True)
        (folder / "etc/machine-id").write_text(MACHINE + "\n")
        (folder / "etc/os-release").write_text('NAME="Red Hat Enterprise Linux"\nVERSION="9.4"\nID="rhel"\n')
        (folder / "etc/default/grub").write_text('GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX="iommu=pt console=tty0"\nGRUB_ENABLE_BLSCFG=true\n')
        (folder / "boot/grub2/grubenv").write_text("# GRUB Environment Block\n" + "#" * 999)
        if EDITENV:
            (folder / "bin/grub2-editenv").symlink_to(EDITENV)
        for release, options in (kernels or KERNELS).items():
            self.install(release, options)
        self.running = "BOOT_IMAGE=(hd0,gpt2)/vmlinuz root=UUID=1 ro quiet"
        self.system = System(self._read, self._listdir, self._write, lambda path: self._at(path).unlink(missing_ok=True), self._run, self._find)

    def install(self, release: str, options: str) -> None:
        (self.folder / f"boot/vmlinuz-{release}").write_text("")
        text = f"title Red Hat Enterprise Linux ({release}) 9.4\nversion {release}\nlinux /vmlinuz-{release}\ninitrd /initramfs-{release}.img\n"
        (self.folder / f"boot/loader/entries/{MACHINE}-{release}.conf").write_text(f"{text}options root=/dev/mapper/rhel-root {options}\ngrub_class rhel\n")

    def options(self) -> dict[str, list[str]]:
        """What the entries say, as a boot loader reads them."""
        found = {}
        for path in sorted((self.folder / "boot/loader/entries").iterdir()):
            (line,) = [line for line in path.read_text().splitlines() if line.startswith("options ")]
            found[path.stem.partition("-")[2]] = line.split()[2:]
        return found

    def for_new_kernels(self) -> list[str]:
        """What kernel-install gives to the next kernel."""
        return (self.folder / "etc/kernel/cmdline").read_text().split()

    def _at(self, path: str) -> Path:
        return self.folder / path.lstrip("/")

    def _read(self, path: str) -> str | None:
        if path == "/proc/cmdline":
            return self.running
        return self._at(path).read_text() if self._at(path).is_file() else None

    def _listdir(self, path: str) -> tuple[str, ...]:
        return tuple(sorted(os.listdir(self._at(path)))) if self._at(path).is_dir() else ()

    def _write(self, path: str, text: str) -> None:
        self._at(path).parent.mkdir(parents=True, exist_ok=True)
        self._at(path).write_text(text)

    def _run(self, argv):
        self.ran.append(list(argv))
        script = 'mount --bind "$0/etc" /etc && mount --bind "$0/boot" /boot && exec bash "$@"'
        command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, str(self.folder), GRUBBY, *argv[1:]]
        environment = dict(os.environ, PATH=f"{self.folder}/bin:{os.environ['PATH']}")
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
        return done.returncode, done.stdout, done.stderr

    def _find(self, name: str) -> str | None:
        return f"/usr/sbin/{name}" if name in ("grubby", "grub2-mkconfig") else None
