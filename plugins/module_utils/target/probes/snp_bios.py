# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What CPU, BIOS and IOMMU of an SEV-SNP host decide. CPUID and MSR fields: AMD's APM; messages: arch/x86/virt/svm/sev.c and
drivers/iommu/amd/init.c of Linux.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import AMD, Cpu, cannot_read, logged, msr_bit, without_line
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, KernelLog, Registers, Unreadable, parameter
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snp_generations import product_of

KVM_PARAMETER = "/sys/module/kvm_amd/parameters/sev_snp"

CPU_MODEL = Question(
    "snp.cpu-model",
    "cpu",
    "an AMD EPYC 7003, 9004 or 9005",
    "/proc/cpuinfo",
    "SEV-SNP needs such a CPU: this machine cannot become an SEV-SNP host",
)
CPU_SNP = Question(
    "snp.cpu-support",
    "cpu",
    "CPUID 0x8000001f EAX bits 0 (SME), 1 (SEV), 3 (SEV-ES), 4 (SEV-SNP) and 5 (VMPL) are 1",
    "CPUID 0x8000001f",
    "This CPU, or its hypervisor, has no SEV-SNP",
)
SME = Question("snp.bios-sme", "bios", "MSR 0xc0010010 bit 23 is 1", "MSR 0xc0010010 (SYSCFG)", "Set SMEE to Enabled in the BIOS (CBS > CPU Common)")
SNP = Question(
    "snp.bios-snp",
    "bios",
    "MSR 0xc0010010 bit 24 is 1",
    "MSR 0xc0010010 (SYSCFG)",
    "Enable SEV-SNP Support (NBIO Common) and SNP Memory (RMP Table) Coverage (CPU Common) in the BIOS; see also what the findings on the IOMMU say",
)
RMP = Question(
    "snp.bios-rmp",
    "bios",
    "the BIOS reserved memory for the RMP table, for all RAM",
    "MSR 0xc0010132, kernel log",
    "Set SNP Memory (RMP Table) Coverage to Enabled in the BIOS (CBS > CPU Common)",
)
ASID = Question(
    "snp.bios-asid",
    "bios",
    "CPUID 0x8000001f EDX is greater than 1",
    "CPUID 0x8000001f",
    "Set SEV-ES ASID Space Limit Control to Manual and the limit to 100 or more in the BIOS (CBS > CPU Common)",
)
IOMMU = Question(
    "snp.iommu-translation",
    "iommu",
    "the IOMMU translates: no passthrough, no V2 page tables",
    "kernel log, /proc/cmdline",
    "Take iommu=pt, iommu.passthrough=1, iommu=off, amd_iommu=off and amd_iommu=pgtbl_v2 from the kernel command line, enable the "
    "IOMMU in the BIOS, and reboot. If the kernel's default is passthrough, add iommu=nopt",
)

_NOT_RESERVED = re.compile(r"Memory for the RMP table has not been reserved by BIOS", re.I)
_NOT_COVERED = re.compile(r"RMP table does not cover full system RAM|RMP configuration not valid|RMP segment .*not valid", re.I)
RMP_RANGE = re.compile(r"RMP (?:segment \d+ )?table physical (?:range|address)\s*:?\s*\[?(0x[0-9a-f]+ ?- ?0x[0-9a-f]+)", re.I)
_PASSTHROUGH = re.compile(r"SNP: IOMMU disabled or configured in passthrough mode", re.I)
_DEFAULT = re.compile(r"iommu: Default domain type: Passthrough", re.I)
_V2 = re.compile(r"SNP: IOMMU is configured with V2 page table", re.I)
_IOMMU_OK = re.compile(r"AMD-Vi: IOMMU SNP support enabled", re.I)

_UNSUITABLE = (
    ("iommu", "pt"),
    ("iommu", "off"),
    ("iommu.passthrough", "1"),
    ("iommu.passthrough", "y"),
    ("iommu.passthrough", "Y"),
    ("iommu.passthrough", "on"),
    ("amd_iommu", "off"),
    ("amd_iommu", "pgtbl_v2"),
)


def product(cpu: Cpu) -> Optional[str]:
    """The name under which AMD certifies chips of this family and model; None for others."""
    if cpu.vendor != AMD or cpu.family is None or cpu.model is None:
        return None
    return product_of(cpu.family, cpu.model)


def probe_bios(host: Host, cpu: Union[Cpu, Unreadable], leaf: Union[Registers, Unreadable], log: Union[KernelLog, Unreadable]) -> List[Probe]:
    """CPU, BIOS and IOMMU; ``leaf`` is CPUID 0x8000001f."""
    return [
        _cpu_model(cpu),
        _cpu_support(leaf),
        msr_bit(host, SME, 0xC0010010, 23),
        msr_bit(host, SNP, 0xC0010010, 24),
        _rmp(host, log),
        _asid(leaf),
        _iommu(host, log),
    ]


def snp_cpu(leaf: Union[Registers, Unreadable]) -> Optional[Dict[str, Any]]:
    """What CPUID 0x8000001f tells beside what is judged; QEMU asks for the C-bit and the reduction of addresses."""
    if isinstance(leaf, Unreadable) or not leaf[0] >> 4 & 1:
        return None
    return {
        "c_bit": leaf[1] & 0x3F,
        "address_reduction": leaf[1] >> 6 & 0x3F,
        "vmpls": leaf[1] >> 12 & 0xF,
        "guests": leaf[2],
        "least_sev_asid": leaf[3],
        "secure_tsc": bool(leaf[0] >> 8 & 1),
        "page_flush_msr": bool(leaf[0] >> 2 & 1),
    }


def _cpu_model(cpu: Union[Cpu, Unreadable]) -> Probe:
    if isinstance(cpu, Unreadable):
        return cannot_read(CPU_MODEL, cpu)
    observed = "%s (%s, family %s, model %s)" % (cpu.name or "unnamed", cpu.vendor or "no vendor", cpu.family, cpu.model)
    name = product(cpu)
    if name:
        return CPU_MODEL.passed("%s: %s" % (name, observed))
    if cpu.vendor != AMD or cpu.family is None or cpu.family < 0x19:
        return CPU_MODEL.failed(observed)
    return CPU_MODEL.unknown("%s is not in the table" % observed, "Look up whether this CPU has SEV-SNP; the other findings tell whether it is on")


def _cpu_support(leaf: Union[Registers, Unreadable]) -> Probe:
    if isinstance(leaf, Unreadable):
        return cannot_read(CPU_SNP, leaf, "cpuid")
    missing = [name for name, bit in (("SME", 0), ("SEV", 1), ("SEV-ES", 3), ("SEV-SNP", 4), ("VMPL", 5)) if not leaf[0] >> bit & 1]
    return CPU_SNP.judged(not missing, "EAX is 0x%x%s" % (leaf[0], ", without %s" % ", ".join(missing) if missing else ""))


def _rmp(host: Host, log: Union[KernelLog, Unreadable]) -> Probe:
    for pattern in (_NOT_RESERVED, _NOT_COVERED):
        match = logged(log, pattern)
        if match:
            return RMP.failed(match.group(0), source="kernel log")
    found = logged(log, RMP_RANGE)
    base = host.msr(0xC0010132)
    if isinstance(base, Unreadable):
        return RMP.passed("RMP table at %s" % found.group(1), "kernel log") if found else cannot_read(RMP, base, "msr")
    end = host.msr(0xC0010133)
    if isinstance(end, Unreadable):
        return RMP.judged(base != 0, "RMP_BASE is 0x%x" % base)
    # The end is 0 where the table is segmented (Turin): there only the base decides. Before anything is set up it is 0x1fff.
    return RMP.judged(base != 0 and (end == 0 or end > base), "RMP_BASE is 0x%x, RMP_END 0x%x" % (base, end))


def _asid(leaf: Union[Registers, Unreadable]) -> Probe:
    if isinstance(leaf, Unreadable):
        return cannot_read(ASID, leaf, "cpuid")
    if leaf[3] == 0:
        return ASID.failed("0: this CPU counts no ASIDs")
    return ASID.judged(leaf[3] > 1, "the least ASID of SEV is %d, of %d: %d for SEV-SNP and SEV-ES" % (leaf[3], leaf[2], leaf[3] - 1))


def _iommu(host: Host, log: Union[KernelLog, Unreadable]) -> Probe:
    for pattern in (_PASSTHROUGH, _V2):
        match = logged(log, pattern)
        if match:
            return IOMMU.failed(match.group(0), source="kernel log")
    words = host.parameters()
    if not isinstance(words, Unreadable):
        wrong = ["%s=%s" % (name, value) for name, value in _UNSUITABLE if value in (parameter(words, name) or "").split(",")]
        if wrong:
            return IOMMU.failed("on the kernel command line: %s" % ", ".join(wrong), source="/proc/cmdline")
    if logged(log, _DEFAULT):
        fix = "The kernel's own default is passthrough: add iommu=nopt (or iommu.passthrough=0) to the kernel command line, and reboot"
        return IOMMU.failed("iommu: Default domain type: Passthrough", fix, "kernel log")
    if logged(log, _IOMMU_OK):
        return IOMMU.passed("IOMMU SNP support enabled", "kernel log")
    if host.switch(KVM_PARAMETER) is True:
        return IOMMU.passed("kvm_amd says Y to SEV-SNP", KVM_PARAMETER)
    return without_line(IOMMU, log, "the kernel does not say that the IOMMU supports SNP")
