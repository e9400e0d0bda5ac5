# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded guests, and outputs of nvidia-smi as public threads have them. Where no whole output is at hand, that is said."""

from __future__ import annotations

import copy

from ansible_collections.attested.ai.plugins.module_utils.target.guest_os.look import UNITS
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost

CPUINFO = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: INTEL(R) XEON(R) GOLD 6526Y\nflags\t\t: fpu rdrand rdseed hypervisor tdx_guest\n\n"
GOOD_UNITS = {"sys-kernel-config.mount": "loaded active static", "swap.target": "masked inactive masked", "chrony.service": "loaded active enabled"}


def units_text(found):
    """What systemctl show prints for the units that are looked for. A value is `load active file`, or with a fourth word the id behind an alias."""
    blocks = []
    for name in UNITS:
        load, active, file, *rest = (found.get(name) or "not-found inactive").split(" ") + [""] * (name not in found)
        blocks.append(f"Id={rest[0] if rest else name}\nLoadState={load}\nActiveState={active}\nUnitFileState={file}\n")
    return "\n".join(blocks)


def show(found):
    return {"systemctl show --property=Id,LoadState,ActiveState,UnitFileState " + " ".join(UNITS): {"rc": 0, "out": units_text(found)}}


GUEST = {
    "schema": "attested.ai/tee-recording/1",
    "kernel": "6.17.0-5-generic",
    "architecture": "x86_64",
    "files": {
        "/proc/cpuinfo": CPUINFO,
        "/proc/cmdline": "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro\n",
        "/proc/mounts": "configfs /sys/kernel/config configfs rw,nosuid 0 0\n",
        "/proc/swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
        "/etc/fstab": "/dev/vda1 / ext4 defaults 0 1\n# /swap none swap sw 0 0\n",
        "/proc/sys/kernel/core_pattern": "|/bin/false\n",
        "/proc/sys/fs/suid_dumpable": "0\n",
        "/proc/sys/kernel/random/entropy_avail": "256\n",
        "/sys/class/dmi/id/sys_vendor": "QEMU\n",
        "/etc/modules-load.d/attested-ai-tee-guest.conf": "# Managed\ntdx-guest\n",
        "/etc/chrony/chrony.conf": "pool time.example.org iburst nts\n",
    },
    "directories": {"/etc/modules-load.d": ["attested-ai-tee-guest.conf"]},
    "exists": {"/dev/tdx_guest": True, "/sys/kernel/config": True},
    "commands": {**show(GOOD_UNITS), "modprobe --show-depends tdx-guest": {"rc": 0, "out": "insmod /lib/modules/6.17.0-5-generic/tdx-guest.ko\n"}},
    "kernel_log": {"lines": ["Linux version 6.17.0-5-generic", "tdx: Guest detected"], "complete": True, "source": "/dev/kmsg"},
}


def guest(units=None, **changes):
    """``changes`` by section; a value None takes an entry away."""
    document = copy.deepcopy(GUEST)
    if units is not None:
        document["commands"].update(show({**GOOD_UNITS, **units}))
    for section, values in changes.items():
        for key, value in values.items():
            document[section].pop(key, None)
            if value is not None:
                document[section][key] = value
    return RecordedHost(document)


# --- nvidia-smi ---
# Protected PCIe on 8 x H200 in a TD (public user guide of a GPU host).
SMI_PPCIE = """
==============NVSMI CONF-COMPUTE LOG==============

    CC State                   : OFF
    Multi-GPU Mode             : Protected PCIe
    CPU CC Capabilities        : INTEL TDX
    GPU CC Capabilities        : CC Capable
    CC GPUs Ready State        : Ready
"""
# One H100 NVL under Azure's paravisor, driver 595.71.05.
SMI_AZURE = """CC State : ON
Multi-GPU Mode : None
CPU CC Capabilities : AMD SEV-SNP(vTOM Mode)
GPU CC Capabilities : CC Capable
CC GPUs Ready State : Ready
DevTools Mode : OFF
"""
# The same form for one GPU that takes no work yet; the two words of the state are those of -grs (nvtrust#37). No whole output was recorded.
SMI_WAITS = SMI_PPCIE.replace(": OFF", ": ON").replace("Protected PCIe", "None").replace(": Ready", ": Not Ready")
SMI_OFF = SMI_PPCIE.replace("Protected PCIe", "None")
GRS_READY = "Confidential Compute GPUs Ready state: ready\n"
GRS_NOT_READY = "Confidential Compute GPUs Ready state: not-ready\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22-I3-B17-02-5)  Tue Sep 23 09:55:41 UTC 2025\n"
PROPRIETARY = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.135  Fri Jan 10 20:00:00 UTC 2025\n"

# Kernel logs of failures, by the thread that has them.
LOGS = {
    "nvtrust#128": (
        "NVRM: gpumgrCheckRmFirmwarePolicy: Disabling GSP offload -- GPU not supported",
        "NVRM: osInitNvMapping: *** Cannot attach gpu",
        "NVRM: RmInitAdapter: osInitNvMapping failed, bailing out of RmInitAdapter",
        "NVRM: GPU 0000:05:00.0: RmInitAdapter failed! (0x22:0x56:763)",
    ),
    "nvtrust#124": (
        "NVRM: RmInitAdapter: osInitNvMapping failed, bailing out of RmInitAdapter",
        "NVRM: GPU 0000:05:00.0: RmInitAdapter failed! (0x22:0x3f:744)",
        "nvidia-nvswitch3: SXid (PCI:0000:04:00.0): 22013, Severity 0 Engine instance 56 Sub-engine instance 00",
    ),
    "nvtrust#58": (
        "NVRM: RmInitAdapter: Cannot initialize GSP firmware RM",
        "NVRM: GPU 0000:01:00.0: RmInitAdapter failed! (0x62:0x65:1784)",
        "NVRM: kfspPollForResponse_IMPL: FSP command timed out",
    ),
    "nvtrust#54": (
        "NVRM: _memmgrMemReadOrWriteWithGsp: Fatal error detected in GSP-DMA decrypt: 0x25!",
        "NVRM: confComputeSetErrorState_KERNEL: ConfCompute: Fatal error hit!",
    ),
    "nvtrust#67": ("NVRM: The NVIDIA GPU 0000:01:00.0 (PCI ID: 10de:2330)", "NVRM: installed in this system is not supported by the"),
    # The words of two reports; a whole log is not at hand.
    "aleph-vm#1271": ("NVRM: libspdm expects LKCA but found stubs!",),
}
