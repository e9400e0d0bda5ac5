# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""SPDM 1.1 measurement reports of NVIDIA devices: the GET_MEASUREMENTS request, and after it the MEASUREMENTS response.

Source: DMTF DSP0274 1.1.0, sections 10.11.1 and 10.11.2, as NVML and NSCQ hand it over. All integers are little endian.
Nothing here decides about trust.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

REPORT_MAX = 64 * 1024
NONCE_SIZE = 32
DIGEST_SIZE = 48
SIGNATURE_SIZE = 96
REQUEST_SIZE = 37
# Version 1.1, GET_MEASUREMENTS, a signature is asked for, all measurements are.
REQUEST_HEADER = bytes.fromhex("11e001ff")
RESPONSE_HEADER = bytes.fromhex("1160")
_SLOT_MASK = 0x0F
_BLOCKS_AT = REQUEST_SIZE + 8
_BLOCK_HEADER = 7
_BLOCK_SIZE = _BLOCK_HEADER + DIGEST_SIZE
# Everything in the header of a block but its index: DMTF's measurement specification, the size of what follows, and of the value in it.
_DMTF_SIZE = b"\x01" + (3 + DIGEST_SIZE).to_bytes(2, "little")
_VALUE_SIZE = DIGEST_SIZE.to_bytes(2, "little")


@dataclass(frozen=True)
class SpdmReport:
    """One report. ``nonce`` is the requester's (32 bytes), ``responder_nonce`` the device's own. ``measurements`` maps the block
    index (1 to 255) to 48 bytes, ``kinds`` to the DMTFSpecMeasurementValueType. ``signed_region`` is what the signature
    (``signature_r``, ``signature_s``, big endian in the report) covers: everything before it."""

    nonce: bytes
    slot: int
    measurements: Mapping[int, bytes]
    kinds: Mapping[int, int]
    responder_nonce: bytes
    opaque: bytes
    signature_r: int
    signature_s: int
    signed_region: bytes

    def to_dict(self) -> Dict[str, Any]:
        """JSON-able, byte strings as hexadecimal text."""
        return {
            "nonce": self.nonce.hex(),
            "slot": self.slot,
            "measurements": {str(index): value.hex() for index, value in sorted(self.measurements.items())},
        }


def _bad(what: str) -> FormatError:
    return FormatError(what, where="SPDM report")


def parse_spdm_report(data: bytes) -> SpdmReport:
    """Parse request and response of at most 64 KiB. Raises FormatError.

    The signature stands right after the opaque data. One zero byte may follow it, as real captures have it; nothing else may.
    """
    data = bytes(data)
    if len(data) > REPORT_MAX:
        raise _bad("it is %d bytes, at most %d are read" % (len(data), REPORT_MAX))
    if len(data) < _BLOCKS_AT:
        raise _bad("it ends after %d bytes, inside the headers" % len(data))
    if data[:4] != REQUEST_HEADER:
        raise _bad("it begins with %s, not with an SPDM 1.1 request for all measurements, signed (%s)" % (data[:4].hex(), REQUEST_HEADER.hex()))
    if data[REQUEST_SIZE:REQUEST_SIZE + 2] != RESPONSE_HEADER:
        raise _bad("the response begins with %s, not with %s (SPDM 1.1 MEASUREMENTS)" % (data[37:39].hex(), RESPONSE_HEADER.hex()))
    slot = data[REQUEST_SIZE - 1]
    if slot > _SLOT_MASK or data[REQUEST_SIZE + 3] & _SLOT_MASK != slot:
        raise _bad("the request names certificate slot %d, the response %d" % (slot, data[REQUEST_SIZE + 3] & _SLOT_MASK))
    end = _BLOCKS_AT + int.from_bytes(data[REQUEST_SIZE + 5:_BLOCKS_AT], "little")
    if end + NONCE_SIZE + 2 > len(data):
        raise _bad("the measurement record of %d bytes points past the end" % (end - _BLOCKS_AT))
    measurements, kinds = _blocks(data, data[REQUEST_SIZE + 4], end)
    opaque_at = end + NONCE_SIZE + 2
    signature_at = opaque_at + int.from_bytes(data[opaque_at - 2:opaque_at], "little")
    rest = len(data) - signature_at - SIGNATURE_SIZE
    if rest < 0:
        raise _bad("it ends inside the opaque data or the signature")
    if rest > 1 or rest and data[-1]:
        raise _bad("%d bytes after the signature" % rest)
    middle = signature_at + SIGNATURE_SIZE // 2
    return SpdmReport(
        nonce=data[4:4 + NONCE_SIZE],
        slot=slot,
        measurements=measurements,
        kinds=kinds,
        responder_nonce=data[end:end + NONCE_SIZE],
        opaque=data[opaque_at:signature_at],
        signature_r=int.from_bytes(data[signature_at:middle], "big"),
        signature_s=int.from_bytes(data[middle:signature_at + SIGNATURE_SIZE], "big"),
        signed_region=data[:signature_at],
    )


def _blocks(data: bytes, count: int, end: int) -> Tuple[Dict[int, bytes], Dict[int, int]]:
    measurements: Dict[int, bytes] = {}
    kinds: Dict[int, int] = {}
    if not count or end - _BLOCKS_AT != count * _BLOCK_SIZE:
        raise _bad("%d measurement blocks in %d bytes, each has %d" % (count, end - _BLOCKS_AT, _BLOCK_SIZE))
    for start in range(_BLOCKS_AT, end, _BLOCK_SIZE):
        index = data[start]
        if data[start + 1:start + 4] != _DMTF_SIZE or data[start + 5:start + 7] != _VALUE_SIZE:
            raise _bad("the block at byte %d is no DMTF measurement with a digest of %d bytes" % (start, DIGEST_SIZE))
        if not index or index in measurements:
            raise _bad("measurement block %d occurs twice, or is numbered 0" % index)
        measurements[index] = data[start + _BLOCK_HEADER:start + _BLOCK_SIZE]
        kinds[index] = data[start + 4]
    return measurements, kinds
