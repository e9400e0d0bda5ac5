# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The policy that a guest is launched with: bits that weaken it, and numbers made of names."""

from __future__ import annotations

from typing import Any, List, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_tcb import GuestPolicy
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_quote import (
    TD_DEBUG,
    TD_KL,
    TD_MIGRATABLE,
    TD_PERFMON,
    TD_PKS,
    TD_SEPT_VE_DISABLE,
    TD_UNDER_DEBUG,
)

SNP_RESERVED_ONE = 1 << 17
_SNP_BITS = dict(GuestPolicy.FLAGS)
# Bits of TDATTRIBUTES that a launcher may set here. What is not named is refused.
TD_ALLOWED = TD_DEBUG | TD_SEPT_VE_DISABLE | TD_PKS | TD_KL | TD_PERFMON


def snp_policy(given: Any) -> int:
    """The guest policy as a number. ``given`` has flags by the names of GuestPolicy, and abi_major and abi_minor. Raises FormatError."""
    if not isinstance(given, Mapping):
        raise FormatError("it is no dictionary of flags", where="snp_policy")
    raw = SNP_RESERVED_ONE
    for name, value in given.items():
        if name in ("abi_major", "abi_minor"):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
                raise FormatError("%s is no number from 0 to 255" % ascii(value)[:40], where="snp_policy.%s" % name)
            raw |= value << (8 if name == "abi_major" else 0)
        elif name in _SNP_BITS:
            if not isinstance(value, bool):
                raise FormatError("%s is neither true nor false" % ascii(value)[:40], where="snp_policy.%s" % name)
            raw |= value << _SNP_BITS[name]
        else:
            known = ", ".join(sorted([*_SNP_BITS, "abi_major", "abi_minor"]))
            raise FormatError("%s is unknown" % ascii(name)[:40], where="snp_policy", fix="Known are %s" % known)
    return raw


def weaknesses(tee: str, policy: int) -> Tuple[Tuple[str, str], ...]:
    """(id, what it means) of each bit that takes protection away or cannot be."""
    found: List[Tuple[str, str]] = []
    if tee == "snp":
        guest = GuestPolicy(policy)
        if guest.debug:
            found.append(("debug", "the policy allows debugging: the host reads and writes the guest's memory"))
        if guest.migrate_ma:
            found.append(("migration", "the policy admits a migration agent, which gets the guest's memory"))
        if not policy & SNP_RESERVED_ONE:
            found.append(("policy", "bit 17 of the policy must be 1, firmware refuses 0x%x" % policy))
    elif tee == "tdx":
        if policy & TD_UNDER_DEBUG:
            found.append(("debug", "the attributes allow debugging: the host reads and writes the TD's memory"))
        if policy & TD_MIGRATABLE:
            found.append(("migration", "the attributes make the TD migratable, so a migration TD gets its memory"))
        if policy & ~(TD_ALLOWED | TD_UNDER_DEBUG | TD_MIGRATABLE):
            found.append(("policy", "the attributes 0x%x have bits whose meaning is unknown here" % policy))
        if not policy & TD_SEPT_VE_DISABLE:
            found.append(("policy", "sept_ve_disable (bit 28) is off, so that the host can make the TD's own accesses fail in it"))
    return tuple(found)
