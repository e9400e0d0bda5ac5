# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an appraisal of one item gets to see. All of it is given by the caller: no file, socket or clock is touched here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Container, Optional, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.result import Unchecked


@dataclass(frozen=True)
class Endorsements:
    """Certificates and revocation lists (DER) that the relying party brings, for all items. Untrusted path material:
    whatever is used of it must lead to a pinned root."""

    certificates: Tuple[bytes, ...] = ()
    crls: Tuple[bytes, ...] = ()


@dataclass(frozen=True)
class ItemContext:
    """``expected_report_data`` is 64 bytes or the explicit opt-out; ``seen`` holds the identities of evidence seen before, None to not look."""

    policy: Policy
    reference_values: ReferenceValues
    endorsements: Endorsements
    roots: TrustRoots
    expected_report_data: Union[bytes, Unchecked]
    at: datetime
    seen: Optional[Container[str]] = None
    cache: Optional[VerificationCache] = None
