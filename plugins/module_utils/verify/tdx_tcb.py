# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Evaluate the TCB of a TD quote: levels of the platform, the TDX module and the quoting enclave, and what they amount to together.

Pure, in the order of Intel's quote verification library. What comes in must be proven already. A status is a finding, not a failure: what
is allowed is for policy. Failures are only where Intel vouches for nothing: tcb-not-supported, module-identity, module-mrsigner,
module-attributes, module-tcb-not-supported, qe-identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Dict, FrozenSet, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.checks import Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.formats.pck import PckExtensions
from ansible_collections.attested.ai.plugins.module_utils.formats.sgx_report import SgxReport
from ansible_collections.attested.ai.plugins.module_utils.formats.tcb_info import (
    CONFIGURATION,
    CONFIGURATION_SW,
    OUT_OF_DATE,
    OUT_OF_DATE_CONFIGURATION,
    REVOKED,
    SW_HARDENING,
    UP_TO_DATE,
    Level,
    ModuleIdentity,
    PlatformLevel,
    QeIdentity,
    TcbInfo,
    module_named,
)
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_quote import TdReport

RELAUNCH = "TDRelaunchAdvised"
RELAUNCH_CONFIGURATION = "TDRelaunchAdvisedConfigurationNeeded"

_OLD, _CONFIGURE, _HARDEN = "old", "configure", "harden"
_MEANINGS: Mapping[str, FrozenSet[str]] = {
    UP_TO_DATE: frozenset(),
    SW_HARDENING: frozenset((_HARDEN,)),
    CONFIGURATION: frozenset((_CONFIGURE,)),
    CONFIGURATION_SW: frozenset((_CONFIGURE, _HARDEN)),
    OUT_OF_DATE: frozenset((_OLD,)),
    OUT_OF_DATE_CONFIGURATION: frozenset((_OLD, _CONFIGURE)),
}
_STATUS_OF = {meaning: status for status, meaning in _MEANINGS.items()}
_CURRENT = (UP_TO_DATE, SW_HARDENING, CONFIGURATION, CONFIGURATION_SW)

CHECKS = ("tcb-not-supported", "module-identity", "module-mrsigner", "module-attributes", "module-tcb-not-supported", "qe-identity")


@dataclass(frozen=True)
class TcbEvaluation:
    """The outcome. ``status`` is the converged one: one of Intel's, or TDRelaunchAdvised, TDRelaunchAdvisedConfigurationNeeded; None if a
    part has no level. ``module_status`` is None for modules of version 0, which are part of the platform's level. ``module_identity`` is
    for example "TDX_01". ``date`` is the earliest of the levels' dates. ``advisory_ids`` are those of all levels that count, each once."""

    status: Optional[str]
    platform_status: Optional[str]
    module_status: Optional[str]
    qe_status: Optional[str]
    module_identity: Optional[str]
    advisory_ids: Tuple[str, ...]
    date: Optional[datetime]
    platform_date: Optional[datetime]
    module_date: Optional[datetime]
    qe_date: Optional[datetime]

    @property
    def relaunch_advised(self) -> bool:
        """True if the TDX module was updated under the TD, and launching the TD again is all that is missing."""
        return self.status in (RELAUNCH, RELAUNCH_CONFIGURATION)


def evaluate(body: TdReport, report: SgxReport, pck: PckExtensions, info: TcbInfo, identity: QeIdentity, checks: Dict[str, Check]) -> TcbEvaluation:
    """Evaluate a quote's body and the quoting enclave's report against proven TCB info and QE identity; puts one check for each of CHECKS."""
    platform = _platform(body, pck, info, checks)
    module, module_level = _module(body, info, checks)
    qe = _quoting_enclave(report, identity, checks)
    versioned = body.tee_tcb_svn[1] > 0
    parts = [platform, qe] + ([module_level] if versioned else [])
    found = [level for level in (platform, module_level, qe) if level is not None]
    complete = all(part is not None for part in parts) and all(checks[name].outcome == "pass" for name in CHECKS)
    status = None
    if complete:
        status = converge([level.status for level in found])
        if platform is not None and qe is not None and module is not None and module_level is not None:
            status = _relaunch(body, platform, module_level, module, qe, info) or status
    return TcbEvaluation(
        status=status,
        platform_status=platform.status if platform else None,
        module_status=module_level.status if module_level else None,
        qe_status=qe.status if qe else None,
        module_identity=module.id if module and module.id else None,
        advisory_ids=tuple(dict.fromkeys(advisory for level in found for advisory in level.advisory_ids)),
        date=min([level.date for level in found], default=None),
        platform_date=platform.date if platform else None,
        module_date=module_level.date if module_level else None,
        qe_date=qe.date if qe else None,
    )


def converge(statuses: Sequence[str]) -> str:
    """One status for all parts. Revoked anywhere is Revoked; what is out of date anywhere is out of date, and hardening by software no longer
    counts then; a need for configuration stays."""
    if REVOKED in statuses:
        return REVOKED
    meaning = frozenset().union(*[_MEANINGS[status] for status in statuses])
    return _STATUS_OF[meaning - {_HARDEN} if _OLD in meaning else meaning]


def _reaches(have: Sequence[int], need: Sequence[int], first: int = 0) -> bool:
    for index in range(first, len(need)):
        if have[index] < need[index]:
            return False
    return True


def _platform(body: TdReport, pck: PckExtensions, info: TcbInfo, checks: Dict[str, Check]) -> Optional[PlatformLevel]:
    """The highest level that the platform reaches. A module with a version is judged by its own levels, not by components 0 and 1."""
    first = 2 if body.tee_tcb_svn[1] > 0 else 0
    for level in info.levels:
        if pck.pcesvn >= level.pcesvn and _reaches(pck.components, level.sgx) and _reaches(body.tee_tcb_svn, level.tdx, first):
            checks["tcb-not-supported"] = passed("tcb-not-supported", "the platform's level is %s, of %s" % (level.status, level.date.date().isoformat()))
            return level
    lowest = info.levels[-1]
    checks["tcb-not-supported"] = failed(
        "tcb-not-supported",
        "the platform reaches no level of the TCB info: CPUSVN %s, PCESVN %d, TEE_TCB_SVN %s; the lowest level is %s, %d, %s"
        % (pck.cpusvn.hex(), pck.pcesvn, body.tee_tcb_svn.hex(), bytes(lowest.sgx).hex(), lowest.pcesvn, bytes(lowest.tdx).hex()),
    )
    return None


def _masked_equal(have: bytes, want: bytes, mask: bytes) -> bool:
    bits = int.from_bytes(mask, "big")
    return int.from_bytes(have, "big") & bits == int.from_bytes(want, "big") & bits


def _module(body: TdReport, info: TcbInfo, checks: Dict[str, Check]) -> Tuple[Optional[ModuleIdentity], Optional[Level]]:
    svn, version = body.tee_tcb_svn[0], body.tee_tcb_svn[1]
    module = module_named(info, version)
    if module is None:
        known = ", ".join(identity.id for identity in info.module_identities) or "none"
        checks["module-identity"] = failed("module-identity", "the TDX module has version %d (TDX_%02X); Intel names %s" % (version, version, known))
        for name in ("module-mrsigner", "module-attributes", "module-tcb-not-supported"):
            checks[name] = not_checked(name, "the TDX module is not known")
        return None, None
    checks["module-identity"] = passed("module-identity", module.id or "a module of version 0")
    if body.mrsignerseam != module.mrsigner:
        checks["module-mrsigner"] = failed("module-mrsigner", "MRSIGNERSEAM is %s, Intel's is %s" % (body.mrsignerseam.hex(), module.mrsigner.hex()))
    else:
        checks["module-mrsigner"] = passed("module-mrsigner", "the TDX module is Intel's")
    if not _masked_equal(body.seamattributes, module.attributes, module.attributes_mask):
        checks["module-attributes"] = failed(
            "module-attributes", "SEAMATTRIBUTES are %s, under the mask %s they must be %s"
            % (body.seamattributes.hex(), module.attributes_mask.hex(), module.attributes.hex()),
        )  # fmt: skip
    else:
        checks["module-attributes"] = passed("module-attributes", "SEAMATTRIBUTES are those of Intel's module")
    if version == 0:
        checks["module-tcb-not-supported"] = passed("module-tcb-not-supported", "a module of version 0 is judged with the platform")
        return module, None
    level = next((level for level in module.levels if level.svns[0] <= svn), None)
    if level is None:
        checks["module-tcb-not-supported"] = failed(
            "module-tcb-not-supported", "the TDX module has SVN %d, the lowest level of %s is %d" % (svn, module.id, module.levels[-1].svns[0])
        )  # fmt: skip
    else:
        checks["module-tcb-not-supported"] = passed("module-tcb-not-supported", "the TDX module's level is %s" % level.status)
    return module, level


def _quoting_enclave(report: SgxReport, identity: QeIdentity, checks: Dict[str, Check]) -> Optional[Level]:
    offences = []
    if report.mrsigner != identity.mrsigner:
        offences.append("MRSIGNER is %s, Intel's is %s" % (report.mrsigner.hex(), identity.mrsigner.hex()))
    if report.isvprodid != identity.isvprodid:
        offences.append("ISVPRODID is %d, %d was expected" % (report.isvprodid, identity.isvprodid))
    if report.miscselect & identity.miscselect_mask != identity.miscselect & identity.miscselect_mask:
        offences.append("MISCSELECT is 0x%08x, 0x%08x was expected" % (report.miscselect, identity.miscselect))
    if not _masked_equal(report.attributes, identity.attributes, identity.attributes_mask):
        offences.append("ATTRIBUTES are %s, %s were expected" % (report.attributes.hex(), identity.attributes.hex()))
    if report.debug:
        offences.append("it is an enclave under debug")
    level = next((level for level in identity.levels if level.svns[0] <= report.isvsvn), None)
    if level is None:
        offences.append("ISVSVN is %d, the lowest level is %d" % (report.isvsvn, identity.levels[-1].svns[0]))
    if offences or level is None:
        checks["qe-identity"] = failed("qe-identity", "it is not Intel's quoting enclave for TDs: %s" % "; ".join(offences))
        return None
    checks["qe-identity"] = passed("qe-identity", "Intel's quoting enclave, SVN %d, %s" % (report.isvsvn, level.status))
    return level


def _relaunch(body: TdReport, platform: PlatformLevel, launched: Level, module: ModuleIdentity, qe: Level, info: TcbInfo) -> Optional[str]:
    """The status if only the module that launched the TD is out of date, and the one that runs now is the newest (Intel QVL since DCAP 1.20)."""
    now = body.tee_tcb_svn_2
    if now is None or launched.status != OUT_OF_DATE or platform.status not in _CURRENT or qe.status in (OUT_OF_DATE, OUT_OF_DATE_CONFIGURATION, REVOKED):
        return None
    # Another version of the module has an identity and SVNs of its own, which say nothing about this one's.
    newest = module.levels[0]
    if now[1] != body.tee_tcb_svn[1] or now[0] < newest.svns[0] or now[2] < info.levels[0].tdx[2] or newest.status not in _CURRENT:
        return None
    return RELAUNCH_CONFIGURATION if _CONFIGURE in _MEANINGS[platform.status] | _MEANINGS[qe.status] else RELAUNCH
