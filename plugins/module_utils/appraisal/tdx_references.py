# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hold a TD quote against reference values: MRTD, the RTMRs that a value names, and the other registers that it may name."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence

from ansible_collections.attested.ai.plugins.module_utils.appraisal import launch_endorsement
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import STAGES
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValue
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import format_time
from ansible_collections.attested.ai.plugins.module_utils.checks import Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_quote import TdReport

TEE, CODE = "tdx", "measurement-mismatch"
_REGISTERS = ("mrseam", "mrconfigid", "mrowner", "mrownerconfig")


class Outcome(NamedTuple):
    """``matched`` is the reference value that the TD fits, None if it fits none."""

    checks: List[Check]
    matched: Optional[ReferenceValue] = None


def check_measurement(body: TdReport, context: ItemContext) -> Outcome:
    """MRTD must be that of a reference value which still holds, and so must every register that the value names."""
    mrtd = body.mrtd.hex()
    same = context.reference_values.measured(TEE, mrtd)
    valid = [value for value in same if value.not_after > context.at]
    # Google's word for its firmware counts where nobody else's is known, if the policy takes it.
    checks, endorsed = launch_endorsement.endorsed(TEE, body.mrtd, None, context)
    if not valid:
        same, valid = same + endorsed, endorsed
    matching = [value for value in valid if not offences(value, body)]
    if matching:
        # Values that disagree still vouch for no more than the least of them.
        matched = min(matching, key=lambda value: (STAGES.index(value.covers), -value.not_after.timestamp()))
        named = ", ".join(["MRTD"] + ["RTMR%s" % number for number, _allowed in matched.rtmr])
        checks.append(passed(CODE, "%s are those of image %s (%s)" % (named, matched.image, matched.source)))
        return Outcome(checks, matched)
    detail = _refusal(mrtd, same, valid, body, len(context.reference_values.of(TEE)))
    if context.policy.measurements_required:
        return Outcome(checks + [failed(CODE, detail)])
    return Outcome(checks + [not_checked(CODE, detail + " (measurements_required is false)")])


def _refusal(mrtd: str, same: Sequence[ReferenceValue], valid: Sequence[ReferenceValue], body: TdReport, number: int) -> str:
    if valid:
        return "MRTD is that of image %s, but %s; launch the image as it was recorded, or record the new values" % (
            valid[0].image, "; ".join(offences(valid[0], body)))  # fmt: skip
    if same:
        return "the reference value of image %s expired at %s; renew it" % (same[0].image, format_time(same[0].not_after))
    if number:
        return "MRTD %s is none of the %d reference values; add it if the image is yours" % (mrtd, number)
    return "no reference values were given, MRTD is %s; record it for your image" % mrtd


def offences(value: ReferenceValue, body: TdReport) -> List[str]:
    """How the registers of a TD differ from what a reference value says of them."""
    found = []
    for number, allowed in value.rtmr:
        seen = body.rtmrs[int(number)].hex()
        if seen not in allowed:
            found.append("RTMR%s is %s instead of %s" % (number, seen, " or ".join(allowed)))
    for name in _REGISTERS:
        wanted, seen = getattr(value, name), getattr(body, name).hex()
        if wanted is not None and wanted != seen:
            found.append("%s is %s instead of %s" % (name.upper(), seen, wanted))
    return found
