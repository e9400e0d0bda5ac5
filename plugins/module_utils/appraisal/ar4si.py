# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""AR4SI trustworthiness claims and tiers (draft-ietf-rats-ar4si): the common words of all attestation results."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

AFFIRMING, WARNING, NONE, CONTRAINDICATED = "affirming", "warning", "none", "contraindicated"
# From best to worst. "none" is worse than a warning: a relying party may accept a warning, it can never accept silence.
TIERS = (AFFIRMING, WARNING, NONE, CONTRAINDICATED)

CLAIMS = (
    "instance-identity", "configuration", "executables", "file-system", "hardware", "runtime-opaque", "storage-opaque", "sourced-data",
)

NO_CLAIM = 0
UNEXPECTED_EVIDENCE = 1
CRYPTO_FAILED = 99
APPROVED = 2
APPROVED_BOOT = 3
UNSAFE = 32
UNRECOGNISED_EXECUTABLES = 33
CONTRAINDICATED_VALUE = 96
UNRECOGNISED = 97


def tier(value: int) -> str:
    """The tier of one claim value (-128..127); negative values mirror the positive ones."""
    size = -value if value < -1 else value
    if size <= 1:
        return NONE
    if size < 32:
        return AFFIRMING
    return WARNING if size < 96 else CONTRAINDICATED


def worst(tiers: Iterable[str]) -> str:
    """The worst of several tiers; "none" if there is none."""
    return max(tiers, key=TIERS.index, default=NONE)


def vector_tier(vector: Mapping[str, int]) -> str:
    """The worst tier among the claims that say something; "none" if no claim does."""
    return worst(found for found in (tier(value) for value in vector.values()) if found != NONE)


def parse_vector(obj: Any, where: str) -> Dict[str, int]:
    """Read a trustworthiness vector: known claims with whole numbers -128..127. Raises FormatError."""
    if not isinstance(obj, Mapping):
        raise FormatError("a trustworthiness vector was expected", where=where)
    for name, value in obj.items():
        if name not in CLAIMS:
            raise FormatError("unknown trustworthiness claim %s" % ascii(name)[:66], where=where)
        if isinstance(value, bool) or not isinstance(value, int) or not -128 <= value <= 127:
            raise FormatError("the claim %s is not a whole number from -128 to 127" % name, where=where)
    return dict(obj)
