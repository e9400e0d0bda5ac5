# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The opaque data of an NVIDIA measurement report: what the device says about itself besides measurements.

Two layouts. Legacy: repeated type u16, size u16, value. NVDAOD (drivers of CUDA 13.5 and later): a header of 12 bytes (magic,
profile u16, version of three bytes, padding), then repeated type u16, value type u16, size u16, value. All little endian.
Types that are not known here are kept by number. Source: NVIDIA, "Opaque Data Format"; reports of real devices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

GPU, SWITCH = "gpu", "switch"
MAGIC = b"NVDAOD"
HEADER_SIZE = 12
MAJOR_MAX = 2
VALUE_SVN = 0x87

DRIVER_VERSION, VBIOS, NVDEC0, COUNTERS, BOARD, CHIP_SKU, PROJECT, PROJECT_SKU, FWID = 3, 6, 11, 12, 14, 15, 17, 18, 20
PROTECTED_PCIE, SWITCH_PDIS, PORTS_DISABLED, SWITCH_POSITION, SWITCH_LOCK, GPU_PDIS = 21, 22, 23, 24, 25, 26
SYS_ENABLE_STATUS, OPAQUE_VERSION, CHIP_INFO, FEATURE_FLAG, FSP_UCODE_SVN, NVLE_STATUS = 33, 34, 35, 36, 37, 38

ON, OFF = 0xAA, 0x55
MODES = {0: "spt", 1: "mpt", 2: "ppcie"}
PDI_SIZE = 8
# A GPU names one switch per link, a switch eight GPUs and after them the ports these hang on.
GPU_LINKS, SWITCH_GPUS = 18, 8
_FWID_SIZE = 48
_TEXT = re.compile(r"[ -~]{1,64}\Z")
_VERSION = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,5}){1,3}\Z")
_BIOS = re.compile(r"[0-9A-Fa-f]{2}(?:\.[0-9A-Fa-f]{2}){4}\Z")


@dataclass(frozen=True)
class OpaqueData:
    """What the fields say; None where a field is not there. ``fields`` has all of them as bytes, by number.

    ``version``: that of the NVDAOD header, None for the legacy layout. ``vbios`` is the VBIOS of a GPU or the BIOS of a switch, five
    dotted bytes in upper case. ``nvdec0`` and ``protected_pcie``: True on, False off. ``mode``: "spt", "mpt" or "ppcie" as the
    feature flag says. ``switch_pdis``: of a GPU, the distinct switches on its links (not zero, in the byte order that switches
    use for themselves). ``own_pdi`` and ``gpu_pdis``: of a switch. PDIs are 8 bytes.
    """

    kind: str
    version: Optional[Tuple[int, int, int]]
    fields: Mapping[int, bytes]
    value_types: Mapping[int, int]
    driver_version: Optional[str] = None
    vbios: Optional[str] = None
    nvdec0: Optional[bool] = None
    chip_sku: Optional[str] = None
    project: Optional[str] = None
    project_sku: Optional[str] = None
    chip_info: Optional[str] = None
    fwid: Optional[bytes] = None
    protected_pcie: Optional[bool] = None
    mode: Optional[str] = None
    fsp_svn: Optional[int] = None
    switch_pdis: Optional[Tuple[bytes, ...]] = None
    own_pdi: Optional[bytes] = None
    gpu_pdis: Optional[Tuple[bytes, ...]] = None

    def to_dict(self) -> Dict[str, Any]:
        """JSON-able, byte strings as hexadecimal text."""
        found: Dict[str, Any] = {
            "version": None if self.version is None else "%d.%d.%d" % self.version,
            "fields": {str(number): value.hex() for number, value in sorted(self.fields.items())},
        }
        for name in ("driver_version", "vbios", "nvdec0", "chip_sku", "project", "project_sku", "chip_info", "protected_pcie", "mode", "fsp_svn"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        return found


def _bad(what: str) -> FormatError:
    return FormatError(what, where="opaque data")


def parse_opaque(data: bytes, kind: str) -> OpaqueData:
    """Parse the opaque data of a "gpu" or a "switch". Raises FormatError, also for known fields whose value makes no sense."""
    data = bytes(data)
    version, fields, value_types = _split(data)
    if kind == SWITCH:
        return OpaqueData(
            kind, version, fields, value_types,
            vbios=_switch_bios(fields), fwid=_sized(fields, FWID, _FWID_SIZE), own_pdi=_sized(fields, SWITCH_PDIS, PDI_SIZE), gpu_pdis=_gpu_pdis(fields),
        )  # fmt: skip
    if kind != GPU:
        raise _bad("%r is neither a GPU nor a switch" % (kind,))
    _counters(fields)
    return OpaqueData(
        kind, version, fields, value_types,
        driver_version=_text(fields, DRIVER_VERSION, _VERSION), vbios=_vbios(fields), nvdec0=_state(fields, NVDEC0),
        chip_sku=_text(fields, CHIP_SKU), project=_text(fields, PROJECT), project_sku=_text(fields, PROJECT_SKU), chip_info=_text(fields, CHIP_INFO),
        fwid=_sized(fields, FWID, _FWID_SIZE), protected_pcie=_state(fields, PROTECTED_PCIE), mode=_mode(fields),
        fsp_svn=_svn(fields, value_types, version), switch_pdis=_switch_pdis(fields),
    )  # fmt: skip


def _split(data: bytes) -> Tuple[Optional[Tuple[int, int, int]], Dict[int, bytes], Dict[int, int]]:
    version: Optional[Tuple[int, int, int]] = None
    position, header = 0, 4
    if data.startswith(MAGIC):
        if len(data) < HEADER_SIZE:
            raise _bad("the NVDAOD header ends after %d bytes" % len(data))
        profile = int.from_bytes(data[6:8], "little")
        if profile or data[11]:
            raise _bad("NVDAOD profile %d with padding 0x%02x, both must be 0" % (profile, data[11]))
        version = (data[8], data[9], data[10])
        if version[0] > MAJOR_MAX:
            raise _bad("NVDAOD version %d.%d.%d, known are those up to %d" % (version + (MAJOR_MAX,)))
        position, header = HEADER_SIZE, 6
    fields: Dict[int, bytes] = {}
    value_types: Dict[int, int] = {}
    while position < len(data):
        start = position + header
        if start > len(data):
            raise _bad("it ends inside the header of a field at byte %d" % position)
        number = int.from_bytes(data[position:position + 2], "little")
        stop = start + int.from_bytes(data[start - 2:start], "little")
        if stop > len(data):
            raise _bad("field %d at byte %d points past the end" % (number, position))
        if number in fields:
            raise _bad("field %d occurs twice" % number)
        fields[number] = data[start:stop]
        if version is not None:
            value_types[number] = int.from_bytes(data[position + 2:position + 4], "little")
        position = stop
    return version, fields, value_types


def _sized(fields: Mapping[int, bytes], number: int, size: int) -> Optional[bytes]:
    value = fields.get(number)
    if value is not None and len(value) != size:
        raise _bad("field %d has %d bytes, not %d" % (number, len(value), size))
    return value


def _text(fields: Mapping[int, bytes], number: int, form: Any = _TEXT) -> Optional[str]:
    """The text of a field with the zeros after it removed; None if there is nothing else."""
    value = fields.get(number, b"").rstrip(b"\0")
    if not value:
        return None
    text = value.decode("latin-1")
    if not form.match(text):
        raise _bad("field %d is %s, which has not the form that it must have" % (number, ascii(text)[:66]))
    return text


def _state(fields: Mapping[int, bytes], number: int) -> Optional[bool]:
    value = _sized(fields, number, 1)
    if value is None:
        return None
    if value[0] not in (ON, OFF):
        raise _bad("field %d is 0x%02x, neither 0x%02x (on) nor 0x%02x (off)" % (number, value[0], ON, OFF))
    return value[0] == ON


def _mode(fields: Mapping[int, bytes]) -> Optional[str]:
    value = _sized(fields, FEATURE_FLAG, 2)
    if value is None:
        return None
    number = int.from_bytes(value, "little")
    if number not in MODES:
        raise _bad("the feature flag is %d, known are 0 (SPT), 1 (MPT) and 2 (PPCIE)" % number)
    return MODES[number]


def _svn(fields: Mapping[int, bytes], value_types: Mapping[int, int], version: Optional[Tuple[int, int, int]]) -> Optional[int]:
    value = _sized(fields, FSP_UCODE_SVN, 2)
    if value is None:
        return None
    if version is not None and value_types[FSP_UCODE_SVN] != VALUE_SVN:
        raise _bad("field %d has the value type 0x%02x, not 0x%02x (SVN)" % (FSP_UCODE_SVN, value_types[FSP_UCODE_SVN], VALUE_SVN))
    return int.from_bytes(value, "little")


def _vbios(fields: Mapping[int, bytes]) -> Optional[str]:
    """A GPU's VBIOS version: bytes 3, 2, 1, 0 and then 4 of the field."""
    value = _sized(fields, VBIOS, 8)
    if value is None:
        return None
    return "%02X.%02X.%02X.%02X.%02X" % (value[3], value[2], value[1], value[0], value[4])


def _switch_bios(fields: Mapping[int, bytes]) -> Optional[str]:
    text = _text(fields, VBIOS, _BIOS)
    return None if text is None else text.upper()


def _counters(fields: Mapping[int, bytes]) -> None:
    if len(fields.get(COUNTERS, b"")) % 4:
        raise _bad("field %d is no row of 32-bit counters" % COUNTERS)


def _pdis(value: bytes) -> List[bytes]:
    return [value[start:start + PDI_SIZE] for start in range(0, len(value), PDI_SIZE)]


def _switch_pdis(fields: Mapping[int, bytes]) -> Optional[Tuple[bytes, ...]]:
    value = _sized(fields, SWITCH_PDIS, GPU_LINKS * PDI_SIZE)
    if value is None:
        return None
    return tuple(sorted({pdi[::-1] for pdi in _pdis(value) if any(pdi)}))


def _gpu_pdis(fields: Mapping[int, bytes]) -> Optional[Tuple[bytes, ...]]:
    """The GPUs that a switch names: the first 64 bytes of the field, the rest are port numbers."""
    value = fields.get(GPU_PDIS)
    if value is None:
        return None
    if len(value) != 2 * SWITCH_GPUS * PDI_SIZE:
        raise _bad("field %d has %d bytes, not %d" % (GPU_PDIS, len(value), 2 * SWITCH_GPUS * PDI_SIZE))
    return tuple(_pdis(value[:SWITCH_GPUS * PDI_SIZE]))
