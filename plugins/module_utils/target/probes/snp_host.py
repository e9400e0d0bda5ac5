# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An SEV-SNP host as a whole: CPU, BIOS and IOMMU, firmware, KVM."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import List, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import Cpu, cannot_read, logged
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, KernelLog, Registers, Unreadable, parameter
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import PASS, SKIPPED, Probe, Question
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snp_bios import ASID, IOMMU, KVM_PARAMETER, RMP, SME, probe_bios, product
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snp_firmware import DEVICE, probe_firmware
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snphost import cross_check
from ansible_collections.attested.ai.plugins.module_utils.target.probes.vmm import LIBVIRT_SNP as LIBVIRT
from ansible_collections.attested.ai.plugins.module_utils.target.probes.vmm import SNP as QEMU
from ansible_collections.attested.ai.plugins.module_utils.target.probes.vmm import probe_libvirt, probe_qemu

LEAST_KERNEL = (6, 11)
LIMITS = (
    "CPUs of an SEV-SNP host must not go offline at run time: ASIDs of ended guests are not given back then, until no guest can start.",
    "Private memory of SEV-SNP guests has no NUMA affinity, and counts as shared memory.",
)

KVM_SNP = Question("snp.kvm-param", "kernel", "Y", KVM_PARAMETER, "See the other findings; then load kvm_amd with sev=1 sev_es=1 sev_snp=1")
OFFLINE = Question(
    "snp.cpus-online",
    "kernel",
    "all CPUs are online",
    "/sys/devices/system/cpu",
    "Bring them online, take nosmt and maxcpus= from the kernel command line, and switch SMT off in the BIOS if it must be off: "
    "with CPUs that went offline ASIDs are not given back",
)

_OFFLINE_WORDS = ("nosmt", "maxcpus", "nr_cpus")
_UNUSABLE = re.compile(r"SEV-SNP (?:disabled|unusable)\b.*", re.I)


def probe_snp(host: Host, cpu: Union[Cpu, Unreadable]) -> List[Probe]:
    """All probes of an SEV-SNP host."""
    log = host.kernel_log()
    leaf = host.cpuid(0x8000001F)
    found = probe_bios(host, cpu, leaf, log) + probe_firmware(host, log, product(cpu) if isinstance(cpu, Cpu) else None) + [_kvm(host, log), _cpus_online(host)]
    found += [probe_qemu(host, QEMU), probe_libvirt(host, LIBVIRT)]
    return _hopeless(leaf, found) + [cross_check(host, found)]


def _hopeless(leaf: Union[Registers, Unreadable], found: List[Probe]) -> List[Probe]:
    if isinstance(leaf, Unreadable) or leaf[0] >> 4 & 1:
        return found
    # No setting helps a CPU without SEV-SNP. What the kernel itself complains of is left standing: its source is narrower.
    general = {question.source for question in (SME, RMP, ASID, IOMMU, DEVICE)}
    hopeless = [probe.area in ("bios", "firmware", "iommu") and probe.outcome != PASS and probe.source in general for probe in found]
    return [replace(probe, outcome=SKIPPED, observed="this CPU has no SEV-SNP", fix="") if skip else probe for probe, skip in zip(found, hopeless)]


def _kvm(host: Host, log: Union[KernelLog, Unreadable]) -> Probe:
    value = host.switch(KVM_PARAMETER)
    if value is True:
        return KVM_SNP.passed("Y")
    if value is False:
        lesser = [(name, host.text("/sys/module/kvm_amd/parameters/%s" % name)) for name in ("sev", "sev_es")]
        said = logged(log, _UNUSABLE)
        notes = ["%s %s" % (name, ascii(text[:8])[1:-1]) for name, text in lesser if not isinstance(text, Unreadable)] + ([said.group(0)] if said else [])
        return KVM_SNP.failed("N" + (" (%s)" % ", ".join(notes) if notes else ""))
    if value.kind != ABSENT:
        return cannot_read(KVM_SNP, value)
    if host.exists("/sys/module/kvm_amd") is True:
        return KVM_SNP.failed("kvm_amd has no parameter sev_snp", "Boot a kernel with KVM for SEV-SNP (Linux 6.11, or a distribution's backport)")
    return KVM_SNP.failed("kvm_amd is not loaded", "modprobe kvm_amd. If it does not load, set SVM to Enabled in the BIOS")


def _cpus_online(host: Host) -> Probe:
    present, online = host.text("/sys/devices/system/cpu/present"), host.text("/sys/devices/system/cpu/online")
    if isinstance(present, Unreadable):
        return cannot_read(OFFLINE, present)
    if isinstance(online, Unreadable):
        return cannot_read(OFFLINE, online)
    words, control = host.parameters(), host.text("/sys/devices/system/cpu/smt/control")
    why = [] if isinstance(words, Unreadable) else [word for word in _OFFLINE_WORDS if parameter(words, word) is not None]
    asked = ["%s is on the kernel command line" % word for word in why]
    smt = ["SMT is %s" % ascii(control[:16])[1:-1]] if not isinstance(control, Unreadable) and control in ("off", "forceoff") else []
    return OFFLINE.judged(present == online, "; ".join(["present %s, online %s" % (present, online)] + asked + smt))
