# SPDX-License-Identifier: GPL-3.0-or-later
"""Soft GPUs for demos and tests: a process that answers stubs of NVIDIA's libraries, and all that a verifier of them needs.

    python -m softtee.gpus serve --state DIR [--gpus N] [--switches N] [--arch hopper|blackwell] [--mode spt|mpt|ppcie]
    python -m softtee.gpus misbehave --state DIR NAME
    python -m softtee.gpus stop --state DIR

``serve`` returns once the libraries answer, and prints where they, the roots and the collateral are, as JSON. It serves until ``stop``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, Optional

from softtee import nvidia_report
from softtee.behaviour import ensure_directory
from softtee.daemon import start_time
from softtee.errors import SoftTeeError
from softtee.nvidia_authority import NvidiaAuthority
from softtee.nvidia_socket import BEHAVIOURS, Machine, serve
from softtee.snp_authority import write_private

RECORD, BEHAVIOUR, LOG = "gpus.json", "gpu-behaviour", "gpus.log"
START_SECONDS = 60.0
STOP_SECONDS = 10.0


def read_record(state: Path) -> Optional[Dict[str, Any]]:
    """What a running server wrote down, None if none runs."""
    try:
        record: Dict[str, Any] = json.loads((state / RECORD).read_text("utf-8"))
        running = start_time(int(record["pid"])) == int(record["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if running else None


def behaviour(state: Path) -> str:
    """The name that is set."""
    try:
        name = (state / BEHAVIOUR).read_text("ascii").strip()
    except (OSError, ValueError):
        return "none"
    return name if name in BEHAVIOURS else "none"


def set_behaviour(state: Path, name: str) -> None:
    if name not in BEHAVIOURS:
        raise SoftTeeError("unknown misbehaviour %s: one of %s" % (name, ", ".join(BEHAVIOURS)))
    write_private(state / BEHAVIOUR, name.encode("ascii") + b"\n")


def run(state: Path, options: argparse.Namespace) -> None:
    """Serve in this process until a signal says to end."""
    ended: List[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, frame: ended.append(received))
    machine = Machine(NvidiaAuthority.create(state / "authority"), options.arch, options.gpus, options.switches, options.mode)
    serving = serve(state, machine, lambda: behaviour(state))
    try:
        record = {
            "pid": os.getpid(),
            "started": start_time(os.getpid()),
            "nvml": str(serving.nvml),
            "nscq": str(serving.nscq),
            "roots": machine.authority.roots_pem(),
            "devices": [device.identity for device in machine.devices()],
            "driver": nvidia_report.DRIVER,
            "vbios": nvidia_report.VBIOS[options.arch],
            "old_vbios": nvidia_report.OLD_VBIOS[options.arch],
            "collateral": [str(path) for path in write_collateral(state / "collateral", machine)],
        }
        write_private(state / RECORD, json.dumps(record).encode("utf-8"))
        while not ended:
            time.sleep(0.1)
    finally:
        serving.stop()
        if (state / RECORD).exists():
            (state / RECORD).unlink()


def write_collateral(directory: Path, machine: Machine) -> List[Path]:
    """Manifests and revocation responses as files, those of a foreign GPU as well: a relay comes with genuine ones."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    foreign = [machine.gpu(index, foreign=True) for index in range(machine.gpus)]
    responses = machine.authority.ocsp(datetime.now(timezone.utc), [*machine.devices(), *foreign])
    files = []
    for kind, suffix, documents in (("rim", "xml", machine.authority.rims()), ("ocsp", "der", responses)):
        for number, data in enumerate(documents):
            path = directory / ("%s-%d.%s" % (kind, number, suffix))
            path.write_bytes(data)
            files.append(path)
    return files


def start(state: Path, arguments: List[str]) -> Dict[str, Any]:
    """Start a server behind, and return its record once it answers. Raises SoftTeeError with its last words when it fails."""
    if read_record(state) is not None:
        raise SoftTeeError("soft GPUs are served from %s already: stop them first" % state)
    package = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))}
    with open(os.open(state / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "softtee.gpus", "serve", "--foreground", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, env=environment, cwd="/",
        )  # fmt: skip
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            words = (state / LOG).read_text("utf-8", "replace").strip().splitlines()
            raise SoftTeeError(words[-1].replace("softtee: ", "", 1) if words else "the server ended with code %d and said nothing" % process.returncode)
        record = read_record(state)
        if record is not None and record["pid"] == process.pid:
            return record
        time.sleep(0.02)
    process.terminate()
    raise SoftTeeError("the server did not answer within %d s: see %s" % (START_SECONDS, state / LOG))


def stop(state: Path) -> bool:
    """End the server. True when there was one; safe to call again and again."""
    record = read_record(state)
    if record is None:
        return False
    os.kill(record["pid"], signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while start_time(record["pid"]) == record["started"]:
        if time.monotonic() > deadline:
            raise SoftTeeError("the process %d did not end within %d s" % (record["pid"], STOP_SECONDS))
        time.sleep(0.02)
    return True


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="softtee.gpus", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="start")
    serving.add_argument("--gpus", type=int, default=1)
    serving.add_argument("--switches", type=int, default=0)
    serving.add_argument("--arch", choices=["hopper", "blackwell"], default="hopper")
    serving.add_argument("--mode", choices=["spt", "mpt", "ppcie"], default="spt")
    serving.add_argument("--foreground", action="store_true")
    spoiling = commands.add_parser("misbehave", help="; ".join("%s: %s" % pair for pair in BEHAVIOURS.items()))
    spoiling.add_argument("name")
    stopping = commands.add_parser("stop", help="end")
    for command in (serving, spoiling, stopping):
        command.add_argument("--state", type=Path, required=True, help="a directory of this machine's own, mode 0700; made when absent")
    return top


def main(arguments: Optional[List[str]] = None) -> int:
    options = parser().parse_args(arguments)
    try:
        state = ensure_directory(options.state)
        if options.command == "stop":
            print(json.dumps({"stopped": stop(state)}))
        elif options.command == "misbehave":
            set_behaviour(state, options.name)
        elif options.foreground:
            run(state, options)
        else:
            given = ["--state", str(state), "--gpus", str(options.gpus), "--switches", str(options.switches), "--arch", options.arch, "--mode", options.mode]
            print(json.dumps(start(state, given)))
    except SoftTeeError as error:
        print("softtee: %s" % error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
