# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The virtual machine monitor: whether QEMU can start confidential guests. It is asked for the objects it knows, and starts nothing."""

from __future__ import annotations

from typing import Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, Output, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question

# Debian and Ubuntu; the RHEL family, for every architecture.
PROGRAMS = {"x86_64": ("qemu-system-x86_64", "/usr/libexec/qemu-kvm"), "aarch64": ("qemu-system-aarch64", "/usr/libexec/qemu-kvm")}


def _question(name: str, kind: str, fix: str) -> Question:
    return Question(name, "vmm", "QEMU knows the object %s" % kind, "qemu-system -object help", fix)


TDX = _question("tdx.qemu-object", "tdx-guest", "Install QEMU 10.1 or later, or your distribution's build for TDX")
SNP = _question("snp.qemu-object", "sev-snp-guest", "Install QEMU 9.1 or later")


def probe_qemu(host: Host, question: Question) -> Probe:
    """The answer to ``question``, TDX or SNP. A host without QEMU in the usual places is no fault: Kata and others bring their own."""
    kind = question.expected.rpartition(" ")[2]
    answer: Union[Output, Unreadable] = Unreadable(ABSENT, "")
    for program in PROGRAMS.get(host.architecture(), ()):
        answer = host.command((program, "-object", "help"))
        if not isinstance(answer, Unreadable):
            break
    if isinstance(answer, Unreadable):
        if answer.kind == ABSENT:
            return question.skipped("there is no QEMU in the usual places; Kata Containers brings its own")
        return question.unknown(answer.reason, "Look at it by hand")
    if answer.rc != 0:
        return question.unknown("QEMU ends with status %d" % answer.rc, "Look at it by hand")
    found = kind in answer.out.split()
    return question.judged(found, "%s is %slisted" % (kind, "" if found else "not "))
