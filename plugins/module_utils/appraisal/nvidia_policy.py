# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The policy section ``nvidia``: what is asked of GPUs and NVSwitches. See docs/gpu-evidence.md.

Defaults refuse. What cannot be determined (no reference manifest, no revocation status) is refused, too, with an id of its own.
The ways around are lists that name one case each, with the reason, and if wanted with an end: an allowance is never a switch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import schema
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, PolicyError

KEYS: Tuple[str, ...] = (
    "architectures", "modes", "allow_unstated_mode", "revocation", "allow_hold", "allow_expired_rim", "allow_missing_rim",
    "allow_mismatch", "allow_unread_rim_records", "min_driver", "min_vbios", "min_switch_bios", "min_fsp_svn", "drivers", "vbios",
    "switch_bios", "nvle_status", "devices", "topology", "ppcie_gpus", "ppcie_switches", "nras",
)  # fmt: skip
ARCHITECTURES = ("hopper", "blackwell", "ls10")
MODES = ("spt", "mpt", "ppcie")
# The two manifests of a device: of the driver (GPUs only), and of the VBIOS or switch BIOS.
DRIVER, FIRMWARE = "driver", "firmware"
RIMS = (DRIVER, FIRMWARE)
TOPOLOGIES = ("required", "off")
_U16 = 0xFFFF
_INDEX_MAX = 254
_SKEW_MAX = 300
_DRIVER_VERSION = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,5}){1,3}\Z")
_FIRMWARE_VERSION = re.compile(r"[0-9A-F]{2}(?:\.[0-9A-F]{2}){4}\Z")
_CHIP = re.compile(r"[A-Z0-9_]{2,16}\Z")
_HEX = re.compile(r"(?:[0-9a-f]{2}){1,32}\Z")


@dataclass(frozen=True)
class Allowance:
    """One case that is let through although a check fails, and why. What does not belong to the kind of allowance is None."""

    reason: str
    rim: Optional[str] = None
    version: Optional[str] = None
    index: Optional[int] = None
    certificate: Optional[str] = None
    until: Optional[datetime] = None

    def holds(self, at: datetime) -> bool:
        """True if the allowance has not ended."""
        return self.until is None or at <= self.until

    def to_dict(self) -> Dict[str, Any]:
        found: Dict[str, Any] = {"reason": self.reason}
        for name in ("rim", "version", "index", "certificate"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        if self.until is not None:
            found["until"] = schema.format_time(self.until)
        return found


@dataclass(frozen=True)
class Devices:
    """Device identities: SHA-256 (hexadecimal) of the key of the device's own certificate, the claim ``device``."""

    allow: Tuple[str, ...] = ()
    deny: Tuple[str, ...] = ()

    def to_dict(self) -> Dict[str, Any]:
        return {"allow": list(self.allow), "deny": list(self.deny)}


@dataclass(frozen=True)
class Nras:
    """Whether tokens of NVIDIA's attestation service count in the place of reports. ``certificates`` are the SHA-256 (hexadecimal) of
    issuers of the service's signers, besides the pinned one; ``clock_skew`` is in seconds."""

    accept: bool = False
    issuer: str = "https://nras.attestation.nvidia.com"
    certificates: Tuple[str, ...] = ()
    clock_skew: int = 60

    def to_dict(self) -> Dict[str, Any]:
        return {"accept": self.accept, "issuer": self.issuer, "certificates": list(self.certificates), "clock_skew": self.clock_skew}


@dataclass(frozen=True)
class NvidiaPolicy:
    """What is asked of NVIDIA device evidence, every default filled in. Make one with load_nvidia.

    ``revocation`` is "required" unless said otherwise: section 17 of the facts has "cannot determine" as a failure. Versions of
    drivers are dotted decimal numbers, of a VBIOS or switch BIOS five dotted bytes in upper-case hexadecimal.
    """

    architectures: Tuple[str, ...] = ("blackwell", "hopper", "ls10")
    modes: Tuple[str, ...] = ("mpt", "ppcie", "spt")
    allow_unstated_mode: bool = False
    revocation: str = "required"
    allow_hold: Tuple[Allowance, ...] = ()
    allow_expired_rim: Tuple[Allowance, ...] = ()
    allow_missing_rim: Tuple[Allowance, ...] = ()
    allow_mismatch: Tuple[Allowance, ...] = ()
    allow_unread_rim_records: Optional[str] = None
    min_driver: Optional[str] = None
    min_vbios: Tuple[Tuple[str, str], ...] = ()
    min_switch_bios: Optional[str] = None
    min_fsp_svn: int = 0
    drivers: Optional[Tuple[str, ...]] = None
    vbios: Optional[Tuple[str, ...]] = None
    switch_bios: Optional[Tuple[str, ...]] = None
    nvle_status: Optional[Tuple[str, ...]] = None
    devices: Devices = Devices()
    topology: str = "required"
    ppcie_gpus: int = 8
    ppcie_switches: int = 4
    nras: Nras = Nras()

    def to_dict(self) -> Dict[str, Any]:
        """The normalised section: every key. load_nvidia reads it back to an equal policy."""
        result: Dict[str, Any] = {}
        for name in KEYS:
            value = getattr(self, name)
            if name == "min_vbios":
                value = dict(value)
            elif name in ("devices", "nras"):
                value = value.to_dict()
            elif isinstance(value, tuple):
                value = [item.to_dict() if isinstance(item, Allowance) else item for item in value]
            result[name] = value
        return result


def load_nvidia(section: schema.Section, document: str) -> NvidiaPolicy:
    """Read the section. Raises PolicyError with the path of the key at fault."""
    devices = schema.Section(section.raw("devices", {}), ("allow", "deny"), document, _path(section, "devices"))
    identity = schema.check_hex(32)
    service = schema.Section(section.raw("nras", {}), ("accept", "issuer", "certificates", "clock_skew"), document, _path(section, "nras"))
    policy = NvidiaPolicy(
        architectures=section.choices("architectures", NvidiaPolicy.architectures, ARCHITECTURES),
        modes=section.choices("modes", NvidiaPolicy.modes, MODES),
        allow_unstated_mode=section.boolean("allow_unstated_mode", False),
        revocation=section.choice("revocation", "required", ("required", "not_required")),
        allow_hold=_allowances(section, "allow_hold", document, ("certificate",)),
        allow_expired_rim=_allowances(section, "allow_expired_rim", document, ("rim", "version")),
        allow_missing_rim=_allowances(section, "allow_missing_rim", document, ("rim", "version")),
        allow_mismatch=_allowances(section, "allow_mismatch", document, ("rim", "version", "index")),
        allow_unread_rim_records=None if section.raw("allow_unread_rim_records") is None else section.text("allow_unread_rim_records"),
        min_driver=_optional(section, "min_driver", _DRIVER_VERSION, "a driver version such as 550.127.05"),
        min_vbios=_floors(section, document),
        min_switch_bios=_optional(section, "min_switch_bios", _FIRMWARE_VERSION, _FIRMWARE_FORM),
        min_fsp_svn=section.integer("min_fsp_svn", 0, _U16),
        drivers=section.optional_list("drivers", lambda value, where: _matching(value, where, _DRIVER_VERSION, "a driver version such as 550.127.05")),
        vbios=section.optional_list("vbios", lambda value, where: _matching(value, where, _FIRMWARE_VERSION, _FIRMWARE_FORM)),
        switch_bios=section.optional_list("switch_bios", lambda value, where: _matching(value, where, _FIRMWARE_VERSION, _FIRMWARE_FORM)),
        nvle_status=section.optional_list("nvle_status", lambda value, where: _matching(value, where, _HEX, "bytes in lower-case hexadecimal")),
        devices=Devices(devices.listed("allow", (), identity), devices.listed("deny", (), identity)),
        topology=_switch(section, "topology"),
        ppcie_gpus=section.integer("ppcie_gpus", 8, 64),
        ppcie_switches=section.integer("ppcie_switches", 4, 64),
        nras=Nras(
            service.boolean("accept", False), service.text("issuer", Nras.issuer), service.listed("certificates", (), identity),
            service.integer("clock_skew", Nras.clock_skew, _SKEW_MAX),
        ),
    )
    for name in ("architectures", "modes"):
        if not getattr(policy, name):
            raise section.refuse(name, "an empty list allows nothing", "Name at least one value, or leave the key out")
    return policy


_FIRMWARE_FORM = "a version such as 96.00.9F.00.01"


def _path(section: schema.Section, key: str) -> str:
    return ".".join(part for part in (section.path, key) if part)


def _switch(section: schema.Section, key: str) -> str:
    # YAML 1.1 reads the bare word off as false; there is nothing else that it could mean here.
    return "off" if section.raw(key) is False else section.choice(key, "required", TOPOLOGIES)


def _matching(value: Any, where: str, pattern: Any, form: str) -> str:
    if not isinstance(value, str) or not pattern.match(value):
        raise PolicyError("%s was expected, this is %s" % (form, schema.show(value)), where=where, fix="Put it into quotes")
    return value


def _optional(section: schema.Section, key: str, pattern: Any, form: str) -> Optional[str]:
    return None if section.raw(key) is None else _matching(section.raw(key), section.where(key), pattern, form)


def _floors(section: schema.Section, document: str) -> Tuple[Tuple[str, str], ...]:
    value = section.raw("min_vbios", {})
    if not isinstance(value, Mapping):
        raise section.refuse("min_vbios", "a mapping of chips to versions was expected, this is %s" % schema.show(value), "For example GH100: 96.00.5E.00.00")
    rows = []
    for chip, version in value.items():
        if not isinstance(chip, str) or not _CHIP.match(chip):
            raise section.refuse("min_vbios", "%s is no chip such as GH100" % schema.show(chip))
        rows.append((chip, _matching(version, "%s.%s" % (section.where("min_vbios"), chip), _FIRMWARE_VERSION, _FIRMWARE_FORM)))
    return tuple(sorted(rows))


def _allowances(section: schema.Section, key: str, document: str, names: Tuple[str, ...]) -> Tuple[Allowance, ...]:
    value = section.raw(key, [])
    if not isinstance(value, (list, tuple)) or len(value) > schema.LIST_MAX:
        raise section.refuse(key, "a list of allowances was expected", "Each with %s and reason, and until if it shall end" % ", ".join(names))
    found = []
    for position, entry in enumerate(value):
        inner = schema.Section(entry, names + ("reason", "until"), document, "%s[%d]" % (_path(section, key), position))
        found.append(_allowance(inner, names))
    keys = [(item.rim, item.version, item.index, item.certificate) for item in found]
    if len(set(keys)) != len(keys):
        raise section.refuse(key, "one case is named twice")
    return tuple(found)


def _allowance(inner: schema.Section, names: Tuple[str, ...]) -> Allowance:
    rim: Optional[str] = None
    version: Optional[str] = None
    certificate: Optional[str] = None
    index: Optional[int] = None
    if "rim" in names:
        rim = schema.check_choice(inner.required("rim"), RIMS, inner.where("rim"))
        pattern, form = (_DRIVER_VERSION, "a driver version such as 550.144.03") if rim == DRIVER else (_FIRMWARE_VERSION, _FIRMWARE_FORM)
        version = _matching(inner.required("version"), inner.where("version"), pattern, form)
    if "index" in names:
        index = schema.check_integer(inner.required("index"), _INDEX_MAX, inner.where("index"))
    if "certificate" in names:
        certificate = schema.check_hex(32)(inner.required("certificate"), inner.where("certificate"))
    until = None
    if inner.raw("until") is not None:
        try:
            until = schema.parse_time(inner.raw("until"), inner.where("until"))
        except FormatError as error:
            raise PolicyError(error.what, where=error.where, fix=error.fix) from None
    return Allowance(inner.text("reason"), rim, version, index, certificate, until)
