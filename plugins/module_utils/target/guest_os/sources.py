# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where randomness and time come from, and which part of both the host decides.

Linux seeds a confidential guest from RDRAND and refuses to boot without it (arch/x86/coco/core.c, since 6.9). What the host feeds in by virtio-rng
is mixed in and does no harm, but must never be all there is. Time is the host's in every virtual machine that does not ask elsewhere, with proof.
"""

from __future__ import annotations

import re
from typing import Dict, List, Union

from ansible_collections.attested.ai.plugins.module_utils.target.guest_os.units import Units, unit
from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import Cpu, cannot_read
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, Unreadable, parameter
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question

HWRNG = "/sys/class/misc/hw_random/rng_current"
CLOCKSOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
TIME_UNITS = ("chrony.service", "chronyd.service", "systemd-timesyncd.service", "ntpsec.service", "ntp.service", "ntpd.service")
CHRONY_FILES = ("/etc/chrony/chrony.conf", "/etc/chrony.conf", "/etc/chrony/attested-ai.conf", "/etc/chrony.attested-ai.conf")
# Clocks that a hypervisor writes. tsc is the CPU's own; of SEV-SNP only with SecureTSC, of TDX always.
HOST_CLOCKS = ("kvm-clock", "hyperv_clocksource_tsc_page", "hyperv_clocksource_msr", "xen", "acpi_pm", "hpet", "jiffies")
# Time servers inside a cloud: the metadata addresses of AWS, Google Cloud and Azure.
CLOUD_SERVERS = ("169.254.169.123", "fd00:ec2::123", "metadata.google.internal", "metadata", "169.254.169.254", "time.google.internal")

CPU_SOURCE = Question(
    "guest-os.entropy-cpu",
    "entropy",
    "the CPU has a random generator, and the kernel uses it",
    "/proc/cpuinfo, /proc/cmdline",
    "Take nordrand, random.trust_cpu=off and clearcpuid= off the kernel command line; without RDRAND or Arm's RNDR all randomness is the host's",
)
READY = Question(
    "guest-os.entropy-ready",
    "entropy",
    "the kernel's random generator is seeded (256 bits)",
    "/proc/sys/kernel/random/entropy_avail",
    "Keys made now may be guessed. Find out why the CPU's generator gives nothing",
)
SYNC = Question(
    "guest-os.time",
    "time",
    "one service keeps the time, and asks others than the host",
    "systemctl, chrony.conf, /sys/class/ptp",
    "Name servers with NTS (tee_guest_time_servers), or waive this where nothing in the guest rests on its clock",
)


def probe_sources(host: Host, cpu: Union[Cpu, Unreadable], units: Units) -> List[Probe]:
    return [_cpu_source(host, cpu), _ready(host), _time(host, units)]


def _cpu_source(host: Host, cpu: Union[Cpu, Unreadable]) -> Probe:
    if isinstance(cpu, Unreadable):
        return cannot_read(CPU_SOURCE, cpu)
    names = [name for name in ("rdrand", "rdseed", "rng") if name in cpu.flags]
    words = host.parameters()
    if isinstance(words, Unreadable):
        return cannot_read(CPU_SOURCE, words)
    trust = parameter(words, "random.trust_cpu")
    if trust is not None and trust.lower() in ("0", "off", "n", "no", "false"):
        return CPU_SOURCE.failed("the kernel was told not to trust it (random.trust_cpu=%s)" % trust)
    if parameter(words, "nordrand") is not None and "rdrand" not in names:
        return CPU_SOURCE.failed("nordrand is on the kernel command line")
    return CPU_SOURCE.judged(bool(names), "it has %s" % ", ".join(names) if names else "it has neither RDRAND nor RNDR")


def _ready(host: Host) -> Probe:
    text = host.text("/proc/sys/kernel/random/entropy_avail")
    if isinstance(text, Unreadable):
        return cannot_read(READY, text)
    if not (text.isascii() and text.isdigit()):
        return READY.unknown("it says %s" % ascii(text[:32]), "Look at it by hand")
    return READY.judged(int(text) >= 256, "%s bits" % text)


def time_sources(text: str) -> List[str]:
    """Servers, pools, peers and reference clocks that a chrony.conf names."""
    found = []
    for line in text.splitlines():
        match = re.match(r"\s*(server|pool|peer|refclock)\s+(\S+)(?:\s+(\S+))?", line, re.I)
        if match:
            found.append(match.group(2) if match.group(1).lower() != "refclock" else "%s %s" % (match.group(2), match.group(3) or ""))
    return found


def of_the_host(source: str) -> bool:
    return source in CLOUD_SERVERS or source.upper().startswith("PHC ")


def _active(units: Units) -> List[str]:
    return [name for name in TIME_UNITS for found in [unit(units, name)] if found is not None and found.active == "active"]


def configured_sources(host: Host) -> List[str]:
    """Those of our own file where it is in use, else of the distribution's."""
    for own in CHRONY_FILES[2:]:
        text = host.text(own)
        if not isinstance(text, Unreadable):
            return time_sources(text)
    texts = [host.text(path) for path in CHRONY_FILES[:2]]
    return [source for text in texts if not isinstance(text, Unreadable) for source in time_sources(text)]


def _time(host: Host, units: Units) -> Probe:
    if isinstance(units, Unreadable):
        return cannot_read(SYNC, units)
    active = _active(units)
    if not active:
        return SYNC.failed("no service keeps the time: it is what the host says")
    sources = configured_sources(host) if active[0].startswith("chrony") else []
    hosts = [source for source in sources if of_the_host(source)]
    if sources and hosts == sources:
        return SYNC.failed("%s asks the host or the cloud alone: %s" % (active[0], ", ".join(ascii(source) for source in hosts)))
    return SYNC.passed(active[0] + (", asks %s" % ", ".join(ascii(source) for source in sources) if sources else ""))


def told(host: Host) -> List[Dict[str, str]]:
    """What of both the host decides. None of it is wrong by itself."""
    found: List[Dict[str, str]] = []
    generator = host.text(HWRNG)
    if not isinstance(generator, Unreadable) and generator.startswith("virtio_rng"):
        found.append(_row("random generator %s" % generator, "choose every number that it gives", "Nothing: the kernel mixes it with the CPU's own"))
    clock = host.text(CLOCKSOURCE)
    if not isinstance(clock, Unreadable) and clock in HOST_CLOCKS:
        fix = "Boot with clocksource=tsc where the TEE protects the TSC (TDX, SEV-SNP with SecureTSC)"
        found.append(_row("clock %s" % clock, "let the guest's time run fast, slow or back", fix))
    names = host.listdir("/sys/class/ptp")
    for name in () if isinstance(names, Unreadable) else names:
        text = host.text("/sys/class/ptp/%s/clock_name" % name)
        if not isinstance(text, Unreadable) and re.search(r"kvm|hyperv|hyper-v|ptp_vmw|ena", text, re.I):
            found.append(_row("time device %s" % text, "set the time of whoever asks it", "Take refclock PHC out of chrony.conf (tee_guest_time_servers does)"))
    for source in configured_sources(host):
        if of_the_host(source):
            found.append(_row("time source %s" % source, "set the guest's time", "Name servers with NTS instead (tee_guest_time_servers)"))
    return found


def _row(subject: str, can: str, fix: str) -> Dict[str, str]:
    return {"subject": subject, "who": "the host", "can": can, "fix": fix}
