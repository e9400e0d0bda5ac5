# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line: python -m softtee serve|stop|status|launch|misbehave|roots|reference-values|policy|collateral."""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from softtee import daemon, documents
from softtee.behaviour import BEHAVIOURS, Behaviour, check_possible, ensure_directory, set_behaviour
from softtee.errors import SoftTeeError
from softtee.machine import launch_with
from softtee.machines import ARCHITECTURES, TEES, Choice, Guest, open_guest
from softtee.snp_authority import write_private


def default_state() -> str:
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "attested-ai", "softtee")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="softtee", description="A userspace TEE for laptops, CI and demonstrations. It protects nothing.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--state", default=default_state(), metavar="DIR", help="keys and settings (default: %(default)s)")
        return sub

    def machine(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--tee", choices=TEES, help="TEE of the CPU (default: as before, at first sev-snp)")
        sub.add_argument("--product", choices=("milan", "genoa", "turin"), help="SEV-SNP: processor (default: as before, at first genoa)")
        sub.add_argument("--key", choices=("vcek", "vlek"), help="SEV-SNP: key that signs reports (default: as before, at first vcek)")
        sub.add_argument("--quote", choices=("4", "5"), help="TDX: version of quotes; 5 gives bodies of TD 1.5 (default: as before, at first 4)")
        sub.add_argument("--gpus", type=int, metavar="N", help="number of GPUs behind a stub of NVIDIA's library (default: as before, at first 0)")
        sub.add_argument("--gpu-arch", choices=ARCHITECTURES, help="their kind (default: as before, at first hopper)")

    serve = command("serve", "serve the configfs-tsm interface under MOUNT/report")
    machine(serve)
    serve.add_argument("--mount", required=True, metavar="DIR", help="an empty directory, made when absent")
    mode = serve.add_mutually_exclusive_group()
    mode.add_argument("--daemon", action="store_true", help="return as soon as the mount is ready, and print the tsm path")
    mode.add_argument("--foreground", action="store_true", help="serve in this process (default)")
    serve.add_argument("--handover", metavar="DIR", help="with --daemon: write policy, reference values and collateral there, and print as JSON where all is")
    serve.add_argument("--pidfile", metavar="FILE", help="write the server's process id here")
    serve.add_argument("--privlevel-floor", type=int, default=0, choices=range(4), help="lowest VMPL that the guest may ask for")
    serve.add_argument("--provider", choices=("tee", "sev_guest", "none"), default="tee", help="none: mkdir fails with ENXIO, as without a TEE")
    machine(command("roots", "print the soft roots in PEM"))
    machine(command("policy", "print a policy that accepts this soft TEE"))
    machine(command("reference-values", "print the reference values of the demonstration guest"))
    collateral = command("collateral", "print what a verifier needs beside the evidence, made for now: TDX collateral, CCA endorsements, GPU manifests, OCSP")
    machine(collateral)
    collateral.add_argument("--output", metavar="DIR", help="write the files there instead, and print their paths")
    misbehave = command("misbehave", "make the soft TEE misbehave; none makes it behave again. " + "; ".join("%s: %s" % item for item in BEHAVIOURS.items()))
    misbehave.add_argument("behaviour", choices=tuple(BEHAVIOURS), metavar="BEHAVIOUR")
    misbehave.add_argument("--count", type=int, default=0, metavar="N", help="spoil N requests, then behave (default: all; busy: 3)")
    launch = command("launch", "launch the SEV-SNP guest anew, with this HOST_DATA")
    launch.add_argument("host_data", metavar="HEX", help="32 bytes")
    command("status", "print as JSON what runs; exit code 3 when nothing does")
    command("stop", "unmount and end the server; nothing to stop is no error")
    return top


def main(arguments: Optional[List[str]] = None) -> int:
    options = parser().parse_args(arguments)
    try:
        return run(options)
    except SoftTeeError as error:
        print("softtee: %s" % error, file=sys.stderr)
        return 1


def run(options: argparse.Namespace) -> int:
    state = ensure_directory(Path(options.state))
    if options.command == "serve":
        return serve(options, state)
    if options.command == "stop":
        print("stopped" if daemon.stop(state) else "nothing was running")
        return 0
    if options.command == "status":
        return status(state)
    if options.command == "launch":
        if open_guest(state).cpu.tee != "sev-snp":
            raise SoftTeeError("only a guest of SEV-SNP has HOST_DATA")
        launch_with(state, options.host_data)
        return 0
    if options.command == "misbehave":
        guest = open_guest(state)
        check_possible(options.behaviour, guest.cpu.tee, guest.gpus is not None)
        set_behaviour(state, options.behaviour, options.count)
        return 0
    guest = open_guest(state, choice(options))
    if options.command == "collateral":
        return collateral(guest, options.output)
    if options.command == "roots":
        sys.stdout.write("".join(guest.roots()))
    else:
        sys.stdout.write(documents.policy(guest) if options.command == "policy" else documents.reference_values(guest))
    return 0


def choice(options: argparse.Namespace) -> Choice:
    return Choice(options.tee, options.product, options.key, options.quote, options.gpus, options.gpu_arch)


def collateral(guest: Guest, output: Optional[str]) -> int:
    files = guest.collateral(datetime.now(timezone.utc))
    if output is None:
        if len(files) > 1:
            raise SoftTeeError("there are %d files: name a directory for them with --output" % len(files))
        sys.stdout.buffer.write(*files.values())
        return 0
    print("\n".join(written(files, output)))
    return 0


def written(files: Mapping[str, bytes], output: str) -> List[str]:
    """Write files into a directory, made when absent; return their paths."""
    directory = Path(os.path.abspath(output))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_private(directory / name, data)
    except OSError as error:
        raise SoftTeeError("nothing can be written to %s: %s" % (directory, error.strerror)) from None
    return [str(directory / name) for name in files]


def handover(state: Path, tsm_path: Path, output: str) -> Dict[str, Any]:
    """All that a relying party and a collector need, in one go: paths of files, and where the guest answers."""
    guest = open_guest(state)
    texts = {"policy.yml": documents.policy(guest), "reference-values.json": documents.reference_values(guest)}
    policy, values = written({name: text.encode("utf-8") for name, text in texts.items()}, output)
    server = daemon.read_server(state)
    files = written(guest.collateral(datetime.now(timezone.utc)), os.path.join(output, "collateral"))
    told: Dict[str, Any] = {"policy": policy, "reference_values": values, "collateral": files, "tsm_path": str(tsm_path)}
    told.update((name, getattr(server, name)) for name in ("nvml", "event_log") if server is not None and getattr(server, name))
    return told


def serve(options: argparse.Namespace, state: Path) -> int:
    # Made absolute here: the daemon works in /. And without symbolic links: the kernel's list of mounts knows none.
    mount = Path(os.path.realpath(options.mount))
    pidfile = os.path.abspath(options.pidfile) if options.pidfile else None
    if options.handover is not None and not options.daemon:
        raise SoftTeeError("--handover goes with --daemon")
    if not options.daemon:
        provider = options.provider != "none"
        daemon.run(state, mount, choice(options), pidfile, options.privlevel_floor, provider, lambda path: print(path, flush=True))
        return 0
    arguments = ["--state", str(state), "--mount", str(mount), "--privlevel-floor", str(options.privlevel_floor), "--provider", options.provider]
    for name in ("tee", "product", "key", "quote", "gpus", "gpu_arch"):
        value = getattr(options, name)
        arguments += ["--" + name.replace("_", "-"), str(value)] if value is not None else []
    arguments += ["--pidfile", pidfile] if pidfile else []
    tsm_path = daemon.start(state, mount, arguments)
    print(tsm_path if options.handover is None else json.dumps(handover(state, tsm_path, options.handover), indent=2))
    return 0


def status(state: Path) -> int:
    server = daemon.read_server(state)
    running = server is not None and server.runs()
    report = {"running": running, "state": str(state), "behaviour": Behaviour(state).peek()}
    if server is not None:
        report.update(pid=server.pid, mount=str(server.mount), tsm_path=str(server.tsm_path), tee=server.tee)
        report.update((name, getattr(server, name)) for name in ("product", "key", "nvml", "event_log") if getattr(server, name))
    print(json.dumps(report, indent=2))
    return 0 if running else 3


if __name__ == "__main__":
    sys.exit(main())
