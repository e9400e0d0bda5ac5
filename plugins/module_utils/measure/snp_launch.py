# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The launch digest of a SEV-SNP guest, computed by the library sev-snp-measure from firmware, kernel and CPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import DependencyError, FormatError

VMMS = ("qemu", "ec2", "gce")
VCPUS_MAX = 4096


@dataclass(frozen=True)
class SnpLaunch:
    """What a VMM launches: paths of ``ovmf`` and, where the firmware measures them, ``kernel`` and ``initrd`` with the command line
    ``append``; ``vcpus`` of the type ``vcpu_type`` (QEMU's name); ``guest_features`` as in the VMSA."""

    ovmf: str
    vcpus: int
    vcpu_type: str
    kernel: Optional[str] = None
    initrd: Optional[str] = None
    append: Optional[str] = None
    guest_features: int = 1
    vmm: str = "qemu"


def launch_digest(launch: SnpLaunch) -> bytes:
    """48 bytes. Raises FormatError for what cannot be measured, DependencyError without the library."""
    try:
        from sevsnpmeasure import guest, vcpu_types, vmm_types
    except ImportError:
        raise DependencyError("the Python library sev-snp-measure is missing", fix="Run: pip install 'sev-snp-measure>=0.0.12'") from None
    if launch.vcpu_type not in vcpu_types.CPU_SIGS:
        known = ", ".join(sorted(vcpu_types.CPU_SIGS))
        raise FormatError("the CPU type %s is not known, known are %s" % (ascii(launch.vcpu_type)[:40], known), where="vcpu_type")
    if not 1 <= launch.vcpus <= VCPUS_MAX:
        raise FormatError("%d CPUs, 1 to %d can be measured" % (launch.vcpus, VCPUS_MAX), where="vcpus")
    if launch.kernel is None and (launch.initrd is not None or launch.append is not None):
        raise FormatError("initrd and append go with a kernel", where="snp")
    vmm: Any = {"qemu": vmm_types.VMMType.QEMU, "ec2": vmm_types.VMMType.ec2, "gce": vmm_types.VMMType.gce}[launch.vmm]
    try:
        digest: bytes = guest.snp_calc_launch_digest(
            launch.vcpus, vcpu_types.CPU_SIGS[launch.vcpu_type], launch.ovmf, launch.kernel or "", launch.initrd or "", launch.append or "",
            launch.guest_features, "", vmm,
        )  # fmt: skip
    except OSError as error:
        raise FormatError("it cannot be read: %s" % (error.strerror or error), where=str(error.filename or launch.ovmf)) from None
    except Exception as error:  # pylint: disable=broad-except
        # The library raises what its parsers happen to raise; to its user each of these is one thing.
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise FormatError("the launch cannot be measured: %s" % text, where=launch.ovmf, fix="Give firmware that was built for SEV-SNP") from None
    return digest
