# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The section ``cca`` of a policy: what is asked of an Arm CCA token. See docs/cca-evidence.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import schema
from ansible_collections.attested.ai.plugins.module_utils.errors import PolicyError
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import is_integer

KEYS = (
    "profiles", "implementation_ids", "allow_lifecycle", "allow_test_keys", "allow_unknown_claims", "allow_live_firmware_activation",
    "allow_platform_extensions", "mec_policy", "require_platform_references", "vendor_endorsements", "configurations", "rpv",
)  # fmt: skip
# Pairs of platform and realm profile. 2026 follows a draft of a specification in beta: it must be named.
PROFILES = ("legacy", "2023", "2024", "2026")
DEFAULT_PROFILES = ("2023", "2024", "legacy")
# Names of the high byte of the lifecycle claim (draft-ffm-rats-cca-token, platform lifecycle). No other value has a name, none can be allowed.
LIFECYCLES = {
    0x00: "unknown",
    0x10: "assembly-and-test",
    0x20: "provisioning",
    0x30: "secured",
    0x40: "non-platform-debug",
    0x50: "recoverable-platform-debug",
    0x60: "decommissioned",
}
MEC_POLICIES = ("any", "private")
CONFIGURATION_MAX = 1024
_HEX = re.compile(r"(?:[0-9a-f]{2})*\Z")


@dataclass(frozen=True)
class CcaPolicy:
    """What is asked of a CCA token. Byte strings are lower-case hexadecimal text; None asks nothing."""

    profiles: Tuple[str, ...] = DEFAULT_PROFILES
    implementation_ids: Optional[Tuple[str, ...]] = None
    allow_lifecycle: Tuple[str, ...] = ("secured",)
    allow_test_keys: bool = False
    allow_unknown_claims: bool = False
    allow_live_firmware_activation: bool = False
    allow_platform_extensions: bool = False
    mec_policy: str = "any"
    require_platform_references: bool = True
    vendor_endorsements: Tuple[str, ...] = ()
    configurations: Optional[Tuple[str, ...]] = None
    rpv: Optional[Tuple[str, ...]] = None

    def to_dict(self) -> Dict[str, Any]:
        values = ((name, getattr(self, name)) for name in KEYS)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


def load_cca(section: schema.Section, document: str) -> CcaPolicy:
    """Read the section ``cca``. Raises PolicyError on anything that is not exactly of the schema."""
    policy = CcaPolicy(
        profiles=section.listed("profiles", DEFAULT_PROFILES, _profile),
        implementation_ids=section.optional_list("implementation_ids", schema.check_hex(32)),
        allow_lifecycle=section.choices("allow_lifecycle", CcaPolicy.allow_lifecycle, tuple(LIFECYCLES.values())),
        allow_test_keys=section.boolean("allow_test_keys", False),
        allow_unknown_claims=section.boolean("allow_unknown_claims", False),
        allow_live_firmware_activation=section.boolean("allow_live_firmware_activation", False),
        allow_platform_extensions=section.boolean("allow_platform_extensions", False),
        mec_policy=section.choice("mec_policy", "any", MEC_POLICIES),
        require_platform_references=section.boolean("require_platform_references", True),
        vendor_endorsements=section.listed("vendor_endorsements", (), schema.check_hex(32)),
        configurations=section.optional_list("configurations", _bytes),
        rpv=section.optional_list("rpv", schema.check_hex(64)),
    )
    for name in ("profiles", "allow_lifecycle"):
        if not getattr(policy, name):
            raise section.refuse(name, "an empty list allows nothing", "Name at least one value, or leave the key out")
    return policy


def _profile(value: Any, where: str) -> str:
    # YAML reads a bare year as a number; there is nothing else that it could mean here.
    return schema.check_choice(str(value) if is_integer(value) else value, PROFILES, where)


def _bytes(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > 2 * CONFIGURATION_MAX or not _HEX.match(value):
        raise PolicyError(
            "lower-case hexadecimal digits of at most %d bytes were expected, this is %s" % (CONFIGURATION_MAX, schema.show(value)),
            where=where, fix="Put the digits into quotes",
        )  # fmt: skip
    return value
