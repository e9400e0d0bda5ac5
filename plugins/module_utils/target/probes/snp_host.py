# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An SEV-SNP host: CPU, BIOS, kernel, IOMMU, firmware.

CPUID and MSR fields: AMD's APM and the checks of snphost. Messages: arch/x86/virt/svm/sev.c, drivers/crypto/ccp/sev-dev.c and
drivers/iommu/amd/init.c of Linux.
"""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import AMD, Cpu, cannot_read, logged, msr_bit, without_line
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, KernelLog, Unreadable, parameter
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import PASS, SKIPPED, Probe, Question

LEAST_KERNEL = (6, 11)
KVM_PARAMETER = "/sys/module/kvm_amd/parameters/sev_snp"
MILAN, GENOA, TURIN = "Milan", "Genoa", "Turin"

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
    "CPUID 0x8000001f EAX bits 1 (SEV), 3 (SEV-ES) and 4 (SEV-SNP) are 1",
    "CPUID 0x8000001f",
    "This CPU, or its hypervisor, has no SEV-SNP",
)
SME = Question("snp.bios-sme", "bios", "MSR 0xc0010010 bit 23 is 1", "MSR 0xc0010010 (SYSCFG)", "Set SMEE to Enabled in the BIOS (CBS > CPU Common)")
SNP = Question(
    "snp.bios-snp",
    "bios",
    "MSR 0xc0010010 bit 24 is 1",
    "MSR 0xc0010010 (SYSCFG)",
    "Enable SEV-SNP Support (NBIO Common) and SNP Memory (RMP Table) Coverage (CPU Common) in the BIOS; see also what the "
    "findings on the IOMMU say",
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
DEVICE = Question(
    "snp.device",
    "firmware",
    "/dev/sev is there",
    "/dev/sev",
    "Load the module ccp. If it is loaded, enable the AMD Secure Processor in the BIOS",
)
INITIALIZED = Question(
    "snp.firmware-initialized",
    "firmware",
    "SNP is initialized, and the RMP table as well",
    "/dev/sev",
    "See the other findings, and the messages of ccp in the kernel log",
)
VERSION = Question(
    "snp.firmware-version",
    "firmware",
    "1.51 or later",
    "/dev/sev",
    "Install AMD's SEV firmware under /lib/firmware/amd and reboot, or update the BIOS",
)
ALIAS = Question(
    "snp.firmware-alias",
    "firmware",
    "the alias check of memory was made (CVE-2024-21944)",
    "/dev/sev",
    "Update the BIOS and the SEV firmware (Milan 1.55.22, Genoa 1.55.38 or later)",
)
TCB = Question(
    "snp.tcb-match",
    "firmware",
    "the reported TCB is the current one",
    "/dev/sev",
    "Reset the reported TCB (snphost config reset), unless it is kept back on purpose",
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

_NOT_RESERVED = re.compile(r"Memory for the RMP table has not been reserved by BIOS", re.I)
_NOT_COVERED = re.compile(r"RMP table does not cover full system RAM|RMP configuration not valid|RMP segment .*not valid", re.I)
_RMP_RANGE = re.compile(r"RMP (?:segment \d+ )?table physical (?:range|address)\s*:?\s*\[?(0x[0-9a-f]+ ?- ?0x[0-9a-f]+)", re.I)
_PASSTHROUGH = re.compile(r"SNP: IOMMU disabled or configured in passthrough mode", re.I)
_V2 = re.compile(r"SNP: IOMMU is configured with V2 page table", re.I)
_IOMMU_OK = re.compile(r"AMD-Vi: IOMMU SNP support enabled", re.I)
_SNP_API = re.compile(r"ccp \S+: SEV-SNP API:(\d+)\.(\d+) build:(\d+)", re.I)
_INIT_FAILED = re.compile(r"SEV(?:-SNP)?: failed to INIT.*|SEV_INIT fails with error.*", re.I)

_FIRMWARE_CAUSES = (
    ("error 0x13", SME.fix),
    ("error 0x1,", "The PSP boot loader is too old for the firmware: update the BIOS"),
    ("error 0x3", "The configuration is not valid: boot by UEFI, and check the ASID limit and the RMP coverage in the BIOS"),
)
_UNSUITABLE = (("iommu", "pt"), ("iommu", "off"), ("iommu.passthrough", "1"), ("amd_iommu", "off"), ("amd_iommu", "pgtbl_v2"))


def product(cpu: Cpu) -> Optional[str]:
    """The name under which AMD certifies chips of this family and model; None for others."""
    if cpu.vendor != AMD or cpu.family is None or cpu.model is None:
        return None
    if cpu.family == 0x19:
        return MILAN if cpu.model <= 0x0F else GENOA if 0x10 <= cpu.model <= 0x1F or 0xA0 <= cpu.model <= 0xAF else None
    return TURIN if cpu.family == 0x1A and cpu.model <= 0x11 else None


def probe_snp(host: Host, cpu: Union[Cpu, Unreadable]) -> List[Probe]:
    """All probes of an SEV-SNP host."""
    log = host.kernel_log()
    leaf = host.cpuid(0x8000001F)
    status = host.sev("snp-platform-status")
    found = [
        _cpu_model(cpu),
        _cpu_support(leaf),
        msr_bit(host, SME, 0xC0010010, 23),
        msr_bit(host, SNP, 0xC0010010, 24),
        _rmp(host, log),
        _asid(leaf),
        _iommu(host, log),
        _device(host),
        _initialized(status, log),
        _version(status),
        _alias(status),
        _tcb(status),
        _kvm(host),
        _cpus_online(host),
    ]
    if isinstance(leaf, Unreadable) or leaf[0] >> 4 & 1:
        return found
    # No setting helps a CPU without SEV-SNP. What the kernel itself complains of is left standing: its source is narrower.
    general = {question.source for question in (SME, RMP, ASID, IOMMU, DEVICE)}
    hopeless = [probe.area in ("bios", "firmware", "iommu") and probe.outcome != PASS and probe.source in general for probe in found]
    return [replace(probe, outcome=SKIPPED, observed="this CPU has no SEV-SNP", fix="") if skip else probe for probe, skip in zip(found, hopeless)]


def snp_identity(host: Host) -> Optional[Dict[str, Any]]:
    """The firmware as /dev/sev tells it: version, build, the TCBs (hexadecimal), number of guests."""
    status = host.sev("snp-platform-status")
    fields = _fields(status)
    if fields is None:
        return None
    major, minor, _state, _flags, build, _options, guests, current, reported = fields
    return {"version": "%d.%d" % (major, minor), "build": build, "guests": guests, "current_tcb": "%016x" % current, "reported_tcb": "%016x" % reported}


def _fields(status: Union[bytes, Unreadable]) -> Optional[Tuple[int, ...]]:
    """struct sev_user_data_snp_status, 32 packed bytes, little-endian."""
    return None if isinstance(status, Unreadable) or len(status) != 32 else struct.unpack("<BBBBIIIQQ", status)


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


def _cpu_support(leaf: Union[Tuple[int, int, int, int], Unreadable]) -> Probe:
    if isinstance(leaf, Unreadable):
        return cannot_read(CPU_SNP, leaf, "cpuid")
    missing = [name for name, bit in (("SEV", 1), ("SEV-ES", 3), ("SEV-SNP", 4)) if not leaf[0] >> bit & 1]
    return CPU_SNP.judged(not missing, "EAX is 0x%x%s" % (leaf[0], ", without %s" % ", ".join(missing) if missing else ""))


def _rmp(host: Host, log: Union[KernelLog, Unreadable]) -> Probe:
    for pattern in (_NOT_RESERVED, _NOT_COVERED):
        match = logged(log, pattern)
        if match:
            return RMP.failed(match.group(0), source="kernel log")
    found = logged(log, _RMP_RANGE)
    base = host.msr(0xC0010132)
    if isinstance(base, Unreadable):
        return RMP.passed("RMP table at %s" % found.group(1), "kernel log") if found else cannot_read(RMP, base, "msr")
    # The end is 0 where the table is segmented (Turin): only the base decides.
    return RMP.judged(base != 0, "RMP_BASE is 0x%x" % base)


def _asid(leaf: Union[Tuple[int, int, int, int], Unreadable]) -> Probe:
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
    if logged(log, _IOMMU_OK):
        return IOMMU.passed("IOMMU SNP support enabled", "kernel log")
    if host.switch(KVM_PARAMETER) is True:
        return IOMMU.passed("kvm_amd says Y to SEV-SNP", KVM_PARAMETER)
    return without_line(IOMMU, log, "the kernel does not say that the IOMMU supports SNP")


def _device(host: Host) -> Probe:
    found = host.exists("/dev/sev")
    if isinstance(found, Unreadable):
        return cannot_read(DEVICE, found)
    return DEVICE.judged(found, "it %s" % ("exists" if found else "does not exist"))


def _of_status(question: Question, status: Union[bytes, Unreadable]) -> Probe:
    """The answer where there is no usable status."""
    if not isinstance(status, Unreadable):
        return question.unknown("the answer has %d bytes, 32 are expected" % len(status), "Report it with a recording")
    if status.kind == ABSENT:
        return question.skipped("there is no /dev/sev to ask")
    return cannot_read(question, status)


def _initialized(status: Union[bytes, Unreadable], log: Union[KernelLog, Unreadable]) -> Probe:
    failure, api = logged(log, _INIT_FAILED), logged(log, _SNP_API)
    if failure and not api:
        said = failure.group(0).strip()
        return INITIALIZED.failed(said[:200], next((fix for word, fix in _FIRMWARE_CAUSES if word in said + ","), None), "kernel log")
    fields = _fields(status)
    if fields is None:
        if api:
            return INITIALIZED.passed("SEV-SNP API %s.%s, build %s" % api.group(1, 2, 3), "kernel log")
        return _of_status(INITIALIZED, status)
    table = bool(fields[3] & 1)
    return INITIALIZED.judged(fields[2] == 1 and table, "state %d, RMP table %sinitialized" % (fields[2], "" if table else "not "))


def _version(status: Union[bytes, Unreadable]) -> Probe:
    fields = _fields(status)
    if fields is None:
        return _of_status(VERSION, status)
    return VERSION.judged((fields[0], fields[1]) >= (1, 51), "%d.%d, build %d" % (fields[0], fields[1], fields[4]))


def _alias(status: Union[bytes, Unreadable]) -> Probe:
    fields = _fields(status)
    if fields is None:
        return _of_status(ALIAS, status)
    return ALIAS.judged(bool(fields[3] & 2), "it was %smade" % ("" if fields[3] & 2 else "not "))


def _tcb(status: Union[bytes, Unreadable]) -> Probe:
    fields = _fields(status)
    if fields is None:
        return _of_status(TCB, status)
    return TCB.judged(fields[7] == fields[8], "current %016x, reported %016x" % (fields[7], fields[8]))


def _kvm(host: Host) -> Probe:
    value = host.switch(KVM_PARAMETER)
    if isinstance(value, bool):
        return KVM_SNP.judged(value, "Y" if value else "N")
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
    return OFFLINE.judged(present == online, "present %s, online %s" % (present, online))
