# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What CPU and BIOS of a TDX host decide. MSR fields: Intel's TDX enabling guide."""

from __future__ import annotations

import re
from typing import List, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import INTEL, Cpu, cannot_read, logged, msr_bit
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, KernelLog, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question

# Family 6 (Intel's guide and Canonical's table). Clearwater Forest has TDX too, but its model number is not confirmed.
CPUS = {143: ("SPR", "4th Gen Xeon"), 207: ("EMR", "5th Gen Xeon"), 175: ("SRF", "Xeon 6 E-core"), 173: ("GNR", "Xeon 6 P-core")}
RANGE = re.compile(r"virt/tdx: BIOS enabled: private KeyID range \[(\d{1,9}), (\d{1,9})\)", re.I)

CPU_MODEL = Question(
    "tdx.cpu-model",
    "cpu",
    "an Intel Xeon of the 4th or 5th generation, or Xeon 6",
    "/proc/cpuinfo",
    "TDX needs such a CPU: this machine cannot become a TDX host",
)
PRODUCTION = Question(
    "tdx.production",
    "cpu",
    "MSR 0xce bit 27 and MSR 0x503 are 0, MSR 0x8b bit 63 is clear",
    "MSR 0xce, 0x503, 0x8b",
    "This is no production CPU or microcode: quotes verify only at Intel's sandbox; replace the CPU or the microcode",
)
TME = Question(
    "tdx.bios-tme",
    "bios",
    "MSR 0x982 bit 1 is 1",
    "MSR 0x982 (IA32_TME_ACTIVATE)",
    "Enable Memory Encryption (TME) and TME-MT in the BIOS, and on Xeon 6 disable Limit CPU PA to 46 bits. If they cannot be chosen, check that "
    "the first DIMM slot of every channel is filled",
)
SEAMRR = Question(
    "tdx.bios-seamrr",
    "bios",
    "MSR 0x1401 bit 11 is 1",
    "MSR 0x1401 (SEAMRR_MASK)",
    "Enable Trust Domain Extension (TDX) and TDX SEAM Loader in the BIOS",
)
KEYS = Question(
    "tdx.bios-keys",
    "bios",
    "at least 2 private KeyIDs (one is the kernel's own, each guest takes one)",
    "MSR 0x87 bits 63:32",
    "Set TME-MT/TDX key split in the BIOS to a greater value",
)
SGX = Question(
    "tdx.bios-sgx",
    "bios",
    "the CPU flag sgx is set",
    "/proc/cpuinfo",
    "Enable SW Guard Extensions (SGX) in the BIOS: quotes are signed in an SGX enclave",
)
X2APIC = Question(
    "tdx.bios-x2apic",
    "bios",
    "the CPU flag x2apic is set",
    "/proc/cpuinfo",
    "Enable x2APIC in the BIOS, and take nox2apic from the kernel command line: the kernel's TDX needs it",
)
MCHECK = Question(
    "tdx.bios-mcheck",
    "bios",
    "MSR 0xa0 is 0",
    "MSR 0xa0 (SGX_AND_MCHECK_STATUS)",
    "Look for SGX and memory errors in the BIOS log, and update the BIOS",
)
SGX_DEVICES = Question(
    "tdx.sgx-devices",
    "sgx",
    "/dev/sgx_enclave and /dev/sgx_provision are there",
    "/dev",
    "Enable SGX in the BIOS, with a PRMRR size that is not 0; the kernel needs CONFIG_X86_SGX",
)


# Who makes quotes opens them: quoting enclaves, and the provisioning key.
_RIGHTS = {"/dev/sgx_enclave": "sgx", "/dev/sgx_provision": "sgx_prv"}
SGX_RIGHTS = Question(
    "tdx.sgx-rights",
    "sgx",
    "group sgx may use /dev/sgx_enclave, group sgx_prv /dev/sgx_provision",
    "/dev",
    "Install the rules for devices of the role tdx_host (or of Intel's packages), and run udevadm trigger",
)


def probe_bios(host: Host, cpu: Union[Cpu, Unreadable], log: Union[KernelLog, Unreadable]) -> List[Probe]:
    """CPU and BIOS, in the order in which the settings depend on one another."""
    return [
        _cpu_model(cpu),
        _production(host),
        msr_bit(host, TME, 0x982, 1),
        msr_bit(host, SEAMRR, 0x1401, 11),
        _keys(host, log),
        _flag(SGX, cpu, "sgx"),
        _flag(X2APIC, cpu, "x2apic"),
        _mcheck(host),
    ]


def _flag(question: Question, cpu: Union[Cpu, Unreadable], flag: str) -> Probe:
    if isinstance(cpu, Unreadable):
        return cannot_read(question, cpu)
    return question.judged(flag in cpu.flags, "it is %sset" % ("" if flag in cpu.flags else "not "))


def _cpu_model(cpu: Union[Cpu, Unreadable]) -> Probe:
    if isinstance(cpu, Unreadable):
        return cannot_read(CPU_MODEL, cpu)
    observed = "%s (%s, family %s, model %s)" % (cpu.name or "unnamed", cpu.vendor or "no vendor", cpu.family, cpu.model)
    if cpu.vendor != INTEL:
        return CPU_MODEL.failed(observed)
    if cpu.family == 6 and cpu.model in CPUS:
        return CPU_MODEL.passed("%s: %s" % (CPUS[cpu.model][1], observed))
    if cpu.family == 6 and cpu.model is not None and cpu.model < 143:
        return CPU_MODEL.failed(observed)
    return CPU_MODEL.unknown("%s is not in the table" % observed, "Look up whether this CPU has TDX; the other findings tell whether it is on")


def _production(host: Host) -> Probe:
    values = {}
    for number in (0xCE, 0x503, 0x8B):
        value = host.msr(number)
        if isinstance(value, Unreadable):
            return cannot_read(PRODUCTION, value, "msr")
        values[number] = value
    good = not values[0xCE] >> 27 & 1 and values[0x503] == 0 and not values[0x8B] >> 63
    return PRODUCTION.judged(good, ", ".join("MSR 0x%x is 0x%x" % item for item in values.items()))


def _keys(host: Host, log: Union[KernelLog, Unreadable]) -> Probe:
    found = logged(log, RANGE)
    value = host.msr(0x87)
    if not isinstance(value, Unreadable):
        return KEYS.judged(value >> 32 >= 2, "%d private KeyIDs, %d for other use" % (value >> 32, value & 0xFFFFFFFF))
    if found:
        count = int(found.group(2)) - int(found.group(1))
        return KEYS.judged(count >= 2, "%d private KeyIDs by the kernel log" % count)
    return cannot_read(KEYS, value, "msr")


def _mcheck(host: Host) -> Probe:
    value = host.msr(0xA0)
    if isinstance(value, Unreadable):
        return cannot_read(MCHECK, value, "msr")
    if value == 1861:
        return MCHECK.failed(
            "1861: the UEFI variables of the SGX registration are damaged",
            "Run SGX Factory Reset in the BIOS once. It makes new platform keys: the platform must be registered again",
        )
    return MCHECK.judged(value == 0, "0x%x" % value)


def probe_sgx_devices(host: Host) -> Probe:
    """The devices that the kernel makes of an SGX that the BIOS set up."""
    missing = []
    for path in ("/dev/sgx_enclave", "/dev/sgx_provision"):
        found = host.exists(path)
        if isinstance(found, Unreadable):
            return cannot_read(SGX_DEVICES, found)
        if not found:
            missing.append(path)
    return SGX_DEVICES.judged(not missing, "missing: %s" % ", ".join(missing) if missing else "both are there")


def probe_sgx_rights(host: Host) -> Probe:
    """Whether the groups that Intel's services join may use the devices."""
    wrong = []
    for path, group in _RIGHTS.items():
        owner = host.owner(path)
        if isinstance(owner, Unreadable):
            return SGX_RIGHTS.skipped("%s does not exist" % path) if owner.kind == ABSENT else cannot_read(SGX_RIGHTS, owner)
        # All may use it where the kernel or the distribution leaves it open.
        if owner.mode & 0o006 != 0o006 and (owner.group != group or owner.mode & 0o060 != 0o060):
            wrong.append("%s is of %s:%s, mode %04o" % (path, owner.user, owner.group, owner.mode))
    return SGX_RIGHTS.judged(not wrong, "; ".join(wrong) or "they may")
