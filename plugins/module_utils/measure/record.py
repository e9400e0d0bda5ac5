# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reference values from a golden run: what an accepted guest said of itself, as a value for the next ones.

Only from evidence that was verified and accepted. Whoever records a run vouches for the image that ran: the evidence cannot.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Sequence

from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult, Result
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

# Kernel and what it starts with. RTMR0 holds tables of the VMM and differs with the memory's size, RTMR3 is the guest's own: on request.
DEFAULT_RTMRS = ("1", "2")


def recorded(result: Result, registers: Sequence[str] = DEFAULT_RTMRS) -> Dict[str, Any]:
    """The keys ``tee``, ``measurement`` and registers of a reference value. Raises FormatError unless the one CPU item was accepted."""
    if not result.accepted:
        raise FormatError("only what was accepted can be recorded. %s" % result.explain(), where="evidence")
    found = [item for name, item in result.items.items() if name.startswith("cpu")]
    if len(found) != 1:
        raise FormatError("evidence of exactly one CPU can be recorded, there are %d" % len(found), where="evidence")
    reader = _READERS.get(found[0].tee)
    if reader is None:
        raise FormatError("evidence of %s cannot be recorded, that of %s can" % (found[0].tee, ", ".join(_READERS)), where="evidence")
    return {"tee": found[0].tee, **reader(found[0], registers)}


def _snp(item: ItemResult, registers: Sequence[str]) -> Dict[str, Any]:
    return {"measurement": item.claims["measurement"]}


def _tdx(item: ItemResult, registers: Sequence[str]) -> Dict[str, Any]:
    rtmrs: Mapping[str, str] = item.claims["quote"]["body"]["rtmr"]
    return {"measurement": item.claims["measurement"], "rtmr": {number: rtmrs[number] for number in registers}}


def _cca(item: ItemResult, registers: Sequence[str]) -> Dict[str, Any]:
    rems: Sequence[str] = item.claims["realm"]["rem"]
    return {"measurement": item.claims["measurement"], "rem": {number: rems[int(number)] for number in registers}}


def _azure(item: ItemResult, registers: Sequence[str]) -> Dict[str, Any]:
    return {"measurement": item.claims["measurement"], "pcrs": dict(item.claims["tpm"]["pcrs"])}


_READERS = {"sev-snp": _snp, "tdx": _tdx, "cca": _cca, "az-snp-vtpm": _azure, "az-tdx-vtpm": _azure}
