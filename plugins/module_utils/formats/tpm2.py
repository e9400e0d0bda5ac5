# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""TPM 2.0 structures of an attestation: what was attested, signatures, PCR selections and public areas.

Source: TCG "Trusted Platform Module Library, Part 2: Structures", family 2.0: TPMS_ATTEST (10.12.12), TPMS_QUOTE_INFO (10.12.4),
TPML_PCR_SELECTION (10.9.7), TPMT_SIGNATURE (11.3.4), TPMT_PUBLIC (12.2.4). All numbers are big-endian. Every parser consumes all
bytes it is given and raises FormatError otherwise.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple, TypeVar

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

T = TypeVar("T")

GENERATED_VALUE = 0xFF544347
ST_ATTEST_QUOTE = 0x8018

ALG_RSA, ALG_NULL, ALG_ECC = 0x0001, 0x0010, 0x0023
ALG_RSASSA, ALG_RSAPSS, ALG_ECDSA = 0x0014, 0x0016, 0x0018
ALG_SHA1, ALG_SHA256, ALG_SHA384, ALG_SHA512 = 0x0004, 0x000B, 0x000C, 0x000D
HASH_NAMES = {ALG_SHA1: "sha1", ALG_SHA256: "sha256", ALG_SHA384: "sha384", ALG_SHA512: "sha512"}
SCHEME_NAMES = {ALG_RSASSA: "rsassa", ALG_RSAPSS: "rsapss", ALG_ECDSA: "ecdsa"}

# TPMA_OBJECT: the attributes of a key that signs what the TPM itself says, and nothing that it was given.
OBJECT_RESTRICTED, OBJECT_DECRYPT, OBJECT_SIGN = 1 << 16, 1 << 17, 1 << 18

PCR_COUNT = 24
SELECTIONS_MAX = 16
ATTEST_MAX = 4096


@dataclass(frozen=True)
class PcrSelection:
    """One bank of a selection: its hash algorithm and the numbers of the PCRs, ascending."""

    algorithm: int
    pcrs: Tuple[int, ...]


@dataclass(frozen=True)
class Quote:
    """TPMS_ATTEST of type quote. ``raw`` are the signed bytes. ``clock`` is in milliseconds. ``extra_data`` is the caller's challenge."""

    raw: bytes
    qualified_signer: bytes
    extra_data: bytes
    clock: int
    reset_count: int
    restart_count: int
    safe: bool
    firmware_version: int
    selections: Tuple[PcrSelection, ...]
    pcr_digest: bytes

    def to_dict(self) -> Dict[str, Any]:
        """JSON-able, bytes as hexadecimal text."""
        return {
            "qualified_signer": self.qualified_signer.hex(),
            "extra_data": self.extra_data.hex(),
            "clock": self.clock,
            "reset_count": self.reset_count,
            "restart_count": self.restart_count,
            "safe": self.safe,
            "firmware_version": "%016x" % self.firmware_version,
            "pcr_digest": self.pcr_digest.hex(),
        }


@dataclass(frozen=True)
class Signature:
    """TPMT_SIGNATURE: ``scheme`` and ``hash_algorithm`` as numbers; RSA: ``value``; ECDSA: ``r`` and ``s``."""

    scheme: int
    hash_algorithm: int
    value: bytes = b""
    r: int = 0
    s: int = 0

    @property
    def name(self) -> str:
        """For example "rsassa-sha256"."""
        return "%s-%s" % (SCHEME_NAMES.get(self.scheme, "0x%04x" % self.scheme), HASH_NAMES.get(self.hash_algorithm, "0x%04x" % self.hash_algorithm))


@dataclass(frozen=True)
class Public:
    """TPMT_PUBLIC of an RSA or ECC key. ``scheme`` and ``scheme_hash`` are None if the key leaves the choice to the caller.

    RSA: ``modulus`` and ``exponent``; ECC: ``curve`` (TPM_ECC_CURVE), ``x`` and ``y``, big-endian as they came.
    """

    type: int
    name_algorithm: int
    attributes: int
    scheme: Optional[int]
    scheme_hash: Optional[int]
    modulus: bytes = b""
    exponent: int = 0
    curve: int = 0
    x: bytes = b""
    y: bytes = b""

    @property
    def signs_only_attestations(self) -> bool:
        """True for a restricted signing key: it signs nothing that could pass for a quote but quotes."""
        wanted = OBJECT_RESTRICTED | OBJECT_SIGN
        return self.attributes & (wanted | OBJECT_DECRYPT) == wanted


class Reader:
    """Reads big-endian TPM structures in order. Every shortage is a FormatError that names ``where``."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data = bytes(data)
        self._offset = 0
        self._where = where

    def take(self, size: int) -> bytes:
        end = self._offset + size
        if end > len(self._data):
            raise self.bad("it ends after %d bytes, %d were expected" % (len(self._data), end))
        part = self._data[self._offset:end]
        self._offset = end
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def sized(self, maximum: int) -> bytes:
        """A TPM2B: a length of two bytes, then at most ``maximum`` bytes."""
        size = self.number(2)
        if size > maximum:
            raise self.bad("a field of %d bytes, at most %d are possible" % (size, maximum))
        return self.take(size)

    def close(self) -> None:
        """Raise FormatError unless everything was read."""
        if self._offset != len(self._data):
            raise self.bad("there are %d bytes behind its end" % (len(self._data) - self._offset))

    def bad(self, what: str, code: str = "") -> FormatError:
        return FormatError(what, where=self._where, code=code)


def parse_quote(data: bytes, where: str = "TPM quote") -> Quote:
    """Parse TPMS_ATTEST. FormatError has the code "quote-magic" or "quote-type" where it is not a quote made by a TPM, else "format"."""
    if len(data) > ATTEST_MAX:
        raise FormatError("it is %d bytes long, at most %d are possible" % (len(data), ATTEST_MAX), where=where)
    reader = Reader(data, where)
    magic = reader.number(4)
    if magic != GENERATED_VALUE:
        raise reader.bad("it begins with 0x%08x, what a TPM generated begins with 0x%08x" % (magic, GENERATED_VALUE), "quote-magic")
    kind = reader.number(2)
    if kind != ST_ATTEST_QUOTE:
        raise reader.bad("it is of type 0x%04x, a quote is 0x%04x" % (kind, ST_ATTEST_QUOTE), "quote-type")
    signer, extra = reader.sized(66), reader.sized(66)
    clock, reset, restart, safe, firmware = (reader.number(size) for size in (8, 4, 4, 1, 8))
    if safe > 1:
        raise reader.bad("its field safe is %d, not 0 or 1" % safe)
    selections, digest = read_pcr_selections(reader), reader.sized(64)
    reader.close()
    return Quote(bytes(data), signer, extra, clock, reset, restart, bool(safe), firmware, selections, digest)


def read_pcr_selections(reader: Reader) -> Tuple[PcrSelection, ...]:
    """Read TPML_PCR_SELECTION. Raises FormatError for PCRs beyond 23 and a bank that occurs twice."""
    count = reader.number(4)
    if count > SELECTIONS_MAX:
        raise reader.bad("%d PCR selections, at most %d are possible" % (count, SELECTIONS_MAX))
    selections: List[PcrSelection] = []
    for _index in range(count):
        algorithm, size = reader.number(2), reader.number(1)
        if not 1 <= size <= 4:
            raise reader.bad("a PCR bitmap of %d bytes, 1 to 4 are possible" % size)
        bitmap = int.from_bytes(reader.take(size), "little")
        if bitmap >> PCR_COUNT:
            raise reader.bad("it selects PCRs beyond %d" % (PCR_COUNT - 1))
        # Part 3, 18.4: the values are hashed in the order of the list. A bank named twice would give them other places.
        if any(algorithm == earlier.algorithm for earlier in selections):
            raise reader.bad("it selects PCRs of bank 0x%04x twice" % algorithm)
        selections.append(PcrSelection(algorithm, tuple(number for number in range(PCR_COUNT) if bitmap >> number & 1)))
    return tuple(selections)


def pcr_selection(algorithm: int, pcrs: Tuple[int, ...]) -> bytes:
    """TPML_PCR_SELECTION of one bank with the usual bitmap of three bytes."""
    bitmap = sum(1 << number for number in pcrs)
    return struct.pack(">IHB", 1, algorithm, 3) + bitmap.to_bytes(3, "little")


def parse_signature(data: bytes, where: str = "TPM signature") -> Signature:
    """Parse TPMT_SIGNATURE of RSASSA, RSAPSS or ECDSA. Raises FormatError."""
    reader = Reader(data, where)
    signature = read_signature(reader)
    reader.close()
    return signature


def read_signature(reader: Reader) -> Signature:
    """Read one TPMT_SIGNATURE."""
    scheme, algorithm = reader.number(2), reader.number(2)
    if scheme not in SCHEME_NAMES or algorithm not in HASH_NAMES:
        raise reader.bad("signature scheme 0x%04x with hash 0x%04x is not known" % (scheme, algorithm))
    if scheme == ALG_ECDSA:
        r, s = reader.sized(66), reader.sized(66)
        return Signature(scheme, algorithm, r=int.from_bytes(r, "big"), s=int.from_bytes(s, "big"))
    return Signature(scheme, algorithm, value=reader.sized(512))


def build_signature(signature: Signature) -> bytes:
    """The inverse of ``parse_signature``."""
    head = struct.pack(">HH", signature.scheme, signature.hash_algorithm)
    if signature.scheme != ALG_ECDSA:
        return head + struct.pack(">H", len(signature.value)) + signature.value
    numbers = [number.to_bytes((number.bit_length() + 7) // 8, "big") for number in (signature.r, signature.s)]
    return head + b"".join(struct.pack(">H", len(number)) + number for number in numbers)


def quoted_digest(values: Sequence[bytes], hash_algorithm: int) -> bytes:
    """What pcrDigest is for these PCR values, in the order of the selection: made with the hash of the signing scheme (Part 3, 18.4)."""
    return hashlib.new(HASH_NAMES[hash_algorithm], b"".join(values)).digest()


def parse_public(data: bytes, where: str = "TPM public area") -> Public:
    """Parse TPMT_PUBLIC of an RSA or ECC key. Raises FormatError."""
    reader = Reader(data, where)
    kind, name_algorithm, attributes = reader.number(2), reader.number(2), reader.number(4)
    if kind not in (ALG_RSA, ALG_ECC):
        raise reader.bad("its type is 0x%04x, RSA is 1 and ECC 0x23" % kind)
    reader.sized(64)  # authPolicy
    if reader.number(2) != ALG_NULL:
        reader.take(4)  # TPMT_SYM_DEF_OBJECT: key bits and mode
    scheme: Optional[int] = reader.number(2)
    scheme_hash = None
    if scheme == ALG_NULL:
        scheme = None
    elif scheme in SCHEME_NAMES:
        scheme_hash = reader.number(2)
    else:
        raise reader.bad("its scheme 0x%04x is none for signatures that is known" % (scheme or 0))
    if kind == ALG_RSA:
        bits, exponent = reader.number(2), reader.number(4)
        modulus = reader.sized(512)
        if len(modulus) * 8 != bits:
            raise reader.bad("a key of %d bits with a modulus of %d bytes" % (bits, len(modulus)))
        public = Public(kind, name_algorithm, attributes, scheme, scheme_hash, modulus=modulus, exponent=exponent or 65537)
    else:
        curve = reader.number(2)
        if reader.number(2) != ALG_NULL:
            reader.take(2)  # TPMT_KDF_SCHEME: hash
        x, y = reader.sized(66), reader.sized(66)
        public = Public(kind, name_algorithm, attributes, scheme, scheme_hash, curve=curve, x=x, y=y)
    reader.close()
    return public
