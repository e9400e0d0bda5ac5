# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the tokens of NVIDIA's Remote Attestation Service say."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.nras_token import Bundle

SOURCE = "nras"
SUBJECT = "NVIDIA-PLATFORM-ATTESTATION"


@dataclass(frozen=True)
class NrasDevice:
    """What the service says of one device. ``chip`` is for example "GH100", None where the token does not say."""

    name: str
    ueid: Optional[str]
    chip: Optional[str]
    driver_version: Optional[str]
    vbios: Optional[str]

    @property
    def architecture(self) -> Optional[str]:
        return {"GH": "hopper", "GB": "blackwell", "LS": "ls10"}.get((self.chip or "")[:2])

    def to_dict(self) -> Dict[str, Any]:
        return {
            "name": self.name, "ueid": self.ueid, "chip": self.chip, "architecture": self.architecture, "driver_version": self.driver_version,
            "firmware_version": self.vbios,
        }  # fmt: skip


@dataclass(frozen=True)
class NrasClaims:
    """To be relied on only if the verification is authentic, and then as the word of the service. ``nonce`` is hexadecimal."""

    issuer: Optional[str]
    nonce: Optional[str]
    devices: Tuple[NrasDevice, ...]
    issued_at: Optional[str]
    signer: Optional[str] = None

    @property
    def ueids(self) -> Tuple[str, ...]:
        return tuple(sorted(device.ueid for device in self.devices if device.ueid is not None))

    @property
    def device(self) -> Optional[str]:
        """One name for all devices of the token; None unless each says which it is."""
        if len(self.ueids) != len(self.devices):
            return None
        return hashlib.sha256("\n".join(self.ueids).encode("utf-8")).hexdigest()

    def to_dict(self) -> Dict[str, Any]:
        """JSON-able."""
        return {
            "source": SOURCE, "issuer": self.issuer, "nonce": self.nonce, "issued_at": self.issued_at, "signer_sha256": self.signer,
            "device": self.device, "ueids": list(self.ueids), "devices": [device.to_dict() for device in self.devices],
        }  # fmt: skip


def make_claims(bundle: Bundle) -> NrasClaims:
    """Raises FormatError where a token lacks what every token has."""
    overall = bundle.overall
    overall.nonce()
    for token in [overall] + list(bundle.devices.values()):
        if "eat_nonce" in token.claims:
            token.nonce()
        token.number("exp"), token.number("iat"), token.text("iss")
    if overall.claims.get("sub") != SUBJECT:
        raise FormatError("sub is not %s" % SUBJECT, where="NRAS token")
    devices = tuple([_device(name, token.claims) for name, token in sorted(bundle.devices.items(), key=lambda pair: (pair[0][0], len(pair[0]), pair[0]))])
    issued = (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=min(overall.number("iat"), 253402300799))).strftime("%Y-%m-%dT%H:%M:%SZ")
    return NrasClaims(overall.text("iss"), overall.nonce().hex(), devices, issued)


def _device(name: str, claims: Mapping[str, Any]) -> NrasDevice:
    def text(*names: str) -> Optional[str]:
        value = next((claims[one] for one in names if one in claims), None)
        return value if isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable() else None

    model = text("hwmodel")
    return NrasDevice(
        name, text("ueid"), model.split(" ")[0] if model else None, text("x-nvidia-gpu-driver-version"),
        text("x-nvidia-gpu-vbios-version", "x-nvidia-switch-bios-version"),
    )  # fmt: skip
