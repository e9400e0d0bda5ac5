# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of NVIDIA's gpu-admin-tools for tests: the options that this project uses, over devices in a file, with the log lines of the real one.

Written from what the real tool prints; it shares no code with it. softgpu.json beside it names the file of devices and the root of a made-up sysfs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIG = json.loads((HERE / "softgpu.json").read_text(encoding="utf-8"))
STATE, ROOT = Path(CONFIG["state"]), Path(CONFIG["root"])
INVALID = "invalid-devtools-only-fix-by-setting-cc-mode"


class GpuError(Exception):
    pass


class FspRpcError(GpuError):
    def __init__(self, number: int) -> None:
        super().__init__(f"FSP RPC failed with error {number:#x}. Data ['0x0', '{number:#x}']")


class Soft:
    """One device. ``cc`` is the effective register (bit 0 CC, bit 1 developer tools), ``ppcie`` that of Protected PCIe; the knobs become them at a reset."""

    def __init__(self, bdf: str, everything: dict) -> None:
        self.bdf, self.all, self.data = bdf, everything, everything[bdf]

    def __str__(self) -> str:
        word = "NvSwitch" if self.data["kind"] == "switch" else "GPU"
        if self.data.get("broken"):
            return f"GPU {self.bdf} [broken, cfg space working 1 bars configured 1]"
        return f"{word} {self.bdf} {self.data['name']} {self.data['device']} BAR0 {self.data['bar0']}"

    def keep(self) -> None:
        scratch = STATE.with_suffix(".new")
        scratch.write_text(json.dumps(self.all, indent=1), encoding="utf-8")
        scratch.replace(STATE)

    def fault(self, at: str) -> None:
        for fault in list(self.data.get("faults", [])):
            if fault["at"] != at:
                continue
            if fault.get("skip", 0):
                fault["skip"] -= 1
                self.keep()
                continue
            if not fault.get("always"):
                self.data["faults"].remove(fault)
                self.keep()
            getattr(self, "_" + fault["do"].replace("-", "_"))()

    def _hang(self) -> None:
        time.sleep(3600)

    def _die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _die_whole(self) -> None:
        """The run that called us ends here, too, as at a power cut."""
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def _orphan(self) -> None:
        """The run that called us ends here, and we go on as soon as a file says so."""
        os.kill(os.getppid(), signal.SIGKILL)
        for _look in range(600):
            if (STATE.parent / "go").exists():
                return
            time.sleep(0.05)

    def _fsp(self) -> None:
        raise FspRpcError(0x62)

    def _no_answer(self) -> None:
        raise GpuError(f"Timed out polling for boot_complete register 0x200bc value 0xff, last value 0x0 after 5.0 seconds {self}")

    def _reset_fails(self) -> None:
        raise OSError(25, "Inappropriate ioctl for device")

    def _stuck(self) -> None:
        self.data["stuck"] = True
        self.keep()

    def _lockdown(self) -> None:
        logging.error("Device /sys/bus/pci/devices/%s broken [Errno 1] Operation not permitted", self.bdf)
        raise AttributeError("'BrokenGpu' object has no attribute 'is_cc_query_supported'")

    def _break(self) -> None:
        self.data["broken"] = True
        self.keep()

    def _vanish(self) -> None:
        shutil.rmtree(ROOT / "sys/bus/pci/devices" / self.bdf, ignore_errors=True)
        del self.all[self.bdf]
        self.keep()

    def _tenant(self) -> None:
        """A virtual machine opens the device right after this run."""
        place = ROOT / "proc/4711"
        (place / "fd").mkdir(parents=True, exist_ok=True)
        (place / "comm").write_text("qemu-system-x86\n", encoding="utf-8")
        (place / "cmdline").write_bytes(b"/usr/bin/qemu-system-x86_64\0-name\0guest=tenant,debug-threads=on\0")
        (place / "maps").write_text("", encoding="utf-8")
        link = place / "fd" / "17"
        if not link.is_symlink():
            # The other device is the one that is next in order, unless the fault names one.
            link.symlink_to(f"/sys/devices/pci0000:00/{self.data.get('tenant', self.bdf)}/resource0")

    @property
    def cc_mode(self) -> str:
        return {0: "off", 1: "on", 3: "devtools"}.get(self.data["cc"], INVALID)

    @property
    def ppcie_mode(self) -> str:
        return "on" if self.data["ppcie"] else "off"

    @property
    def has_ppcie(self) -> bool:
        return self.data["kind"] == "switch" or self.data["architecture"] == "hopper"

    def knob(self, name: str, value: int) -> None:
        self.fault("knob:" + name)
        self.data["knobs"][name] = value
        self.keep()

    def set_cc(self, mode: str) -> None:
        self.fault("set")
        if self.has_ppcie and self.data.get("ppcie_firmware", True) and self.data["knobs"]["ppcie"]:
            logging.info("%s has PPCIe enabled. It will be turned off before switching to CC.", self)
        if mode == "off":
            self.knob("ccd", 0)
            self.knob("ccm", 0)
        else:
            self.knob("ppcie", 0)
            self.knob("ccm", 1)
            self.knob("ccd", int(mode == "devtools"))

    def set_ppcie(self, mode: str) -> None:
        self.fault("set")
        if mode == "on":
            self.knob("ccd", 0)
            self.knob("ccm", 0)
        self.knob("ppcie", int(mode == "on"))

    def reset(self) -> None:
        self.fault("reset")
        if not self.data.get("stuck"):
            knobs = self.data["knobs"]
            self.data["cc"] = knobs["ccm"] | knobs["ccd"] << 1
            self.data["ppcie"] = knobs["ppcie"]
            self.keep()
        self.fault("after-reset")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="nvidia_gpu_tools.py")
    found.add_argument("--devices")
    found.add_argument("--set-cc-mode", choices=["off", "on", "devtools"])
    found.add_argument("--set-ppcie-mode", choices=["off", "on"])
    for name in ("--query-cc-mode", "--query-cc-settings", "--query-ppcie-mode", "--query-ppcie-settings"):
        found.add_argument(name, action="store_true")
    for name in ("--reset-after-cc-mode-switch", "--reset-after-ppcie-mode-switch"):
        found.add_argument(name, action="store_true")
    return found


def settings(device: Soft, kind: str, values: list[tuple[str, int]]) -> None:
    logging.info("%s %s settings:", device, kind)
    for name, value in values:
        logging.info("  %s = %d", name, value)


def gpu(device: Soft, options: argparse.Namespace) -> bool:
    knobs, inband = device.data["knobs"], device.data.get("inband", 1)
    asked = options.query_cc_mode or options.query_cc_settings or options.set_cc_mode
    if asked and device.data["architecture"] not in ("hopper", "blackwell"):
        logging.error("%s CC %s not supported on %s", "Configuring" if options.set_cc_mode else "Querying", "mode is", device)
        return False
    if options.query_cc_settings:
        device.fault("settings")
        settings(device, "CC", [
            ("enable", knobs["ccm"]), ("enable-devtools", knobs["ccd"]), ("enable-bar0-filter", 2 if knobs["ccm"] else 0),
            ("enable-allow-inband-control", inband), ("enable-devtools-allow-inband-control", inband), ("enable-bar0-filter-allow-inband-control", inband),
        ])  # fmt: skip
    if options.set_cc_mode:
        device.set_cc(options.set_cc_mode)
        logging.info("%s CC mode set to %s. It will be active after GPU reset.", device, options.set_cc_mode)
        if options.reset_after_cc_mode_switch:
            device.reset()
            if device.cc_mode != options.set_cc_mode:
                raise GpuError(f"{device} failed to switch to CC mode {options.set_cc_mode}, current mode is {device.cc_mode}.")
            logging.info("%s was reset to apply the new CC mode.", device)
    if options.query_cc_mode:
        logging.info("%s CC mode is %s", device, device.cc_mode)
    return True


def gpu_or_switch(device: Soft, options: argparse.Namespace) -> bool:
    if device.data.get("broken"):
        logging.error("%s is broken and --recover-broken-gpu was not specified, returning failure.", device)
        return False
    if device.data["kind"] == "gpu" and device.cc_mode != "off":
        logging.warning("%s has CC mode %s, some functionality may not work", device, device.cc_mode)
    if device.has_ppcie and device.ppcie_mode != "off":
        logging.warning("%s has PPCIe mode %s, some functionality may not work", device, device.ppcie_mode)
    if options.set_ppcie_mode:
        if not device.has_ppcie:
            logging.error("Configuring PPCIe not supported on %s", device)
            return False
        if not device.data.get("ppcie_firmware", True):
            logging.error("%s does not support PPCIe on current FW. A FW update is required.", device)
            return False
        device.set_ppcie(options.set_ppcie_mode)
        logging.info("%s PPCIe mode set to %s. It will be active after GPU or switch reset.", device, options.set_ppcie_mode)
        if options.reset_after_ppcie_mode_switch:
            device.reset()
            if device.ppcie_mode != options.set_ppcie_mode:
                raise GpuError(f"{device} failed to switch to PPCIe mode {options.set_ppcie_mode}, current mode is {device.ppcie_mode}.")
            logging.info("%s was reset to apply the new PPCIe mode.", device)
    if options.query_ppcie_mode or options.query_ppcie_settings:
        if not device.has_ppcie:
            logging.error("Querying PPCIe %s is not supported on %s", "mode" if options.query_ppcie_mode else "settings", device)
            return False
        if options.query_ppcie_mode:
            logging.info("%s PPCIe mode is %s", device, device.ppcie_mode)
        elif not device.data.get("ppcie_firmware", True):
            logging.error("%s does not support PPCIe on current FW. A FW update is required.", device)
            return False
        else:
            settings(device, "PPCIe", [("enable", device.data["knobs"]["ppcie"]), ("enable-allow-inband-control", device.data.get("inband", 1))])
    return True


def main() -> int:
    print("NVIDIA GPU Tools version v2025.10.20o")
    print(f"Command line arguments: {sys.argv}", flush=True)
    options = parser().parse_args()
    logging.basicConfig(level=logging.INFO, force=True, format="%(asctime)s.%(msecs)03d %(levelname)-8s %(message)s", datefmt="%Y-%m-%d,%H:%M:%S")
    with Path(CONFIG["calls"]).open("a", encoding="utf-8") as log:
        log.write(json.dumps(sys.argv[1:]) + "\n")
    everything = json.loads(STATE.read_text(encoding="utf-8"))
    if not options.devices:
        print("GPUs:")
        for number, bdf in enumerate(everything):
            print(" ", number, Soft(bdf, everything))
        print("Other:", flush=True)
        logging.info("No GPU specified, select GPU with --gpu, --gpu-bdf, or --gpu-name")
        return 0
    if options.devices not in everything:
        logging.warning("No device found at BDF %s", options.devices)
        logging.error("No devices found matching: %s", options.devices)
        return 1
    device = Soft(options.devices, everything)
    device.fault("start")
    if options.devices not in everything:
        logging.error("No devices found matching: %s", options.devices)
        return 1
    print("Topo:")
    print("  Intel root port 0000:37:01.0")
    print("    ", device, flush=True)
    if device.data.get("power", "auto") == "auto":
        logging.warning("%s was in D0/control:auto, forced power control to on. New state D0", device)
    logging.info("Selected %s", device)
    if device.data["kind"] == "gpu" and not device.data.get("broken") and not gpu(device, options):
        return 1
    if not gpu_or_switch(device, options):
        return 1
    logging.warning("%s restoring power control to auto", device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
