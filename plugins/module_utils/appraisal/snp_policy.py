# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The section sev_snp of a policy: what is asked of a SEV-SNP report. See docs/policy-reference.md."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import schema

PRODUCTS = ("milan", "genoa", "turin")
SIGNING_KEYS = ("vcek", "vlek")
TCB_COMPONENTS = ("fmc", "bootloader", "tee", "snp", "microcode")
GUEST_POLICY_BITS = {"single_socket": 20, "mem_aes_256_xts": 22, "rapl_dis": 23, "ciphertext_hiding": 24, "page_swap_disable": 25}
GUEST_POLICY_NAMES = tuple(sorted(GUEST_POLICY_BITS)) + ("smt_disabled",)
PLATFORM_INFO_BITS = {"tsme": 1, "ecc": 2, "rapl_dis": 3, "ciphertext_hiding": 4, "alias_check_complete": 5}

KEYS = (
    "products", "vmpl", "allow_debug", "allow_migration_agent", "allow_smt", "allow_provisional_firmware", "allow_masked_chip_id",
    "allow_unknown_policy_bits", "signing_keys", "min_tcb", "min_launch_tcb", "min_abi", "min_guest_svn", "require_guest_policy",
    "require_platform_info", "required_mitigations", "host_data", "family_id", "image_id", "id_key_digests", "author_key_digests",
)
_SILICON = re.compile(r"0x([0-9a-f]{2})-0x([0-9a-f]{2})(?:\.\.0x([0-9a-f]{2}))?\Z")
_U64 = 2**64 - 1


@dataclass(frozen=True)
class TcbFloor:
    """The least TCB: the shipped table, one floor for every machine, a table of one's own, or (all empty) none."""

    shipped: bool = False
    everywhere: Tuple[Tuple[str, int], ...] = ()
    by_silicon: Tuple[Tuple[int, int, int, Tuple[Tuple[str, int], ...]], ...] = ()

    @property
    def is_none(self) -> bool:
        return not (self.shipped or self.everywhere or self.by_silicon)

    def for_silicon(self, family: int, model: int) -> Optional[Dict[str, int]]:
        """The floor of this policy's own table for CPUID ``family`` and ``model``; None if it has none."""
        if self.everywhere:
            return dict(self.everywhere)
        for table_family, low, high, floor in self.by_silicon:
            if table_family == family and low <= model <= high:
                return dict(floor)
        return None

    def to_dict(self) -> Any:
        if self.shipped:
            return "default"
        if self.by_silicon:
            return {"0x%02x-0x%02x..0x%02x" % (family, low, high): dict(floor) for family, low, high, floor in self.by_silicon}
        return dict(self.everywhere)


@dataclass(frozen=True)
class SnpPolicy:
    """What is asked of a SEV-SNP report. Bits and fields are those of AMD publication 56860."""

    products: Tuple[str, ...] = ("genoa", "turin")
    vmpl: Tuple[int, ...] = (0,)
    allow_debug: bool = False
    allow_migration_agent: bool = False
    allow_smt: bool = True
    allow_provisional_firmware: bool = False
    allow_masked_chip_id: bool = False
    allow_unknown_policy_bits: bool = False
    signing_keys: Tuple[str, ...] = SIGNING_KEYS
    min_tcb: TcbFloor = field(default_factory=lambda: TcbFloor(shipped=True))
    min_launch_tcb: TcbFloor = field(default_factory=lambda: TcbFloor(shipped=True))
    min_abi: Optional[Tuple[int, int, int]] = None
    min_guest_svn: int = 0
    require_guest_policy: Tuple[str, ...] = ()
    require_platform_info: Tuple[str, ...] = ("alias_check_complete",)
    launch_mitigations: int = 0
    current_mitigations: int = 0
    host_data: Optional[Tuple[str, ...]] = None
    family_id: Optional[Tuple[str, ...]] = None
    image_id: Optional[Tuple[str, ...]] = None
    id_key_digests: Optional[Tuple[str, ...]] = None
    author_key_digests: Optional[Tuple[str, ...]] = None

    def to_dict(self) -> Dict[str, Any]:
        result: Dict[str, Any] = {}
        for name in KEYS:
            if name == "required_mitigations":
                # As text: the vectors are 64 bits wide, more than a JSON number holds exactly.
                result[name] = {"launch": hex(self.launch_mitigations), "current": hex(self.current_mitigations)}
                continue
            value = getattr(self, name)
            if isinstance(value, TcbFloor):
                value = value.to_dict()
            elif name == "min_abi" and value is not None:
                value = dict(zip(("major", "minor", "build"), value))
            elif isinstance(value, tuple):
                value = list(value)
            result[name] = value
        return result


def load_snp(snp: schema.Section, document: str) -> SnpPolicy:
    """Read the section. Raises PolicyError."""
    mitigations = schema.Section(snp.raw("required_mitigations", {}), ("launch", "current"), document, "sev_snp.required_mitigations")
    policy = SnpPolicy(
        products=snp.choices("products", SnpPolicy.products, PRODUCTS),
        vmpl=snp.listed("vmpl", SnpPolicy.vmpl, lambda value, where: schema.check_integer(value, 3, where)),
        allow_debug=snp.boolean("allow_debug", False),
        allow_migration_agent=snp.boolean("allow_migration_agent", False),
        allow_smt=snp.boolean("allow_smt", True),
        allow_provisional_firmware=snp.boolean("allow_provisional_firmware", False),
        allow_masked_chip_id=snp.boolean("allow_masked_chip_id", False),
        allow_unknown_policy_bits=snp.boolean("allow_unknown_policy_bits", False),
        signing_keys=snp.choices("signing_keys", SIGNING_KEYS, SIGNING_KEYS),
        min_tcb=_tcb_floor(snp, "min_tcb", document),
        min_launch_tcb=_tcb_floor(snp, "min_launch_tcb", document),
        min_abi=_abi(snp, document),
        min_guest_svn=snp.integer("min_guest_svn", 0, 2**32 - 1),
        require_guest_policy=snp.choices("require_guest_policy", (), GUEST_POLICY_NAMES),
        require_platform_info=snp.choices("require_platform_info", SnpPolicy.require_platform_info, tuple(PLATFORM_INFO_BITS)),
        launch_mitigations=_vector(mitigations, "launch"),
        current_mitigations=_vector(mitigations, "current"),
        host_data=snp.optional_list("host_data", schema.check_hex(32)),
        family_id=snp.optional_list("family_id", schema.check_hex(16)),
        image_id=snp.optional_list("image_id", schema.check_hex(16)),
        id_key_digests=snp.optional_list("id_key_digests", schema.check_hex(48)),
        author_key_digests=snp.optional_list("author_key_digests", schema.check_hex(48)),
    )
    for name in ("products", "vmpl", "signing_keys"):
        if not getattr(policy, name):
            raise snp.refuse(name, "an empty list allows nothing", "Name at least one value, or leave the key out")
    return policy


def _vector(section: schema.Section, key: str) -> int:
    value = section.raw(key, 0)
    if isinstance(value, str) and re.match(r"0x[0-9a-f]{1,16}\Z", value):
        return int(value, 16)
    return schema.check_integer(value, _U64, section.where(key))


def _abi(snp: schema.Section, document: str) -> Optional[Tuple[int, int, int]]:
    if snp.raw("min_abi") is None:
        return None
    section = schema.Section(snp.raw("min_abi"), ("major", "minor", "build"), document, "sev_snp.min_abi")
    section.required("major")
    return section.integer("major", 0, 255), section.integer("minor", 0, 255), section.integer("build", 0, 255)


def _tcb_floor(snp: schema.Section, key: str, document: str) -> TcbFloor:
    value = snp.raw(key, "default")
    path = "sev_snp.%s" % key
    if value == "default":
        return TcbFloor(shipped=True)
    if not isinstance(value, Mapping):
        raise snp.refuse(key, "%s is neither 'default' nor a mapping" % schema.show(value), "Use default, {} for no floor, or components with numbers")
    if not any(isinstance(name, str) and name.startswith("0x") for name in value):
        return TcbFloor(everywhere=_components(value, document, path))
    rows = []
    for name, floor in value.items():
        match = _SILICON.match(name) if isinstance(name, str) else None
        low = int(match.group(2), 16) if match else 0
        high = int(match.group(3) or match.group(2), 16) if match else -1
        if match is None or high < low:
            raise snp.refuse(key, "%s is not of the form 0x19-0x10..0x1f (CPUID family, model range)" % schema.show(name))
        components = _components(floor, document, "%s.%s" % (path, name))
        if not components:
            raise snp.refuse(key, "the floor of %s is empty" % name, "Remove the row, or name at least one component")
        rows.append((int(match.group(1), 16), low, high, components))
    rows.sort()
    for first, second in zip(rows, rows[1:]):
        if first[0] == second[0] and second[1] <= first[2]:
            raise snp.refuse(key, "two rows cover family 0x%02x model 0x%02x" % (second[0], second[1]))
    return TcbFloor(by_silicon=tuple(rows))


def _components(value: Any, document: str, path: str) -> Tuple[Tuple[str, int], ...]:
    section = schema.Section(value, TCB_COMPONENTS, document, path)
    return tuple((name, section.integer(name, 0, 255)) for name in TCB_COMPONENTS if name in section)
