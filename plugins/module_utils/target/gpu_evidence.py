# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Evidence of all NVIDIA devices of this guest, over one nonce: every GPU, and the switches where the guest owns them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.target import nscq, nvml

NONE, AUTO, REQUIRED = "none", "auto", "required"
CHOICES = (NONE, AUTO, REQUIRED)
# What auto takes for a machine without NVIDIA devices; every other failure is one of a device that is there.
_ABSENT = ("gpu-no-library", "gpu-no-driver", "gpu-not-found")


@dataclass(frozen=True)
class DeviceEvidence:
    """The items for the document, and what the guest's libraries say of the devices, which is for people."""

    items: Tuple[EvidenceItem, ...] = ()
    devices: Tuple[Dict[str, Any], ...] = ()


def collect(
    nonce: bytes,
    gpus: str = NONE,
    switches: str = AUTO,
    nvml_library: str = nvml.DEFAULT_LIBRARY,
    nscq_library: str = nscq.DEFAULT_LIBRARY,
    open_nvml: Callable[[str], nvml.Nvml] = nvml.Nvml,
    open_nscq: Callable[[str], nscq.Nscq] = nscq.Nscq,
) -> DeviceEvidence:
    """Evidence over ``nonce`` (32 bytes), of every device or of none.

    ``gpus``: "none" does not look; "auto" takes a machine without NVIDIA's driver, or with confidential computing off, as one without
    such devices; "required" fails there. ``switches``: "auto" collects them if the GPUs are in protected PCIe mode, where they
    are needed; "required" always; "none" never. Raises CollectError.
    """
    if gpus == NONE:
        if switches == REQUIRED:
            raise CollectError("switches are required, but no GPUs are asked for", where="gpus", fix="Set gpus to required", code="argument")
        return DeviceEvidence()
    try:
        found, state, driver = _gpus(nonce, gpus, nvml_library, open_nvml)
    except CollectError as error:
        if gpus == REQUIRED or error.code not in _ABSENT:
            raise
        found, state, driver = [], None, ""
    items = [EvidenceItem("nvidia-gpu", one.architecture, one.report, {"certificates": one.certificates}) for one in found]
    devices: List[Dict[str, Any]] = [
        {"type": "nvidia-gpu", "index": one.index, "uuid": one.uuid, "architecture": one.architecture, "vbios": one.vbios, "driver": driver} for one in found
    ]
    if switches == REQUIRED or switches == AUTO and found and state is not None and state.multi_gpu == "ppcie":
        for switch in _switches(nonce, nscq_library, open_nscq):
            items.append(EvidenceItem("nvidia-switch", switch.architecture, switch.report, {"certificates": switch.certificates}))
            devices.append({"type": "nvidia-switch", "index": switch.index, "uuid": switch.uuid, "architecture": switch.architecture})
    return DeviceEvidence(tuple(items), tuple(devices))


def _gpus(nonce: bytes, gpus: str, library: str, open_nvml: Callable[[str], nvml.Nvml]) -> Tuple[List[nvml.GpuReport], Any, str]:
    with open_nvml(library) as session:
        try:
            state = session.confidential_state()
        except CollectError as error:
            # GPUs and drivers that know nothing of confidential computing say so here.
            if gpus == REQUIRED or error.code != "gpu-not-supported":
                raise
            return [], None, ""
        if not state.on:
            if gpus == REQUIRED:
                raise CollectError(
                    "confidential computing is off on the GPUs", where=library, fix="Switch it on for every GPU, on the host, and reset them", code="gpu-cc-off"
                )
            return [], state, ""
        return session.reports(nonce), state, session.driver_version()


def _switches(nonce: bytes, library: str, open_nscq: Callable[[str], nscq.Nscq]) -> List[nscq.SwitchReport]:
    with open_nscq(library) as session:
        found = session.reports(nonce)
    if not found:
        raise CollectError(
            "this guest has no NVSwitch", where=library, fix="In protected PCIe mode give all of them to the guest", code="switch-not-found"
        )
    return found
