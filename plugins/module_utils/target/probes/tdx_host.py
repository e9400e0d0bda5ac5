# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A TDX host as a whole: CPU and BIOS, kernel, TDX module, SGX. Quoting has its own file."""

from __future__ import annotations

from typing import List, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import Cpu
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe
from ansible_collections.attested.ai.plugins.module_utils.target.probes.tdx_bios import probe_bios, probe_sgx_devices, probe_sgx_rights
from ansible_collections.attested.ai.plugins.module_utils.target.probes.tdx_kernel import KVM_PARAMETER, probe_kernel
from ansible_collections.attested.ai.plugins.module_utils.target.probes.tdx_module import probe_module
from ansible_collections.attested.ai.plugins.module_utils.target.probes.vmm import LIBVIRT_TDX as LIBVIRT
from ansible_collections.attested.ai.plugins.module_utils.target.probes.vmm import TDX as QEMU
from ansible_collections.attested.ai.plugins.module_utils.target.probes.vmm import probe_libvirt, probe_qemu

LEAST_KERNEL = (6, 16)
LIMITS = (
    "A TDX host neither sleeps (S3) nor hibernates while TDX is on.",
    "Memory that TDX cannot use is not added while TDX is on.",
    "Older kernels switch TDX off across kexec, and start no crash kernel on CPUs with the erratum tdx_pw_mce.",
    "A TDX guest cannot be reset: virsh reset shuts it down, and virsh reboot starts another.",
)


def probe_tdx(host: Host, cpu: Union[Cpu, Unreadable]) -> List[Probe]:
    """All probes of a TDX host but those of quoting."""
    log = host.kernel_log()
    running = host.switch(KVM_PARAMETER)
    found = probe_bios(host, cpu, log) + probe_kernel(host, cpu, log, running) + probe_module(log, cpu, running)
    return found + [probe_sgx_devices(host), probe_sgx_rights(host), probe_qemu(host, QEMU), probe_libvirt(host, LIBVIRT)]
