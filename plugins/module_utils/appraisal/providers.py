# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Named cloud provider profiles: other defaults of the policy, as data. What the policy itself says always wins."""

from __future__ import annotations

from typing import Any, Dict

AZURE_ID_KEY = "942fd93ebde6ea7a96efadeafc60f1c6b3d10e703b1dafd7555b92f7f3d32d0e006767648cba5b102af3d65756af4177"

# Why each entry is there: attestation results of the providers differ in ways that a guest's owner cannot change.
PROVIDERS: Dict[str, Dict[str, Any]] = {
    "none": {},
    # Shared tenancy: VLEK, chip id zero, guests run at VMPL 1, and firmware that is loaded but not yet committed.
    "aws": {"sev_snp": {"signing_keys": ["vlek", "vcek"], "vmpl": [0, 1], "allow_provisional_firmware": True}},
    # The paravisor at VMPL 0 holds the report; certificates come as VCEK from the host's cache. Nobody publishes its measurements by
    # build, so it is known by the key that signed its ID block: this digest is in all genuine reports examined (Milan and Genoa).
    # Its TDs have TDATTRIBUTES 0, SEPT_VE_DISABLE clear.
    "azure": {"sev_snp": {"signing_keys": ["vcek"], "id_key_digests": [AZURE_ID_KEY]}, "tdx": {"require_sept_ve_disable": False}},
    # Google's endorsement of its firmware is for the policy to take in (section gcp): the firmware is all that it vouches for.
    "gcp": {"sev_snp": {"signing_keys": ["vcek"]}},
}
