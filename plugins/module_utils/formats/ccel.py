# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The event log of a confidential guest's firmware (data of the ACPI table CCEL): bytes to frozen values.

Sources: TCG PC Client Platform Firmware Profile, section "Event Logging" (TCG_PCR_EVENT, TCG_EfiSpecIDEvent, TCG_PCR_EVENT2); UEFI 2.10,
section 38.4.1: the register index is that of the measurement, 0 for MRTD, 1 to 4 for RTMR0 to RTMR3. All integers are little-endian.

Nothing here decides about trust: whoever hands over a log may have written it. See verify/eventlog.py.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

LOG_MAX = 4 * 1024 * 1024
EVENTS_MAX = 16384
EVENT_DATA_MAX = 1024 * 1024
EV_NO_ACTION = 0x00000003
INDEX_LAST = 4
SIGNATURE = b"Spec ID Event03\0"
TPM_ALG_SHA384 = 0x000C
DIGEST_SIZE = 48
# What a log may name beside SHA-384 (TCG Algorithm Registry): SHA-1, SHA-256, SHA-512, SM3. Their sizes are fixed.
_SIZES = {0x0004: 20, 0x000B: 32, TPM_ALG_SHA384: DIGEST_SIZE, 0x000D: 64, 0x0012: 32}
_NAMES = {
    0x00000001: "EV_POST_CODE", 0x00000003: "EV_NO_ACTION", 0x00000004: "EV_SEPARATOR", 0x00000005: "EV_ACTION", 0x00000006: "EV_EVENT_TAG",
    0x0000000A: "EV_PLATFORM_CONFIG_FLAGS", 0x0000000B: "EV_TABLE_OF_DEVICES", 0x0000000D: "EV_IPL", 0x80000001: "EV_EFI_VARIABLE_DRIVER_CONFIG",
    0x80000002: "EV_EFI_VARIABLE_BOOT", 0x80000003: "EV_EFI_BOOT_SERVICES_APPLICATION", 0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER",
    0x80000006: "EV_EFI_GPT_EVENT", 0x80000007: "EV_EFI_ACTION", 0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB", 0x80000009: "EV_EFI_HANDOFF_TABLES",
    0x8000000A: "EV_EFI_PLATFORM_FIRMWARE_BLOB2", 0x8000000B: "EV_EFI_HANDOFF_TABLES2", 0x8000000C: "EV_EFI_VARIABLE_BOOT2",
    0x80000010: "EV_EFI_HCRTM_EVENT", 0x800000E0: "EV_EFI_VARIABLE_AUTHORITY",
}  # fmt: skip
_FIRST = struct.Struct("<I I 20s I")
_SPEC = struct.Struct("<16s I B B B B I")
_EVENT = struct.Struct("<I I I")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_FILLERS = (b"\0", b"\xff")


@dataclass(frozen=True)
class Event:
    """One event. ``index`` is the number of the measurement register, ``type`` the TCG's event type, ``digest`` SHA-384 (48 bytes).

    Only ``digest`` enters a register. ``data`` is as trustworthy as the digest where this is its hash, else it is a remark.
    """

    index: int
    type: int
    digest: bytes
    data: bytes

    @property
    def name(self) -> str:
        """The name of the event type, in hexadecimal where the TCG gave it none."""
        return _NAMES.get(self.type, "0x%08x" % self.type)

    @property
    def extends(self) -> bool:
        """Whether the event changed its register."""
        return self.type != EV_NO_ACTION

    @property
    def data_is_measured(self) -> bool:
        """True if the digest is that of the data itself: then the register vouches for the data, too."""
        return hashlib.sha384(self.data).digest() == self.digest

    def to_dict(self) -> Dict[str, Any]:
        """JSON-able; of the data only its size, and whether it is measured. Type and size are the log's own words: registers cover the digest alone."""
        return {
            "index": self.index, "type": self.name, "digest": self.digest.hex(), "size": len(self.data), "data_is_measured": self.data_is_measured,
        }  # fmt: skip


@dataclass(frozen=True)
class EventLog:
    """A log: its events in their order without the header. ``vendor_info`` is what the firmware wrote into the header."""

    events: Tuple[Event, ...]
    vendor_info: bytes


def _bad(what: str) -> FormatError:
    return FormatError(what, where="event log")


def parse_ccel(data: bytes) -> EventLog:
    """Parse the data of a CCEL table, at most 4 MiB with 16384 events of 1 MiB each. What follows the last event must be filler, that is
    zeros or ones alone. Raises FormatError."""
    data = bytes(data)
    if len(data) > LOG_MAX:
        raise _bad("it is %d bytes, at most %d are read" % (len(data), LOG_MAX))
    sizes, vendor_info, position = _parse_header(data)
    end = _content_end(data, position)
    events: List[Event] = []
    while position < end:
        if len(events) == EVENTS_MAX:
            raise _bad("it holds more than %d events" % EVENTS_MAX)
        event, position = _parse_event(data, position, sizes)
        events.append(event)
    return EventLog(tuple(events), vendor_info)


def _parse_header(data: bytes) -> Tuple[Dict[int, int], bytes, int]:
    """The first event, which is of the older form: (size of each algorithm's digests, vendor info, where the next event starts)."""
    if len(data) < _FIRST.size + _SPEC.size:
        raise _bad("it is %d bytes, which is shorter than its header" % len(data))
    index, kind, digest, size = _FIRST.unpack_from(data)
    if kind != EV_NO_ACTION or any(digest) or index > INDEX_LAST:
        raise _bad("the first event is no header: register %d, type 0x%x" % (index, kind))
    end = _FIRST.size + size
    if end > len(data):
        raise _bad("the header ends past the end")
    signature, _platform, _minor, major, _errata, _uintn, count = _SPEC.unpack_from(data, _FIRST.size)
    if signature != SIGNATURE or major != 2:
        raise _bad("the header is not that of a TCG log of version 2")
    position = _FIRST.size + _SPEC.size
    if not 0 < count <= len(_SIZES) or position + 4 * count >= end:
        raise _bad("the header names %d algorithms in %d bytes" % (count, size))
    sizes: Dict[int, int] = {}
    for _number in range(count):
        algorithm, digest_size = _U16.unpack_from(data, position)[0], _U16.unpack_from(data, position + 2)[0]
        if _SIZES.get(algorithm) != digest_size or algorithm in sizes:
            raise _bad("algorithm 0x%04x with digests of %d bytes" % (algorithm, digest_size))
        sizes[algorithm] = digest_size
        position += 4
    if TPM_ALG_SHA384 not in sizes:
        raise _bad("it holds no digests of SHA-384, which RTMRs are made of")
    if position + 1 + data[position] != end:
        raise _bad("the header's vendor info does not end where the header ends")
    return sizes, data[position + 1:end], end


def _content_end(data: bytes, start: int) -> int:
    """Where an event can start at the latest: firmware fills the area behind the log with zeros or with ones."""
    for filler in _FILLERS:
        if data.endswith(filler):
            return max(start, len(data.rstrip(filler)))
    return len(data)


def _parse_event(data: bytes, position: int, sizes: Dict[int, int]) -> Tuple[Event, int]:
    start, total = position, len(data)
    if position + _EVENT.size > total:
        raise _bad("the event at byte %d ends past the end" % start)
    index, kind, count = _EVENT.unpack_from(data, position)
    if index > INDEX_LAST:
        raise _bad("the event at byte %d is for register %d, the last is %d" % (start, index, INDEX_LAST))
    if count != len(sizes):
        raise _bad("the event at byte %d has %d digests, the header promises %d" % (start, count, len(sizes)))
    position += _EVENT.size
    digests: Dict[int, bytes] = {}
    for _number in range(count):
        if position + 2 > total:
            raise _bad("the event at byte %d ends past the end" % start)
        algorithm = _U16.unpack_from(data, position)[0]
        size = sizes.get(algorithm)
        if size is None or algorithm in digests or position + 2 + size > total:
            raise _bad("the event at byte %d has a digest of algorithm 0x%04x" % (start, algorithm))
        digests[algorithm] = data[position + 2:position + 2 + size]
        position += 2 + size
    if position + 4 > total:
        raise _bad("the event at byte %d ends past the end" % start)
    size = _U32.unpack_from(data, position)[0]
    position += 4
    if size > EVENT_DATA_MAX or position + size > total:
        raise _bad("the event at byte %d has %d bytes of data" % (start, size))
    if index == 0 and kind != EV_NO_ACTION:
        raise _bad("the event at byte %d is for MRTD, which nothing can extend" % start)
    return Event(index, kind, digests[TPM_ALG_SHA384], data[position:position + size]), position + size
