# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An Arm CCA host. No released kernel has KVM for realms yet, so this stays experimental, and unknown is a frequent answer.

The numbers of the capability differ between the patch series; none of them is asked for here.
"""

from __future__ import annotations

from typing import List

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import cannot_read
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question

KVM_PARAMETER = "/sys/module/kvm/parameters/kvm_cap_arm_rmi"

ARCHITECTURE = Question("cca.cpu-architecture", "cpu", "aarch64", "uname", "CCA needs an Arm CPU with the Realm Management Extension")
REALMS = Question("cca.kvm-realms", "kernel", "KVM can start realms", KVM_PARAMETER, "Boot a kernel with the patches for Arm CCA, on firmware with an RMM")


def probe_cca(host: Host) -> List[Probe]:
    """All probes of a CCA host."""
    return [ARCHITECTURE.judged(host.architecture() == "aarch64", host.architecture()), _realms(host)]


def _realms(host: Host) -> Probe:
    if host.architecture() != "aarch64":
        return REALMS.skipped("this is no Arm machine")
    value = host.text(KVM_PARAMETER)
    if isinstance(value, Unreadable):
        if value.kind == ABSENT:
            return REALMS.unknown("only some kernels have this file", "Try to start a realm; see the documentation of your kernel's patches")
        return cannot_read(REALMS, value)
    return REALMS.judged(value not in ("", "0", "N"), "it is %s" % ascii(value[:32]))
