# SPDX-License-Identifier: GPL-3.0-or-later
"""One made-up machine below a folder: its sysfs and /proc as far as they are asked for, the state of its devices, and the tool's double."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.attested.ai.plugins.module_utils.target.gpu import pin

DOUBLE = Path(__file__).resolve().parents[1] / "tool" / "nvidia_gpu_tools.py"
GPU, SWITCH = "gpu", "switch"


@dataclass(frozen=True)
class SoftDevice:
    bdf: str
    device: int
    name: str
    architecture: str = "hopper"
    kind: str = GPU
    driver: str = "vfio-pci"
    numa: int = 0


def gpus(count: int, device: int, name: str, architecture: str = "hopper", first: int = 0x19) -> list[SoftDevice]:
    return [SoftDevice(f"0000:{first + 17 * number:02x}:00.0", device, name, architecture, numa=number * 2 // count) for number in range(count)]


def switches(count: int = 4) -> list[SoftDevice]:
    return [SoftDevice(f"0000:{3 + number:02x}:00.0", 0x22A3, "NVSwitch_gen3", kind=SWITCH) for number in range(count)]


MACHINES: dict[str, list[SoftDevice]] = {
    "h100": [SoftDevice("0000:3a:00.0", 0x2321, "H100")],
    "hgx-h100": switches() + gpus(8, 0x2330, "H100"),
    "hgx-h200": switches() + gpus(8, 0x2335, "H200"),
    "hgx-b200": gpus(8, 0x2901, "B200", "blackwell"),
    "rtx": gpus(2, 0x2BB5, "?", "blackwell"),
    "mixed": [*gpus(1, 0x2331, "H100"), SoftDevice("0000:c1:00.0", 0x2901, "B200", "blackwell")],
    "unknown": [SoftDevice("0000:41:00.0", 0x3FFF, "?", "unknown")],
    "a100": [SoftDevice("0000:41:00.0", 0x20B5, "A100", "ampere")],
    "none": [],
}


@dataclass
class SoftMachine:
    folder: Path
    devices: list[SoftDevice] = field(default_factory=list)

    @classmethod
    def named(cls, name: str, folder: Path) -> SoftMachine:
        machine = cls(folder, MACHINES[name])
        machine.make()
        return machine

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def tool(self) -> Path:
        return self.folder / "gpu-admin-tools"

    @property
    def sha256(self) -> str:
        return pin.digest(str(self.tool))

    def make(self) -> None:
        for path in ("proc", "dev/vfio/devices", "sys/bus/pci/devices", "sys/kernel/security", "sys/kernel/iommu_groups"):
            (self.root / path).mkdir(parents=True, exist_ok=True)
        self.put("sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
        self.put("proc/devices", "Character devices:\n195 nvidia\n511 vfio\n")
        self.put("sys/module/vfio_iommu_type1/parameters/dma_entry_limit", "65535\n")
        self.put("proc/self/limits", "Max locked memory         unlimited            unlimited            bytes     \n")
        self.put("dev/iommu", "")
        for number, device in enumerate(self.devices):
            self._device(device, number)
        self.tool.mkdir(parents=True, exist_ok=True)
        shutil.copy(DOUBLE, self.tool / DOUBLE.name)
        config = {"state": str(self.folder / "devices.json"), "root": str(self.root), "calls": str(self.folder / "calls")}
        self.put_at(self.tool / "softgpu.json", json.dumps(config))
        self.state = {
            device.bdf: {
                "kind": device.kind, "name": device.name, "device": f"{device.device:#x}", "bar0": f"{0x7E042000000 + number * 0x2000000000:#x}",
                "architecture": device.architecture, "cc": 0, "ppcie": 0, "knobs": {"ccm": 0, "ccd": 0, "ppcie": 0}, "faults": [],
            }
            for number, device in enumerate(self.devices)
        }  # fmt: skip
        for path in [self.tool, *self.tool.rglob("*")]:
            path.chmod(path.stat().st_mode & ~0o022)

    def _device(self, device: SoftDevice, number: int) -> None:
        place = f"sys/bus/pci/devices/{device.bdf}"
        kind = "0x068000" if device.kind == SWITCH else "0x030000" if device.device == 0x2BB5 else "0x030200"
        self.put(f"{place}/vendor", "0x10de\n")
        self.put(f"{place}/device", f"0x{device.device:04x}\n")
        self.put(f"{place}/class", kind + "\n")
        self.put(f"{place}/numa_node", f"{device.numa}\n")
        self.put(f"{place}/driver_override", "vfio-pci\n" if device.driver == "vfio-pci" else "(null)\n")
        self.put_at(self.root / place / "config", bytes([0xDE, 0x10, device.device & 0xFF, device.device >> 8]) + bytes(60))
        self.drive(device.bdf, device.driver, number)
        (self.root / f"sys/kernel/iommu_groups/{number + 40}/devices/{device.bdf}").mkdir(parents=True)
        self.put(f"dev/vfio/{number + 40}", "")

    def drive(self, bdf: str, driver: str, number: int = 0) -> None:
        place = f"sys/bus/pci/devices/{bdf}"
        self.put(f"{place}/uevent", (f"DRIVER={driver}\n" if driver else "") + f"PCI_SLOT_NAME={bdf}\n")
        shutil.rmtree(self.root / place / "vfio-dev", ignore_errors=True)
        if driver == "vfio-pci":
            self.put(f"{place}/vfio-dev/vfio{number}/dev", f"510:{number}\n")

    def put(self, path: str, text: str) -> None:
        self.put_at(self.root / path, text)

    @staticmethod
    def put_at(path: Path, data: str | bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    @property
    def state(self) -> dict[str, Any]:
        return json.loads((self.folder / "devices.json").read_text())

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self.put_at(self.folder / "devices.json", json.dumps(state, indent=1))

    def change(self, bdf: str, **values: Any) -> None:
        state = self.state
        state[bdf].update(values)
        self.state = state

    def fault(self, bdf: str, at: str, do: str, **more: Any) -> None:
        state = self.state
        state[bdf]["faults"].append({"at": at, "do": do, **more})
        self.state = state

    def modes(self) -> dict[str, str]:
        """What the registers say, past the tool."""
        words = {0: "off", 1: "on", 3: "devtools"}
        return {bdf: "ppcie" if data["ppcie"] else words.get(data["cc"], "invalid") for bdf, data in self.state.items()}

    def calls(self) -> list[list[str]]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def tenant(self, bdf: str, pid: int = 4711, name: str = "tenant") -> None:
        place = self.root / f"proc/{pid}"
        (place / "fd").mkdir(parents=True, exist_ok=True)
        self.put(f"proc/{pid}/comm", "qemu-system-x86\n")
        self.put(f"proc/{pid}/cmdline", f"/usr/bin/qemu-system-x86_64\0-name\0guest={name},debug-threads=on\0-secret\0s3cr3t\0")
        self.put(f"proc/{pid}/maps", f"7f00-7f01 rw-s 00000000 00:01 17 /sys/devices/pci0000:00/{bdf}/resource0\n")

    def leave(self, pid: int = 4711) -> None:
        shutil.rmtree(self.root / f"proc/{pid}")
