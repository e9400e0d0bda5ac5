# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reference values: which measurements are ours, and how far each of them vouches. See docs/reference-values.md."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import schema
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import STAGES
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, PolicyError
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import is_integer

SCHEMA = "attested.ai/reference-values/1"
DOCUMENT = "reference values"
_COMMON = ("tee", "image", "source", "not_after")
# What a value of each kind may say beside the keys that all of them have.
KEYS: Mapping[str, Tuple[str, ...]] = {
    "sev-snp": ("measurement", "host_data", "covers"),
    "tdx": ("measurement", "rtmr", "mrseam", "mrconfigid", "mrowner", "mrownerconfig", "covers"),
    "cca": ("measurement", "rem", "rpv", "covers"),
    "cca-platform": ("implementation_id", "components"),
    "az-snp-vtpm": ("measurement", "pcrs", "covers"),
    "az-tdx-vtpm": ("measurement", "pcrs", "covers"),
}
TEES = tuple(KEYS)
# Intel TDX: RTMR0 to 3 of SHA-384. Arm RMM: REM 0 to 3, like the RIM as wide as the realm's hash. TPM 2.0: PCR 0 to 23 of SHA-256.
_REGISTERS, _PCRS = ("0", "1", "2", "3"), tuple(str(number) for number in range(24))
# The kernel, and what it is started with, are in no measurement of a TD's launch but in these.
_KERNEL_RTMRS = ("1", "2")
_CCA_SIZES = (32, 48, 64)
_COMPONENTS_MAX = 64

# Register -> the values it may have, as pairs: a value must be hashable.
Registers = Tuple[Tuple[str, Tuple[str, ...]], ...]


@dataclass(frozen=True)
class Component:
    """One software component of a CCA platform: who signed it and what it measured (hexadecimal). ``version`` None fits any."""

    signer: str
    measurement: str
    version: Optional[str] = None

    def to_dict(self) -> Dict[str, Any]:
        return {name: value for name, value in (("signer", self.signer), ("measurement", self.measurement), ("version", self.version)) if value is not None}


@dataclass(frozen=True)
class ReferenceValue:
    """One image: its measurement (hexadecimal), how far the measurement ``covers``, and the end of its validity.

    ``measurement`` is None for cca-platform, and for az-* where nothing is said of the paravisor; ``covers`` is empty for cca-platform.
    ``rtmr`` and ``rem`` hold pairs of a register's number and the values that it may have; ``pcrs`` pairs of a number and a value.
    """

    tee: str
    measurement: Optional[str]
    covers: str
    image: str
    source: str
    not_after: datetime
    host_data: Optional[str] = None
    rtmr: Registers = ()
    mrseam: Optional[str] = None
    mrconfigid: Optional[str] = None
    mrowner: Optional[str] = None
    mrownerconfig: Optional[str] = None
    rem: Registers = ()
    rpv: Optional[str] = None
    pcrs: Tuple[Tuple[str, str], ...] = ()
    implementation_id: Optional[str] = None
    components: Tuple[Component, ...] = ()

    def to_dict(self) -> Dict[str, Any]:
        """Only what is said; load_reference_values reads it back to an equal value."""
        result: Dict[str, Any] = {"tee": self.tee}
        for name in KEYS[self.tee]:
            value = getattr(self, name)
            if name in ("rtmr", "rem"):
                value = {number: allowed[0] if len(allowed) == 1 else list(allowed) for number, allowed in value}
            elif name == "pcrs":
                value = dict(value)
            elif name == "components":
                value = [component.to_dict() for component in value]
            if value not in (None, {}):
                result[name] = value
        result.update(image=self.image, source=self.source, not_after=schema.format_time(self.not_after))
        return result


@dataclass(frozen=True)
class ReferenceValues:
    """All reference values that one appraisal may use."""

    values: Tuple[ReferenceValue, ...] = ()

    @functools.cached_property
    def _by_tee(self) -> Dict[str, List[ReferenceValue]]:
        found: Dict[str, List[ReferenceValue]] = {}
        for value in self.values:
            found.setdefault(value.tee, []).append(value)
        return found

    @functools.cached_property
    def _by_measurement(self) -> Dict[Tuple[str, Optional[str]], List[ReferenceValue]]:
        found: Dict[Tuple[str, Optional[str]], List[ReferenceValue]] = {}
        for value in self.values:
            found.setdefault((value.tee, value.measurement), []).append(value)
        return found

    def of(self, tee: str) -> List[ReferenceValue]:
        """The values of this TEE, the expired ones too."""
        return list(self._by_tee.get(tee, ()))

    def measured(self, tee: str, measurement: str) -> List[ReferenceValue]:
        """The values of this TEE with this measurement, the expired ones too."""
        return list(self._by_measurement.get((tee, measurement), ()))

    def to_dict(self) -> Dict[str, Any]:
        return {"schema": SCHEMA, "values": [value.to_dict() for value in self.values]}


def load_reference_values(obj: Any, document: str = DOCUMENT) -> ReferenceValues:
    """Read reference values from parsed YAML or JSON. Raises PolicyError on anything that is not exactly of the schema."""
    top = schema.Section(obj, ("schema", "values"), document)
    if top.required("schema") != SCHEMA:
        raise top.refuse("schema", "%s is not %s" % (schema.show(top.raw("schema")), SCHEMA))
    top.required("values")
    values = top.raw("values")
    if not isinstance(values, (list, tuple)):
        raise top.refuse("values", "a list was expected, this is %s: %s" % (schema.kind(values), schema.show(values)))
    if len(values) > schema.LIST_MAX:
        raise top.refuse("values", "%d items, at most %d are allowed" % (len(values), schema.LIST_MAX))
    read = [read_value(value, "%s[%d]" % (top.where("values"), index)) for index, value in enumerate(values)]
    seen = set()
    for index, value in enumerate(read):
        if value in seen:
            raise top.refuse("values", "item %d occurs twice" % index)
        seen.add(value)
    return ReferenceValues(tuple(read))


def merge_reference_values(parts: Iterable[ReferenceValues]) -> ReferenceValues:
    """All values of several documents, each once."""
    return ReferenceValues(tuple(dict.fromkeys(value for part in parts for value in part.values)))


def read_value(obj: Any, where: str) -> ReferenceValue:
    """Read one value. ``where`` names it in errors. Raises PolicyError."""
    tee = schema.Section(obj, tuple(obj) if isinstance(obj, dict) else (), where)
    name = schema.check_choice(tee.required("tee"), TEES, tee.where("tee"))
    section = schema.Section(obj, _COMMON + KEYS[name], where)
    try:
        not_after = schema.parse_time(section.required("not_after"), section.where("not_after"))
    except FormatError as error:
        raise PolicyError(error.what, where=error.where, fix=error.fix) from None
    own = _READERS[name](section)
    if "covers" in KEYS[name]:
        section.required("covers")
        own["covers"] = section.choice("covers", "", STAGES)
    value = ReferenceValue(
        tee=name, measurement=own.pop("measurement", None), covers=own.pop("covers", ""), image=section.text("image"), source=section.text("source"),
        # Documents tell whole seconds: what is read back must be the same.
        not_after=not_after.replace(microsecond=0), **own,
    )  # fmt: skip
    if name == "tdx" and value.covers != STAGES[0]:
        missing = [number for number in _KERNEL_RTMRS if number not in dict(value.rtmr)]
        if missing:
            what = "MRTD measures the firmware alone: a value that covers %s must name RTMR %s, too" % (value.covers, " and ".join(missing))
            raise section.refuse("rtmr", what, "Record them from a run that was verified, or set covers: launch")
    return value


def _hex(section: schema.Section, key: str, size: int) -> Optional[str]:
    return None if section.raw(key) is None else schema.check_hex(size)(section.raw(key), section.where(key))


def _snp(section: schema.Section) -> Dict[str, Any]:
    measurement = schema.check_hex(48)(section.required("measurement"), section.where("measurement"))
    return {"measurement": measurement, "host_data": _hex(section, "host_data", 32)}


def _tdx(section: schema.Section) -> Dict[str, Any]:
    found: Dict[str, Any] = {name: _hex(section, name, 48) for name in ("mrseam", "mrconfigid", "mrowner", "mrownerconfig")}
    found["measurement"] = schema.check_hex(48)(section.required("measurement"), section.where("measurement"))
    found["rtmr"] = _registers(section, "rtmr", schema.check_hex(48))
    return found


def _cca(section: schema.Section) -> Dict[str, Any]:
    rim = _any_hash(section.required("measurement"), section.where("measurement"))
    return {"measurement": rim, "rem": _registers(section, "rem", schema.check_hex(len(rim) // 2)), "rpv": _hex(section, "rpv", 64)}


def _cca_platform(section: schema.Section) -> Dict[str, Any]:
    implementation = schema.check_hex(32)(section.required("implementation_id"), section.where("implementation_id"))
    section.required("components")
    parts = section.raw("components")
    if not isinstance(parts, (list, tuple)) or not 0 < len(parts) <= _COMPONENTS_MAX:
        raise section.refuse("components", "a list of 1 to %d components was expected" % _COMPONENTS_MAX)
    components = [_component(part, "%s[%d]" % (section.where("components"), index)) for index, part in enumerate(parts)]
    return {"implementation_id": implementation, "components": tuple(components)}


def _component(obj: Any, where: str) -> Component:
    section = schema.Section(obj, ("signer", "measurement", "version"), where)
    version = None if section.raw("version") is None else section.text("version", limit=128)
    signer, measurement = (_any_hash(section.required(key), section.where(key)) for key in ("signer", "measurement"))
    return Component(signer, measurement, version)


def _azure(section: schema.Section) -> Dict[str, Any]:
    pcrs = _numbered(section, "pcrs", _PCRS, schema.check_hex(32))
    measurement = _hex(section, "measurement", 48)
    if not pcrs and measurement is None:
        raise section.refuse("", "it names neither a paravisor nor a PCR", "Give pcrs, measurement, or both")
    return {"measurement": measurement, "pcrs": pcrs}


_READERS: Mapping[str, Callable[[schema.Section], Dict[str, Any]]] = {
    "sev-snp": _snp, "tdx": _tdx, "cca": _cca, "cca-platform": _cca_platform, "az-snp-vtpm": _azure, "az-tdx-vtpm": _azure,
}  # fmt: skip


def _any_hash(value: Any, where: str) -> str:
    """Hexadecimal of SHA-256, SHA-384 or SHA-512: which of them a realm uses is its own choice."""
    if isinstance(value, str):
        for size in _CCA_SIZES:
            if len(value) == 2 * size:
                return schema.check_hex(size)(value, where)
        raise PolicyError("64, 96 or 128 hexadecimal digits were expected, this is %s" % schema.show(value), where=where)
    raise PolicyError("hexadecimal digits were expected, this is %s" % schema.kind(value), where=where, fix="Put the digits into quotes")


def _numbered(section: schema.Section, key: str, known: Tuple[str, ...], read: Callable[[Any, str], Any]) -> Any:
    """A mapping from numbers to what ``read`` reads -> pairs in the order of the numbers. YAML gives bare numbers as integers."""
    obj = section.raw(key)
    if obj is None:
        return ()
    if not isinstance(obj, Mapping):
        raise section.refuse(key, "a mapping was expected, this is %s" % schema.kind(obj))
    found: Dict[str, Any] = {}
    for number, value in obj.items():
        name = str(number) if is_integer(number) else number
        if not isinstance(name, str) or name not in known:
            raise section.refuse(key, "unknown key %s" % schema.show(number), "Known are %s to %s" % (known[0], known[-1]))
        if name in found:
            raise section.refuse(key, "%s occurs twice" % name)
        found[name] = read(value, "%s.%s" % (section.where(key), name))
    return tuple((number, found[number]) for number in known if number in found)


def _registers(section: schema.Section, key: str, read: Callable[[Any, str], str]) -> Registers:
    def one_or_more(value: Any, where: str) -> Tuple[str, ...]:
        if not isinstance(value, (list, tuple)):
            return (read(value, where),)
        if not 0 < len(value) <= schema.LIST_MAX:
            raise PolicyError("a list of 1 to %d values was expected" % schema.LIST_MAX, where=where)
        return tuple(sorted({read(item, "%s[%d]" % (where, index)) for index, item in enumerate(value)}))

    registers: Registers = _numbered(section, key, _REGISTERS, one_or_more)
    return registers
