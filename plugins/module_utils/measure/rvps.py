# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reference values in the names that Trustee's default policies read (RVPS, extractor "sample")."""

from __future__ import annotations

from datetime import datetime
from typing import Dict, List, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValue, ReferenceValues


def to_rvps(values: ReferenceValues, at: datetime) -> Dict[str, List[str]]:
    """Name -> values, hexadecimal, of everything that holds at ``at``. What Trustee has no name for is left out."""
    found: Dict[str, List[str]] = {}
    for value in values.values:
        if value.not_after > at:
            for name, text in _named(value):
                if text not in found.setdefault(name, []):
                    found[name].append(text)
    return {name: sorted(texts) for name, texts in sorted(found.items())}


def lost(values: ReferenceValues, at: datetime) -> List[str]:
    """What Trustee's flat lists cannot hold: for each value that is thereby wider than ours, a line for a person."""
    notes = []
    for value in values.values:
        names = [name for name in ("host_data", "mrseam", "mrconfigid", "mrowner", "mrownerconfig") if getattr(value, name) is not None]
        names += ["rtmr %s" % number for number, _allowed in value.rtmr if number not in ("1", "2")]
        names += ["pcr %s" % number for number, _value in value.pcrs if number != "11"]
        if value.not_after > at and names:
            notes.append("image %s: %s cannot be exported, ask for it in a policy of Trustee's" % (value.image, ", ".join(names)))
    if len({value.image for value in values.values if value.tee == "tdx" and value.not_after > at}) > 1:
        notes.append("several TDX images: Trustee accepts MRTD of one with RTMRs of another")
    return notes


def _named(value: ReferenceValue) -> List[Tuple[str, str]]:
    measurement = value.measurement or ""
    if value.tee == "sev-snp":
        return [("snp_launch_measurement", measurement)]
    if value.tee == "tdx":
        registers = [("rtmr_%s" % number, text) for number, allowed in value.rtmr if number in ("1", "2") for text in allowed]
        return [("mr_td", measurement)] + registers
    pcrs = dict(value.pcrs)
    if value.tee == "az-snp-vtpm":
        pairs = [("measurement", measurement), ("snp_pcr11", pcrs.get("11", ""))]
    elif value.tee == "az-tdx-vtpm":
        pairs = [("mr_td", measurement), ("tdx_pcr11", pcrs.get("11", ""))]
    else:
        pairs = []
    return [pair for pair in pairs if pair[1]]
