# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine in memory: its files, and imitations of the programs that boot loaders bring."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.system import System

MKCONFIG = 'for x in ${sysconfdir}/default/grub.d/*.cfg ; do\n  if [ -e "${x}" ]; then\n    . "${x}"\n'
ENTRY = """menuentry 'Linux' --class gnu-linux {
\tlinux\t/boot/vmlinuz-7.0.4-amd64 root=UUID=1 ro %s
}
submenu 'Advanced options' {
\tmenuentry 'Linux, with Linux 6.12.1-amd64' {
\t\tlinux\t/boot/vmlinuz-6.12.1-amd64 root=UUID=1 ro %s
\t}
}
"""


class Killed(Exception):
    """The play ended here."""


class Lab:
    """``dies_at`` names an action (a path that is written or removed, or a program) before which the run is killed."""

    def __init__(self, **files: str) -> None:
        self.files = {"/proc/cmdline": "BOOT_IMAGE=/boot/vmlinuz root=UUID=1 ro quiet", **files}
        self.programs: set[str] = set()
        self.ran: list[list[str]] = []
        self.dies_at = ""
        self.system = System(self.files.get, self._listdir, self._write, self._remove, self._run, self._find)

    def _listdir(self, path: str) -> tuple[str, ...]:
        return tuple(sorted(name[len(path) + 1 :] for name in self.files if name.startswith(path + "/")))

    def _find(self, name: str) -> str | None:
        return f"/usr/sbin/{name}" if name in self.programs else None

    def _die(self, action: str) -> None:
        if self.dies_at and self.dies_at == action:
            raise Killed

    def _write(self, path: str, text: str) -> None:
        self._die(f"write {path} {text.splitlines()[1] if text.count(chr(10)) > 1 else ''}".strip())
        self.files[path] = text

    def _remove(self, path: str) -> None:
        self._die(f"remove {path}")
        self.files.pop(path, None)

    def _run(self, argv):
        self.ran.append(list(argv))
        self._die(argv[0])
        done = getattr(self, argv[0].replace("-", "_"))(*argv[1:])
        return done if isinstance(done, tuple) else (0, done or "", "")


class Debian(Lab):
    """grub-mkconfig sources the drop-ins with a real shell."""

    def __init__(self, folder: Path, **files: str) -> None:
        super().__init__(**files)
        self.folder = folder
        self.programs = {"update-grub", "grub-mkconfig"}
        self.files["/usr/sbin/grub-mkconfig"] = MKCONFIG
        self.files.setdefault("/etc/default/grub", 'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n')
        self.update_grub()

    def update_grub(self) -> None:
        paths = sorted(path for path in self.files if path.startswith("/etc/default/grub.d/"))
        script = "set -eu\n" + "\n".join(self.files[path] for path in ["/etc/default/grub", *paths])
        script += '\nprintf "%s" "${GRUB_CMDLINE_LINUX} ${GRUB_CMDLINE_LINUX_DEFAULT}"'
        done = subprocess.run(["/bin/sh", "-c", script], cwd=self.folder, capture_output=True, text=True, check=True)
        self.files["/boot/grub/grub.cfg"] = '   set default="0"\n' + ENTRY % (done.stdout, done.stdout)

    def line(self) -> list[str]:
        found = re.search(r"linux\t\S+ root=UUID=1 ro (.*)", self.files["/boot/grub/grub.cfg"])
        return found.group(1).split() if found else []


class RedHat(Lab):
    """grubby over entries of the Boot Loader Specification, as far as its three calls go."""

    def __init__(self, **entries: str) -> None:
        super().__init__()
        self.programs = {"grubby", "grub2-mkconfig"}
        lines = entries or {"6_12": "ro quiet iommu=pt", "5_14": "ro iommu=pt"}
        self.entries = {f"/boot/vmlinuz-{name.replace('_', '.')}": words.split() for name, words in lines.items()}

    def grubby(self, *words: str) -> str:
        if words == ("--info=ALL",):
            blocks = enumerate(self.entries.items())
            return "".join(f'index={index}\nkernel="{kernel}"\nargs="{" ".join(args)}"\nroot="/dev/sda1"\n' for index, (kernel, args) in blocks)
        if words == ("--default-kernel",):
            return next(iter(self.entries)) + "\n"
        for word in words[1:]:
            key, _sign, value = word.partition("=")
            for kernel, args in self.entries.items():
                if key == "--remove-args":
                    self.entries[kernel] = [arg for arg in args if not {arg, arg.partition("=")[0]} & set(value.split())]
                elif key == "--args":
                    # As the real one: all others of these names go first.
                    names = {arg.partition("=")[0] for arg in value.split()}
                    self.entries[kernel] = [arg for arg in args if arg.partition("=")[0] not in names] + value.split()
        return ""


class Suse(Lab):
    def __init__(self) -> None:
        super().__init__()
        self.programs = {"grub2-mkconfig"}
        self.files["/etc/default/grub"] = '# mine\nGRUB_TIMEOUT=8\nGRUB_CMDLINE_LINUX_DEFAULT="splash=silent iommu=pt quiet"\nGRUB_TERMINAL=gfxterm\n'

    def grub2_mkconfig(self, _option: str, path: str) -> None:
        last = re.findall(r"""GRUB_CMDLINE_LINUX_DEFAULT=["'](.*)["']""", self.files["/etc/default/grub"])[-1]
        self.files[path] = 'set default="0"\n' + ENTRY % (last, last)
