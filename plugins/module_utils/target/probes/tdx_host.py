# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A TDX host: CPU, BIOS, kernel, TDX module, SGX.

MSR fields and messages: Intel's TDX enabling guide, and arch/x86/virt/vmx/tdx/tdx.c and arch/x86/kvm/vmx/tdx.c of Linux.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import INTEL, Cpu, cannot_read, logged, msr_bit, without_line
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, KernelLog, Unreadable, parameter
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question
from ansible_collections.attested.ai.plugins.module_utils.target.probes.tdx_modules import NEWEST, identify

LEAST_KERNEL = (6, 16)
KVM_PARAMETER = "/sys/module/kvm_intel/parameters/tdx"
# Family 6 (Intel's guide and Canonical's table). Clearwater Forest has TDX too, but its model number is not confirmed.
CPUS = {143: ("SPR", "4th Gen Xeon"), 207: ("EMR", "5th Gen Xeon"), 175: ("SRF", "Xeon 6 E-core"), 173: ("GNR", "Xeon 6 P-core")}

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
    "Enable Memory Encryption (TME) and TME-MT in the BIOS. If they cannot be chosen, check that the first DIMM slot of every "
    "channel is filled",
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
MCHECK = Question(
    "tdx.bios-mcheck",
    "bios",
    "MSR 0xa0 is 0",
    "MSR 0xa0 (SGX_AND_MCHECK_STATUS)",
    "Look for SGX and memory errors in the BIOS log, and update the BIOS",
)
DETECTED = Question(
    "tdx.kernel-detected",
    "kernel",
    "the kernel found private KeyIDs",
    "kernel log, CPU flag tdx_host_platform",
    "Enable TDX in the BIOS, with a key split that is not 0, and boot a kernel with CONFIG_INTEL_TDX_HOST",
)
HIBERNATION = Question(
    "tdx.kernel-nohibernate",
    "kernel",
    "hibernation is off",
    "/proc/cmdline, /sys/power/state, kernel log",
    "Add nohibernate to the kernel command line, and reboot",
)
TDP_MMU = Question(
    "tdx.kvm-tdp-mmu",
    "kernel",
    "the TDP MMU of KVM is on",
    "/sys/module/kvm/parameters/tdp_mmu",
    "Take kvm.tdp_mmu=0 from the kernel command line and from /etc/modprobe.d, and reboot",
)
KVM_TDX = Question(
    "tdx.kvm-param",
    "kernel",
    "Y",
    KVM_PARAMETER,
    "Add kvm_intel.tdx=1 to the kernel command line or 'options kvm_intel tdx=1' to /etc/modprobe.d, and reboot",
)
LOADED = Question(
    "tdx.module-loaded",
    "module",
    "the kernel finds a TDX module",
    "kernel log",
    "Enable TDX SEAM Loader in the BIOS and update the BIOS, or put Intel's module on the EFI partition (EFI/TDX/TDX-SEAM.so and "
    ".sigstruct), and reboot",
)
INITIALIZED = Question(
    "tdx.module-initialized",
    "module",
    "the kernel log says that the module is initialized, or kvm_intel says Y",
    "kernel log",
    "See the other findings: the module is initialized when kvm_intel loads with tdx=1",
)
VERSION = Question(
    "tdx.module-version",
    "module",
    "a module that Intel has published for this CPU",
    "kernel log",
    "Update the TDX module with the BIOS, or from the EFI partition",
)
SGX_DEVICES = Question(
    "tdx.sgx-devices",
    "sgx",
    "/dev/sgx_enclave and /dev/sgx_provision are there",
    "/dev",
    "Enable SGX in the BIOS, with a PRMRR size that is not 0; the kernel needs CONFIG_X86_SGX",
)

_RANGE = re.compile(r"virt/tdx: BIOS enabled: private KeyID range \[(\d{1,9}), (\d{1,9})\)", re.I)
_DONE = re.compile(r"tdx: (?:TDX[- ])?module initialized", re.I)
_NOT_LOADED = re.compile(r"tdx: (?:TDX[- ])?module not loaded|SEAMCALL.*module not loaded", re.I)
_FAILED = re.compile(r"tdx:.*initialization failed[: (].*|.*frame pointer \(RBP\) clobber bug.*|tdx:.*SEAMCALL \(0x[0-9a-f]+\) failed.*", re.I)
_RBP = re.compile(r"frame pointer \(RBP\) clobber bug present", re.I)
_OLD_VERSION = re.compile(
    r"TDX module: attributes \S+, vendor_id 0x8086, major_version (\d+), minor_version (\d+), build_date (\d+), build_num (\d{1,9})", re.I
)
_NEW_VERSION = re.compile(r"TDX module (\d+(?:\.\d+)*), build number (\d{1,9}), build date ([0-9a-f]+)", re.I)
_HIBERNATION = re.compile(r"tdx:.*Hibernation support is enabled", re.I)
_TDP_MMU = re.compile(r"TDX requires TDP MMU", re.I)

# What the kernel says when it gives up, and what helps.
_CAUSES = (
    ("too few private KeyIDs", KEYS.fix),
    ("Hibernation support is enabled", HIBERNATION.fix),
    ("TDMRs exhausted", "Boot a newer kernel; take CXL memory and reserved ranges out of the memory map"),
    ("clobber bug", VERSION.fix),
    ("failed (-5)", "The TDX module is too old for this kernel. " + VERSION.fix),
)


def probe_tdx(host: Host, cpu: Union[Cpu, Unreadable]) -> List[Probe]:
    """All probes of a TDX host but those of quoting."""
    log = host.kernel_log()
    running = host.switch(KVM_PARAMETER)
    return [
        _cpu_model(cpu),
        _production(host),
        msr_bit(host, TME, 0x982, 1),
        msr_bit(host, SEAMRR, 0x1401, 11),
        _keys(host, log),
        cannot_read(SGX, cpu) if isinstance(cpu, Unreadable) else SGX.judged("sgx" in cpu.flags, "it is %s" % ("set" if "sgx" in cpu.flags else "not set")),
        _mcheck(host),
        _detected(cpu, log),
        _hibernation(host, log, running),
        _tdp_mmu(host, log),
        _kvm(host, running),
        _loaded(log, running),
        _initialized(log, running),
        _version(log, cpu, running),
        _sgx_devices(host),
    ]


def tdx_identity(log: Union[KernelLog, Unreadable]) -> Optional[Dict[str, Any]]:
    """The module that the kernel log names, as data: version, build, date, and what the table knows of the build."""
    old, new = logged(log, _OLD_VERSION), logged(log, _NEW_VERSION)
    if new:
        said, build, date = new.group(1), int(new.group(2)), new.group(3)
    elif old:
        said, build, date = "%s.%s" % old.group(1, 2), int(old.group(4)), old.group(3)
    else:
        return None
    module = identify(build)
    known = {"version": module.version, "date": module.date, "svn": module.svn, "mrseam": module.mrseam} if module else {}
    return {"version": said, "build": build, "date": date, "published": module is not None, **known}


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
    found = logged(log, _RANGE)
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


def _detected(cpu: Union[Cpu, Unreadable], log: Union[KernelLog, Unreadable]) -> Probe:
    found = logged(log, _RANGE)
    if found:
        return DETECTED.passed("private KeyIDs [%s, %s)" % found.group(1, 2))
    if isinstance(cpu, Cpu) and "tdx_host_platform" in cpu.flags:
        return DETECTED.passed("the CPU flag tdx_host_platform is set")
    return without_line(DETECTED, log, "neither the flag nor a message about private KeyIDs")


def _hibernation(host: Host, log: Union[KernelLog, Unreadable], running: Union[bool, Unreadable]) -> Probe:
    if logged(log, _HIBERNATION):
        return HIBERNATION.failed("the kernel gave up: Hibernation support is enabled")
    words = host.parameters()
    if not isinstance(words, Unreadable) and parameter(words, "nohibernate") is not None:
        return HIBERNATION.passed("nohibernate is on the kernel command line")
    if running is True:
        return HIBERNATION.passed("TDX runs")
    states = host.text("/sys/power/state")
    if isinstance(states, Unreadable):
        return HIBERNATION.passed("this kernel cannot sleep at all") if states.kind == ABSENT else cannot_read(HIBERNATION, states)
    return HIBERNATION.judged("disk" not in states.split(), "the kernel can enter: %s" % (states or "no state"))


def _tdp_mmu(host: Host, log: Union[KernelLog, Unreadable]) -> Probe:
    if logged(log, _TDP_MMU):
        return TDP_MMU.failed("the kernel gave up: TDX requires TDP MMU")
    value = host.switch("/sys/module/kvm/parameters/tdp_mmu")
    if isinstance(value, Unreadable):
        if value.kind == ABSENT:
            return TDP_MMU.skipped("the kernel has no such parameter")
        return cannot_read(TDP_MMU, value)
    return TDP_MMU.judged(value, "Y" if value else "N")


def _kvm(host: Host, running: Union[bool, Unreadable]) -> Probe:
    if isinstance(running, bool):
        if running:
            return KVM_TDX.passed("Y")
        words = host.parameters()
        asked = None if isinstance(words, Unreadable) else parameter(words, "kvm_intel.tdx")
        if asked in ("1", "y", "Y", "on"):
            return KVM_TDX.failed("N, though the kernel command line asks for it: TDX could not be brought up", "See the other findings")
        return KVM_TDX.failed("N: not asked for, or TDX could not be brought up")
    if running.kind != ABSENT:
        return cannot_read(KVM_TDX, running)
    if host.exists("/sys/module/kvm_intel") is True:
        return KVM_TDX.failed("kvm_intel has no parameter tdx", "Boot a kernel with KVM for TDX (Linux 6.16, or a distribution's backport)")
    return KVM_TDX.failed("kvm_intel is not loaded", "modprobe kvm_intel tdx=1. If it does not load, enable virtualization (VT-x) in the BIOS")


def _loaded(log: Union[KernelLog, Unreadable], running: Union[bool, Unreadable]) -> Probe:
    if running is True or logged(log, _DONE):
        return LOADED.passed("it is initialized")
    if logged(log, _NOT_LOADED):
        return LOADED.failed("module not loaded")
    if tdx_identity(log):
        return LOADED.passed("the kernel names its version")
    if isinstance(log, Unreadable) or not log.complete:
        return without_line(LOADED, log, "")
    return LOADED.skipped("the kernel has not asked for it")


def _initialized(log: Union[KernelLog, Unreadable], running: Union[bool, Unreadable]) -> Probe:
    # The parameter is N again when TDX could not be brought up, so Y counts even where the message is lost.
    if running is True:
        return INITIALIZED.passed("kvm_intel says Y", KVM_PARAMETER)
    failure, done = logged(log, _FAILED), logged(log, _DONE)
    if failure and not done:
        said = failure.group(0).strip()
        return INITIALIZED.failed(said[:200], next((fix for word, fix in _CAUSES if word.lower() in said.lower()), None))
    if done:
        return INITIALIZED.passed("the kernel log says so")
    if logged(log, _NOT_LOADED):
        return INITIALIZED.failed("module not loaded", LOADED.fix)
    return without_line(INITIALIZED, log, "no such message")


def _version(log: Union[KernelLog, Unreadable], cpu: Union[Cpu, Unreadable], running: Union[bool, Unreadable]) -> Probe:
    found = tdx_identity(log)
    if found is None:
        if running is True:
            return VERSION.skipped("TDX runs, but the message with the version is lost")
        if isinstance(log, Unreadable) or not log.complete:
            return without_line(VERSION, log, "")
        return VERSION.skipped("the kernel names no version")
    observed = "%s, build %d of %s" % (found["version"], found["build"], found["date"])
    if logged(log, _RBP):
        return VERSION.failed("%s has the RBP clobber bug" % observed)
    module = identify(found["build"])
    if module is None:
        return VERSION.unknown("%s is not in the table of published modules" % observed, "Compare it with Intel's list of releases")
    line = CPUS.get(cpu.model or 0, ("", ""))[0] if isinstance(cpu, Cpu) else ""
    if line and line not in module.cpus:
        cpus = ", ".join(sorted(module.cpus))
        return VERSION.unknown("%s was published for %s, not for %s" % (observed, cpus, line), "Compare it with Intel's list of releases")
    newest = NEWEST[module.version.rpartition(".")[0]]
    return VERSION.passed(observed + ("" if newest == module.version else "; %s is the newest known" % newest))


def _sgx_devices(host: Host) -> Probe:
    missing = []
    for path in ("/dev/sgx_enclave", "/dev/sgx_provision"):
        found = host.exists(path)
        if isinstance(found, Unreadable):
            return cannot_read(SGX_DEVICES, found)
        if not found:
            missing.append(path)
    return SGX_DEVICES.judged(not missing, "missing: %s" % ", ".join(missing) if missing else "both are there")
