# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The drivers that evidence comes from: there, loaded, loaded at each boot; and configfs mounted."""

from __future__ import annotations

import re
from typing import List, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.target.guest_os.cloud import AZURE
from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import cannot_read
from ansible_collections.attested.ai.plugins.module_utils.target.probes.guest import CCA, SNP, TDX
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question

CONFIGFS = "/sys/kernel/config"
CONFIGFS_UNIT = "sys-kernel-config.mount"
LOADED_AT_BOOT = ("/etc/modules-load.d", "/usr/lib/modules-load.d", "/run/modules-load.d")
# By TEE: the kernel module of the evidence, and what shows that it is at work.
MODULES = {
    TDX: ("tdx-guest", ("/dev/tdx_guest", "/sys/module/tdx_guest")),
    SNP: ("sev-guest", ("/dev/sev-guest", "/sys/module/sev_guest")),
    CCA: ("arm-cca-guest", ("/sys/module/arm_cca_guest", "/sys/bus/platform/drivers/arm_cca_guest")),
}
# Under Azure's paravisor the report lies behind the virtual TPM.
VTPM = ("tpm_crb", ("/dev/tpmrm0",))

DRIVER = Question(
    "guest-os.driver",
    "evidence",
    "the driver that evidence comes from is at work",
    "/dev, /sys/module",
    "Load it (role tee_guest). In Ubuntu it is in linux-modules-extra of the running kernel",
)
DRIVER_BOOT = Question(
    "guest-os.driver-at-boot",
    "evidence",
    "it is part of the kernel, or loaded at each boot",
    "/etc/modules-load.d",
    "Name it in a file under /etc/modules-load.d (role tee_guest)",
)
MOUNTED = Question(
    "guest-os.configfs",
    "evidence",
    "configfs is mounted on " + CONFIGFS,
    "/proc/mounts",
    "Start sys-kernel-config.mount, which also mounts it at each boot (role tee_guest)",
)


def driver_of(tee: Optional[str], cloud: str) -> Optional[Tuple[str, Tuple[str, ...]]]:
    """The module, and its signs. None where no TEE shows: then no driver can help."""
    if tee in MODULES:
        return MODULES[tee]
    return VTPM if cloud == AZURE else None


def available(host: Host, module: str) -> Optional[str]:
    """builtin, module, or missing, as modprobe finds it for the running kernel. None if modprobe cannot be asked."""
    answer = host.command(("modprobe", "--show-depends", module))
    if isinstance(answer, Unreadable):
        return None
    if answer.rc != 0:
        return "missing"
    return "builtin" if re.search(r"^builtin ", answer.out, re.MULTILINE) and "insmod" not in answer.out else "module"


def probe_evidence(host: Host, tee: Optional[str], cloud: str) -> List[Probe]:
    driver = driver_of(tee, cloud)
    if driver is None:
        reason = "no TEE shows here, see attested.ai.tee_info"
        # Where there is no TEE nobody needs it, so a kernel without it is no fault.
        return [DRIVER.skipped(reason), DRIVER_BOOT.skipped(reason), _configfs(host) if host.exists(CONFIGFS) is True else MOUNTED.skipped(reason)]
    module, signs = driver
    return [_driver(host, signs), _at_boot(host, module), _configfs(host)]


def _driver(host: Host, signs: Tuple[str, ...]) -> Probe:
    for sign in signs:
        if host.exists(sign) is True:
            return DRIVER.passed(sign)
    return DRIVER.failed("none of %s is there" % ", ".join(signs))


def _at_boot(host: Host, module: str) -> Probe:
    state = available(host, module)
    if state == "builtin":
        return DRIVER_BOOT.passed("%s is part of the kernel" % module)
    if state == "missing":
        return DRIVER_BOOT.failed("%s is not among the modules of the running kernel" % module, DRIVER.fix)
    for folder in LOADED_AT_BOOT:
        names = host.listdir(folder)
        for name in () if isinstance(names, Unreadable) else names:
            text = host.text("%s/%s" % (folder, name)) if name.endswith(".conf") else ""
            lines = "" if isinstance(text, Unreadable) else text
            if any(line.strip().replace("_", "-") == module.replace("_", "-") for line in lines.splitlines()):
                return DRIVER_BOOT.passed("%s/%s" % (folder, name))
    return DRIVER_BOOT.failed("no file under %s names %s" % (LOADED_AT_BOOT[0], module))


def _configfs(host: Host) -> Probe:
    mounts = host.text("/proc/mounts")
    if isinstance(mounts, Unreadable):
        return cannot_read(MOUNTED, mounts)
    if any(line.split()[1:3] == [CONFIGFS, "configfs"] for line in mounts.splitlines()):
        return MOUNTED.passed("it is")
    there = host.exists(CONFIGFS)
    if isinstance(there, Unreadable) and there.kind != ABSENT:
        return cannot_read(MOUNTED, there)
    return MOUNTED.failed("it is not" if there is True else "the kernel has no configfs loaded")
