# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An Arm CCA host. No released kernel is known to have KVM for realms, so this stays experimental, and unknown is a frequent answer.

The capability of KVM has another number in each series of the patches. It is taken from the running kernel, never from a table here:
some kernels show it as a parameter of kvm, others only in the headers that they were built with.
Messages: arch/arm64/kernel/smp.c and the kvm patches for Arm CCA (kvm_info "RMI ABI version").
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import cannot_read, logged, without_line
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, KernelLog, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import FAIL, SKIPPED, Probe, Question

KVM_PARAMETER = "/sys/module/kvm/parameters/kvm_cap_arm_rmi"
HEADERS = "/lib/modules/%s/build/include/uapi/linux/kvm.h"
CAPABILITY_MAX = 4095

ARCHITECTURE = Question("cca.cpu-architecture", "cpu", "aarch64", "uname", "CCA needs an Arm CPU with the Realm Management Extension")
EL2 = Question(
    "cca.kernel-el2",
    "kernel",
    "the kernel was started at exception level 2",
    "kernel log",
    "Let the firmware start the kernel at EL2: KVM cannot work below it. In QEMU add virtualization=on to the machine",
)
RMM = Question(
    "cca.firmware-rmm",
    "firmware",
    "the kernel speaks to a Realm Management Monitor",
    "kernel log",
    "Install firmware with an RMM (TF-A with ENABLE_RME=1) whose interface is that of the kernel's patches: 1.0 and 2.0 do not mix",
)
REALMS = Question(
    "cca.kvm-realms",
    "kernel",
    "KVM can start realms",
    "KVM_CHECK_EXTENSION on /dev/kvm",
    "Boot a kernel with the patches for Arm CCA, on firmware with an RMM",
)

_ALL_AT_EL2 = re.compile(r"CPU: All CPU\(s\) started at EL(\d)")
_RMI = re.compile(r"\bRMI ABI version (\d+)\.(\d+)")
_RMI_REFUSED = re.compile(r"Unsupported RMI ABI.*")
_DEFINED = re.compile(r"^#define\s+KVM_CAP_ARM_RM[EI]\s+(\d{1,4})\b", re.MULTILINE)


def probe_cca(host: Host, capability: Optional[int] = None) -> List[Probe]:
    """All probes of a CCA host. ``capability`` is the number of KVM's capability, for kernels that do not tell it."""
    log = host.kernel_log()
    if host.architecture() != "aarch64":
        others = [question.skipped("this is no Arm machine") for question in (EL2, RMM, REALMS)]
        return [ARCHITECTURE.failed(host.architecture()), *others]
    return [ARCHITECTURE.passed("aarch64"), _el2(log), _rmm(log), _realms(host, capability)]


def not_needed(probe: Probe) -> Probe:
    """Realms start without UEFI and without an IOMMU; what other hosts need decides nothing here."""
    if probe.outcome != FAIL or probe.id not in ("common.uefi", "common.iommu", "common.memlock"):
        return probe
    return replace(probe, outcome=SKIPPED, observed="%s; realms start without" % probe.observed, fix="")


def cca_identity(host: Host, capability: Optional[int] = None) -> Dict[str, Any]:
    """The version of the RMM's interface that the kernel names, and the number under which KVM knows realms, with its source."""
    version = logged(host.kernel_log(), _RMI)
    number, source = capability_number(host, capability)
    return {"rmi": "%s.%s" % version.group(1, 2) if version else None, "kvm_capability": number, "kvm_capability_source": source}


def capability_number(host: Host, given: Optional[int] = None) -> Tuple[Optional[int], str]:
    """The number of KVM_CAP_ARM_RMI (RME in older patches) in the running kernel, and who says so; None where nobody does."""
    if given is not None:
        return given, "kvm_capability"
    text = host.text(KVM_PARAMETER)
    if not isinstance(text, Unreadable) and text.isascii() and text.isdigit() and 0 < int(text[:6]) <= CAPABILITY_MAX:
        return int(text), KVM_PARAMETER
    path = HEADERS % host.kernel()
    header = host.text(path)
    match = None if isinstance(header, Unreadable) else _DEFINED.search(header)
    return (int(match.group(1)), path) if match else (None, "")


def _el2(log: Union[KernelLog, Unreadable]) -> Probe:
    found = logged(log, _ALL_AT_EL2)
    if found:
        return EL2.judged(found.group(1) == "2", "EL%s" % found.group(1))
    return without_line(EL2, log, "the kernel does not say so")


def _rmm(log: Union[KernelLog, Unreadable]) -> Probe:
    found, refused = logged(log, _RMI), logged(log, _RMI_REFUSED)
    if found:
        return RMM.passed("RMI %s.%s" % found.group(1, 2))
    if refused:
        return RMM.failed(refused.group(0)[:200])
    if isinstance(log, Unreadable) or not log.complete:
        return without_line(RMM, log, "")
    return RMM.unknown("the kernel does not speak of an RMM: it lacks the patches, or the firmware has none", RMM.fix)


def _realms(host: Host, given: Optional[int]) -> Probe:
    number, source = capability_number(host, given)
    if number is None:
        return REALMS.unknown(
            "nothing names the number of KVM's capability for realms",
            "Give kvm_capability, from include/uapi/linux/kvm.h of your kernel (KVM_CAP_ARM_RMI), or install the kernel's headers",
        )
    answer = host.kvm(number)
    if isinstance(answer, Unreadable):
        return cannot_read(REALMS, answer)
    return REALMS.judged(answer > 0, "KVM answers %d to capability %d (%s)" % (answer, number, source))
