# SPDX-License-Identifier: GPL-3.0-or-later
"""One virtual machine under QEMU's software emulation, reached by SSH on a free port of loopback."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

BOOT_SECONDS = 420
MEMORY_MIB = 1536


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Machine:
    """``disk`` is used as it is with ``raw``, otherwise it is a qcow2 overlay. With ``state`` the machine goes on where ``save`` left another. As a context
    manager it never outlives its block."""

    def __init__(
        self, name: str, disk: Path, place: Path, *, raw: bool = False, kernel: tuple[Path, Path, str] | None = None, key: Path | None = None, port: int = 0,
        state: Path | None = None, hardware: str = "",
    ) -> None:  # fmt: skip
        self.name, self.disk, self.place, self.raw, self.kernel, self.state = name, disk, place, raw, kernel, state
        self.key = key or place / "key"
        self.hardware = hardware
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        # QEMU 7.2 emulates CMPXCHG16B with flags that are wrong at times; kernels since 6.9 use it for every allocation, unless the CPU has none.
        command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,-cx16", "-smp", "2"]
        command += ["-m", str(MEMORY_MIB), "-nographic", "-nodefaults"]
        command += ["-serial", f"file:{self.place / (self.name + '.console')}", "-rtc", "base=utc"]
        command += ["-netdev", f"user,id=net0,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net-pci,netdev=net0,romfile="]
        # Nothing on these disks outlives a test, so nothing needs to reach the real one in order.
        command += ["-drive", f"file={self.disk},if=virtio,format={'raw' if self.raw else 'qcow2'},cache=unsafe,discard=unmap", "-device", "virtio-rng-pci"]
        # Unix sockets have short paths only.
        command += ["-monitor", f"unix:{os.path.relpath(self.place / (self.name + '.monitor'))},server=on,wait=off"]
        # Of what is said twice the last counts.
        command += shlex.split(self.hardware)
        if self.state:
            command += ["-incoming", f"exec:zstd -dcq {shlex.quote(str(self.state))}"]
        if self.kernel:
            vmlinuz, initrd, words = self.kernel
            command += ["-kernel", str(vmlinuz), "-initrd", str(initrd), "-append", words]
        return command

    def start(self) -> None:
        with (self.place / f"{self.name}.qemu").open("wb") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def ssh_command(self) -> list[str]:
        options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=5")
        command = ["ssh", "-i", str(self.key), "-p", str(self.port)]
        for option in options:
            command += ["-o", option]
        return [*command, "root@127.0.0.1"]

    def ssh(self, script: str, check: bool = True, seconds: float | None = None) -> str:
        try:
            done = subprocess.run([*self.ssh_command(), script], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"no answer within {seconds:.0f} s"
        if check and done.returncode:
            raise RuntimeError(f"{self.name}: {script!r} ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-600:]}")
        return done.stdout

    def wait(self, seconds: float = BOOT_SECONDS) -> float:
        """Until SSH answers. Returns the seconds that it took."""
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            if self.process is not None and self.process.poll() is not None:
                said = (self.place / f"{self.name}.qemu").read_text(errors="replace")[-400:]
                raise RuntimeError(f"{self.name}: QEMU ended with {self.process.returncode}: {said}")
            if subprocess.run([*self.ssh_command(), "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0:
                return time.monotonic() - begin
            time.sleep(1)
        tail = (self.place / f"{self.name}.console").read_text(errors="replace").splitlines()[-8:]
        raise RuntimeError(f"{self.name}: no SSH after {seconds:.0f} s. Its console ends with:\n" + "\n".join(tail))

    def save(self, state: Path) -> None:
        """Write the memory of the running machine to a file, and end it. Its disk is then the one that belongs to that file."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(os.path.relpath(self.place / f"{self.name}.monitor"))
            monitor.settimeout(BOOT_SECONDS)
            _ask(monitor, "")
            write = f'migrate "exec:zstd -1cqT0 > {shlex.quote(str(state))}"'
            said = [_ask(monitor, words) for words in ("migrate_set_parameter max-bandwidth 4G", write, "info migrate")]
            if "completed" not in said[-1]:
                raise RuntimeError(f"{self.name}: its state could not be saved: {said[-1]}")
            monitor.sendall(b"quit\n")
            # It reads no command of which the giver has gone.
            while monitor.recv(65536):
                pass
        assert self.process is not None
        self.process.wait(60)

    def power_off(self) -> None:
        self.ssh("systemctl poweroff", check=False)
        if self.process is not None:
            try:
                self.process.wait(90)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Machine:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()


def _ask(monitor: socket.socket, words: str) -> str:
    """Give one command to QEMU's monitor for people, and read up to its next prompt."""
    if words:
        monitor.sendall(words.encode() + b"\n")
    said = b""
    while not said.endswith(b"(qemu) "):
        block = monitor.recv(65536)
        if not block:
            raise RuntimeError(f"QEMU ended at {words!r}: {said.decode(errors='replace')[-300:]}")
        said += block
    return said.decode(errors="replace")


def end(pid: int, disk: str) -> bool:
    """End the QEMU with this process number if it is the one that runs from ``disk``. Says whether it did."""
    if not any(disk in word for word in _words(pid)):
        return False
    os.kill(pid, signal.SIGKILL)
    for _attempt in range(1200):
        if _gone(pid):
            return True
        time.sleep(0.05)
    raise RuntimeError(f"process {pid} outlives SIGKILL")


def _gone(pid: int) -> bool:
    """No process, or nothing but its status for its parent: until all threads have ended its disk stays locked."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return status in "ZX" and len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
    except OSError:
        return True


def _words(pid: int) -> list[str]:
    """The command of a process; nothing for one that is gone, or dead and not yet collected."""
    try:
        return [word for word in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0") if word]
    except OSError:
        return []
