# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a verified TD quote says: the claims that policies are held against."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.formats.pck import PckExtensions
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_quote import TdReport, TdxQuote
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx_tcb import TcbEvaluation


def _day(moment: Optional[datetime]) -> Optional[str]:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class TdxClaims:
    """What a TD quote, its PCK certificate and Intel's collateral say. To be relied on only if the verification is authentic.

    ``pck`` and ``ca`` ("platform", "processor") come from the PCK certificate and are None unless its chain ends at a pinned root.
    ``tcb`` is None unless collateral for this platform is proven; of it, ``tcb.status`` is the converged status. ``collateral_sha256``
    (hexadecimal), ``tcb_evaluation_data_number`` and ``collateral_issued`` tell which collateral was used.
    """

    quote: TdxQuote
    pck: Optional[PckExtensions] = None
    ca: Optional[str] = None
    tcb: Optional[TcbEvaluation] = None
    tcb_evaluation_data_number: Optional[int] = None
    qe_evaluation_data_number: Optional[int] = None
    collateral_issued: Optional[datetime] = None
    collateral_sha256: Optional[str] = None
    pck_sha256: Optional[str] = None
    root_name: Optional[str] = None
    root_spki_sha256: Optional[str] = None

    @property
    def body(self) -> TdReport:
        """The TD report: measurements, attributes, report data."""
        return self.quote.body

    @property
    def machine(self) -> Optional[str]:
        """The identity of the machine: SHA-256 (hexadecimal) of the PPID. None without a proven PCK certificate that has one."""
        return self.pck.ppid_sha256 if self.pck is not None else None

    @property
    def fmspc(self) -> Optional[str]:
        """12 lower-case hexadecimal digits."""
        return self.pck.fmspc.hex() if self.pck is not None else None

    @property
    def tcb_status(self) -> Optional[str]:
        """The converged status, for example "UpToDate"; None if none is reached."""
        return self.tcb.status if self.tcb is not None else None

    @property
    def advisory_ids(self) -> Tuple[str, ...]:
        """Intel's advisories that apply to platform, module or quoting enclave."""
        return self.tcb.advisory_ids if self.tcb is not None else ()

    @property
    def tcb_date(self) -> Optional[datetime]:
        """The earliest of the dates of the levels of platform, module and quoting enclave."""
        return self.tcb.date if self.tcb is not None else None

    @property
    def relaunch_advised(self) -> bool:
        """True if launching the TD again is all that is missing."""
        return self.tcb is not None and self.tcb.relaunch_advised

    def to_dict(self) -> Dict[str, Any]:
        """JSON-able, byte strings as hexadecimal text, times as 2026-01-31T00:00:00Z."""
        tcb = self.tcb
        return {
            "measurement": self.body.mrtd.hex(),
            "machine": self.machine,
            "tcb_status": self.tcb_status,
            "platform_tcb_status": tcb.platform_status if tcb else None,
            "module_tcb_status": tcb.module_status if tcb else None,
            "qe_tcb_status": tcb.qe_status if tcb else None,
            "module_identity": tcb.module_identity if tcb else None,
            "relaunch_advised": self.relaunch_advised,
            "advisory_ids": list(self.advisory_ids),
            "tcb_date": _day(self.tcb_date),
            "platform_tcb_date": _day(tcb.platform_date) if tcb else None,
            "module_tcb_date": _day(tcb.module_date) if tcb else None,
            "qe_tcb_date": _day(tcb.qe_date) if tcb else None,
            "tcb_evaluation_data_number": self.tcb_evaluation_data_number,
            "qe_evaluation_data_number": self.qe_evaluation_data_number,
            "collateral_issued": _day(self.collateral_issued),
            "collateral_sha256": self.collateral_sha256,
            "ca": self.ca,
            "pck": self.pck.to_dict() if self.pck else None,
            "pck_sha256": self.pck_sha256,
            "root_name": self.root_name,
            "root_spki_sha256": self.root_spki_sha256,
            "quote": self.quote.to_dict(),
        }
