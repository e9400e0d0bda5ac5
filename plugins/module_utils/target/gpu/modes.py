# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The mode that a device is in, and the one that it will be in after its next reset, as the admin tool tells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Optional, Sequence

from ansible_collections.attested.ai.plugins.module_utils.target.gpu import tool
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import GPU, Device
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.models import CC_ARCHITECTURES, DEVTOOLS, HOPPER, MODES, OFF, ON, PPCIE
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.tool import INVALID, Run, Trouble

UNKNOWN = "unknown"
Tool = Callable[[Sequence[str]], Run]
READ, REMEMBERED, UNASKED = "read", "remembered", "not asked"


@dataclass(frozen=True)
class Reading:
    """``mode`` and ``pending`` are one of the modes, invalid or unknown. ``cc`` and ``ppcie`` are what the tool said of each, '' where a device has no
    such mode. ``locked`` devices take their mode from the management controller alone. ``trouble`` says why something is unknown."""

    mode: str = UNKNOWN
    pending: str = UNKNOWN
    cc: str = ""
    ppcie: str = ""
    cc_pending: str = ""
    ppcie_pending: str = ""
    locked: bool = False
    source: str = UNASKED
    trouble: Optional[Trouble] = None

    @property
    def known(self) -> bool:
        return self.mode != UNKNOWN

    def at(self, mode: str) -> bool:
        """Whether the device is in ``mode``, and stays there over a reset as far as that is known."""
        return self.mode == mode and self.pending in (mode, UNKNOWN)


def read(ask: Tool, device: Device, pending: bool = True, limit: int = 0) -> Reading:
    """``pending`` asks the security processor, too, which nobody may use meanwhile. Nothing is changed."""
    if not capable(device):
        return nothing()
    cc, ppcie = device.kind == GPU, device.architecture == HOPPER
    what = (["--query-cc-mode"] if cc else []) + (["--query-ppcie-mode"] if ppcie else [])
    run = ask(tool.query(device.bdf, *what))
    found = tool.modes(run.text, device.bdf)
    wrong = tool.trouble(run, limit)
    # 0x2 makes releases before 2024-12 fail; it is an answer all the same.
    if wrong and not (found.get("CC") == INVALID and not run.hung):
        return Reading(source=READ, trouble=wrong)
    missing = [kind for kind, asked in (("CC", cc), ("PPCIe", ppcie)) if asked and kind not in found]
    if missing and found.get("CC") != INVALID:
        # The tool ends with 0 for what it does not know, and says nothing.
        return Reading(source=READ, trouble=Trouble(
            "gpu-tool-failed", "the tool ended with %d and told no mode" % run.rc, "Run it by hand with %s" % tool.shown(tool.query(device.bdf, *what)),
        ))  # fmt: skip
    modes = {"cc": found.get("CC", ""), "ppcie": found.get("PPCIe", "") if ppcie else ""}
    knobs: Dict[str, Dict[str, int]] = {}
    if pending:
        asked = ([("CC", "--query-cc-settings")] if cc else []) + ([("PPCIe", "--query-ppcie-settings")] if ppcie else [])
        for kind, option in asked:
            # One by one: firmware without Protected PCIe fails the second, and the first is still told.
            answer = ask(tool.query(device.bdf, option))
            knobs.update({key: value for key, value in tool.settings(answer.text, device.bdf).items() if key == kind and not answer.hung})
            wrong = wrong or tool.trouble(answer, limit)
    return _reading(modes, knobs, wrong if wrong and wrong.code != "gpu-firmware" else None)


def nothing() -> Reading:
    """Of a device that has no such modes: it is off, and nobody need ask."""
    return Reading(mode=OFF, pending=OFF, source=READ)


def remembered(device: Device, mode: str) -> Reading:
    """What was verified last, of a device that nobody may ask now; unknown without that."""
    if mode not in MODES:
        return Reading()
    return Reading(mode=mode, cc="" if device.kind != GPU else OFF if mode == PPCIE else mode, ppcie=ON if mode == PPCIE else "", source=REMEMBERED)


def capable(device: Device) -> bool:
    """Whether the device has any confidential mode: GPUs since Hopper, and the switches of Hopper."""
    return device.architecture in CC_ARCHITECTURES if device.kind == GPU else device.architecture == HOPPER


def _reading(modes: Dict[str, str], knobs: Dict[str, Dict[str, int]], wrong: Optional[Trouble]) -> Reading:
    cc_knobs, ppcie_knobs = knobs.get("CC"), knobs.get("PPCIe")
    cc_pending, ppcie_pending = "", ""
    if cc_knobs and "enable" in cc_knobs:
        cc_pending = {(0, 0): OFF, (1, 0): ON, (1, 1): DEVTOOLS}.get((cc_knobs["enable"], cc_knobs.get("enable-devtools", 0)), INVALID)
    if ppcie_knobs and "enable" in ppcie_knobs:
        ppcie_pending = {0: OFF, 1: ON}.get(ppcie_knobs["enable"], INVALID)
    told = bool(cc_pending or not modes["cc"]) and bool(cc_pending or ppcie_pending)
    return Reading(
        mode=_one(modes["cc"], modes["ppcie"]), pending=_one(cc_pending, ppcie_pending) if told else UNKNOWN, cc=modes["cc"], ppcie=modes["ppcie"],
        cc_pending=cc_pending, ppcie_pending=ppcie_pending, source=READ, trouble=wrong,
        locked=any(group.get("enable-allow-inband-control") == 0 for group in (cc_knobs or {}, ppcie_knobs or {})),
    )  # fmt: skip


def _one(cc: str, ppcie: str) -> str:
    """Both at once is no mode that can be asked for, so it is a switch that was interrupted."""
    if INVALID in (cc, ppcie) or (ppcie == ON and cc not in ("", OFF)):
        return INVALID
    if ppcie == ON:
        return PPCIE
    return cc or OFF
