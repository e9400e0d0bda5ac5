# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Intel's TCB info for TDX (version 3) and QE identity (version 2): signed JSON to frozen values.

Strict: every member is known, none occurs twice, every value has its one type. Who reads less may miss what refuses a platform.
Source: Intel SGX and TDX provisioning certification service, API version 4. Nothing here decides about trust.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict

UP_TO_DATE = "UpToDate"
SW_HARDENING = "SWHardeningNeeded"
CONFIGURATION = "ConfigurationNeeded"
CONFIGURATION_SW = "ConfigurationAndSWHardeningNeeded"
OUT_OF_DATE = "OutOfDate"
OUT_OF_DATE_CONFIGURATION = "OutOfDateConfigurationNeeded"
REVOKED = "Revoked"
STATUSES = (UP_TO_DATE, SW_HARDENING, CONFIGURATION, CONFIGURATION_SW, OUT_OF_DATE, OUT_OF_DATE_CONFIGURATION, REVOKED)

TCB_INFO_ID, TCB_INFO_VERSION = "TDX", 3
QE_IDENTITY_ID, QE_IDENTITY_VERSION = "TD_QE", 2
COMPONENTS = 16
LEVELS_MAX = 512
JSON_MAX = 1 << 20

_ADVISORY = re.compile(r"[A-Z0-9-]{1,64}\Z")
_HEX = re.compile(r"[0-9a-fA-F]*\Z")
_MODULE_ID = re.compile(r"TDX_[0-9A-F]{2}\Z")
_TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z\Z")


@dataclass(frozen=True)
class Level:
    """What Intel says of one level. ``svns`` are what a platform must reach; ``date`` is the day whose security is reached."""

    svns: Tuple[int, ...]
    status: str
    date: datetime
    advisory_ids: Tuple[str, ...]


@dataclass(frozen=True)
class PlatformLevel:
    """A level of a platform: 16 SGX components, PCESVN and 16 TDX components."""

    sgx: Tuple[int, ...]
    pcesvn: int
    tdx: Tuple[int, ...]
    status: str
    date: datetime
    advisory_ids: Tuple[str, ...]


@dataclass(frozen=True)
class ModuleIdentity:
    """Whose TDX module this is: signer (48 bytes), SEAMATTRIBUTES under a mask (8 bytes each), and levels by ISVSVN, highest first.
    ``id`` is for example "TDX_01", empty for the identity of modules of version 0, which has no levels."""

    id: str
    mrsigner: bytes
    attributes: bytes
    attributes_mask: bytes
    levels: Tuple[Level, ...] = ()


@dataclass(frozen=True)
class TcbInfo:
    """TCB info of one FMSPC (6 bytes). ``levels`` are sorted, highest first, whatever the order in the file. Times are UTC."""

    id: str
    version: int
    issue_date: datetime
    next_update: datetime
    fmspc: bytes
    pceid: bytes
    evaluation_number: int
    module: ModuleIdentity
    module_identities: Tuple[ModuleIdentity, ...]
    levels: Tuple[PlatformLevel, ...]


@dataclass(frozen=True)
class QeIdentity:
    """The identity of Intel's quoting enclave for TDs. ``miscselect`` and its mask are integers, the attributes 16 bytes."""

    id: str
    version: int
    issue_date: datetime
    next_update: datetime
    evaluation_number: int
    miscselect: int
    miscselect_mask: int
    attributes: bytes
    attributes_mask: bytes
    mrsigner: bytes
    isvprodid: int
    levels: Tuple[Level, ...]


def _time(value: Any, where: str) -> datetime:
    match = _TIME.match(value) if isinstance(value, str) else None
    if match is None:
        raise FormatError("it is no time as in 2026-01-31T00:00:00Z", where=where)
    try:
        return datetime(*[int(part) for part in match.groups()], tzinfo=timezone.utc)  # type: ignore[misc,arg-type]
    except ValueError:
        raise FormatError("it is an impossible time", where=where) from None


def _number(value: Any, where: str, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
        raise FormatError("it is no number from 0 to %d" % limit, where=where)
    return value


def _hex(value: Any, where: str, size: int) -> bytes:
    """Intel writes upper and lower case: they are the same."""
    if not isinstance(value, str) or len(value) != 2 * size or not _HEX.match(value):
        raise FormatError("%d hexadecimal digits were expected" % (2 * size), where=where)
    return bytes.fromhex(value)


def _list(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list) or not 1 <= len(value) <= LEVELS_MAX:
        raise FormatError("a list of 1 to %d entries was expected" % LEVELS_MAX, where=where)
    return value


def _status(level: Mapping[str, Any], where: str) -> Tuple[str, datetime, Tuple[str, ...]]:
    status = level["tcbStatus"]
    if not isinstance(status, str) or status not in STATUSES:
        raise FormatError("the status %s is none of %s" % (strict.quoted(status), ", ".join(STATUSES)), where=where)
    advisories = level.get("advisoryIDs", [])
    if not isinstance(advisories, list) or len(advisories) > LEVELS_MAX:
        raise FormatError("advisoryIDs is no list", where=where)
    for advisory in advisories:
        if not isinstance(advisory, str) or not _ADVISORY.match(advisory):
            raise FormatError("%s is no advisory" % strict.quoted(advisory), where=where)
    return status, _time(level["tcbDate"], where + " tcbDate"), tuple(advisories)


_LEVEL = ("tcb", "tcbDate", "tcbStatus")
_ISVSVN = ("isvsvn",)


def _isvsvn_levels(value: Any, where: str) -> Tuple[Level, ...]:
    levels: List[Level] = []
    for entry in _list(value, where):
        strict.members(entry, _LEVEL, ("advisoryIDs",), where)
        tcb = strict.members(entry["tcb"], _ISVSVN, where=where)
        levels.append(Level((_number(tcb["isvsvn"], where + " isvsvn", 0xFFFF),), *_status(entry, where)))
    levels.sort(key=lambda level: level.svns, reverse=True)
    if len({level.svns for level in levels}) != len(levels):
        raise FormatError("two levels have the same isvsvn", where=where)
    return tuple(levels)


_TEXTS = ("category", "type")
_KNOWN = {"svn", "category", "type"}


def _components(value: Any, where: str) -> Tuple[int, ...]:
    if not isinstance(value, list) or len(value) != COMPONENTS:
        raise FormatError("%d components were expected" % COMPONENTS, where=where)
    svns: List[int] = []
    for component in value:
        # Most are bare numbers: what else may stand there is looked at only if something does.
        if component.__class__ is not dict or "svn" not in component or len(component) > 1 and not component.keys() <= _KNOWN:
            strict.members(component, ("svn",), _TEXTS, where)
        svn = component["svn"]
        if svn.__class__ is not int or not 0 <= svn <= 0xFF:
            raise FormatError("a component's svn is no number from 0 to 255", where=where)
        if len(component) > 1 and any(value.__class__ is not str for name, value in component.items() if name != "svn"):
            raise FormatError("a component's category or type is no text", where=where)
        svns.append(svn)
    return tuple(svns)


_PLATFORM_TCB = ("sgxtcbcomponents", "pcesvn", "tdxtcbcomponents")


def _platform_levels(value: Any) -> Tuple[PlatformLevel, ...]:
    levels: List[PlatformLevel] = []
    where = "TCB info level"
    for entry in _list(value, where):
        strict.members(entry, _LEVEL, ("advisoryIDs",), where)
        tcb = strict.members(entry["tcb"], _PLATFORM_TCB, where=where)
        levels.append(PlatformLevel(
            _components(tcb["sgxtcbcomponents"], where), _number(tcb["pcesvn"], where, 0xFFFF), _components(tcb["tdxtcbcomponents"], where),
            *_status(entry, where),
        ))  # fmt: skip
    levels.sort(key=lambda level: (level.sgx, level.pcesvn, level.tdx), reverse=True)
    if len({(level.sgx, level.pcesvn, level.tdx) for level in levels}) != len(levels):
        raise FormatError("two levels have the same SVNs", where=where)
    return tuple(levels)


def _module(entry: Mapping[str, Any], name: str, where: str) -> ModuleIdentity:
    return ModuleIdentity(
        name, _hex(entry["mrsigner"], where + " mrsigner", 48), _hex(entry["attributes"], where + " attributes", 8),
        _hex(entry["attributesMask"], where + " attributesMask", 8), _isvsvn_levels(entry["tcbLevels"], where) if name else (),
    )  # fmt: skip


_MODULE = ("mrsigner", "attributes", "attributesMask")
_TCB_INFO = ("id", "version", "issueDate", "nextUpdate", "fmspc", "pceId", "tcbType", "tcbEvaluationDataNumber", "tdxModule", "tcbLevels")
_TCB_INFO_OPTIONAL = ("tdxModuleIdentities",)


def _identified(document: Any, wanted: str, version: int, code: str, where: str) -> None:
    """What it is comes before its form: TCB info of SGX has other members."""
    if not isinstance(document, dict):
        raise FormatError("it is no JSON object", where=where)
    if document.get("id") != wanted or document.get("version") != version or isinstance(document.get("version"), bool):
        raise FormatError(
            "its id is %s in version %s, %s in version %d was expected"
            % (strict.quoted(document.get("id")), strict.quoted(document.get("version")), wanted, version),
            where=where, code=code,
        )  # fmt: skip


def parse_tcb_info(text: str) -> TcbInfo:
    """Parse the exact text of the member tcbInfo. Raises FormatError; code "tcb-info-id" if it is another kind or version."""
    where = "TCB info"
    document = strict.loads(strict.text_of(text, where, JSON_MAX), where)
    _identified(document, TCB_INFO_ID, TCB_INFO_VERSION, "tcb-info-id", where)
    strict.members(document, _TCB_INFO, _TCB_INFO_OPTIONAL, where)
    if _number(document["tcbType"], where + " tcbType", 0xFFFF) != 0:
        raise FormatError("tcbType %d, only 0 is known" % document["tcbType"], where=where)
    modules: List[ModuleIdentity] = []
    if document.get("tdxModuleIdentities", []) != []:
        for entry in _list(document["tdxModuleIdentities"], where + " tdxModuleIdentities"):
            name = strict.members(entry, ("id",) + _MODULE + ("tcbLevels",), where=where)["id"]
            if not isinstance(name, str) or not _MODULE_ID.match(name) or any(name == module.id for module in modules):
                raise FormatError("the module identity %s is none, or occurs twice" % strict.quoted(name), where=where)
            modules.append(_module(entry, name, where + " " + name))
    return TcbInfo(
        id=document["id"], version=document["version"], issue_date=_time(document["issueDate"], where + " issueDate"),
        next_update=_time(document["nextUpdate"], where + " nextUpdate"), fmspc=_hex(document["fmspc"], where + " fmspc", 6),
        pceid=_hex(document["pceId"], where + " pceId", 2), evaluation_number=_number(document["tcbEvaluationDataNumber"], where, 1 << 31),
        module=_module(strict.members(document["tdxModule"], _MODULE, where=where), "", where + " tdxModule"),
        module_identities=tuple(modules), levels=_platform_levels(document["tcbLevels"]),
    )  # fmt: skip


_QE = (
    "id", "version", "issueDate", "nextUpdate", "tcbEvaluationDataNumber", "miscselect", "miscselectMask", "attributes", "attributesMask", "mrsigner",
    "isvprodid", "tcbLevels",
)  # fmt: skip


def parse_qe_identity(text: str) -> QeIdentity:
    """Parse the exact text of the member enclaveIdentity. Raises FormatError; code "qe-identity-id" if it is another kind or version."""
    where = "QE identity"
    document = strict.loads(strict.text_of(text, where, JSON_MAX), where)
    _identified(document, QE_IDENTITY_ID, QE_IDENTITY_VERSION, "qe-identity-id", where)
    strict.members(document, _QE, where=where)
    return QeIdentity(
        id=document["id"], version=document["version"], issue_date=_time(document["issueDate"], where + " issueDate"),
        next_update=_time(document["nextUpdate"], where + " nextUpdate"), evaluation_number=_number(document["tcbEvaluationDataNumber"], where, 1 << 31),
        # The text is written with the most significant digit first, the report holds the value little-endian.
        miscselect=int.from_bytes(_hex(document["miscselect"], where, 4), "big"),
        miscselect_mask=int.from_bytes(_hex(document["miscselectMask"], where, 4), "big"),
        attributes=_hex(document["attributes"], where, 16), attributes_mask=_hex(document["attributesMask"], where, 16),
        mrsigner=_hex(document["mrsigner"], where, 32), isvprodid=_number(document["isvprodid"], where, 0xFFFF),
        levels=_isvsvn_levels(document["tcbLevels"], where),
    )  # fmt: skip


def module_named(info: TcbInfo, version: int) -> Optional[ModuleIdentity]:
    """The identity of TDX modules of this version, None if Intel names none. Version 0 has no number in its name."""
    if version == 0:
        return info.module
    name = "TDX_%02X" % version
    return next((module for module in info.module_identities if module.id == name), None)
