# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Known failures of GPUs in confidential guests, by the words in which the driver, nvidia-smi and CUDA tell of them.

Pure: texts in, named findings out. ``source`` says where the words were recorded. The first of several findings is the one to mend first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Pattern, Sequence, Tuple

LOG, SMI, CUDA = "kernel log", "nvidia-smi", "application"


@dataclass(frozen=True)
class Failure:
    """``where`` names the texts that its ``words`` are looked for in. ``mark`` is empty where the words were read in a recorded output."""

    id: str
    what: str
    where: Tuple[str, ...]
    words: Pattern[str]
    fix: str
    source: str
    mark: str = ""


@dataclass(frozen=True)
class Finding:
    """A failure that was found, with the line that tells of it."""

    failure: Failure
    where: str
    line: str

    def to_dict(self) -> Dict[str, str]:
        failure = self.failure
        return {
            "id": failure.id,
            "what": failure.what,
            "where": self.where,
            "line": self.line,
            "fix": failure.fix,
            "source": failure.source,
            "mark": failure.mark,
        }


def _words(pattern: str) -> Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


# Causes come before what follows from them.
FAILURES: Tuple[Failure, ...] = (
    Failure(
        "lkca-stubs",
        "the driver was built without the kernel's crypto interface (LKCA), so it cannot speak to the GPU's security processor",
        (LOG,),
        _words(r"libspdm expects LKCA but found stubs"),
        "Take a kernel with CRYPTO_ECDH, CRYPTO_ECDSA, CRYPTO_RSA, X509_CERTIFICATE_PARSER, GCM and SHA512, and build the open driver anew for it "
        "(on kernels from 6.13 on with a driver newer than 570.158.01)",
        "aleph-vm#1271, open-gpu-kernel-modules#893",
        "the words are those of the reports; no whole log is at hand",
    ),
    Failure(
        "unsupported-driver",
        "this driver does not know this GPU, or is not allowed to drive it in this mode",
        (LOG,),
        _words(r"installed in this system is not supported by the"),
        "Install the open kernel modules of the branch that the matrix names, and see whether the GPU is in confidential mode on the host",
        "nvtrust#67",
    ),
    Failure(
        "gsp-offload-off",
        "the driver runs without the GPU's system processor, which confidential computing needs",
        (LOG,),
        _words(r"Disabling GSP offload -- GPU not supported"),
        "Take the open kernel modules of one version for all GPUs, and all 8 GPUs in ppcie mode",
        "nvtrust#128",
    ),
    Failure(
        "gsp-decrypt",
        "what the GPU sent could not be decrypted: the session between driver and GPU is broken",
        (LOG,),
        _words(r"GSP-DMA decrypt|ConfCompute: Fatal error hit"),
        "Stop the guest and reset the GPU on the host; load ecdh_generic and ecdsa_generic before nvidia; take a driver of the matrix",
        "nvtrust#54",
    ),
    Failure(
        "fsp-boot",
        "the GPU's security processor did not start the driver's firmware",
        (LOG,),
        _words(r"FSP boot cmds failed|FSP command timed out|FSP response reported error"),
        "Stop the guest and reset the GPU on the host. If it stays so, set its mode again (attested.ai.gpu_cc_mode), or power the host off and on",
        "nvtrust#19, nvtrust#58",
    ),
    Failure(
        "session-lost",
        "the GPU was initialised and left again since its last reset: in confidential mode that works once",
        (LOG,),
        _words(r"osInitNvMapping: \*\*\* Cannot attach gpu"),
        "Have nvidia-persistenced start before anything else touches the GPU; then stop the guest and start it again, which resets the GPU",
        "nvtrust#128, nvtrust#124, aleph-vm#1271",
    ),
    Failure(
        "switch-links",
        "NVSwitches report errors of links: GPUs and switches are not all in protected PCIe mode",
        (LOG,),
        _words(r"SXid \(PCI:[0-9a-f:.]+\): 22013"),
        "Set all 8 GPUs and 4 switches to ppcie (attested.ai.gpu_cc_mode), with HGX firmware 1.7.0 or later, and the option RmEnableProtectedPcie",
        "nvtrust#124",
    ),
    Failure(
        "adapter",
        "the driver could not initialise the GPU",
        (LOG,),
        _words(r"RmInitAdapter failed|Cannot initialize GSP firmware RM"),
        "See the other findings. Without one, stop the guest and reset the GPU on the host",
        "nvtrust#58, nvtrust#124, nvtrust#128",
    ),
    Failure(
        "fabric-not-ready",
        "the GPU waits for an NVLink fabric that nobody brings up",
        (LOG, SMI, CUDA),
        _words(r"NV_ERR_NVLINK_FABRIC_NOT_READY|because ?the NVLink fabric is no"),
        "One GPU of a board: set NVreg_NvLinkDisable=1. A whole Hopper board: start nvidia-fabricmanager here. Blackwell: start it, with NVLSM, on the host",
        "dstack#1157, nvrc#159",
    ),
    Failure(
        "fabric-manager-version",
        "fabric manager and driver are of different versions",
        (LOG,),
        _words(r"fabric manager NVIDIA GPU driver interface version \S+ don.t match with driver version"),
        "Install nvidia-fabricmanager and libnvidia-nscq of exactly the driver's version",
        "nvtrust#55",
    ),
    Failure(
        "fabric-nothing",
        "fabric manager finds no switches",
        (LOG,),
        _words(r"NV_WARN_NOTHING_TO_DO"),
        "Fabric manager belongs only into a guest that was given a whole Hopper board with its 4 switches; on Blackwell it needs NVLSM, on the host",
        "gpu-operator#610, siderolabs/extensions#717",
    ),
    Failure(
        "fallen-off",
        "a GPU has fallen off the bus",
        (LOG, SMI),
        _words(r"Xid \(PCI:[0-9a-f:.]+\): 79\b|GPU has fallen off the bus|GPU is lost"),
        "Stop the guest and power the host off and on. With HGX firmware 1.6.0 this happens in ppcie mode: it needs 1.7.0",
        "NVIDIA's matrix notes; Xid 79 of NVIDIA's Xid catalogue",
        "the words are NVIDIA's own; no log of a confidential guest is at hand",
    ),
    Failure(
        "version-mismatch",
        "kernel module and libraries of the driver are of different versions",
        (SMI,),
        _words(r"Driver/library version mismatch"),
        "Install all packages of the driver in one version, and reboot",
        "public logs of nvidia-smi",
    ),
    Failure(
        "no-driver",
        "nvidia-smi does not reach the driver",
        (SMI,),
        _words(r"couldn't communicate with the NVIDIA driver"),
        "See the kernel log; load nvidia after ecdh_generic and ecdsa_generic",
        "public logs of nvidia-smi",
    ),
    Failure(
        "no-devices",
        "the driver finds no GPU",
        (SMI,),
        _words(r"No devices were found"),
        "See the kernel log for the reason",
        "public logs of nvidia-smi",
    ),
    Failure(
        "not-capable",
        "none of the GPUs can do confidential computing",
        (SMI,),
        _words(r"No CC capable devices found"),
        "Pass a GPU of Hopper or later through",
        "go-tpm-tools#542",
    ),
    Failure(
        "error-802",
        "CUDA waits: system not yet initialized (802). The GPUs take no work yet",
        (CUDA,),
        _words(r"system not yet initialized|error 802\b|SYSTEM_NOT_READY"),
        "Attest the GPUs, then set the ready state (role gpu_cc_guest). If they are ready, see fabric-not-ready",
        "nvtrust#37, #39, #56, #87, nvrc#159",
    ),
)


def diagnose(log: Sequence[str] = (), smi: str = "", application: str = "") -> List[Finding]:
    """One finding for each known failure, with its first line, in the order of FAILURES."""
    texts: Dict[str, Sequence[str]] = {LOG: log, SMI: smi.splitlines(), CUDA: application.splitlines()}
    found = []
    for failure in FAILURES:
        hit = next(((where, line) for where in failure.where for line in texts[where] if failure.words.search(line)), None)
        if hit is not None:
            found.append(Finding(failure, hit[0], hit[1].strip()[:200]))
    return found
