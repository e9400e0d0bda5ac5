# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The section azure of a policy: what is asked of a virtual TPM whose key a hardware report vouches for. See docs/clouds.md.

What is asked of the hardware report itself stands in the sections sev_snp and tdx.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import schema
from ansible_collections.attested.ai.plugins.module_utils.errors import PolicyError

KEYS = ("required_pcrs", "quote_algorithms", "min_rsa_bits", "require_secure_boot", "require_fresh_hardware_report", "init_data", "vm_ids")

# Signature scheme and hash of a quote. The key itself is what the hardware report vouches for.
ALGORITHMS = ("rsassa-sha256", "rsassa-sha384", "rsapss-sha256", "rsapss-sha384", "ecdsa-sha256", "ecdsa-sha384")
# TCG PC Client Platform Firmware Profile: 4 is what the firmware started, 7 its secure boot state, 11 the parts of a unified kernel image.
REQUIRED_PCRS = (4, 7, 11)
PCR_LAST = 23
RSA_BITS = 2048
_UUID = re.compile(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\Z")


@dataclass(frozen=True)
class AzurePolicy:
    """``required_pcrs``: PCRs that the quote must cover and that a reference value must name. ``init_data``: SHA-256 digests
    (hexadecimal) of the init-data documents of which one must be in PCR 8, None to not ask. ``vm_ids``: vmUniqueId, None to not ask."""

    required_pcrs: Tuple[int, ...] = REQUIRED_PCRS
    quote_algorithms: Tuple[str, ...] = ("rsassa-sha256",)
    min_rsa_bits: int = RSA_BITS
    require_secure_boot: bool = True
    require_fresh_hardware_report: bool = False
    init_data: Optional[Tuple[str, ...]] = None
    vm_ids: Optional[Tuple[str, ...]] = None

    def to_dict(self) -> Dict[str, Any]:
        """Every key; load_azure reads it back to an equal policy."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in ((name, getattr(self, name)) for name in KEYS)}


def load_azure(section: schema.Section, document: str) -> AzurePolicy:
    """Read the section. Raises PolicyError."""
    policy = AzurePolicy(
        required_pcrs=section.listed("required_pcrs", REQUIRED_PCRS, lambda value, where: schema.check_integer(value, PCR_LAST, where)),
        quote_algorithms=section.choices("quote_algorithms", AzurePolicy.quote_algorithms, ALGORITHMS),
        min_rsa_bits=section.integer("min_rsa_bits", RSA_BITS, 4096),
        require_secure_boot=section.boolean("require_secure_boot", True),
        require_fresh_hardware_report=section.boolean("require_fresh_hardware_report", False),
        init_data=section.optional_list("init_data", schema.check_hex(32)),
        vm_ids=section.optional_list("vm_ids", _vm_id),
    )
    for name in ("required_pcrs", "quote_algorithms"):
        if not getattr(policy, name):
            raise section.refuse(name, "an empty list asks for nothing" if name == "required_pcrs" else "an empty list allows nothing",
                                 "Name at least one value, or leave the key out")
    if policy.min_rsa_bits < RSA_BITS:
        raise section.refuse("min_rsa_bits", "keys of less than %d bits are never accepted" % RSA_BITS, "Set %d or more, or leave the key out" % RSA_BITS)
    return policy


def _vm_id(value: Any, where: str) -> str:
    text = schema.check_text(value, where, limit=36)
    if not _UUID.match(text):
        raise PolicyError("an identifier of the form 911B0EF8-9DBA-48B0-B275-4E4DF2D39252 was expected", where=where, fix="Write its digits in upper case")
    return text
