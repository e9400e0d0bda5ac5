# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The virtual machine monitor: whether QEMU and libvirt can start confidential guests. They are asked what they know, and start nothing.

libvirt is asked only where it runs already: systemd would start it for the question.
"""

from __future__ import annotations

import re
from typing import Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import cannot_read
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, Output, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question

# Debian and Ubuntu; the RHEL family, for every architecture.
PROGRAMS = {"x86_64": ("qemu-system-x86_64", "/usr/libexec/qemu-kvm"), "aarch64": ("qemu-system-aarch64", "/usr/libexec/qemu-kvm")}


def _question(name: str, kind: str, fix: str) -> Question:
    return Question(name, "vmm", "QEMU knows the object %s" % kind, "qemu-system -object help", fix)


TDX = _question("tdx.qemu-object", "tdx-guest", "Install QEMU 10.1 or later, or your distribution's build for TDX")
SNP = _question("snp.qemu-object", "sev-snp-guest", "Install QEMU 9.1 or later")
DAEMONS = ("virtqemud.service", "libvirtd.service")
SYSTEMCTL = ("systemctl", "show", "--property=ActiveState", *DAEMONS)
VIRSH = ("virsh", "--readonly", "--connect", "qemu:///system", "domcapabilities")


def _libvirt(name: str, kind: str, fix: str) -> Question:
    return Question(name, "vmm", "libvirt offers the protection %s" % kind, "virsh domcapabilities", fix)


LIBVIRT_TDX = _libvirt("tdx.libvirt", "tdx", "Install a newer libvirt (Fedora planned 11.8) and mend the other findings, or start guests with QEMU itself")
LIBVIRT_SNP = _libvirt("snp.libvirt", "sev-snp", "Install a newer libvirt and mend the other findings, or start guests with QEMU itself")

_SECTYPE = re.compile(r"<enum name=['\"]sectype['\"]>(.*?)</enum>", re.DOTALL)


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


def probe_libvirt(host: Host, question: Question) -> Probe:
    """The answer to ``question``, LIBVIRT_TDX or LIBVIRT_SNP. A host without libvirt is no fault."""
    kind = question.expected.rpartition(" ")[2]
    state = host.command(SYSTEMCTL)
    if isinstance(state, Unreadable):
        return question.skipped("there is no systemd") if state.kind == ABSENT else cannot_read(question, state)
    if "ActiveState=active" not in state.out.splitlines():
        return question.skipped("libvirt does not run; guests can be started without it")
    answer = host.command(VIRSH)
    if isinstance(answer, Unreadable):
        return question.skipped("virsh is not installed") if answer.kind == ABSENT else cannot_read(question, answer)
    if answer.rc != 0:
        return question.unknown("virsh ends with status %d" % answer.rc, "Look at it by hand")
    offered = [value for part in _SECTYPE.findall(answer.out) for value in re.findall(r"<value>([^<]*)</value>", part)]
    named = kind == "tdx" and re.search(r"<tdx supported=['\"]yes['\"]", answer.out) is not None
    return question.judged(kind in offered or named, "offered: %s" % (", ".join(ascii(value)[1:-1] for value in offered) or ("tdx" if named else "none")))
