# SPDX-License-Identifier: GPL-3.0-or-later
"""A laboratory that makes SEV-SNP evidence with any one thing wrong."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots, trust_roots
from ansible_collections.attested.ai.plugins.module_utils.verify.snp import UNCHECKED, Verification, verify_snp

REPOSITORY = Path(__file__).resolve().parents[3]
if str(REPOSITORY / "tools" / "softtee") not in sys.path:
    sys.path.insert(0, str(REPOSITORY / "tools" / "softtee"))

from softtee.snp_authority import SnpAuthority  # noqa: E402
from softtee.snp_report import build_report, sign_report  # noqa: E402

AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
LEAF_FROM = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Lab:
    """A soft authority (its own keys, AMD's names) and evidence made with it."""

    at = AT

    def __init__(self, authority: SnpAuthority) -> None:
        self.authority = authority
        self.roots = trust_roots([authority.ark_pem(p) for p in authority.products], allow_nonvendor_roots=True, vendor=False)
        self._leaves: Dict[Any, Tuple[Any, bytes]] = {}

    def leaf(self, product: str = "milan", role: str = "vcek", **overrides: Any) -> Tuple[Any, bytes]:
        overrides.setdefault("not_before", LEAF_FROM)
        return getattr(self.authority, role)(product, **overrides)

    def plain_leaf(self, product: str, role: str) -> Tuple[Any, bytes]:
        if (product, role) not in self._leaves:
            self._leaves[product, role] = self.leaf(product, role)
        return self._leaves[product, role]

    def chain(self, product: str = "milan") -> Tuple[bytes, ...]:
        return (self.authority.intermediate_der(product, "ask"), self.authority.intermediate_der(product, "asvk"))

    def report(self, key: Any, product: str = "milan", version: Optional[int] = None, **fields: Any) -> bytes:
        return bytes(sign_report(build_report(product, version, **fields), key))

    def verify(
        self, product: str = "milan", role: str = "vcek", *, leaf: Optional[Tuple[Any, bytes]] = None, version: Optional[int] = None,
        chain: Optional[Sequence[bytes]] = None, at: datetime = AT, expected: Any = UNCHECKED, crl: Optional[bytes] = None,
        roots: Optional[TrustRoots] = None, cache: Any = None, report: Optional[bytes] = None, **fields: Any
    ) -> Verification:  # fmt: skip
        """Make a report (fields as for build_report), signed with the leaf's key, and verify it."""
        key, vek = leaf or self.plain_leaf(product, role)
        fields.setdefault("signing_key", role)
        data = self.report(key, product, version, **fields) if report is None else report
        return verify_snp(
            data, vek, self.chain(product) if chain is None else chain, self.roots if roots is None else roots, at, expected, crl, cache
        )  # fmt: skip
