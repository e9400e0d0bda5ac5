# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""SEV-SNP in the words of Trustee's claims: input.snp, and input.init_data for HOST_DATA.

Trustee itself asks for: a signature under AMD's roots, report version 3 to 5, the VEK's TCB equal to the reported one, VMPL 0.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValue
from ansible_collections.attested.ai.plugins.module_utils.appraisal.snp_policy import PRODUCTS, SIGNING_KEYS, SnpPolicy, TcbFloor
from ansible_collections.attested.ai.plugins.module_utils.endorsements.floors import load_floors
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_tcb import SILICON
from ansible_collections.attested.ai.plugins.module_utils.kbs.regotext import literal, one_of, rule, until

_TCB = {"bootloader": "reported_tcb_bootloader", "tee": "reported_tcb_tee", "snp": "reported_tcb_snp", "microcode": "reported_tcb_microcode"}
_GUEST_POLICY = {"single_socket": "policy_single_socket"}
_PLATFORM = {"tsme": "platform_tsme_enabled"}


class Spoken(NamedTuple):
    """Rules for hardware and configuration, and what could not be said."""

    prefix: str
    guard: str
    rules: List[str]
    gaps: List[Tuple[str, str]]
    notes: List[str]


def speak(policy: Policy) -> Spoken:
    snp = policy.sev_snp
    gaps = _gaps(snp)
    floor = _floor(snp, gaps)
    hardware = ["input.snp"] + ["input.snp.%s >= %d" % (_TCB[part], least) for part, least in sorted(floor.items()) if part in _TCB]
    if "fmc" in floor:
        gaps.append(("sev_snp.min_tcb.fmc", "Trustee does not tell the FMC's version"))
    hardware += ["input.snp.%s == true" % _PLATFORM[name] for name in snp.require_platform_info if name in _PLATFORM]
    configuration = ["input.snp"]
    if not snp.allow_debug:
        configuration.append("input.snp.policy_debug_allowed == false")
    if not snp.allow_migration_agent:
        configuration.append("input.snp.policy_migrate_ma == false")
    if not snp.allow_smt or "smt_disabled" in snp.require_guest_policy:
        configuration.append("input.snp.policy_smt_allowed == false")
    configuration += ["input.snp.%s == true" % _GUEST_POLICY[name] for name in snp.require_guest_policy if name in _GUEST_POLICY]
    if snp.host_data is not None:
        configuration.append(one_of("input.init_data", snp.host_data))
    notes = [] if 0 in snp.vmpl else ["sev_snp.vmpl: Trustee accepts VMPL 0 only, every SEV-SNP guest is refused"]
    if 0 not in snp.vmpl:
        hardware.append("false")
    return Spoken("snp", "input.snp", [rule("hardware := 2", hardware), rule("configuration := 2", configuration)], gaps, notes)


def measured(value: ReferenceValue) -> List[str]:
    lines = ["input.snp.measurement == %s" % literal(value.measurement)]
    if value.host_data is not None:
        lines.append("input.init_data == %s" % literal(value.host_data))
    return lines + [until(value.not_after)]


def _floor(snp: SnpPolicy, gaps: List[Tuple[str, str]]) -> Dict[str, int]:
    """The floor for the reported TCB, which the firmware never lets be above the committed one. The silicon is not told, so one floor must fit all."""
    wanted = snp.min_tcb
    if wanted.is_none:
        return {}
    if wanted.everywhere:
        return dict(wanted.everywhere)
    floors = {tuple(sorted(floor.items())) for product in snp.products for floor in _floors(wanted, product)}
    if len(snp.products) == 1 and len(floors) == 1 and () not in floors:
        return dict(floors.pop())
    gaps.append(("sev_snp.min_tcb", "Trustee does not tell the silicon, so that one floor must fit all: name one product, or a floor without silicon"))
    return {}


def _floors(wanted: TcbFloor, product: str) -> List[Mapping[str, int]]:
    """The floors that a policy has for the silicon of a product; silicon without one adds an empty floor, which is another one than all others."""
    if wanted.shipped:
        return [floor.minimum for floor in load_floors() if floor.product == product]
    models = [(family, model) for family, first, last, name in SILICON if name == product for model in range(first, last + 1)]
    return [wanted.for_silicon(family, model) or {} for family, model in models]


def _gaps(snp: SnpPolicy) -> List[Tuple[str, str]]:
    untold = "Trustee does not tell it"
    asked = [
        ("products", set(snp.products) != set(PRODUCTS), "Trustee accepts Milan, Genoa and Turin and does not tell which"),
        ("signing_keys", set(snp.signing_keys) != set(SIGNING_KEYS), untold),
        ("min_launch_tcb", not snp.min_launch_tcb.is_none, untold),
        ("allow_provisional_firmware", not snp.allow_provisional_firmware, "Trustee does not tell current and committed firmware"),
        ("allow_masked_chip_id", not snp.allow_masked_chip_id, untold),
        ("allow_unknown_policy_bits", not snp.allow_unknown_policy_bits, "Trustee tells only the bits that it knows"),
        ("min_abi", snp.min_abi is not None, "Trustee tells the ABI that the guest asks for, not that of the firmware"),
        ("min_guest_svn", snp.min_guest_svn > 0, untold),
        ("required_mitigations", bool(snp.launch_mitigations or snp.current_mitigations), untold),
    ]
    asked += [(name, getattr(snp, name) is not None, untold) for name in ("family_id", "image_id", "id_key_digests", "author_key_digests")]
    asked += [("require_guest_policy." + name, True, untold) for name in snp.require_guest_policy if name not in _GUEST_POLICY and name != "smt_disabled"]
    asked += [("require_platform_info." + name, True, untold) for name in snp.require_platform_info if name not in _PLATFORM]
    return [("sev_snp." + name, why) for name, wanted, why in asked if wanted]
