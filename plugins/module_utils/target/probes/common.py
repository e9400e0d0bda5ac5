# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every TEE host needs."""

from __future__ import annotations

import re
from typing import List, Optional, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import Cpu, cannot_read
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.memlock import probe_memlock
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import PASS, Probe, Question

BARE_METAL = Question(
    "common.bare-metal",
    "cpu",
    "the machine is no virtual machine",
    "/proc/cpuinfo",
    "Run this on the bare-metal host. On a cloud, rent a bare-metal instance, or a confidential guest and look at it with scope guest",
)
UEFI = Question(
    "common.uefi",
    "bios",
    "the machine was booted by UEFI",
    "/sys/firmware/efi",
    "Set the boot mode to UEFI in the BIOS, and install the system for UEFI",
)
KVM = Question(
    "common.kvm",
    "kernel",
    "/dev/kvm is there, with version 12 of its interface",
    "/dev/kvm",
    "Enable virtualization (VT-x or SVM) in the BIOS, and load kvm_intel or kvm_amd",
)
IOMMU = Question(
    "common.iommu",
    "iommu",
    "the IOMMU is on (needed for SEV-SNP and for passing GPUs through)",
    "/sys/kernel/iommu_groups",
    "Enable the IOMMU (VT-d or AMD-Vi) in the BIOS; on Intel add intel_iommu=on to the kernel command line",
)
SECURE_BOOT_VARIABLE = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
SECURE_BOOT = Question(
    "common.secure-boot",
    "bios",
    "the firmware tells whether Secure Boot is on",
    "EFI variable SecureBoot",
    "Reset the Secure Boot keys in the BIOS, or update it",
)
LOCKDOWN = Question(
    "common.lockdown",
    "kernel",
    "the kernel's lockdown hides no registers (none or integrity)",
    "/sys/kernel/security/lockdown",
    "Look at it by hand, and boot with lockdown=integrity if it hides what must be checked",
)


def probe_common(host: Host, cpu: Union[Cpu, Unreadable], least_kernel: Tuple[int, int], backport: str) -> List[Probe]:
    """``least_kernel`` is the first release with the TEE's support, ``backport`` a file whose presence shows the support in older ones."""
    return [
        _bare_metal(host, cpu),
        _exists(host, UEFI, "/sys/firmware/efi"),
        _secure_boot(host),
        _kernel(host, least_kernel, backport),
        _kvm(host),
        _iommu(host, cpu),
        _lockdown(host),
        probe_memlock(host),
    ]


def _bare_metal(host: Host, cpu: Union[Cpu, Unreadable]) -> Probe:
    if isinstance(cpu, Unreadable):
        return cannot_read(BARE_METAL, cpu)
    if cpu.hypervisor:
        return BARE_METAL.failed("this is a virtual machine (CPU flag hypervisor, %s)" % (cpu.name or cpu.vendor or "unnamed CPU"))
    if host.architecture() not in ("x86_64", "i686"):
        return BARE_METAL.skipped("CPUs of this architecture do not tell")
    return BARE_METAL.passed("no hypervisor announces itself")


def _exists(host: Host, question: Question, path: str) -> Probe:
    found = host.exists(path)
    if isinstance(found, Unreadable):
        return cannot_read(question, found)
    return question.judged(found, "%s %s" % (path, "exists" if found else "does not exist"))


def _kvm(host: Host) -> Probe:
    found = _exists(host, KVM, "/dev/kvm")
    version = host.kvm()
    if found.outcome != PASS or isinstance(version, Unreadable):
        return found
    # 12 since Linux 2.6.22; programs for virtual machines refuse any other.
    return KVM.judged(version == 12, "version %d" % version)


def _kernel(host: Host, least: Tuple[int, int], backport: str) -> Probe:
    question = Question(
        "common.kernel-version",
        "kernel",
        "Linux %d.%d or later, or one with the support ported back" % least,
        "uname",
        "Install a newer kernel, and boot it",
    )
    release = host.kernel()
    version = kernel_version(release)
    if version is None:
        return question.unknown("the release is %s" % ascii(release[:64]), "Look at it by hand")
    if version >= least:
        return question.passed(release)
    return question.passed("%s, with %s" % (release, backport)) if host.exists(backport) is True else question.failed(release)


def kernel_version(release: str) -> Optional[Tuple[int, int]]:
    match = re.match(r"(\d{1,3})\.(\d{1,5})", release)
    return (int(match.group(1)), int(match.group(2))) if match else None


def _iommu(host: Host, cpu: Union[Cpu, Unreadable]) -> Probe:
    path = "/sys/kernel/iommu_groups"
    groups = host.listdir(path)
    if isinstance(groups, Unreadable) and groups.kind != "absent":
        return cannot_read(IOMMU, groups)
    if not isinstance(groups, Unreadable) and groups:
        return IOMMU.passed("%d groups" % len(groups))
    observed = "there are no IOMMU groups"
    if isinstance(cpu, Cpu) and cpu.vendor == "GenuineIntel":
        return IOMMU.skipped(observed + "; TDX itself works without, GPU passthrough does not")
    return IOMMU.failed(observed)


def _secure_boot(host: Host) -> Probe:
    data = host.read(SECURE_BOOT_VARIABLE)
    if isinstance(data, Unreadable):
        return SECURE_BOOT.skipped("the firmware does not tell of it") if data.kind == ABSENT else cannot_read(SECURE_BOOT, data)
    # Four bytes of attributes, then the value.
    if len(data) != 5 or data[4] > 1:
        return SECURE_BOOT.failed("the variable holds %s" % data[:16].hex())
    if data[4]:
        return SECURE_BOOT.passed("on: the kernel takes only signed modules")
    return SECURE_BOOT.skipped("off; guests are protected from this host either way")


def _lockdown(host: Host) -> Probe:
    text = host.text("/sys/kernel/security/lockdown")
    if isinstance(text, Unreadable):
        return LOCKDOWN.skipped("the kernel does not tell of it") if text.kind == ABSENT else cannot_read(LOCKDOWN, text)
    match = re.search(r"\[(none|integrity|confidentiality)\]", text)
    if not match:
        return LOCKDOWN.failed("the kernel says %s" % ascii(text[:64]))
    if match.group(1) == "confidentiality":
        # Whether it hides registers is not confirmed; checks that meet it say so by themselves.
        return LOCKDOWN.skipped("confidentiality: registers of the CPU may be hidden, and what depends on them is then unknown")
    return LOCKDOWN.passed(match.group(1))
