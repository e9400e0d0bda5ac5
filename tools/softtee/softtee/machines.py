# SPDX-License-Identifier: GPL-3.0-or-later
"""Which TEE a state directory is, and which GPUs are in it: chosen once, remembered, opened again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from softtee import nvidia_socket
from softtee.cca_machine import CcaMachine
from softtee.errors import SoftTeeError
from softtee.machine import Machine as SnpMachine
from softtee.nvidia_authority import NvidiaAuthority
from softtee.snp_authority import write_private
from softtee.tdx_machine import TdxMachine

SETTINGS = "softtee.json"
TEES = ("sev-snp", "tdx", "cca")
ARCHITECTURES = ("hopper", "blackwell")
GPUS_MAX = 16
GPU_DIRECTORY = "nvml"
CpuMachine = Union[SnpMachine, TdxMachine, CcaMachine]


@dataclass(frozen=True)
class Choice:
    """What the command line says; None leaves it as it was."""

    tee: Optional[str] = None
    product: Optional[str] = None
    key: Optional[str] = None
    quote: Optional[str] = None
    gpus: Optional[int] = None
    gpu_arch: Optional[str] = None


@dataclass(frozen=True)
class Guest:
    """A guest: the CPU's TEE, and GPUs or None."""

    state: Path
    cpu: CpuMachine
    gpus: Optional[nvidia_socket.Machine]

    @property
    def nvml_directory(self) -> Path:
        return self.state / GPU_DIRECTORY

    def roots(self) -> List[str]:
        """Root certificates in PEM; for a CCA platform, which has none, those of its GPUs. Raises SoftTeeError when there are none at all."""
        found = [] if self.gpus is not None and self.cpu.tee == "cca" else list(self.cpu.roots())
        return found + ([] if self.gpus is None else [self.gpus.authority.roots_pem()])

    def collateral(self, at: datetime) -> Dict[str, bytes]:
        """Files of collateral by name, fit to hold at ``at``: of the CPU, and the GPUs' manifests and OCSP responses."""
        files = self.cpu.collateral(at)
        if self.gpus is not None:
            files.update(("rim-%d.xml" % number, rim) for number, rim in enumerate(self.gpus.authority.rims()))
            # Those of another machine as well: a relay would bring genuine ones along.
            foreign = [self.gpus.gpu(index, foreign=True) for index in range(self.gpus.gpus)]
            responses = self.gpus.authority.ocsp(at, [*self.gpus.devices(), *foreign])
            files.update(("ocsp-%d.der" % number, response) for number, response in enumerate(responses))
        return files


def open_guest(state: Path, choice: Choice = Choice()) -> Guest:
    """The guest of a state directory; what is not chosen stays as it was (at first SEV-SNP without GPUs). Raises SoftTeeError."""
    path = state / SETTINGS
    try:
        known: Dict[str, Any] = json.loads(path.read_text("ascii")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise SoftTeeError("%s cannot be read (%s): remove it to begin anew" % (path, error)) from None
    chosen = {name: value for name, value in asdict(choice).items() if name in ("tee", "gpus", "gpu_arch") and value is not None}
    settings = {"tee": "sev-snp", "gpus": 0, "gpu_arch": "hopper", **known, **chosen}
    tee, count, arch = str(settings["tee"]), int(settings["gpus"]), str(settings["gpu_arch"])
    if tee not in TEES or arch not in ARCHITECTURES or not 0 <= count <= GPUS_MAX:
        raise SoftTeeError("%s with %d GPUs of %s: one of %s, 0 to %d, %s" % (tee, count, arch, ", ".join(TEES), GPUS_MAX, " or ".join(ARCHITECTURES)))
    for name, value, needed in (("--product", choice.product, "sev-snp"), ("--key", choice.key, "sev-snp"), ("--quote", choice.quote, "tdx")):
        if value is not None and tee != needed:
            raise SoftTeeError("%s says something about %s, and this is %s" % (name, needed, tee))
    if settings != known:
        write_private(path, json.dumps(settings).encode("ascii"))
    cpu: CpuMachine
    if tee == "tdx":
        cpu = TdxMachine.open(state, choice.quote)
    else:
        cpu = CcaMachine(state) if tee == "cca" else SnpMachine.open(state, choice.product, choice.key)
    gpus = nvidia_socket.Machine(NvidiaAuthority.create(state / "nvidia-authority"), arch, count) if count else None
    return Guest(state, cpu, gpus)
