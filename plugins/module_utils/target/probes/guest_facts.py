# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a confidential guest shows of itself beside what is judged: provider, flags, measurement registers. All of it is a claim."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import Cpu, logged
from ansible_collections.attested.ai.plugins.module_utils.target.probes.guest import MEASUREMENTS, SEV_STATUS, SNP, TDX, provider
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, Unreadable, parameter

# MSR 0xc0010131 as snpguest names its bits. The order of the first three is inferred from the architecture.
SEV_FEATURES = {
    0: "sev",
    1: "sev-es",
    2: "sev-snp",
    3: "vtom",
    4: "reflect-vc",
    5: "restricted-injection",
    6: "alternate-injection",
    7: "debug-swap",
    8: "prevent-host-ibs",
    9: "btb-isolation",
    10: "vmpl-sss",
    11: "secure-tsc",
    12: "vmgexit-param",
    14: "ibs-virt",
    16: "vmsa-reg-prot",
    17: "smt-protection",
}
CPU_FLAGS = ("tdx_guest", "sev", "sev_es", "sev_snp")
SWIOTLB_USED = "/sys/kernel/debug/swiotlb/io_tlb_used"
_ADJUSTED = re.compile(r"SWIOTLB bounce buffer size adjusted to (\d{1,7})MB")
STATIC = ("mrtd", "mrconfigid", "mrowner", "mrownerconfig")


def guest_facts(host: Host, cpu: Union[Cpu, Unreadable], tee: Optional[str]) -> Dict[str, Any]:
    """``rtmrs`` and ``measurements`` hold hexadecimal text, by number and by name, as far as the kernel shows them."""
    return {
        "tee": tee or "unknown",
        "provider": provider(host),
        "flags": [flag for flag in CPU_FLAGS if isinstance(cpu, Cpu) and flag in cpu.flags],
        "sev_features": _sev_features(host) if tee == SNP else [],
        "swiotlb": _swiotlb(host),
        "rtmrs": {str(number): value for number in range(4) for value in _register(host, tee, "rtmr%d:sha384" % number)},
        "measurements": {name: value for name in STATIC for value in _register(host, tee, "mrtd:sha384" if name == "mrtd" else name)},
    }


def _swiotlb(host: Host) -> Dict[str, Any]:
    """Bounce buffers: what the kernel adjusted them to, what was asked for on its command line (slots of 2 KiB), and slots in use."""
    adjusted, words, used = logged(host.kernel_log(), _ADJUSTED), host.parameters(), host.text(SWIOTLB_USED)
    return {
        "mib": int(adjusted.group(1)) if adjusted else None,
        "asked": None if isinstance(words, Unreadable) else parameter(words, "swiotlb"),
        "used_slots": int(used) if not isinstance(used, Unreadable) and used.isascii() and used.isdigit() and len(used) < 12 else None,
    }


def _sev_features(host: Host) -> List[str]:
    value = host.msr(SEV_STATUS)
    return [] if isinstance(value, Unreadable) else [name for bit, name in SEV_FEATURES.items() if value >> bit & 1]


def _register(host: Host, tee: Optional[str], name: str) -> List[str]:
    """One value or none."""
    if tee != TDX:
        return []
    data = host.read("%s/%s" % (MEASUREMENTS, name))
    return [] if isinstance(data, Unreadable) or len(data) != 48 else [data.hex()]
