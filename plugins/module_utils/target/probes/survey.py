# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which probes a machine is asked, and what their answers come to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes import (
    cca_host,
    guest,
    guest_facts,
    quoting,
    quoting_online,
    snp_bios,
    snp_facts,
    snp_firmware,
    snp_host,
    tdx_host,
    tdx_kernel,
    tdx_module,
    tdx_platform,
)
from ansible_collections.attested.ai.plugins.module_utils.target.probes.common import SECURE_BOOT_VARIABLE, probe_common
from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import AMD, INTEL, Cpu, read_cpu
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import FAIL, OUTCOMES, SKIPPED, UNKNOWN, Probe

AUTO, HOST, GUEST = "auto", "host", "guest"
TDX, SNP, CCA = "tdx", "snp", "cca"
READY, NOT_READY, UNDECIDED = "ready", "not-ready", "unknown"

# What hosts of each TEE cannot do, whatever is set.
LIMITS = {TDX: tdx_host.LIMITS, SNP: snp_host.LIMITS}
# What has a meaning on a CPU of another vendor, too.
_OF_ANY_VENDOR = ("tdx.cpu-model", "snp.cpu-model", "tdx.kernel-nohibernate")


@dataclass(frozen=True)
class Survey:
    """What was asked and found. ``verdict`` is ready only if no probe failed and none is unknown. ``notes``: limits that no setting lifts."""

    scope: str
    tee: str
    verdict: str
    machine: Dict[str, Any]
    identity: Dict[str, Any]
    probes: Tuple[Probe, ...]
    notes: Tuple[str, ...] = ()

    def to_dict(self) -> Dict[str, Any]:
        return {
            "scope": self.scope,
            "tee": self.tee,
            "verdict": self.verdict,
            "machine": self.machine,
            "identity": self.identity,
            "notes": list(self.notes),
            "probes": [probe.to_dict() for probe in self.probes],
            "counts": {outcome: sum(probe.outcome == outcome for probe in self.probes) for outcome in OUTCOMES},
        }


def survey(
    host: Host, scope: str = AUTO, tee: str = AUTO, areas: Sequence[str] = (), kvm_capability: Optional[int] = None, online: bool = False
) -> Survey:
    """Ask ``host``. ``scope`` auto is guest in a virtual machine and host elsewhere; ``tee`` auto follows the CPU's vendor.

    Only probes of ``areas`` are kept where any are named. ``kvm_capability``: see cca_host. ``online``: services are asked, too.
    """
    cpu = read_cpu(host)
    if scope == AUTO:
        scope = GUEST if (isinstance(cpu, Cpu) and cpu.hypervisor) or guest.guest_tee(host, cpu) in (guest.TDX, guest.SNP, guest.CCA) else HOST
    if scope == GUEST:
        claimed = guest.guest_tee(host, cpu)
        found, name, identity = guest.probe_guest(host, cpu), claimed or UNKNOWN, guest_facts.guest_facts(host, cpu, claimed)
    else:
        name = _tee_of(host, cpu) if tee == AUTO else tee
        found, identity = _of_host(host, cpu, name, kvm_capability)
        if online and name == TDX and "quoting" in (areas or ("quoting",)):
            found = quoting_online.settled(found + _of_vendor(host, cpu, INTEL, lambda: quoting_online.probe_online(host)))
    chosen = tuple(probe for probe in found if not areas or probe.area in areas)
    return Survey(scope, name, verdict(chosen), _machine(host, cpu), identity, chosen, LIMITS.get(name, ()) if scope == HOST else ())


def verdict(probes: Sequence[Probe]) -> str:
    outcomes = [probe.outcome for probe in probes]
    return NOT_READY if FAIL in outcomes else UNDECIDED if UNKNOWN in outcomes or all(outcome == SKIPPED for outcome in outcomes) else READY


def _tee_of(host: Host, cpu: Union[Cpu, Unreadable]) -> str:
    if host.architecture() == "aarch64":
        return CCA
    return SNP if isinstance(cpu, Cpu) and cpu.vendor == AMD else TDX


def _of_host(host: Host, cpu: Union[Cpu, Unreadable], tee: str, kvm_capability: Optional[int]) -> Tuple[List[Probe], Dict[str, Any]]:
    if tee == TDX:
        found = probe_common(host, cpu, tdx_host.LEAST_KERNEL, tdx_kernel.KVM_PARAMETER)
        found += _of_vendor(host, cpu, INTEL, lambda: tdx_host.probe_tdx(host, cpu) + quoting.probe_quoting(host))
        return found, {"tdx_module": tdx_module.tdx_identity(host.kernel_log()), "tdx_platform": tdx_platform.tdx_platform(host)}
    if tee == SNP:
        found = probe_common(host, cpu, snp_host.LEAST_KERNEL, snp_bios.KVM_PARAMETER)
        found += _of_vendor(host, cpu, AMD, lambda: snp_host.probe_snp(host, cpu))
        return found, {
            "product": snp_bios.product(cpu) if isinstance(cpu, Cpu) else None,
            "snp_cpu": snp_bios.snp_cpu(host.cpuid(0x8000001F)),
            "snp_firmware": snp_firmware.snp_identity(host),
            "snp_kernel": snp_facts.snp_kernel(host),
            "snp_vceks": snp_facts.snp_vceks(host, snp_bios.product(cpu) if isinstance(cpu, Cpu) else None),
        }
    # No release with KVM for realms is known, so the version of the kernel decides nothing.
    common = [probe for probe in probe_common(host, cpu, (0, 0), cca_host.KVM_PARAMETER) if probe.id != "common.kernel-version"]
    found = [cca_host.not_needed(probe) for probe in common]
    return found + cca_host.probe_cca(host, kvm_capability), cca_host.cca_identity(host, kvm_capability)


def _of_vendor(host: Host, cpu: Union[Cpu, Unreadable], vendor: str, ask: Callable[[], List[Probe]]) -> List[Probe]:
    """On a CPU of another vendor the same registers may mean something else, and the modules of the kernel are others."""
    if isinstance(cpu, Unreadable) or cpu.vendor == vendor:
        return ask()
    reason = "this is no CPU of %s" % {INTEL: "Intel", AMD: "AMD"}[vendor]

    def judged(probe: Probe) -> Probe:
        return probe if probe.id in _OF_ANY_VENDOR else replace(probe, outcome=SKIPPED, observed=reason, fix="")

    return [judged(probe) for probe in ask()]


def _machine(host: Host, cpu: Union[Cpu, Unreadable]) -> Dict[str, Any]:
    lockdown = host.text("/sys/kernel/security/lockdown")
    return {
        "architecture": host.architecture(),
        "kernel": host.kernel(),
        "cpu": (cpu.name or cpu.vendor) if isinstance(cpu, Cpu) else "",
        "virtual": cpu.hypervisor if isinstance(cpu, Cpu) else None,
        "lockdown": None if isinstance(lockdown, Unreadable) else lockdown,
        "secure_boot": _secure_boot(host),
    }


def _secure_boot(host: Host) -> Union[bool, None]:
    data = host.read(SECURE_BOOT_VARIABLE)
    # Four bytes of attributes, then the value.
    return None if isinstance(data, Unreadable) or len(data) != 5 else data[4] == 1
