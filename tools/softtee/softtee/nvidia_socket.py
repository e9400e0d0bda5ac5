# SPDX-License-Identifier: GPL-3.0-or-later
"""The soft GPUs and switches behind the stubs of NVIDIA's libraries: builds the stubs, and answers them over a Unix socket.

A question is one line of text; the answer is a status and a length (both 32 bits, little endian) and so many bytes.
"""

from __future__ import annotations

import os
import shutil
import socketserver
import struct
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple, Union

from softtee import nvidia_report
from softtee.errors import SoftTeeError
from softtee.nvidia_authority import NvidiaAuthority, SoftDevice

SOURCES = Path(__file__).resolve().parents[1] / "nvml"
LIBRARIES = {"libnvidia-ml.so.1": "nvml.c", "libnvidia-nscq.so.2": "nscq.c"}
SOCKET = "nvml.sock"
BEHAVIOURS = {
    "none": "behave well",
    "gpu-wrong-nonce": "GPU reports answer another nonce",
    "gpu-debug": "the GPUs are in debug state",
    "gpu-insecure-boot": "the GPUs booted without secure boot",
    "gpu-cc-off": "confidential computing is off on the GPUs, which then give no reports",
    "gpu-wrong-measurement": "the GPUs run other firmware than NVIDIA published",
    "gpu-old-vbios": "the GPUs run an old VBIOS, which NVIDIA published",
    "gpu-foreign": "the GPUs are genuine, but in another machine (what a relay would give)",
    "gpu-foreign-chain": "the certificates belong to other GPUs than the reports",
    "gpu-bad-signature": "one bit of the reports' signatures is flipped",
    "gpu-lost": "the GPUs have fallen off the bus",
}
# What report() is told.
_SPOILT: Dict[str, Dict[str, Any]] = {
    "gpu-wrong-nonce": {"wrong_nonce": True},
    "gpu-debug": {"debug": True},
    "gpu-insecure-boot": {"secure_boot": False},
    "gpu-wrong-measurement": {"wrong_measurement": True},
    "gpu-old-vbios": {"old_vbios": True},
    "gpu-bad-signature": {"bad_signature": True},
}
_SUCCESS, _INVALID_ARGUMENT, _NOT_SUPPORTED, _GPU_IS_LOST = 0, 2, 3, 15
_ARCHITECTURES = {"hopper": 9, "blackwell": 10}
_PRODUCTION = 2
_LINE_MAX = 512

Answer = Tuple[int, bytes]


@dataclass(frozen=True)
class Machine:
    """What is in the machine. ``mode`` is spt, mpt or ppcie (which needs switches)."""

    authority: NvidiaAuthority
    arch: str = "hopper"
    gpus: int = 1
    switches: int = 0
    mode: str = "spt"

    def gpu(self, index: int, **options: Any) -> SoftDevice:
        return self.authority.device("gpu", self.arch, index, **options)

    def switch(self, index: int) -> SoftDevice:
        return self.authority.device("switch", "ls10", index)

    def devices(self) -> List[SoftDevice]:
        """Every device, to ask OCSP responses for."""
        return [self.gpu(index) for index in range(self.gpus)] + [self.switch(index) for index in range(self.switches)]

    def answer(self, question: str, behaviour: str = "none") -> Answer:
        """(status, bytes) for one question of a stub."""
        verb, _space, rest = question.partition(" ")
        words = rest.split()
        handler = _HANDLERS.get((verb, len(words)))
        limit = self.switches if verb.startswith("switch-") else self.gpus
        if handler is None or words and not (words[0].isdigit() and int(words[0]) < limit):
            return _INVALID_ARGUMENT, b""
        if behaviour == "gpu-lost" and words and not verb.startswith("switch-"):
            return _GPU_IS_LOST, b""
        return handler(self, words, behaviour)

    def _device(self, number: str, behaviour: str) -> SoftDevice:
        return self.gpu(int(number), foreign=behaviour == "gpu-foreign", debug=behaviour == "gpu-debug" and self.arch == "blackwell")

    def _certificate(self, words: List[str], behaviour: str) -> Answer:
        if behaviour == "gpu-cc-off":
            return _NOT_SUPPORTED, b""
        chain = self._device(words[0], "gpu-foreign" if behaviour == "gpu-foreign-chain" else behaviour).chain_pem
        return _SUCCESS, chain

    def _report(self, words: List[str], behaviour: str) -> Answer:
        if behaviour == "gpu-cc-off":
            return _NOT_SUPPORTED, b""
        peers = [self.switch(index).pdi for index in range(self.switches)]
        device = self._device(words[0], behaviour)
        return _SUCCESS, self.authority.report(device, bytes.fromhex(words[1]), mode=self.mode, peers=peers, **_SPOILT.get(behaviour, {}))

    def _switch_report(self, words: List[str], behaviour: str) -> Answer:
        peers = [self.gpu(index).pdi for index in range(self.gpus)]
        return _SUCCESS, self.authority.report(self.switch(int(words[0])), bytes.fromhex(words[1]), peers=peers)

    def _state(self, words: List[str], behaviour: str) -> Answer:
        off = behaviour == "gpu-cc-off"
        # In protected PCIe mode the driver calls the feature off, and names the mode.
        feature = 0 if off or self.mode == "ppcie" else 1
        return _SUCCESS, struct.pack("<4I", _PRODUCTION, feature, int(behaviour == "gpu-debug"), 0 if off else nvidia_report.MULTI_GPU[self.mode])

    def _vbios(self, words: List[str], behaviour: str) -> Answer:
        versions = nvidia_report.OLD_VBIOS if behaviour == "gpu-old-vbios" else nvidia_report.VBIOS
        return _SUCCESS, versions[self.arch].encode("ascii")


# By verb and number of words after it.
_HANDLERS: Dict[Tuple[str, int], Callable[[Machine, List[str], str], Answer]] = {
    ("gpus", 0): lambda machine, words, behaviour: (_SUCCESS, struct.pack("<I", machine.gpus)),
    ("driver", 0): lambda machine, words, behaviour: (_SUCCESS, nvidia_report.DRIVER.encode("ascii")),
    ("state", 0): Machine._state,
    ("uuid", 1): lambda machine, words, behaviour: (_SUCCESS, ("GPU-%s" % machine._device(words[0], behaviour).uuid).encode("ascii")),
    ("vbios", 1): Machine._vbios,
    ("architecture", 1): lambda machine, words, behaviour: (_SUCCESS, struct.pack("<I", _ARCHITECTURES[machine.arch])),
    ("certificate", 1): Machine._certificate,
    ("report", 2): Machine._report,
    ("switches", 0): lambda machine, words, behaviour: (_SUCCESS, b"".join(machine.switch(index).uuid.bytes for index in range(machine.switches))),
    ("switch-certificate", 1): lambda machine, words, behaviour: (_SUCCESS, machine.switch(int(words[0])).chain_pem),
    ("switch-report", 2): Machine._switch_report,
}


def build_libraries(directory: Union[str, Path]) -> Dict[str, Path]:
    """Compile the stubs into ``directory`` with ``cc``, unless they are there and younger than their sources. Returns their paths."""
    target = Path(directory)
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    newest = max(path.stat().st_mtime for path in SOURCES.iterdir())
    built = {}
    for name, source in LIBRARIES.items():
        built[name] = target / name
        if built[name].exists() and built[name].stat().st_mtime > newest:
            continue
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if compiler is None:
            raise SoftTeeError("there is no C compiler, which the stub of NVIDIA's library needs: install gcc and libc6-dev")
        partial = built[name].with_name(".%s.%d" % (name, os.getpid()))
        command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-o", str(partial), str(SOURCES / source), str(SOURCES / "softnv.c"), "-ldl"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            raise SoftTeeError("the stub of NVIDIA's library cannot be built: %s" % done.stdout.decode("utf-8", "replace")[:500])
        os.replace(partial, built[name])
    return built


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        line = self.rfile.readline(_LINE_MAX)
        try:
            question = line.decode("ascii").rstrip("\n")
            status, data = self.server.machine.answer(question, self.server.behaviour())  # type: ignore[attr-defined]
        except (SoftTeeError, ValueError):
            status, data = _INVALID_ARGUMENT, b""
        self.wfile.write(struct.pack("<iI", status, len(data)) + data)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, machine: Machine, behaviour: Callable[[], str]) -> None:
        self.machine = machine
        self.behaviour = behaviour
        super().__init__(str(path), _Handler)


@dataclass(frozen=True)
class Serving:
    """A running server. ``nvml`` and ``nscq`` are the libraries to load in the place of NVIDIA's."""

    server: _Server
    thread: threading.Thread
    socket: Path
    nvml: Path
    nscq: Path

    def stop(self) -> None:
        """End the server and remove its socket; the libraries stay."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        if self.socket.exists():
            self.socket.unlink()


def serve(directory: Union[str, Path], machine: Machine, behaviour: Callable[[], str] = lambda: "none") -> Serving:
    """Build the stubs in ``directory`` and answer them from a thread until stop(). ``behaviour`` is asked for a name on each question.

    Everything that the first answer needs is made before this returns. Raises SoftTeeError.
    """
    libraries = build_libraries(directory)
    machine.devices()
    path = Path(directory) / SOCKET
    if path.exists():
        path.unlink()
    try:
        server = _Server(path, machine, behaviour)
    except OSError as error:
        raise SoftTeeError("the socket %s cannot be made (%s): choose a shorter path" % (path, error)) from None
    path.chmod(0o600)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    return Serving(server, thread, path, libraries["libnvidia-ml.so.1"], libraries["libnvidia-nscq.so.2"])
