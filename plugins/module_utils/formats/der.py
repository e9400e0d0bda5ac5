# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""DER of X.509 certificates and revocation lists (RFC 5280, X.690), as far as AMD's need it.

Why not cryptography.x509: versions 41 and 42 (Ubuntu 24.04) refuse AMD's certificates, later ones warn about serial number 0,
and none can name the hash of an RSASSA-PSS signature before 41. Here every length is definite, minimal and in bounds, nothing
may trail, and the depth is fixed: no recursion. Nothing here decides about trust.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Dict, FrozenSet, List, Mapping, Optional, Set, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import decode_base64

CERTIFICATE_MAX = 16 * 1024
CRL_MAX = 1024 * 1024
# Serial numbers have at most 20 bytes (RFC 5280, 4.1.2.2), everything else fewer. Python cannot even print the really long ones.
INTEGER_MAX = 32

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
UTF8_STRING, PRINTABLE_STRING, IA5_STRING, UTC_TIME, GENERALIZED_TIME = 0x0C, 0x13, 0x16, 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31

OID_COMMON_NAME = bytes.fromhex("550403")
OID_KEY_USAGE = bytes.fromhex("551d0f")
OID_BASIC_CONSTRAINTS = bytes.fromhex("551d13")

# KeyUsage bit numbers (RFC 5280, 4.2.1.3).
KEY_CERT_SIGN, CRL_SIGN = 5, 6

# The whole AlgorithmIdentifier of RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes (RFC 4055). Older AMD
# certificates spell out the default trailerField. Comparing bytes leaves no room for a second reading.
_PSS_HASHES = (
    "06092a864886f70d01010a"  # id-RSASSA-PSS
    "30%02x"
    "a00f300d06096086480165030402020500"  # hashAlgorithm: SHA-384
    "a11c301a06092a864886f70d010108300d06096086480165030402020500"  # maskGenAlgorithm: MGF1 with SHA-384
    "a203020130"  # saltLength: 48
)
RSA_PSS_SHA384 = frozenset((
    bytes.fromhex("3041" + _PSS_HASHES % 0x34),
    bytes.fromhex("3046" + _PSS_HASHES % 0x39 + "a303020101"),
))  # fmt: skip

# SubjectPublicKeyInfo of a P-384 key up to its uncompressed point of 97 bytes (RFC 5480).
P384_SPKI_PREFIX = bytes.fromhex("3076301006072a8648ce3d020106052b81040022036200" + "04")
P384_SPKI_SIZE = 120
# The same for P-256 and its point of 65 bytes.
P256_SPKI_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200" + "04")
P256_SPKI_SIZE = 91
# The whole AlgorithmIdentifier of ecdsa-with-SHA256 (RFC 5758): it has no parameters.
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def _bad(what: str) -> FormatError:
    return FormatError(what, where="DER")


def read(data: bytes, offset: int, end: int) -> Tuple[int, int, int]:
    """Read one tag and length at ``offset``: (tag, start, end of the content). Raises FormatError past ``end``."""
    if offset + 2 > end:
        raise _bad("it ends inside a tag or length at byte %d" % offset)
    tag = data[offset]
    if tag & 0x1F == 0x1F:
        raise _bad("a tag of several bytes at byte %d" % offset)
    length = data[offset + 1]
    start = offset + 2
    if length > 0x7F:
        count = length & 0x7F
        if not 1 <= count <= 3 or start + count > end:
            raise _bad("an indefinite or oversized length at byte %d" % offset)
        length = int.from_bytes(data[start:start + count], "big")
        if length < 0x80 or length >> 8 * (count - 1) == 0:
            raise _bad("a length that is not minimal at byte %d" % offset)
        start += count
    stop = start + length
    if stop > end:
        raise _bad("a length at byte %d points past the end" % offset)
    return tag, start, stop


def expect(data: bytes, offset: int, end: int, tag: int) -> Tuple[int, int]:
    """Read one value of this tag: (start, end) of its content. Raises FormatError for any other tag."""
    found, start, stop = read(data, offset, end)
    if found != tag:
        raise _bad("tag 0x%02x at byte %d, 0x%02x expected" % (found, offset, tag))
    return start, stop


def whole(data: bytes, tag: int) -> Tuple[int, int]:
    """Like ``expect`` for a value that must fill ``data``."""
    start, stop = expect(data, 0, len(data), tag)
    if stop != len(data):
        raise _bad("%d bytes after the end" % (len(data) - stop))
    return start, stop


def unsigned(content: bytes) -> int:
    """The value of a canonical, non-negative INTEGER from its content bytes, at most 32. Raises FormatError."""
    if len(content) > INTEGER_MAX:
        raise _bad("an integer of %d bytes, at most %d are read" % (len(content), INTEGER_MAX))
    if not content or content[0] > 0x7F or (len(content) > 1 and content[0] == 0 and content[1] < 0x80):
        raise _bad("an integer that is negative or not minimal")
    return int.from_bytes(content, "big")


def _time(data: bytes, offset: int, end: int) -> Tuple[datetime, int]:
    tag, start, stop = read(data, offset, end)
    text = data[start:stop]
    digits = text[:-1]
    if text[-1:] != b"Z" or not digits.isdigit() or (tag, len(digits)) not in ((UTC_TIME, 12), (GENERALIZED_TIME, 14)):
        raise _bad("a time that is not YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ at byte %d" % offset)
    if tag == UTC_TIME:
        digits = (b"20" if digits < b"50" else b"19") + digits
    value = int(digits)
    try:
        moment = datetime(
            value // 10**10, value // 10**8 % 100, value // 10**6 % 100, value // 10**4 % 100, value // 100 % 100, value % 100,
            tzinfo=timezone.utc,
        )  # fmt: skip
    except ValueError:
        raise _bad("an impossible time at byte %d" % offset) from None
    return moment, stop


@functools.lru_cache(maxsize=256)
def common_name(name: bytes) -> Optional[str]:
    """The one commonName of a DER Name, None if it has none. Raises FormatError if the name is malformed or has several."""
    found = None
    position, end = whole(name, SEQUENCE)
    while position < end:
        start, position = expect(name, position, end, SET)
        if start == position:
            raise _bad("an empty set in a name")
        while start < position:
            inner, stop = expect(name, start, position, SEQUENCE)
            oid_start, oid_end = expect(name, inner, stop, OID)
            tag, text_start, text_end = read(name, oid_end, stop)
            if text_end != stop:
                raise _bad("bytes after an attribute of a name")
            start = stop
            if name[oid_start:oid_end] != OID_COMMON_NAME:
                continue
            if found is not None or tag not in (UTF8_STRING, PRINTABLE_STRING, IA5_STRING):
                raise _bad("a second common name, or one of an unexpected type")
            try:
                found = name[text_start:text_end].decode("utf-8" if tag == UTF8_STRING else "ascii")
            except UnicodeDecodeError:
                raise _bad("a common name that is not text") from None
    return found


@dataclass(frozen=True)
class Certificate:
    """An X.509 v3 certificate. ``tbs`` is what the signature covers, ``spki`` the SubjectPublicKeyInfo, ``issuer`` and
    ``subject`` are names, all of them DER exactly as received; ``signature_algorithm`` is the whole AlgorithmIdentifier.
    ``extensions`` maps the content bytes of the OID to (critical, value). Times are UTC, both ends included."""

    der: bytes
    tbs: bytes
    serial: int
    signature_algorithm: bytes
    issuer: bytes
    not_before: datetime
    not_after: datetime
    subject: bytes
    spki: bytes
    extensions: Mapping[bytes, Tuple[bool, bytes]]
    signature: bytes

    @property
    def common_name(self) -> Optional[str]:
        """commonName of the subject."""
        return common_name(self.subject)

    @property
    def issuer_common_name(self) -> Optional[str]:
        """commonName of the issuer."""
        return common_name(self.issuer)

    @property
    def is_ca(self) -> bool:
        """True if basicConstraints says cA TRUE. Raises FormatError if the extension is malformed."""
        extension = self.extensions.get(OID_BASIC_CONSTRAINTS)
        return extension is not None and basic_constraints(extension[1])[0]

    def may(self, usage: int) -> bool:
        """True if keyUsage is present and has this bit. Raises FormatError if the extension is malformed."""
        extension = self.extensions.get(OID_KEY_USAGE)
        return extension is not None and usage in key_usage(extension[1])

    @property
    def critical(self) -> Tuple[bytes, ...]:
        """OIDs of the critical extensions."""
        return tuple(oid for oid, (critical, _value) in self.extensions.items() if critical)


@dataclass(frozen=True)
class RevocationList:
    """An X.509 CRL: revoked serial numbers and the validity. ``next_update`` is None if absent."""

    der: bytes
    tbs: bytes
    signature_algorithm: bytes
    issuer: bytes
    this_update: datetime
    next_update: Optional[datetime]
    serials: FrozenSet[int]
    extensions: Mapping[bytes, Tuple[bool, bytes]]
    critical_entry_extensions: bool
    signature: bytes


@functools.lru_cache(maxsize=64)
def basic_constraints(value: bytes) -> Tuple[bool, Optional[int]]:
    """(cA, pathLenConstraint) of the extension's value."""
    position, end = whole(value, SEQUENCE)
    is_ca, path_length = False, None
    if position < end and value[position] == BOOLEAN:
        start, position = expect(value, position, end, BOOLEAN)
        if value[start:position] != b"\xff":
            raise _bad("a boolean that is not TRUE where FALSE is the default")
        is_ca = True
    if position < end:
        start, position = expect(value, position, end, INTEGER)
        path_length = unsigned(value[start:position])
    if position != end:
        raise _bad("bytes after the basic constraints")
    return is_ca, path_length


@functools.lru_cache(maxsize=64)
def key_usage(value: bytes) -> Tuple[int, ...]:
    """The numbers of the bits that are set in the extension's value."""
    start, stop = whole(value, BIT_STRING)
    bits = value[start:stop]
    if not 2 <= len(bits) <= 3 or bits[0] > 7 or bits[-1] & (1 << bits[0]) - 1:
        raise _bad("a malformed key usage")
    return tuple(index for index in range(8 * len(bits) - 8) if bits[1 + index // 8] & 0x80 >> index % 8)


def _extensions(data: bytes, offset: int, end: int) -> Dict[bytes, Tuple[bool, bytes]]:
    found: Dict[bytes, Tuple[bool, bytes]] = {}
    position, stop = expect(data, offset, end, SEQUENCE)
    if stop != end or position == stop:
        raise _bad("no extensions, or bytes after them")
    while position < stop:
        inner, position = expect(data, position, stop, SEQUENCE)
        start, inner = expect(data, inner, position, OID)
        oid = data[start:inner]
        tag, start, inner = read(data, inner, position)
        critical = tag == BOOLEAN
        if critical:
            if data[start:inner] != b"\xff":
                raise _bad("a boolean that is not TRUE where FALSE is the default")
            tag, start, inner = read(data, inner, position)
        if tag != OCTET_STRING or inner != position:
            raise _bad("a malformed extension")
        if oid in found:
            raise _bad("an extension that occurs twice")
        found[oid] = (critical, data[start:inner])
    return found


def _signed(der: bytes, maximum: int) -> Tuple[int, int, int, bytes, bytes]:
    """Split SEQUENCE {tbs, algorithm, signature}: (start of the tbs value, start and end of its content, algorithm, signature)."""
    if len(der) > maximum:
        raise _bad("it is %d bytes, at most %d are read" % (len(der), maximum))
    outer, end = whole(der, SEQUENCE)
    start, stop = expect(der, outer, end, SEQUENCE)
    _begin, algorithm_end = expect(der, stop, end, SEQUENCE)
    bits, bits_end = expect(der, algorithm_end, end, BIT_STRING)
    if bits_end != end or bits == bits_end or der[bits] != 0:
        raise _bad("a malformed signature, or bytes after it")
    return outer, start, stop, der[stop:algorithm_end], der[bits + 1:bits_end]


def parse_certificate(der: bytes) -> Certificate:
    """Parse one DER certificate of at most 16 KiB. Raises FormatError."""
    der = bytes(der)
    tbs, position, end, algorithm, signature = _signed(der, CERTIFICATE_MAX)
    if der[position:position + 5] != b"\xa0\x03\x02\x01\x02":
        raise _bad("it is no X.509 version 3 certificate")
    start, position = expect(der, position + 5, end, INTEGER)
    serial = unsigned(der[start:position])
    start, stop = position, expect(der, position, end, SEQUENCE)[1]
    if der[start:stop] != algorithm:
        raise _bad("two different signature algorithms")
    start, stop = stop, expect(der, stop, end, SEQUENCE)[1]
    issuer = der[start:stop]
    position, validity_end = expect(der, stop, end, SEQUENCE)
    not_before, position = _time(der, position, validity_end)
    not_after, position = _time(der, position, validity_end)
    if position != validity_end:
        raise _bad("bytes after the validity")
    start, stop = position, expect(der, position, end, SEQUENCE)[1]
    subject = der[start:stop]
    start, stop = stop, expect(der, stop, end, SEQUENCE)[1]
    spki = der[start:stop]
    position, stop = expect(der, stop, end, 0xA3)
    if stop != end:
        raise _bad("bytes after the extensions")
    extensions = _extensions(der, position, end)
    common_name(issuer)
    common_name(subject)
    return Certificate(
        der, der[tbs:end], serial, algorithm, issuer, not_before, not_after, subject, spki, extensions, signature
    )  # fmt: skip


# An entry as Intel's lists have them: a serial number of 20 bytes (and a zero before a high one), a date, and the reason. A list has
# thousands; whole runs of this one form are read by the expression, every other by the reader, with the same result.
_ENTRY = (
    rb"(?:\x30\x33\x02\x14([\x01-\x7f].{19}|\x00[\x80-\xff].{18})|\x30\x34\x02\x15(\x00[\x80-\xff].{19}))"
    rb"\x17\x0d[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|1[0-9]|2[0-8])(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]Z"
    rb"\x30\x0c\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01."
)
_ENTRY_RUN = re.compile(rb"(?:%s)*" % _ENTRY, re.DOTALL)
_ENTRY_EACH = re.compile(_ENTRY, re.DOTALL)


def _entry_run(der: bytes, position: int, end: int, serials: Set[int]) -> int:
    """Read the entries of the common form that stand at ``position``; returns where they end."""
    match = _ENTRY_RUN.match(der, position, end)
    stop = match.end() if match else position
    serials.update([int.from_bytes(short or long, "big") for short, long in _ENTRY_EACH.findall(der, position, stop)])
    return stop


def parse_crl(der: bytes) -> RevocationList:
    """Parse one DER revocation list of at most 1 MiB. Raises FormatError."""
    der = bytes(der)
    tbs, position, end, algorithm, signature = _signed(der, CRL_MAX)
    versioned = der[position:position + 3] == b"\x02\x01\x01"
    start = position + 3 if versioned else position
    stop = expect(der, start, end, SEQUENCE)[1]
    if der[start:stop] != algorithm:
        raise _bad("two different signature algorithms")
    start, stop = stop, expect(der, stop, end, SEQUENCE)[1]
    issuer = der[start:stop]
    common_name(issuer)
    this_update, position = _time(der, stop, end)
    next_update = None
    if position < end and der[position] in (UTC_TIME, GENERALIZED_TIME):
        next_update, position = _time(der, position, end)
    serials: Set[int] = set()
    critical_entries = False
    if position < end and der[position] == SEQUENCE:
        entry, position = expect(der, position, end, SEQUENCE)
        entry = _entry_run(der, entry, position, serials)
        while entry < position:
            inner, entry = expect(der, entry, position, SEQUENCE)
            start, inner = expect(der, inner, entry, INTEGER)
            serials.add(unsigned(der[start:inner]))
            _date, inner = _time(der, inner, entry)
            if inner != entry:
                critical_entries = any(critical for critical, _v in _extensions(der, inner, entry).values()) or critical_entries
    extensions: Mapping[bytes, Tuple[bool, bytes]] = {}
    if position < end and versioned:
        start, position = expect(der, position, end, 0xA0)
        extensions = _extensions(der, start, position)
    if position != end:
        raise _bad("bytes after the revocation list")
    return RevocationList(
        der, der[tbs:end], algorithm, issuer, this_update, next_update, frozenset(serials), extensions, critical_entries, signature
    )  # fmt: skip


def spki_of_certificate(der: bytes) -> bytes:
    """The SubjectPublicKeyInfo (DER) of any X.509 certificate, for example of a TLS server. Raises FormatError.

    The members before it are stepped over, not judged: a TLS certificate may hold forms that AMD's never do.
    """
    der = bytes(der)
    _tbs, position, end, _algorithm, _signature = _signed(der, CERTIFICATE_MAX)
    if position < end and der[position] == 0xA0:
        position = expect(der, position, end, 0xA0)[1]
    position = expect(der, position, end, INTEGER)[1]
    for _member in ("signature", "issuer", "validity", "subject"):
        position = expect(der, position, end, SEQUENCE)[1]
    return der[position:expect(der, position, end, SEQUENCE)[1]]


def pem_to_der(text: str, label: str = "CERTIFICATE", where: str = "PEM") -> List[bytes]:
    """Decode every block of ``label`` in PEM text (RFC 7468), in order. Between blocks only blank lines and lines that begin
    with # may stand. Raises FormatError for anything else, and if there is no block."""
    begin, finish = "-----BEGIN %s-----" % label, "-----END %s-----" % label
    blocks: List[bytes] = []
    body: Optional[List[str]] = None
    for line in text.splitlines():
        line = line.strip()
        if body is None:
            if line == begin:
                body = []
            elif line and not line.startswith("#"):
                raise FormatError("a line outside of %s blocks" % label, where=where, fix="Keep only the blocks.")
        elif line == finish:
            blocks.append(decode_base64("".join(body), where, minimum=1, maximum=CRL_MAX))
            body = None
        else:
            body.append(line)
    if body is not None or not blocks:
        raise FormatError("no complete %s block" % label, where=where)
    return blocks
