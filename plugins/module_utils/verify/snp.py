# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify AMD SEV-SNP evidence (skeleton; the interface is final)."""

from __future__ import annotations

from datetime import datetime
from typing import Optional, Sequence, Union

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.result import UNCHECKED, SnpClaims, Unchecked, Verification

__all__ = ["UNCHECKED", "SnpClaims", "Verification", "verify_snp"]


def verify_snp(
    report: bytes,
    vek: Optional[bytes],
    chain: Sequence[bytes],
    roots: TrustRoots,
    at: datetime,
    expected_report_data: Union[bytes, Unchecked],
    crl: Optional[bytes] = None,
    cache: Optional[VerificationCache] = None,
) -> Verification:
    raise NotImplementedError
