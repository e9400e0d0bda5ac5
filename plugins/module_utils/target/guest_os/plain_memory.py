# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ways by which a guest's memory gets onto a disk that the host reads: swap, core dumps, the dump of a crashed kernel."""

from __future__ import annotations

import re
from typing import List, Union

from ansible_collections.attested.ai.plugins.module_utils.target.guest_os.units import Units, unit
from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import cannot_read
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, Unreadable, parameter
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question

SWAP_TARGET = "swap.target"
KDUMP_UNITS = ("kdump-tools.service", "kdump.service")

SWAP = Question(
    "guest-os.swap",
    "memory",
    "no swap, or swap on zram in memory only",
    "/proc/swaps",
    "Turn it off (tee_guest_swap: off). What was written to it stays on the disk until that is overwritten: take a new disk if secrets were in memory",
)
SWAP_BOOT = Question(
    "guest-os.swap-at-boot",
    "memory",
    "no swap is turned on at the next boot",
    "/etc/fstab, swap.target",
    "Mask swap.target (tee_guest_swap: off), or take the line out of /etc/fstab",
)
CORE = Question(
    "guest-os.core-dumps",
    "memory",
    "a process that crashes leaves no copy of its memory",
    "/proc/sys/kernel/core_pattern, /proc/sys/fs/suid_dumpable",
    "Set kernel.core_pattern to |/bin/false and fs.suid_dumpable to 0 (tee_guest_core_dumps: false)",
)
CRASH = Question(
    "guest-os.crash-kernel",
    "memory",
    "a kernel that crashes leaves no copy of memory",
    "/sys/kernel/kexec_crash_loaded, kdump",
    "Disable kdump and take crashkernel= off the kernel command line",
)


def probe_memory(host: Host, units: Units) -> List[Probe]:
    return [_swap(host), _swap_at_boot(host, units), _core(host), _crash(host, units)]


def active_swaps(host: Host) -> Union[List[str], Unreadable]:
    text = host.text("/proc/swaps")
    if isinstance(text, Unreadable):
        return [] if text.kind == ABSENT else text
    return [line.split()[0] for line in text.splitlines()[1:] if line.strip()]


def _swap(host: Host) -> Probe:
    names = active_swaps(host)
    if isinstance(names, Unreadable):
        return cannot_read(SWAP, names)
    for name in names:
        if not re.match(r"/dev/zram[0-9]+\Z", name):
            return SWAP.failed("swap is active on %s" % ascii(name))
        backing = host.text("/sys/block/%s/backing_dev" % name.rpartition("/")[2])
        if isinstance(backing, Unreadable) and backing.kind != ABSENT:
            return cannot_read(SWAP, backing)
        # A kernel without write-back for zram has no such file.
        if not isinstance(backing, Unreadable) and backing != "none":
            return SWAP.failed("%s writes back to %s" % (name, ascii(backing)))
    return SWAP.passed("only %s, in memory" % ", ".join(names) if names else "none")


def fstab_swaps(text: str) -> List[str]:
    """What /etc/fstab swaps on. Lines for zram are left out."""
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [words[0] for words in lines if len(words) >= 3 and words[2] == "swap" and not words[0].startswith("/dev/zram")]


def _swap_at_boot(host: Host, units: Units) -> Probe:
    target = unit(units, SWAP_TARGET)
    if target is not None and target.masked:
        return SWAP_BOOT.passed("swap.target is masked")
    text = host.text("/etc/fstab")
    if isinstance(text, Unreadable) and text.kind != ABSENT:
        return cannot_read(SWAP_BOOT, text)
    named = [] if isinstance(text, Unreadable) else fstab_swaps(text)
    return SWAP_BOOT.failed("/etc/fstab names %s" % ", ".join(ascii(name) for name in named)) if named else SWAP_BOOT.passed("/etc/fstab names none")


def _core(host: Host) -> Probe:
    pattern, dumpable = host.text("/proc/sys/kernel/core_pattern"), host.text("/proc/sys/fs/suid_dumpable")
    if isinstance(pattern, Unreadable):
        return cannot_read(CORE, pattern)
    if isinstance(dumpable, Unreadable):
        return cannot_read(CORE, dumpable)
    off = re.match(r"\|\s*(/usr)?/bin/(false|true)\Z", pattern) is not None
    return CORE.judged(off and dumpable == "0", "core_pattern is %s, suid_dumpable %s" % (ascii(pattern), ascii(dumpable)))


def _crash(host: Host, units: Units) -> Probe:
    loaded = host.text("/sys/kernel/kexec_crash_loaded")
    if isinstance(loaded, Unreadable) and loaded.kind != ABSENT:
        return cannot_read(CRASH, loaded)
    if loaded == "1":
        return CRASH.failed("a crash kernel is loaded")
    running = [name for name in KDUMP_UNITS for found in [unit(units, name)] if found is not None and found.runs]
    words = host.parameters()
    reserved = not isinstance(words, Unreadable) and parameter(words, "crashkernel") is not None
    if running and reserved:
        return CRASH.failed("%s is enabled, and crashkernel= reserves memory for it" % ", ".join(running))
    return CRASH.passed("none is loaded")
