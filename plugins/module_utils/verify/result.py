# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a verification says: authenticity, every check, and the claims. Shared by the verifiers of all TEEs and devices."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, Generic, Optional, Tuple, TypeVar

from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, Check
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import SnpReport, TcbSet

ANCHOR_VENDOR = "vendor"
ANCHOR_NONVENDOR = "nonvendor"
ANCHOR_NONE = "none"


class Unchecked(enum.Enum):
    """The explicit opt-out of the freshness check: UNCHECKED in place of the report data, challenge or nonce that is expected."""

    REPORT_DATA = "unchecked"


UNCHECKED = Unchecked.REPORT_DATA


# What a verifier claims: its own frozen class with ``to_dict()``, JSON-able, byte strings as hexadecimal text.
ClaimsT = TypeVar("ClaimsT")


@dataclass(frozen=True)
class SnpClaims:
    """What a SEV-SNP report and its certificate say. To be relied on only if the verification is authentic.

    ``product``: "milan", "genoa", "turin", None if unknown. ``key_role``: "vcek" or "vlek", None for any other signing key.
    ``tcb``: the decoded TCB versions, None if the product is unknown. ``hwid`` (VCEK: 64 bytes, Turin 8) and ``csp_id``
    (VLEK) come from the leaf certificate and are None unless its chain ends at a pinned root.
    """

    report: SnpReport
    product: Optional[str]
    key_role: Optional[str]
    tcb: Optional[TcbSet]
    hwid: Optional[bytes] = None
    csp_id: Optional[str] = None
    chip_id_sha256: Optional[str] = None
    vek_sha256: Optional[str] = None
    root_name: Optional[str] = None
    root_spki_sha256: Optional[str] = None

    @property
    def silicon(self) -> Optional[Tuple[int, int]]:
        """(CPUID family, CPUID model), the key of TCB floors; None in report version 2."""
        return self.report.silicon

    def to_dict(self) -> Dict[str, Any]:
        """JSON-able, byte strings as hexadecimal text."""
        return {
            "measurement": self.report.measurement.hex(),
            "machine": self.chip_id_sha256,
            "product": self.product,
            "key_role": self.key_role,
            "tcb": self.tcb.to_dict() if self.tcb else None,
            "hwid": self.hwid.hex() if self.hwid is not None else None,
            "csp_id": self.csp_id,
            "vek_sha256": self.vek_sha256,
            "root_name": self.root_name,
            "root_spki_sha256": self.root_spki_sha256,
            "report": self.report.to_dict(),
        }


@dataclass(frozen=True)
class Verification(Generic[ClaimsT]):
    """The outcome of verifying one piece of evidence.

    ``authentic`` is True if cryptography and endorsement binding hold, False if they do not, None if it cannot be judged
    (no certificate, an unusable revocation list). ``checks`` are in the order of telling. ``claims`` is None if the evidence
    cannot be parsed. ``not_after`` (UTC) is the earliest expiry of what was relied on. ``anchor`` is "vendor",
    "nonvendor" or, when no path was proven, "none". ``evidence_id`` identifies the evidence: SHA-256 in hexadecimal over
    the key and the signed bytes, never over signature bytes, since (r, n-s) is a second valid signature.
    """

    authentic: Optional[bool]
    checks: Tuple[Check, ...]
    claims: Optional[ClaimsT]
    not_after: Optional[datetime]
    anchor: str
    evidence_id: Optional[str]

    @property
    def code(self) -> str:
        """The id of the first failed check, "ok" if none failed."""
        for check in self.checks:
            if check.outcome == FAIL:
                return check.id
        return "ok"

    @property
    def failed(self) -> Tuple[str, ...]:
        """The ids of all failed checks."""
        return tuple(check.id for check in self.checks if check.outcome == FAIL)
