# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hold a CCA token against reference values: the platform's software components, and the realm's RIM, REMs and RPV."""

from __future__ import annotations

from datetime import datetime
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import ItemContext
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import STAGES
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValue
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import format_time
from ansible_collections.attested.ai.plugins.module_utils.checks import Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.formats.cca_claims import Component, RealmClaims
from ansible_collections.attested.ai.plugins.module_utils.verify.cca import CcaClaims

TEE, TEE_PLATFORM = "cca", "cca-platform"
PLATFORM, MEASUREMENT, RPV = "platform-reference-values", "measurement-mismatch", "rpv-mismatch"
_NAMED_MAX = 4


class Outcome(NamedTuple):
    """``covers`` is how far the realm's measurement vouches; ``expires_at`` the earliest end among the values relied on."""

    checks: List[Check]
    covers: Optional[str] = None
    expires_at: Optional[datetime] = None


def check_platform(claims: CcaClaims, context: ItemContext) -> Outcome:
    """Every software component must be one that a reference value of this implementation knows, by signer and measurement, and by
    version where the value states one."""
    implementation = claims.token.platform_claims.implementation_id.hex()
    same = [value for value in context.reference_values.of(TEE_PLATFORM) if value.implementation_id == implementation]
    valid = [value for value in same if value.not_after > context.at]
    if not valid:
        what = "the reference values of implementation %s have expired" if same else "no reference value is for implementation %s"
        detail = what % implementation + ": nothing is known of the platform's firmware; give the maker's values (tee: %s)" % TEE_PLATFORM
        if context.policy.cca.require_platform_references:
            return Outcome([failed(PLATFORM, detail)])
        return Outcome([not_checked(PLATFORM, detail + " (cca.require_platform_references is false)")])
    known: Dict[Tuple[str, str], List[Tuple[Optional[str], datetime]]] = {}
    for value in valid:
        for part in value.components:
            known.setdefault((part.signer, part.measurement), []).append((part.version, value.not_after))
    strangers: List[str] = []
    ends: List[datetime] = []
    for component in claims.token.platform_claims.components:
        fitting = [end for version, end in known.get((component.signer.hex(), component.measurement.hex()), []) if version in (None, component.version)]
        if fitting:
            ends.append(max(fitting))
        else:
            strangers.append(_name(component))
    if strangers:
        more = " and %d more" % (len(strangers) - _NAMED_MAX) if len(strangers) > _NAMED_MAX else ""
        return Outcome([failed(PLATFORM, "software components that no reference value of this implementation knows: %s%s; update the platform's "
                               "firmware, or add its values if the maker published them" % ("; ".join(strangers[:_NAMED_MAX]), more))])
    return Outcome([passed(PLATFORM, "all %d software components are known (%s)" % (len(ends), valid[0].source))], None, min(ends))


def check_realm(claims: CcaClaims, context: ItemContext) -> Outcome:
    """The RIM, and the REMs and the RPV where the reference value states them, must be those of one of our images."""
    realm, policy = claims.token.realm_claims, context.policy
    rim = realm.rim.hex()
    same = context.reference_values.measured(TEE, rim)
    valid = [value for value in same if value.not_after > context.at]
    extended = [value for value in valid if not _rem_offences(value, realm)]
    rpv = realm.rpv.hex()
    matching = [value for value in extended if value.rpv in (None, rpv)]
    # Who names the RPV too speaks of more. Values that disagree still vouch for no more than the least of them.
    closest = [value for value in matching if value.rpv is not None] or matching
    matched = min(closest, key=lambda value: (STAGES.index(value.covers), -value.not_after.timestamp())) if closest else None
    checks = [_measured(realm, same, valid, extended, context), _rpv(rpv, extended, matched, policy.cca.rpv)]
    if matched is None:
        return Outcome(checks)
    return Outcome(checks, matched.covers, matched.not_after)


def _measured(
    realm: RealmClaims, same: Sequence[ReferenceValue], valid: Sequence[ReferenceValue], extended: Sequence[ReferenceValue], context: ItemContext
) -> Check:
    rim = realm.rim.hex()
    if extended:
        return passed(MEASUREMENT, "the initial measurement is that of image %s (%s)" % (extended[0].image, extended[0].source))
    if valid:
        offences = "; ".join(_rem_offences(valid[0], realm))
        return failed(MEASUREMENT, "the initial measurement is that of image %s, but %s; measure the same things in the guest, or record the new "
                      "values" % (valid[0].image, offences))
    number = len(context.reference_values.of(TEE))
    if same:
        detail = "the reference value of image %s expired at %s; renew it" % (same[0].image, format_time(same[0].not_after))
    elif number:
        detail = "the initial measurement %s is none of the %d reference values; add it if the image is yours" % (rim, number)
    else:
        detail = "no reference values were given, the initial measurement is %s; record it for your image" % rim
    if context.policy.measurements_required:
        return failed(MEASUREMENT, detail)
    return not_checked(MEASUREMENT, detail + " (measurements_required is false)")


def _rpv(seen: str, extended: Sequence[ReferenceValue], matched: Optional[ReferenceValue], allowed: Optional[Sequence[str]]) -> Check:
    if allowed is not None and seen not in allowed:
        return failed(RPV, "the personalisation value is %s, the policy allows %s; launch the realm with one of these" % (seen, ", ".join(allowed)))
    if extended and matched is None:
        wanted = ", ".join(sorted({str(value.rpv) for value in extended}))
        detail = "the personalisation value is %s, the reference values of this measurement say %s; launch the realm with one of these"
        return failed(RPV, detail % (seen, wanted))
    if allowed is not None or (matched is not None and matched.rpv is not None):
        return passed(RPV, "the personalisation value is %s, as expected" % seen)
    return not_checked(RPV, "nothing is asked of the personalisation value, it is %s" % seen)


def _rem_offences(value: ReferenceValue, realm: RealmClaims) -> List[str]:
    """How the REMs differ from what the reference value states of them."""
    offences: List[str] = []
    for number, allowed in value.rem:
        seen = realm.rems[int(number)].hex()
        if seen not in allowed:
            offences.append("REM %s is %s instead of %s" % (number, seen, " or ".join(allowed)))
    return offences


def _name(component: Component) -> str:
    return "%s (signer %s, measurement %s, version %s)" % (
        ascii(component.name)[:40], component.signer.hex(), component.measurement.hex(), ascii(component.version)[:40]
    )  # fmt: skip
