# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Data: which NVIDIA device is what, which confidential modes its vendor supports, and the firmware that these need.

A table in Python because what runs on a target takes no other files along. Marks: "" read in the named source, "inferred", "unverified".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

NVIDIA = "0x10de"
# Full classes. A filter on the class prefix 0x06 loses the switches.
GPU_CLASSES = ("0x030000", "0x030200")
SWITCH_CLASS = "0x068000"

OFF, ON, DEVTOOLS, PPCIE = "off", "on", "devtools", "ppcie"
MODES = (OFF, ON, DEVTOOLS, PPCIE)
HOPPER, BLACKWELL = "hopper", "blackwell"
# Confidential computing began with Hopper; Protected PCIe is there on Hopper and its switches alone.
CC_ARCHITECTURES = (HOPPER, BLACKWELL)
ARCHITECTURES = ("turing", "ampere", "ada", HOPPER, BLACKWELL)

# An HGX Hopper baseboard.
HGX_GPUS, HGX_SWITCHES = 8, 4

# Drivers under which a mode may be changed: none, and those that hold a device for a virtual machine.
QUIET_DRIVERS = ("", "vfio-pci", "nvgrace-gpu-vfio-pci")


@dataclass(frozen=True)
class Chip:
    """``first`` to ``last`` are PCI device ids."""

    first: int
    last: int
    architecture: str
    name: str


# Ranges: gpu/devid_chips.py of gpu-admin-tools for Blackwell; the rest as the PCI id database groups them.
CHIPS: Tuple[Chip, ...] = (
    Chip(0x1E00, 0x1FFF, "turing", "TU10x"),
    Chip(0x2080, 0x20FF, "ampere", "GA100"),
    Chip(0x2200, 0x25FF, "ampere", "GA10x"),
    Chip(0x2600, 0x28FF, "ada", "AD10x"),
    Chip(0x2300, 0x237F, HOPPER, "GH100"),
    Chip(0x23B0, 0x23BF, HOPPER, "GH100"),
    Chip(0x2900, 0x297F, BLACKWELL, "GB100"),
    Chip(0x2980, 0x29FF, BLACKWELL, "GB102"),
    Chip(0x3180, 0x31FF, BLACKWELL, "GB110"),
    Chip(0x3200, 0x327F, BLACKWELL, "GB112"),
    Chip(0x2B80, 0x2BFF, BLACKWELL, "GB202"),
    Chip(0x2C00, 0x2C7F, BLACKWELL, "GB203"),
    Chip(0x2F00, 0x2F7F, BLACKWELL, "GB205"),
    Chip(0x2D00, 0x2D7F, BLACKWELL, "GB206"),
    Chip(0x2D80, 0x2DFF, BLACKWELL, "GB207"),
)

# gpu/devid_names.py of gpu-admin-tools; 2bb5 and 3182 as the PCI id database has them.
NAMES: Mapping[int, str] = {
    0x2313: "H100", 0x2321: "H100", 0x2330: "H100", 0x2331: "H100", 0x2336: "H100", 0x2337: "H100", 0x2338: "H100", 0x2339: "H100", 0x233D: "H100",
    0x2335: "H200", 0x233B: "H200",
    0x2342: "GH200", 0x2343: "GH200", 0x2345: "GH200", 0x2348: "GH200",
    0x2322: "H800", 0x2324: "H800", 0x233A: "H800",
    0x2309: "H20", 0x230C: "H20", 0x230E: "H20", 0x2328: "H20", 0x2329: "H20", 0x232C: "H20",
    0x2901: "B200", 0x2941: "GB200", 0x3182: "B300", 0x2BB5: "RTX PRO 6000 Server",
}  # fmt: skip
SWITCH_NAMES: Mapping[int, Tuple[str, str]] = {0x22A3: ("NVSwitch", HOPPER), 0x1AF1: ("NVSwitch LR10", "ampere")}


@dataclass(frozen=True)
class Support:
    """What the vendor supports for models: the mode of one GPU in a machine, and that of several together ('' for none)."""

    models: Tuple[str, ...]
    single: str
    multi: str
    source: str


MATRIX: Tuple[Support, ...] = (
    Support(("H100", "H200"), ON, PPCIE, "NVIDIA Confidential Containers Reference Architecture 1.1.0"),
    Support(("B200", "B300"), ON, ON, "NVIDIA Confidential Containers Reference Architecture 1.1.0"),
    Support(("RTX PRO 6000 Server",), ON, "", "NVIDIA Confidential Containers Reference Architecture 1.1.0"),
)


@dataclass(frozen=True)
class Floor:
    """The least version of firmware (``part`` vbios or hgx) that ``modes`` need on ``architecture``; an empty ``least`` says that none is known."""

    part: str
    architecture: str
    modes: Tuple[str, ...]
    least: str
    source: str
    mark: str


FLOORS: Tuple[Floor, ...] = (
    Floor("vbios", HOPPER, (ON, DEVTOOLS), "96.00.5E", "NVIDIA release notes R570 TRD1", ""),
    Floor("hgx", HOPPER, (PPCIE,), "1.7.0", "NVIDIA Secure AI Compatibility Matrix", ""),
    Floor("vbios", BLACKWELL, (ON, DEVTOOLS), "", "no minimum is published in a form that can be cited", "unverified"),
)

# Trees of gpu-admin-tools by release: commit, and the digest that pin.py makes of the files.
TOOL_RELEASES: Mapping[str, Tuple[str, str]] = {
    "v2025.07.21": ("d1a83ea9a63edca31f357a8bfab62c9c549d196b", "ca0404931c701dfae9632d98f77f15dbf6aeae6eb1295550b9d7ab3967279d4f"),
    "v2025.10.20": ("82422cc1811cf7d04b69733cef3fa46e4144e203", "e620427402253d61ced6c7af44cef6b61084b895fefa0b0026cb04886d929d8c"),
}


def chip_of(device: int) -> Optional[Chip]:
    """The narrowest range that holds ``device``: Hopper's lies inside Ampere's."""
    found = [chip for chip in CHIPS if chip.first <= device <= chip.last]
    return min(found, key=lambda chip: chip.last - chip.first) if found else None


def support_of(model: str) -> Optional[Support]:
    return next((line for line in MATRIX if model in line.models), None)
