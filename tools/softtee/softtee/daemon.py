# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's life: start in front or behind, see whether it runs, stop it. Its record is server.json in the state directory."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from softtee import mounting, nvidia_socket
from softtee.behaviour import Behaviour
from softtee.entry import Entry
from softtee.errors import SoftTeeError
from softtee.machine import Machine
from softtee.machines import Choice, open_guest
from softtee.snp_authority import write_private
from softtee.tdx_machine import EVENT_LOG, TdxMachine

RECORD = "server.json"
LOG = "server.log"
LOCK = "server.lock"
START_SECONDS = 60.0
STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Server:
    """Who serves: process id and its start time (a number is used again, the pair is not), mount point, kind of machine.

    ``product`` and ``key`` are empty but for SEV-SNP, ``nvml`` and ``event_log`` where there are no GPUs and no log.
    """

    pid: int
    started: int
    mount: Path
    product: str
    key: str
    pidfile: Optional[str]
    tee: str = "sev-snp"
    nvml: str = ""
    event_log: str = ""

    @property
    def tsm_path(self) -> Path:
        return self.mount / "report"

    def runs(self) -> bool:
        return start_time(self.pid) == self.started


def start_time(pid: int) -> Optional[int]:
    """Start of a process in clock ticks since boot; None when there is none, or only a zombie."""
    try:
        fields = Path("/proc/%d/stat" % pid).read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def read_server(state: Path) -> Optional[Server]:
    try:
        record = json.loads((state / RECORD).read_text("utf-8"))
        return Server(
            int(record["pid"]), int(record["started"]), Path(record["mount"]), record["product"], record["key"], record.get("pidfile"),
            record.get("tee", "sev-snp"), record.get("nvml", ""), record.get("event_log", ""),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def run(
    state: Path, mount: Path, choice: Choice, pidfile: Optional[str], floor: int = 0, provider: bool = True,
    announce: Callable[[Path], None] = lambda path: None,
) -> None:
    """Serve in this process until unmounted or told to end by a signal."""
    mfusepy = mounting.require_fuse()
    from softtee.filesystem import TsmFileSystem

    lock = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        running = read_server(state)
        raise SoftTeeError("a soft TEE serves from %s already%s: stop it first" % (state, " on %s" % running.mount if running else "")) from None
    mounting.prepare(mount)
    guest = open_guest(state, choice)
    machine = guest.cpu
    machine.prepare()
    behaviour = Behaviour(state)
    devices = None if guest.gpus is None else nvidia_socket.serve(guest.nvml_directory, guest.gpus, behaviour.of_gpus)
    product, key = (machine.product, machine.key_kind) if isinstance(machine, Machine) else ("", "")
    log = state / EVENT_LOG

    def ready() -> None:
        record = {"pid": os.getpid(), "started": start_time(os.getpid()), "mount": str(mount), "product": product, "key": key,
                  "pidfile": pidfile, "tee": machine.tee, "nvml": str(devices.nvml) if devices else "",
                  "event_log": str(log) if isinstance(machine, TdxMachine) else ""}
        write_private(state / RECORD, json.dumps(record).encode("utf-8"))
        if pidfile:
            Path(pidfile).write_text("%d\n" % os.getpid(), "ascii")
        announce(mount / "report")

    operations = TsmFileSystem(
        lambda: Entry(machine.evidence, behaviour.take, behaviour.peek, floor, machine.provider),
        lambda: provider and behaviour.peek() != "no-provider",
        ready,
    )
    try:
        mounting.serve(operations, mount, mfusepy)
    finally:
        if devices is not None:
            devices.stop()
        _forget(state, pidfile)
        os.close(lock)


def start(state: Path, mount: Path, arguments: "list[str]") -> Path:
    """Start a server behind, and return the tsm path once it answers. Raises SoftTeeError with the server's last words when it fails."""
    mounting.require_fuse()
    package = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))}
    with open(os.open(state / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "softtee", "serve", "--foreground", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, env=environment, cwd="/",
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            words = (state / LOG).read_text("utf-8", "replace").strip().splitlines()
            raise SoftTeeError(words[-1].replace("softtee: ", "", 1) if words else "the server ended with code %d and said nothing" % process.returncode)
        server = read_server(state)
        if server is not None and server.pid == process.pid and _answers(server):
            return server.tsm_path
        time.sleep(0.02)
    process.terminate()
    raise SoftTeeError("the server did not answer within %d s: see %s" % (START_SECONDS, state / LOG))


def _answers(server: Server) -> bool:
    try:
        return mounting.is_mounted(server.mount) and "report" in os.listdir(server.mount)
    except OSError:
        return False


def stop(state: Path) -> bool:
    """Unmount and wait for the server's end. True when there was something to stop; safe to call again and again."""
    server = read_server(state)
    if server is None:
        return False
    stopped = server.runs()
    lingers = False
    try:
        if mounting.is_mounted(server.mount) and (stopped or mounting.is_stale(server.mount)):
            stopped = True
            try:
                mounting.unmount(server.mount)
            except SoftTeeError:
                # Somebody still has a file open: take the name away now. The server would wait for that file, so it is told to end.
                mounting.unmount(server.mount, lazy=True)
                lingers = True
    finally:
        _end(server, lingers)
    _forget(state, server.pidfile)
    return stopped


def _end(server: Server, at_once: bool) -> None:
    """The process leaves by itself after the unmount; a signal only if it does not, or ``at_once``."""
    for sign, seconds in ((None, 0.0 if at_once else STOP_SECONDS / 2), (signal.SIGTERM, STOP_SECONDS / 2), (signal.SIGKILL, STOP_SECONDS / 2)):
        if sign is not None and server.runs():
            os.kill(server.pid, sign)
        deadline = time.monotonic() + seconds
        while server.runs() and time.monotonic() < deadline:
            _reap(server.pid)
            time.sleep(0.01)
        if not server.runs():
            return
    raise SoftTeeError("the server, process %d, does not end" % server.pid)


def _reap(pid: int) -> None:
    # Only when the server is this process's own child.
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def _forget(state: Path, pidfile: Optional[str]) -> None:
    for path in (state / RECORD, *([Path(pidfile)] if pidfile else [])):
        try:
            path.unlink()
        except FileNotFoundError:
            pass
