# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which GPUs a guest was given, and what follows from that: mode, options of the kernel module, who manages the fabric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.target.gpu import models
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import Inventory

SINGLE, PPCIE, MULTI, NONE = "single", "ppcie", "multi", "none"
# Cards of NVLink baseboards (SXM), by PCI device id, as the PCI id database names them. Alone in a guest they would wait for a fabric for ever.
BASEBOARD = frozenset([0x2324, 0x2329, 0x2330, 0x2335, 0x2336, 0x2901, 0x3182])
# dstack#1157
PPCIE_OPTION = 'NVreg_RegistryDwords="RmEnableProtectedPcie=0x1"'
ALONE_OPTION = "NVreg_NvLinkDisable=1"


@dataclass(frozen=True)
class Topology:
    """``kind`` is single, ppcie (Hopper with switches), multi (Blackwell) or none. ``problem`` says why nothing can be done, ``fix`` what helps."""

    kind: str
    architecture: str
    gpus: int
    switches: int
    options: Tuple[str, ...]
    fabric_manager: bool
    problem: str = ""
    fix: str = ""


def topology(found: Inventory) -> Topology:
    """Decide from what the guest was given. A GPU that fell off the bus still counts: the others must not go on without it."""
    gpus, switches = found.gpus, found.switches
    kinds = sorted({gpu.architecture for gpu in gpus})
    architecture = kinds[0] if len(kinds) == 1 else ""

    def no(problem: str, fix: str) -> Topology:
        return Topology(NONE, architecture, len(gpus), len(switches), (), False, problem, fix)

    if not gpus:
        return no("no NVIDIA GPU is here", "Pass one through to this guest (attested.ai.gpu_cc_host and confidential_vm)")
    lost = [gpu.bdf for gpu in gpus if gpu.lost]
    if lost:
        return no("%s fell off the bus" % ", ".join(lost), "Stop the guest, reset the GPU on the host, or reboot the host")
    if len(kinds) > 1:
        return no("GPUs of %s are mixed" % " and ".join(kinds), "Give a guest GPUs of one generation: all of a host must be in one mode")
    if architecture not in models.CC_ARCHITECTURES:
        return no("%s does no confidential computing" % ", ".join(sorted({gpu.model for gpu in gpus})), "It begins with Hopper")
    if architecture == models.HOPPER and (switches or len(gpus) > 1):
        if (len(gpus), len(switches)) != (models.HGX_GPUS, models.HGX_SWITCHES):
            return no(
                "%d GPUs and %d switches of Hopper are neither one GPU nor a whole board" % (len(gpus), len(switches)),
                "Give a guest one GPU (mode on), or all 8 with all 4 switches (mode ppcie). A filter on class 0x06 drops switches of class 0x0680",
            )  # fmt: skip
        return Topology(PPCIE, architecture, len(gpus), len(switches), (PPCIE_OPTION,), True)
    if switches:
        return no("there are switches beside %s" % gpus[0].model, "Blackwell's fabric is managed on the host; take the switches out of this guest")
    if len(gpus) > 1:
        return Topology(MULTI, architecture, len(gpus), 0, (), False)
    return Topology(SINGLE, architecture, 1, 0, (ALONE_OPTION,) if gpus[0].device in BASEBOARD else (), False)


def expected_mode(kind: str) -> Optional[str]:
    """What nvidia-smi must say: feature on, or protected PCIe, where the feature is off and that is right."""
    return {SINGLE: "on", MULTI: "on", PPCIE: "ppcie"}.get(kind)
