# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Google's launch endorsement of the firmware of its confidential machines: a strict reader of two protobuf messages.

Source: google/gce-tcb-verifier, proto/endorsement.proto (VMLaunchEndorsement, VMGoldenMeasurement, VMSevSnp, VMTdx). The outer message
has exactly its two fields. In the inner one, which is signed, unknown fields are passed over, so that Google may add some; what is
read occurs at most once, and numbers have their shortest form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

ENDORSEMENT_MAX = 256 * 1024
MEASUREMENT_SIZE = 48
MEASUREMENTS_MAX = 4096
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Value = Union[int, bytes]


@dataclass(frozen=True)
class SnpGolden:
    """``measurements``: number of virtual processors at launch -> MEASUREMENT (48 bytes); ``svsm``: the one of a guest under an SVSM."""

    svn: int
    measurements: Mapping[int, bytes]
    family_id: bytes
    image_id: bytes
    policy: int
    svsm: Optional[bytes]


@dataclass(frozen=True)
class TdxGolden:
    """``mrtds``: (RAM in GiB, all memory accepted early, MRTD)."""

    svn: int
    mrtds: Tuple[Tuple[int, bool, bytes], ...]


@dataclass(frozen=True)
class GceEndorsement:
    """``payload`` are the signed bytes. ``timestamp`` is in seconds since 1970; ``digest`` the SHA-384 of the firmware binary.

    ``certificate`` is the signer's in DER, ``ca_bundle`` PEM text with the certificates above it, untrusted both."""

    payload: bytes
    signature: bytes
    timestamp: int
    cl_spec: int
    commit: bytes
    certificate: bytes
    digest: bytes
    ca_bundle: bytes
    snp: Optional[SnpGolden]
    tdx: Optional[TdxGolden]

    def lists(self, tee: str, measurement: bytes) -> bool:
        """True if ``measurement`` is one of those for "sev-snp" (MEASUREMENT) or "tdx" (MRTD)."""
        if tee == "sev-snp" and self.snp is not None:
            return measurement in self.snp.measurements.values() or self.snp.svsm == measurement
        return tee == "tdx" and self.tdx is not None and any(mrtd == measurement for _ram, _early, mrtd in self.tdx.mrtds)

    def svn(self, tee: str) -> Optional[int]:
        """Google's security version number of this firmware, None if the endorsement is not for this TEE."""
        golden = {"sev-snp": self.snp, "tdx": self.tdx}.get(tee)
        return None if golden is None else golden.svn

    def to_dict(self) -> Dict[str, Any]:
        return {
            "digest": self.digest.hex(), "timestamp": self.timestamp, "cl_spec": self.cl_spec, "commit": self.commit.hex(),
            "svn": {tee: self.svn(tee) for tee in ("sev-snp", "tdx")},
        }  # fmt: skip


def parse_gce_endorsement(data: bytes, where: str = "launch endorsement") -> GceEndorsement:
    """Parse a serialised VMLaunchEndorsement. Raises FormatError."""
    data = bytes(data)
    if len(data) > ENDORSEMENT_MAX:
        raise FormatError("it is %d bytes long, at most %d are read" % (len(data), ENDORSEMENT_MAX), where=where)
    outer = _Message(data, where, known=(1, 2))
    payload, signature = outer.data(1), outer.data(2)
    if not payload or not signature:
        raise FormatError("it has no signed payload or no signature", where=where)
    where += " payload"
    golden = _Message(payload, where)
    certificate, digest = golden.data(4), golden.data(5)
    if not certificate:
        raise FormatError("it holds no signer's certificate", where=where)
    if len(digest) != MEASUREMENT_SIZE:
        raise FormatError("the digest of its firmware has %d bytes, %d were expected" % (len(digest), MEASUREMENT_SIZE), where=where)
    timestamp = _Message(golden.data(1), where + " timestamp")
    return GceEndorsement(
        payload, signature, timestamp.integer(1), golden.integer(2), golden.data(3), certificate, digest, golden.data(6),
        snp=_snp(golden.data(7), where + " sev_snp") if 7 in golden else None,
        tdx=_tdx(golden.data(8), where + " tdx") if 8 in golden else None,
    )  # fmt: skip


def _snp(data: bytes, where: str) -> SnpGolden:
    message = _Message(data, where, repeated=(2,))
    measurements: Dict[int, bytes] = {}
    for part in message.every(2):
        entry = _Message(part, where + " measurements")
        number = entry.integer(1)
        if number in measurements:
            raise FormatError("two measurements for %d processors" % number, where=where)
        measurements[number] = _measurement(entry.data(2), where)
    svsm = message.data(7)
    return SnpGolden(
        message.integer(1), measurements, message.data(3), message.data(4), message.integer(5), _measurement(svsm, where) if svsm else None
    )  # fmt: skip


def _tdx(data: bytes, where: str) -> TdxGolden:
    message = _Message(data, where, repeated=(2,))
    parts = [_Message(part, where + " measurements") for part in message.every(2)]
    return TdxGolden(message.integer(1), tuple((part.integer(1), bool(part.integer(2)), _measurement(part.data(3), where)) for part in parts))


def _measurement(value: bytes, where: str) -> bytes:
    if len(value) != MEASUREMENT_SIZE:
        raise FormatError("a measurement of %d bytes, %d were expected" % (len(value), MEASUREMENT_SIZE), where=where)
    return value


class _Message:
    """The fields of one protobuf message (Protocol Buffers encoding: varint tags, little-endian groups of seven bits)."""

    def __init__(self, data: bytes, where: str, known: Tuple[int, ...] = (), repeated: Tuple[int, ...] = ()) -> None:
        self._data = data
        self._where = where
        self._offset = 0
        self._fields: Dict[int, List[Value]] = {}
        while self._offset < len(data):
            tag = self._varint()
            number, kind = tag >> 3, tag & 7
            if not number or (known and number not in known):
                raise self._bad("field %d is not known" % number)
            values = self._fields.setdefault(number, [])
            if values and number not in repeated:
                raise self._bad("field %d occurs twice" % number)
            if len(values) >= MEASUREMENTS_MAX:
                raise self._bad("field %d occurs more than %d times" % (number, MEASUREMENTS_MAX))
            values.append(self._value(kind))

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def every(self, number: int) -> List[bytes]:
        """All values of a repeated field of bytes."""
        values = self._fields.get(number, [])
        return [value if isinstance(value, bytes) else self._wrong(number) for value in values]

    def data(self, number: int) -> bytes:
        """A field of bytes, empty if it is absent, as in protobuf 3."""
        values = self.every(number)
        return values[0] if values else b""

    def integer(self, number: int) -> int:
        """A whole number, 0 if it is absent."""
        values = self._fields.get(number, [0])
        value = values[0]
        return value if isinstance(value, int) else len(self._wrong(number))

    def _wrong(self, number: int) -> bytes:
        raise self._bad("field %d is of the wrong type" % number)

    def _value(self, kind: int) -> Value:
        if kind == _VARINT:
            return self._varint()
        if kind in (_FIXED64, _FIXED32):
            return self._take(8 if kind == _FIXED64 else 4)
        if kind == _BYTES:
            return self._take(self._varint())
        raise self._bad("wire type %d is not known" % kind)

    def _take(self, size: int) -> bytes:
        end = self._offset + size
        if end > len(self._data):
            raise self._bad("a field of %d bytes goes beyond the end" % size)
        part = self._data[self._offset:end]
        self._offset = end
        return part

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise self._bad("a number of more than ten bytes")
        if value >> 64 or (shift and not byte):
            raise self._bad("a number beyond 64 bits or not in its shortest form")
        return value

    def _bad(self, what: str) -> FormatError:
        return FormatError(what, where=self._where)
