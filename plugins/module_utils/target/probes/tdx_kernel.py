# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What kernel and KVM of a TDX host decide. Messages: arch/x86/virt/vmx/tdx/tdx.c and arch/x86/kvm/vmx/tdx.c of Linux."""

from __future__ import annotations

import re
from typing import List, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import Cpu, cannot_read, logged, without_line
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, KernelLog, Unreadable, parameter
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question
from ansible_collections.attested.ai.plugins.module_utils.target.probes.tdx_bios import RANGE

KVM_PARAMETER = "/sys/module/kvm_intel/parameters/tdx"

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

KEXEC = Question(
    "tdx.kernel-kexec",
    "kernel",
    "no crash kernel on a CPU with the erratum tdx_pw_mce",
    "/proc/cpuinfo, /sys/kernel/kexec_crash_loaded",
    "",
)

_ERRATUM = re.compile(r"^bugs\s*:.*\btdx_pw_mce\b", re.MULTILINE)
_HIBERNATION = re.compile(r"tdx:.*Hibernation support is enabled", re.I)
_TDP_MMU = re.compile(r"TDX requires TDP MMU", re.I)


def probe_kernel(host: Host, cpu: Union[Cpu, Unreadable], log: Union[KernelLog, Unreadable], running: Union[bool, Unreadable]) -> List[Probe]:
    """``running`` is what kvm_intel says to TDX."""
    return [_detected(cpu, log), _hibernation(host, log, running), _tdp_mmu(host, log), _kvm(host, running), _kexec(host)]


def _detected(cpu: Union[Cpu, Unreadable], log: Union[KernelLog, Unreadable]) -> Probe:
    found = logged(log, RANGE)
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


def _kexec(host: Host) -> Probe:
    text, loaded = host.text("/proc/cpuinfo"), host.switch("/sys/kernel/kexec_crash_loaded")
    if isinstance(text, Unreadable):
        return cannot_read(KEXEC, text)
    if not _ERRATUM.search(text):
        return KEXEC.passed("the kernel names no such erratum")
    if loaded is True:
        # Later kernels know how to go on; which do is not settled, so this closes no gate.
        return KEXEC.skipped("a crash kernel is loaded and the CPU has the erratum: on older kernels kdump does not work while TDX is on")
    return KEXEC.passed("the CPU has the erratum, and no crash kernel is loaded" if loaded is False else "this kernel cannot tell of crash kernels")
