# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The section tdx of a policy: what is asked of an Intel TD quote. See docs/policy-reference.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import schema
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, PolicyError

KEYS = (
    "statuses", "allow_relaunch_advised", "allow_advisories", "deny_advisories", "min_tcb_evaluation_data_number", "min_tcb_date",
    "allow_debug", "allow_migratable", "allow_service_td", "require_sept_ve_disable", "allow_perfmon", "allow_icssd", "xfam_mask",
    "mrseam", "min_module_svn", "fmspcs", "pck_cas", "dynamic_platform", "cached_keys", "smt", "mrconfigid", "mrowner", "mrownerconfig",
    "require_event_log",
)  # fmt: skip
UP_TO_DATE = "UpToDate"
# Intel's statuses but Revoked, which no policy can choose. A TD that should be launched again has an option of its own.
STATUSES = (
    UP_TO_DATE, "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate", "OutOfDateConfigurationNeeded",
)  # fmt: skip
CAS = ("platform", "processor")
ALLOWED, REFUSED = "allowed", "refused"
# x87, SSE, AVX, AVX-512, PKRU, CET for users and supervisors, user interrupts, AMX. Not processor trace, last branch records, performance states.
XFAM_MASK = 0x65AE7
_U64 = 2**64 - 1
_ADVISORY = re.compile(r"[A-Z0-9]+(?:-[A-Z0-9]+)+\Z")
_MASK = re.compile(r"0x[0-9a-f]{1,16}\Z")


@dataclass(frozen=True)
class TdxPolicy:
    """What is asked of a TD quote. Byte strings are lower-case hexadecimal text; None asks nothing, for ``allow_service_td`` it allows none.

    ``allow_advisories`` are those that may apply to a platform whose status is not UpToDate. ``xfam_mask`` holds the bits that XFAM may have.
    """

    statuses: Tuple[str, ...] = (UP_TO_DATE,)
    allow_relaunch_advised: bool = False
    allow_advisories: Tuple[str, ...] = ()
    deny_advisories: Tuple[str, ...] = ()
    min_tcb_evaluation_data_number: int = 0
    min_tcb_date: Optional[datetime] = None
    allow_debug: bool = False
    allow_migratable: bool = False
    allow_service_td: Optional[Tuple[str, ...]] = None
    require_sept_ve_disable: bool = True
    allow_perfmon: bool = False
    allow_icssd: bool = False
    xfam_mask: int = XFAM_MASK
    mrseam: Optional[Tuple[str, ...]] = None
    min_module_svn: int = 0
    fmspcs: Optional[Tuple[str, ...]] = None
    pck_cas: Tuple[str, ...] = CAS
    dynamic_platform: str = ALLOWED
    cached_keys: str = ALLOWED
    smt: str = ALLOWED
    mrconfigid: Optional[Tuple[str, ...]] = None
    mrowner: Optional[Tuple[str, ...]] = None
    mrownerconfig: Optional[Tuple[str, ...]] = None
    require_event_log: bool = False

    def to_dict(self) -> Dict[str, Any]:
        """Every key; load_tdx reads it back to an equal policy."""
        result: Dict[str, Any] = {}
        for name in KEYS:
            value = getattr(self, name)
            if isinstance(value, tuple):
                value = list(value)
            elif isinstance(value, datetime):
                value = schema.format_time(value)
            # As text: 64 bits are more than a JSON number holds exactly.
            result[name] = hex(value) if name == "xfam_mask" else value
        return result


def load_tdx(section: schema.Section, document: str) -> TdxPolicy:
    """Read the section ``tdx``. Raises PolicyError on anything that is not exactly of the schema."""
    digests = schema.check_hex(48)
    policy = TdxPolicy(
        statuses=section.listed("statuses", TdxPolicy.statuses, _status),
        allow_relaunch_advised=section.boolean("allow_relaunch_advised", False),
        allow_advisories=section.listed("allow_advisories", (), _advisory),
        deny_advisories=section.listed("deny_advisories", (), _advisory),
        min_tcb_evaluation_data_number=section.integer("min_tcb_evaluation_data_number", 0, 2**32 - 1),
        min_tcb_date=_date(section, "min_tcb_date"),
        allow_debug=section.boolean("allow_debug", False),
        allow_migratable=section.boolean("allow_migratable", False),
        allow_service_td=section.optional_list("allow_service_td", digests),
        require_sept_ve_disable=section.boolean("require_sept_ve_disable", True),
        allow_perfmon=section.boolean("allow_perfmon", False),
        allow_icssd=section.boolean("allow_icssd", False),
        xfam_mask=_mask(section, "xfam_mask"),
        mrseam=section.optional_list("mrseam", digests),
        min_module_svn=section.integer("min_module_svn", 0, 255),
        fmspcs=section.optional_list("fmspcs", schema.check_hex(6)),
        pck_cas=section.choices("pck_cas", CAS, CAS),
        dynamic_platform=section.choice("dynamic_platform", ALLOWED, (ALLOWED, REFUSED)),
        cached_keys=section.choice("cached_keys", ALLOWED, (ALLOWED, REFUSED)),
        smt=section.choice("smt", ALLOWED, (ALLOWED, REFUSED)),
        mrconfigid=section.optional_list("mrconfigid", digests),
        mrowner=section.optional_list("mrowner", digests),
        mrownerconfig=section.optional_list("mrownerconfig", digests),
        require_event_log=section.boolean("require_event_log", False),
    )
    for name in ("statuses", "pck_cas"):
        if not getattr(policy, name):
            raise section.refuse(name, "an empty list allows nothing", "Name at least one value, or leave the key out")
    both = sorted(set(policy.allow_advisories) & set(policy.deny_advisories))
    if both:
        raise section.refuse("deny_advisories", "%s is in allow_advisories, too" % both[0], "Remove it from one of the two")
    return policy


def _status(value: Any, where: str) -> str:
    if value == "Revoked":
        raise PolicyError("Revoked can never be accepted: Intel withdrew its word for the platform", where=where, fix="Remove it")
    return schema.check_choice(value, STATUSES, where)


def _advisory(value: Any, where: str) -> str:
    text = schema.check_text(value, where, limit=64)
    if not _ADVISORY.match(text):
        raise PolicyError("%s is not the id of an advisory, such as INTEL-SA-00837" % schema.show(text), where=where)
    return text


def _date(section: schema.Section, key: str) -> Optional[datetime]:
    if section.raw(key) is None:
        return None
    try:
        # The normalised policy tells whole seconds, and must mean the same.
        return schema.parse_time(section.raw(key), section.where(key)).replace(microsecond=0)
    except FormatError as error:
        raise PolicyError(error.what, where=error.where, fix=error.fix) from None


def _mask(section: schema.Section, key: str) -> int:
    value = section.raw(key, XFAM_MASK)
    if isinstance(value, str) and _MASK.match(value):
        return int(value, 16)
    return schema.check_integer(value, _U64, section.where(key))
