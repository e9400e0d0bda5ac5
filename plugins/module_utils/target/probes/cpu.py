# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The CPU as the kernel names it in /proc/cpuinfo, and answers that many probes share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, FrozenSet, Optional, Pattern, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import DENIED, Host, KernelLog, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question

INTEL, AMD = "GenuineIntel", "AuthenticAMD"


@dataclass(frozen=True)
class Cpu:
    """CPU 0. ``family`` and ``model`` are None where the kernel names none, as on Arm. ``hypervisor``: this is a virtual machine."""

    vendor: str
    family: Optional[int]
    model: Optional[int]
    name: str
    flags: FrozenSet[str]
    hypervisor: bool


def read_cpu(host: Host) -> Union[Cpu, Unreadable]:
    text = host.text("/proc/cpuinfo")
    if isinstance(text, Unreadable):
        return text
    fields: Dict[str, str] = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        key, _sign, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = frozenset((fields.get("flags") or fields.get("Features") or "").split())
    return Cpu(
        fields.get("vendor_id") or fields.get("CPU implementer", ""),
        _decimal(fields.get("cpu family")),
        _decimal(fields.get("model")),
        fields.get("model name", ""),
        flags,
        "hypervisor" in flags,
    )


def _decimal(text: Optional[str]) -> Optional[int]:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 6 else None


def cannot_read(question: Question, why: Unreadable, load: str = "") -> Probe:
    """The third state: what could not be read, and what makes it readable. ``load`` is a kernel module that may be missing."""
    if why.kind == DENIED:
        return question.unknown(why.reason, "Run as root; kernel lockdown in confidentiality mode may hide it even then")
    if load and "not loaded" in why.reason:
        return question.unknown(why.reason, "modprobe %s, and run again" % load)
    return question.unknown(why.reason, "Look at it by hand")


def msr_bit(host: Host, question: Question, number: int, bit: int, wanted: int = 1) -> Probe:
    value = host.msr(number)
    if isinstance(value, Unreadable):
        return cannot_read(question, value, "msr")
    return question.judged(value >> bit & 1 == wanted, "0x%x, bit %d is %d" % (value, bit, value >> bit & 1))


def logged(log: Union[KernelLog, Unreadable], pattern: Pattern[str]) -> Optional["re.Match[str]"]:
    """The last line that matches: modules may be loaded again, and the last word counts."""
    if isinstance(log, Unreadable):
        return None
    for line in reversed(log.lines):
        match = pattern.search(line)
        if match:
            return match
    return None


def without_line(question: Question, log: Union[KernelLog, Unreadable], otherwise: str) -> Probe:
    """No line was found: a fault if the log is whole (``otherwise`` says which), unknown if lines may have been lost."""
    if isinstance(log, Unreadable):
        return cannot_read(question, log)
    if not log.complete:
        return question.unknown("the first messages of this boot are lost", "Reboot, or let journald keep the log of this boot")
    return question.failed(otherwise)
