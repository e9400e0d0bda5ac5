# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an NVIDIA report, its certificates and its manifests say."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.formats.nvidia_opaque import NVLE_STATUS, SWITCH, SYS_ENABLE_STATUS, OpaqueData
from ansible_collections.attested.ai.plugins.module_utils.formats.rim import Rim
from ansible_collections.attested.ai.plugins.module_utils.formats.spdm import SpdmReport
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_chain import DeviceChain
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_measurements import Comparison, Mismatch
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_rim import Candidate
from ansible_collections.attested.ai.plugins.module_utils.verify.result import ANCHOR_NONE

# NVIDIA's number in IANA's register of private enterprises.
OEM_ID = 5703


@dataclass(frozen=True)
class RimUse:
    """Which manifest was taken for ``source`` ("driver" or "firmware") in this version; ``candidate`` is None if there is none."""

    source: str
    version: Optional[str]
    candidate: Optional[Candidate]

    @property
    def usable(self) -> bool:
        return self.candidate is not None and self.candidate.usable

    @property
    def rim(self) -> Optional[Rim]:
        return None if self.candidate is None else self.candidate.verified.rim

    @property
    def anchor(self) -> str:
        path = None if self.candidate is None else self.candidate.verified.path
        return ANCHOR_NONE if path is None or path.root is None else path.root.anchor

    @property
    def expired(self) -> bool:
        return self.candidate is not None and bool(self.candidate.time_offence)

    def to_dict(self) -> Dict[str, Any]:
        found: Dict[str, Any] = {"source": self.source, "version": self.version, "usable": self.usable}
        if self.candidate is not None:
            found["sha256"] = self.candidate.verified.sha256
            if self.rim is not None:
                found["product"] = self.rim.product
            path = self.candidate.verified.path
            if path is not None:
                found["not_after"] = min(certificate.not_after for certificate in path.certificates).strftime("%Y-%m-%dT%H:%M:%SZ")
        return found


@dataclass(frozen=True)
class NvidiaClaims:
    """To be relied on only if the verification is authentic.

    ``kind``: "gpu" or "switch". ``chip``: "GH100", ... ``architecture``: "hopper", "blackwell" or "ls10". ``device``: SHA-256 of the
    SubjectPublicKeyInfo of the device's own key, which stays the same when firmware changes; ``ueid`` is the leaf's serial number as
    NVIDIA has it, which does not. ``pdi``: 8 bytes, how switches and GPUs call each other. ``mode``: "spt", "mpt", "ppcie", None if
    the report does not state it. ``secure_boot``: True if all measurements are good, else None, which is: not known. ``held``: SHA-256
    of the certificates that are revoked for now (certificateHold).
    """

    kind: str
    report: SpdmReport
    opaque: OpaqueData
    chip: Optional[str]
    architecture: Optional[str]
    model: Optional[str]
    ueid: Optional[str]
    device: Optional[str]
    pdi: Optional[bytes]
    mode: Optional[str]
    mode_offence: str
    secure_boot: Optional[bool]
    debug_flags: Tuple[str, ...]
    rims: Tuple[RimUse, ...]
    mismatches: Tuple[Mismatch, ...]
    held: Tuple[str, ...] = ()
    root_name: Optional[str] = None
    root_spki_sha256: Optional[str] = None

    @property
    def rim_ids(self) -> Dict[str, str]:
        """How NVIDIA's RIM service calls the manifests of this device, by source."""
        return rim_ids(self.opaque, self.architecture)

    @property
    def nvle_status(self) -> Optional[str]:
        """The raw NVLE status in hexadecimal; its values are not published."""
        value = self.opaque.fields.get(NVLE_STATUS)
        return None if value is None else value.hex()

    def to_dict(self) -> Dict[str, Any]:
        """JSON-able, byte strings as hexadecimal text."""
        opaque = self.opaque
        found: Dict[str, Any] = {
            "device": self.device,
            "kind": self.kind,
            "architecture": self.architecture,
            "chip": self.chip,
            "hwmodel": self.model,
            "ueid": self.ueid,
            "oemid": OEM_ID,
            "pdi": _hex(self.pdi),
            "nonce": self.report.nonce.hex(),
            "measres": "fail" if self.mismatches else "success" if self.secure_boot else None,
            "secboot": self.secure_boot,
            "dbgstat": "disabled" if self.secure_boot and not self.debug_flags else None,
            "firmware_version": opaque.vbios,
            "mismatches": [mismatch.to_dict() for mismatch in self.mismatches],
            "rims": [use.to_dict() for use in self.rims],
            "rim_ids": self.rim_ids,
            "root_name": self.root_name,
            "root_spki_sha256": self.root_spki_sha256,
        }
        if self.kind == SWITCH:
            found["own_pdi"] = _hex(opaque.own_pdi)
            found["gpu_pdis"] = None if opaque.gpu_pdis is None else [pdi.hex() for pdi in opaque.gpu_pdis]
        else:
            sys_enable = opaque.fields.get(SYS_ENABLE_STATUS)
            found.update({
                "driver_version": opaque.driver_version,
                "mode": self.mode,
                "protected_pcie": opaque.protected_pcie,
                "nvdec0": opaque.nvdec0,
                "fsp_svn": opaque.fsp_svn,
                "nvle_status": self.nvle_status,
                "sys_enable_status": _hex(sys_enable),
                "switch_pdis": None if opaque.switch_pdis is None else [pdi.hex() for pdi in opaque.switch_pdis],
            })  # fmt: skip
        return found


def _hex(value: Optional[bytes]) -> Optional[str]:
    return None if value is None else value.hex()


def rim_ids(opaque: OpaqueData, architecture: Optional[str]) -> Dict[str, str]:
    """The ids of the manifests at NVIDIA's service, as far as the report has what they are made of."""
    found: Dict[str, str] = {}
    version = (opaque.vbios or "").replace(".", "")
    if opaque.kind == SWITCH:
        if version:
            found["firmware"] = "NV_SWITCH_BIOS_5612_0002_890_" + version
        return found
    if opaque.driver_version and architecture == "hopper":
        found["driver"] = "NV_GPU_DRIVER_GH100_" + opaque.driver_version
    elif opaque.driver_version and architecture == "blackwell":
        found["driver"] = "NV_GPU_CC_DRIVER_%s_%s" % (opaque.chip_info or "GB100", opaque.driver_version)
    if version and opaque.project and opaque.project_sku and opaque.chip_sku:
        found["firmware"] = "_".join(("NV_GPU_VBIOS", opaque.project, opaque.project_sku, opaque.chip_sku, version)).upper()
    return found


def _mode(opaque: OpaqueData) -> Tuple[Optional[str], str]:
    """(mode, what is contradictory): the feature flag says it, before there was one the PPCIe state does."""
    if opaque.kind == SWITCH:
        return None, ""
    if opaque.mode is None:
        return (None if opaque.protected_pcie is None else "ppcie" if opaque.protected_pcie else "spt"), ""
    if opaque.protected_pcie is not None and opaque.protected_pcie != (opaque.mode == "ppcie"):
        return opaque.mode, "the feature flag says %s, but protected PCIe is %s" % (opaque.mode, "on" if opaque.protected_pcie else "off")
    return opaque.mode, ""


def make_claims(
    kind: str, report: SpdmReport, opaque: OpaqueData, chain: DeviceChain, rims: Sequence[RimUse], comparison: Comparison, secure_boot: bool,
    held: Sequence[str],
) -> NvidiaClaims:
    """Put together what is known; certificates speak only if they are proven."""
    certificates = chain.certificates if chain.proven else ()
    mode, offence = _mode(opaque)
    return NvidiaClaims(
        kind=kind,
        report=report,
        opaque=opaque,
        chip=chain.chip,
        architecture=chain.architecture,
        model=certificates[1].common_name if certificates else None,
        ueid=str(certificates[0].serial) if certificates else None,
        device=hashlib.sha256(certificates[1].spki).hexdigest() if certificates else None,
        pdi=chain.pdi if certificates else None,
        mode=mode,
        mode_offence=offence,
        secure_boot=True if secure_boot else None,
        debug_flags=chain.flags,
        rims=tuple(rims),
        mismatches=comparison.mismatches,
        held=tuple(held),
        root_name=chain.root.name if certificates and chain.root is not None else None,
        root_spki_sha256=chain.root.spki_sha256 if certificates and chain.root is not None else None,
    )
