# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the machine is, as far as it may explain a difference. All of it is the machine's own word."""

from __future__ import annotations

import os
import platform
import re
from typing import Any, Dict, Optional

from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.processor import optional
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.nvml import DEFAULT_LIBRARY, Nvml
from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import Cpu, read_cpu
from ansible_collections.attested.ai.plugins.module_utils.target.probes.guest import guest_tee
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, Unreadable

_MODEL = re.compile(r"^(?:model name|CPU part)\s*:\s*(.+)$", re.MULTILINE)
_MEMORY = re.compile(r"^MemTotal:\s*([0-9]{1,15}) kB", re.MULTILINE)


def machine(host: Host, gpu: Dict[str, Any], library: str = DEFAULT_LIBRARY) -> Dict[str, Any]:
    cpu = read_cpu(host)
    numpy = optional("numpy")
    return {
        "architecture": host.architecture(),
        "cpu": _first(_MODEL, host.text("/proc/cpuinfo")),
        # Those this process may use: a container can have fewer than its machine.
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": _gib(_first(_MEMORY, host.text("/proc/meminfo"))),
        "kernel": host.kernel(),
        "python": platform.python_version(),
        "numpy": str(numpy.__version__) if numpy is not None else None,
        "torch": gpu.get("torch"),
        "gpu": gpu.get("gpu"),
        "gpu_capability": gpu.get("gpu_capability"),
        "hypervisor": cpu.hypervisor if isinstance(cpu, Cpu) else None,
        "tee": guest_tee(host, cpu) or "unknown",
        **_driver(library),
    }


def _driver(library: str) -> Dict[str, Any]:
    try:
        with Nvml(library) as nvml:
            version, state = nvml.driver_version(), nvml.confidential_state()
    except AttestedError:
        return {"driver": None, "gpu_cc": None}
    return {"driver": version, "gpu_cc": "on" if state.on else "off"}


def _first(pattern: "re.Pattern[str]", text: Any) -> Optional[str]:
    found = None if isinstance(text, Unreadable) else pattern.search(text)
    return found.group(1).strip() if found else None


def _gib(kilobytes: Optional[str]) -> Optional[int]:
    """Whole GiB: a TEE takes some megabytes for itself, which is no other machine."""
    return round(int(kilobytes) / (1 << 20)) if kilobytes else None
