# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Google's launch endorsement as a reference value: what a SEV-SNP or TDX appraisal asks when its own values do not know a measurement."""

from __future__ import annotations

from typing import List, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.gcp_policy import OFF, REQUIRED
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValue
from ansible_collections.attested.ai.plugins.module_utils.checks import Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import GCE
from ansible_collections.attested.ai.plugins.module_utils.verify.gce_endorsement import verify_gce_endorsement
from ansible_collections.attested.ai.plugins.module_utils.verify.result import ANCHOR_NONVENDOR, ANCHOR_VENDOR

CODE = "launch-endorsement"
SOURCE = "gce"
# Under a root of the operator's own.
SOURCE_NONVENDOR = "gce-nonvendor"
# The firmware is Google's; what it starts is for nobody's word.
COVERS = "launch"
_TRIED = 64


def anchor_with(anchor: str, matched: Optional[ReferenceValue]) -> str:
    """The anchor of an item whose evidence rests on ``anchor`` and whose measurement was known by ``matched``: the weaker of both."""
    return ANCHOR_NONVENDOR if anchor == ANCHOR_VENDOR and matched is not None and matched.source == SOURCE_NONVENDOR else anchor


def endorsed(tee: str, measurement: bytes, embedded: Optional[bytes], context: ItemContext) -> Tuple[List[Check], List[ReferenceValue]]:
    """The launch-endorsement check (none if the policy leaves this off) and the reference value that an endorsement amounts to.

    ``measurement``: MEASUREMENT ("sev-snp") or MRTD ("tdx"), 48 bytes. ``embedded``: the endorsement that came with the evidence.
    Others come from ``context.endorsements.launch_endorsements``. None of them is trusted before its signature holds.
    """
    asked = context.policy.gcp.launch_endorsement
    if asked == OFF:
        return [], []
    candidates = ([embedded] if embedded is not None else []) + list(context.endorsements.launch_endorsements)
    # The one that names this measurement is among them by its plain bytes: the others are not worth a signature.
    named = [data for data in candidates if measurement in data][:_TRIED]
    problems = []
    for data in named:
        found = verify_gce_endorsement(data, context.roots_of(GCE), context.at, context.cache)
        claims, svn = found.claims, None if found.claims is None else found.claims.endorsement.svn(tee)
        if found.authentic is not True or claims is None:
            problems += ["%s: %s" % (check.id, check.detail) for check in found.checks if check.id == found.code]
        elif not claims.endorsement.lists(tee, measurement):
            problems.append("it does not list the measurement for %s" % tee)
        elif svn is None or svn < context.policy.gcp.min_svn:
            problems.append("its security version is %s, gcp.min_svn is %d" % (svn, context.policy.gcp.min_svn))
        elif found.not_after is not None:
            image = "Google's firmware %s, security version %d" % (claims.endorsement.digest.hex(), svn)
            source = SOURCE if found.anchor == ANCHOR_VENDOR else SOURCE_NONVENDOR
            value = ReferenceValue(tee=tee, measurement=measurement.hex(), covers=COVERS, image=image, source=source, not_after=found.not_after)
            return [passed(CODE, "%s, endorsed under %r (%s)" % (image, claims.root_name, found.anchor))], [value]
    if problems:
        detail = "no launch endorsement of %s holds (%s); fetch it again" % (measurement.hex(), "; ".join(dict.fromkeys(problems)))
        return [failed(CODE, detail)], []
    detail = "no launch endorsement names %s; give the one that Google publishes for it (option launch_endorsements)" % measurement.hex()
    return [failed(CODE, detail) if asked == REQUIRED else not_checked(CODE, detail)], []
