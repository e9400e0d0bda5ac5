# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A confidential guest, seen from inside: which TEE it claims to be in, and whether evidence can be had.

All of it is a claim of the guest, and much of it of its host. Only evidence that was appraised says what it runs in.
"""

from __future__ import annotations

import re
from typing import List, Optional, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import INTEL, Cpu, cannot_read, logged
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, KernelLog, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question

TDX, SNP, SEV, CCA, NONE = "tdx", "sev-snp", "sev", "cca", "none"
TSM = "/sys/kernel/config/tsm/report"
MEASUREMENTS = "/sys/devices/virtual/misc/tdx_guest/measurements"
CCEL = "/sys/firmware/acpi/tables/data/CCEL"
SEV_STATUS = 0xC0010131
DETECT = ("systemd-detect-virt", "--cvm")
BUILTIN = "/lib/modules/%s/modules.builtin"
# The name that configfs-tsm gives as provider, and what shows that the driver is there.
DRIVERS = {
    TDX: ("tdx_guest", ("/dev/tdx_guest", "/sys/module/tdx_guest")),
    SNP: ("sev_guest", ("/dev/sev-guest", "/sys/module/sev_guest")),
    CCA: ("arm_cca_guest", ("/sys/module/arm_cca_guest", "/sys/bus/platform/drivers/arm_cca_guest")),
}

TEE = Question(
    "guest.tee",
    "guest",
    "a TDX, SEV-SNP or CCA guest",
    "CPU flags, kernel log, devices",
    "Start this machine as a confidential guest: on a cloud choose a confidential machine type, on your own host see scope host",
)
INTERFACE = Question(
    "guest.report-interface",
    "guest",
    "configfs-tsm or the guest driver's device is there",
    TSM,
    "Mount configfs, and load sev-guest, tdx-guest or arm-cca-guest (Linux 6.7 has configfs-tsm; arm-cca-guest came with 6.13)",
)
PROVIDER = Question(
    "guest.provider",
    "guest",
    "the guest driver of this TEE is loaded",
    "/sys/module, /dev, " + TSM,
    "Load tdx-guest, sev-guest or arm-cca-guest; in some distributions it is in a package of extra modules",
)
RTMRS = Question("guest.rtmrs", "guest", "the kernel shows RTMR 0 to 3", MEASUREMENTS, "Boot Linux 6.16 or later; quotes carry the registers all the same")
EVENT_LOG = Question(
    "guest.event-log",
    "guest",
    "the firmware left an event log",
    CCEL,
    "Boot with a firmware that writes a CCEL table; without it the RTMRs cannot be explained",
)

_ACTIVE = re.compile(r"Memory Encryption Features active: (.*)", re.I)
_TDX_GUEST = re.compile(r"tdx: Guest detected", re.I)
_DETECTED = re.compile(r"Detected confidential virtualization (tdx|sev-snp|sev-es|sev|cca)\b")
_RSI = re.compile(r"RME: Using RSI version", re.I)
_HCL_TPM = "/dev/tpmrm0"


def probe_guest(host: Host, cpu: Union[Cpu, Unreadable]) -> List[Probe]:
    """All probes of a guest."""
    tee = guest_tee(host, cpu)
    return [_tee(tee, cpu, host), _interface(host, tee), _provider(host, tee), _rtmrs(host, tee), _event_log(host, tee)]


def guest_tee(host: Host, cpu: Union[Cpu, Unreadable]) -> Optional[str]:
    """What the guest claims to run in. None: nothing says so, but not all could be read."""
    log = host.kernel_log()
    flags = cpu.flags if isinstance(cpu, Cpu) else frozenset()
    active = logged(log, _ACTIVE)
    features = active.group(1).upper() if active else ""
    if "tdx_guest" in flags or host.exists("/dev/tdx_guest") is True or logged(log, _TDX_GUEST) or "INTEL TDX" in features or _tdx_by_cpuid(host, cpu):
        return TDX
    status = host.msr(SEV_STATUS) if isinstance(cpu, Cpu) and cpu.vendor == "AuthenticAMD" and cpu.hypervisor else 0
    bits = 0 if isinstance(status, Unreadable) else status
    if host.exists("/dev/sev-guest") is True or "SEV-SNP" in features or bits & 4:
        return SNP
    if logged(log, _RSI):
        return CCA
    if "AMD SEV" in features or features.startswith("SEV") or bits & 1:
        return SEV
    said = logged(log, _DETECTED)
    if said:
        return SEV if said.group(1) == "sev-es" else said.group(1)
    # The kernel always says so when it runs encrypted: a whole log without the line is an answer.
    if isinstance(log, KernelLog) and log.complete and not isinstance(cpu, Unreadable):
        return NONE
    return _detected(host)


def _tdx_by_cpuid(host: Host, cpu: Union[Cpu, Unreadable]) -> bool:
    """Whether leaf 0x21 spells IntelTDX, in EBX, EDX and ECX."""
    if not isinstance(cpu, Cpu) or cpu.vendor != INTEL or not cpu.hypervisor:
        return False
    leaf = host.cpuid(0x21)
    return not isinstance(leaf, Unreadable) and b"".join(leaf[place].to_bytes(4, "little") for place in (1, 3, 2)) == b"IntelTDX    "


def _detected(host: Host) -> Optional[str]:
    """What systemd makes of the machine, for want of a whole log. Its value for realms is not confirmed."""
    answer = host.command(DETECT)
    word = "" if isinstance(answer, Unreadable) else answer.out.strip()
    return {"tdx": TDX, "sev-snp": SNP, "sev-es": SEV, "sev": SEV, "cca": CCA, "none": NONE}.get(word)


def provider(host: Host) -> Optional[str]:
    """The provider that an entry of configfs-tsm names. Without an entry None: making one would change the machine."""
    entries = host.listdir(TSM)
    for entry in () if isinstance(entries, Unreadable) else entries:
        text = host.text("%s/%s/provider" % (TSM, entry))
        if not isinstance(text, Unreadable):
            return text[:64]
    return None


def _tee(tee: Optional[str], cpu: Union[Cpu, Unreadable], host: Host) -> Probe:
    if tee in (TDX, SNP, CCA):
        return TEE.passed(tee)
    if tee == SEV:
        return TEE.failed("SEV without SNP: it has no attestation that this collection accepts")
    if tee is None:
        if isinstance(cpu, Unreadable):
            return cannot_read(TEE, cpu)
        log = host.kernel_log()
        if isinstance(log, Unreadable):
            return cannot_read(TEE, log)
        return TEE.unknown("nothing says so, but the first messages of this boot are lost", "Reboot, or let journald keep the log of this boot")
    kind = "this is no virtual machine" if isinstance(cpu, Cpu) and not cpu.hypervisor and host.architecture() == "x86_64" else "nothing says so"
    # Under Azure's paravisor the guest's kernel sees no TEE; the evidence lies behind the virtual TPM.
    paravisor = "; if this is a confidential guest on Azure, its evidence is behind the virtual TPM" if host.exists(_HCL_TPM) is True else ""
    return TEE.failed(kind + paravisor)


def _interface(host: Host, tee: Optional[str]) -> Probe:
    if tee not in (TDX, SNP, CCA):
        return INTERFACE.skipped("this is no confidential guest, as far as is known")
    found = host.exists(TSM)
    if found is True:
        return INTERFACE.passed(TSM)
    if tee == SNP and host.exists("/dev/sev-guest") is True:
        return INTERFACE.passed("/dev/sev-guest; configfs-tsm is missing", "/dev/sev-guest")
    return cannot_read(INTERFACE, found) if isinstance(found, Unreadable) else INTERFACE.failed("it does not exist")


def _provider(host: Host, tee: Optional[str]) -> Probe:
    if tee not in DRIVERS:
        return PROVIDER.skipped("this is no confidential guest, as far as is known")
    name, signs = DRIVERS[tee]
    shown = provider(host)
    if shown is not None:
        return PROVIDER.judged(shown == name, "configfs-tsm names %s" % ascii(shown))
    for sign in signs:
        if host.exists(sign) is True:
            return PROVIDER.passed(sign)
    # A driver that is built in leaves no trace under /sys/module unless it has parameters, but the kernel's files list it.
    listed = host.text(BUILTIN % host.kernel())
    if not isinstance(listed, Unreadable) and re.search(r"/%s\.ko\b" % name.replace("_", "[-_]"), listed):
        return PROVIDER.passed("%s is part of the kernel" % name, BUILTIN % host.kernel())
    return PROVIDER.unknown("none of %s is there" % ", ".join(signs), PROVIDER.fix)


def _rtmrs(host: Host, tee: Optional[str]) -> Probe:
    if tee != TDX:
        return RTMRS.skipped("only TDX guests have them")
    names = host.listdir(MEASUREMENTS)
    if isinstance(names, Unreadable):
        # They are a convenience: evidence does not need them, so that a kernel without them is no fault.
        return RTMRS.skipped("this kernel does not show them") if names.kind == ABSENT else cannot_read(RTMRS, names)
    shown = [name for name in names if re.match(r"rtmr[0-3]:sha384$", name)]
    return RTMRS.judged(len(shown) == 4, "%d of 4" % len(shown))


def _event_log(host: Host, tee: Optional[str]) -> Probe:
    if tee != TDX:
        return EVENT_LOG.skipped("only TDX guests have one at this place")
    found = host.exists(CCEL)
    if isinstance(found, Unreadable):
        return cannot_read(EVENT_LOG, found)
    return EVENT_LOG.judged(found, "it %s" % ("exists" if found else "does not exist"))
