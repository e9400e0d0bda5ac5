# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What probes may ask of a machine. Probes are pure functions over this; nothing here changes a machine.

``LocalHost`` answers from the machine, ``RecordedHost`` from a recording, so that a probe cannot tell the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence, Tuple, Union

ABSENT, DENIED, ERROR = "absent", "denied", "error"


@dataclass(frozen=True)
class Unreadable:
    """Why something could not be read: ``kind`` is absent, denied or error, ``reason`` a sentence without a full stop."""

    kind: str
    reason: str


@dataclass(frozen=True)
class KernelLog:
    """Messages of this boot without time stamps. If it is not ``complete``, a message that is missing proves nothing."""

    lines: Tuple[str, ...]
    complete: bool
    source: str


@dataclass(frozen=True)
class Owner:
    """Who may use a file: permission bits, and names of user and group (numbers where they have no names)."""

    mode: int
    user: str
    group: str


@dataclass(frozen=True)
class Output:
    """What a program printed."""

    rc: int
    out: str


@dataclass(frozen=True)
class Answer:
    """What a service said: the status of HTTP and the first 64 KiB."""

    status: int
    body: bytes


Registers = Tuple[int, int, int, int]


class Host:
    """The questions. Every method answers or returns Unreadable; none raises for what a machine is like."""

    def kernel(self) -> str:
        """Release of the running kernel, such as 6.17.0-5-generic."""
        raise NotImplementedError

    def architecture(self) -> str:
        """Machine name of the kernel, such as x86_64 or aarch64."""
        raise NotImplementedError

    def read(self, path: str) -> Union[bytes, Unreadable]:
        """The first 256 KiB of a file."""
        raise NotImplementedError

    def listdir(self, path: str) -> Union[Tuple[str, ...], Unreadable]:
        """Sorted names in a directory."""
        raise NotImplementedError

    def exists(self, path: str) -> Union[bool, Unreadable]:
        """Whether there is anything at ``path``; Unreadable where the answer is hidden."""
        raise NotImplementedError

    def owner(self, path: str) -> Union[Owner, Unreadable]:
        raise NotImplementedError

    def msr(self, number: int) -> Union[int, Unreadable]:
        """A 64-bit model-specific register of CPU 0."""
        raise NotImplementedError

    def cpuid(self, leaf: int, subleaf: int = 0) -> Union[Registers, Unreadable]:
        """EAX, EBX, ECX and EDX of CPU 0."""
        raise NotImplementedError

    def sev(self, command: str) -> Union[bytes, Unreadable]:
        """The answer of the AMD Secure Processor to ``snp-platform-status`` or ``get-id``, which only read. ``get-id`` gives 64 bytes per socket."""
        raise NotImplementedError

    def kvm(self, extension: Optional[int] = None) -> Union[int, Unreadable]:
        """KVM's answer to KVM_CHECK_EXTENSION (0: it has it not); without ``extension`` the version of its interface. Starts no machine."""
        raise NotImplementedError

    def kvm_attribute(self, group: int, attribute: int) -> Union[int, Unreadable]:
        """A 64-bit attribute of KVM as a whole (KVM_GET_DEVICE_ATTR on /dev/kvm)."""
        raise NotImplementedError

    def kernel_log(self) -> Union[KernelLog, Unreadable]:
        raise NotImplementedError

    def command(self, argv: Sequence[str]) -> Union[Output, Unreadable]:
        """Run a program that only reads. The programs that probes use are few: see their sources."""
        raise NotImplementedError

    def exchange(self, address: str, data: bytes) -> Union[bytes, Unreadable]:
        """What a service of this machine answers to ``data``. Only probes that were asked for (online) talk to services."""
        raise NotImplementedError

    def https(self, url: str, verify: bool = True) -> Union[Answer, Unreadable]:
        """What a service answers to a GET, its certificate checked against the system's authorities. Only for probes that were asked for (online)."""
        raise NotImplementedError

    # What follows is made of the above.

    def text(self, path: str) -> Union[str, Unreadable]:
        """A file as text without surrounding blanks. Bytes that are no UTF-8 are replaced: a strange machine must not stop us."""
        data = self.read(path)
        return data if isinstance(data, Unreadable) else data.decode("utf-8", "replace").strip("\0 \t\r\n")

    def switch(self, path: str) -> Union[bool, Unreadable]:
        """A boolean parameter of a kernel module: Y, y or 1 is true, N, n or 0 false."""
        text = self.text(path)
        if isinstance(text, Unreadable):
            return text
        if text in ("Y", "y", "1"):
            return True
        if text in ("N", "n", "0"):
            return False
        return Unreadable(ERROR, "%s holds %s, which is neither yes nor no" % (path, ascii(text[:32])))

    def parameters(self) -> Union[Tuple[str, ...], Unreadable]:
        """The words of the kernel command line up to --, where those of init begin."""
        text = self.text("/proc/cmdline")
        if isinstance(text, Unreadable):
            return text
        words = tuple(text.split())
        return words[: words.index("--")] if "--" in words else words


def parameter(words: Sequence[str], name: str) -> Optional[str]:
    """The last value of ``name`` on the command line ('' for a bare word), None without it. The kernel takes - for _ in names."""
    found = None
    for word in words:
        key, _sign, value = word.partition("=")
        if key.replace("-", "_") == name.replace("-", "_"):
            found = value
    return found
