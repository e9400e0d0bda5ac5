# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Intel's provisioning certification keys: the SGX extension of a PCK certificate, and PEM chains as Intel writes them.

Source: Intel SGX PCK Certificate and CRL Profile Specification, 1.5. Nothing here decides about trust.
"""

from __future__ import annotations

import binascii
import functools
import hashlib
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der
from ansible_collections.attested.ai.plugins.module_utils.formats.der import BOOLEAN, INTEGER, OCTET_STRING, OID, SEQUENCE, expect, read, whole

# 1.2.840.113741.1.13.1
OID_SGX = bytes.fromhex("2a864886f84d010d01")
ENUMERATED = 0x0A
CHAIN_MAX = 32 * 1024
COMPONENTS = 16
SGX_TYPES = ("standard", "scalable", "scalable-with-integrity")

_PPID, _TCB, _PCEID, _FMSPC, _TYPE, _INSTANCE, _CONFIGURATION = 1, 2, 3, 4, 5, 6, 7
_PCESVN, _CPUSVN = 17, 18
_FLAGS = {1: "dynamic_platform", 2: "cached_keys", 3: "smt_enabled"}
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----\n", b"\n-----END CERTIFICATE-----"
_LINE = 64


@dataclass(frozen=True)
class PckExtensions:
    """What a PCK certificate says of its platform.

    ``ppid`` (16 bytes) names the machine. ``components`` are the 16 SVNs of ``cpusvn``, ``pceid`` 2 and ``fmspc`` 6 bytes. ``sgx_type``:
    "standard", "scalable", "scalable-with-integrity". The rest is there in certificates of the Platform CA only, else None.
    """

    ppid: bytes
    components: Tuple[int, ...]
    pcesvn: int
    cpusvn: bytes
    pceid: bytes
    fmspc: bytes
    sgx_type: str
    platform_instance_id: Optional[bytes] = None
    dynamic_platform: Optional[bool] = None
    cached_keys: Optional[bool] = None
    smt_enabled: Optional[bool] = None

    @property
    def ppid_sha256(self) -> Optional[str]:
        """The identity of the machine in hexadecimal, None if the certificate hides it behind zeros."""
        return hashlib.sha256(self.ppid).hexdigest() if any(self.ppid) else None

    def to_dict(self) -> Dict[str, Any]:
        """JSON-able, byte strings as hexadecimal text; of the PPID only the digest."""
        return {
            "ppid_sha256": self.ppid_sha256,
            "cpusvn": self.cpusvn.hex(),
            "components": list(self.components),
            "pcesvn": self.pcesvn,
            "pceid": self.pceid.hex(),
            "fmspc": self.fmspc.hex(),
            "sgx_type": self.sgx_type,
            "platform_instance_id": None if self.platform_instance_id is None else self.platform_instance_id.hex(),
            "dynamic_platform": self.dynamic_platform,
            "cached_keys": self.cached_keys,
            "smt_enabled": self.smt_enabled,
        }


def _bad(what: str) -> FormatError:
    return FormatError(what, where="PCK certificate")


def _members(data: bytes, start: int, end: int, prefix: bytes) -> Dict[int, Tuple[int, int, int]]:
    """SEQUENCE { OID prefix.n, value } for each n: n -> (tag, start, end) of the value. Each n once."""
    found: Dict[int, Tuple[int, int, int]] = {}
    size = len(prefix) + 1
    position = start
    while position < end:
        inner, position = expect(data, position, end, SEQUENCE)
        oid, oid_end = expect(data, inner, position, OID)
        number = data[oid_end - 1]
        if oid_end - oid != size or data[oid:oid_end - 1] != prefix or number > 0x7F:
            raise _bad("the SGX extension has a member of another kind")
        value = read(data, oid_end, position)
        if value[2] != position or number in found:
            raise _bad("member %d of the SGX extension is malformed, or occurs twice" % number)
        found[number] = value
    return found


def _octets(data: bytes, found: Mapping[int, Tuple[int, int, int]], number: int, size: int) -> bytes:
    tag, start, end = found.get(number, (0, 0, 0))
    if tag != OCTET_STRING or end - start != size:
        raise _bad("member %d of the SGX extension is not %d bytes" % (number, size))
    return data[start:end]


def _svn(data: bytes, found: Mapping[int, Tuple[int, int, int]], number: int, limit: int) -> int:
    tag, start, end = found.get(number, (0, 0, 0))
    if tag == INTEGER and end - start == 1 and data[start] < 0x80:
        return data[start]
    value = der.unsigned(data[start:end]) if tag == INTEGER else limit + 1
    if value > limit:
        raise _bad("TCB member %d of the SGX extension is no number up to %d" % (number, limit))
    return value


# The TCB as Intel writes it: members in order, numbers of one or two bytes in minimal form. Any other order is for the reader.
_SVN = rb"\x30(?:\x10\x06\x0b%s\x02\x01([\x00-\x7f])|\x11\x06\x0b%s\x02\x02\x00([\x80-\xff]))"
_IN_ORDER = re.compile(b"".join(
    [_SVN % ((re.escape(OID_SGX + bytes((2, n))),) * 2) for n in range(1, 17)]
    + [rb"\x30(?:\x10\x06\x0b%s\x02\x01([\x00-\x7f])|\x11\x06\x0b%s\x02\x02(\x00[\x80-\xff]|[\x01-\x7f].))" % ((re.escape(OID_SGX + b"\x02\x11"),) * 2)]
    + [rb"\x30\x1f\x06\x0b%s\x04\x10(.{16})" % re.escape(OID_SGX + b"\x02\x12")]
), re.DOTALL)  # fmt: skip


# The members as certificates of the Platform CA have them, around the TCB; the last two are left out by the Processor CA.
_HEAD = re.compile(rb"\x30\x82..\x30\x1e\x06\x0a%s\x01\x04\x10(.{16})\x30\x82(..)\x06\x0a%s\x02\x30\x82(..)" % ((re.escape(OID_SGX),) * 2), re.DOTALL)
_TAIL = re.compile(
    rb"\x30\x10\x06\x0a%(o)s\x03\x04\x02(..)\x30\x14\x06\x0a%(o)s\x04\x04\x06(.{6})\x30\x0f\x06\x0a%(o)s\x05\x0a\x01([\x00-\x02])"
    rb"(?:\x30\x1e\x06\x0a%(o)s\x06\x04\x10(.{16})\x30\x44\x06\x0a%(o)s\x07\x30\x36\x30\x10\x06\x0b%(o)s\x07\x01\x01\x01([\x00\xff])"
    rb"\x30\x10\x06\x0b%(o)s\x07\x02\x01\x01([\x00\xff])\x30\x10\x06\x0b%(o)s\x07\x03\x01\x01([\x00\xff]))?" % {b"o": re.escape(OID_SGX)}, re.DOTALL
)  # fmt: skip


def _in_order(data: bytes) -> Optional[PckExtensions]:
    """The extension if it is written exactly as Intel does, else None: then the reader decides. Both come to the same."""
    head = _HEAD.match(data)
    tcb = _IN_ORDER.match(data, head.end()) if head is not None else None
    tail = _TAIL.match(data, tcb.end()) if tcb is not None else None
    if head is None or tcb is None or tail is None or tail.end() != len(data):
        return None
    # Every length that the expressions leave open, against what it spans; below 256 it would have another form.
    spans = ((data[2:4], len(data) - 4), (head.group(2), tcb.end() - head.start(2) - 2), (head.group(3), tcb.end() - head.end()))
    if any(stated != span.to_bytes(2, "big") or span < 256 for stated, span in spans):
        return None
    groups = tcb.groups()
    svns = [short or long for short, long in zip(groups[:34:2], groups[1:34:2])]
    pceid, fmspc, kind, instance, dynamic, cached, smt = tail.groups()
    return PckExtensions(
        head.group(1), tuple([svn[0] for svn in svns[:COMPONENTS]]), int.from_bytes(svns[COMPONENTS], "big"), groups[34], pceid, fmspc, SGX_TYPES[kind[0]],
        instance, *[None if flag is None else flag == b"\xff" for flag in (dynamic, cached, smt)],
    )  # fmt: skip


def _tcb_members(data: bytes, tag: int, start: int, end: int) -> Tuple[Tuple[int, ...], int, bytes]:
    tcb = _members(data, start, end, OID_SGX + b"\x02") if tag == SEQUENCE else {}
    if len(tcb) != _CPUSVN or max(tcb) != _CPUSVN:
        raise _bad("the TCB of the SGX extension has not %d members" % _CPUSVN)
    components = tuple([_svn(data, tcb, number, 0xFF) for number in range(1, COMPONENTS + 1)])
    return components, _svn(data, tcb, _PCESVN, 0xFFFF), _octets(data, tcb, _CPUSVN, COMPONENTS)


def parse_pck_extensions(extensions: Mapping[bytes, Tuple[bool, bytes]]) -> PckExtensions:
    """Read the SGX extension among a certificate's. Raises FormatError if it is missing, malformed, or has a member that is not known."""
    extension = extensions.get(OID_SGX)
    if extension is None:
        raise _bad("it has no SGX extension")
    return _in_order(extension[1]) or _in_any_order(extension[1])


def _in_any_order(data: bytes) -> PckExtensions:
    found = _members(data, *whole(data, SEQUENCE), OID_SGX)
    if not {_PPID, _TCB, _PCEID, _FMSPC, _TYPE} <= found.keys() <= {_PPID, _TCB, _PCEID, _FMSPC, _TYPE, _INSTANCE, _CONFIGURATION}:
        raise _bad("the SGX extension has the members %s" % ", ".join(str(number) for number in sorted(found)))
    components, pcesvn, cpusvn = _tcb_members(data, *found[_TCB])
    tag, start, end = found[_TYPE]
    if tag != ENUMERATED or end - start != 1 or data[start] >= len(SGX_TYPES):
        raise _bad("the SGX type is not known")
    flags: Dict[str, bool] = {}
    if _CONFIGURATION in found:
        flags = _configuration(data, found[_CONFIGURATION])
    return PckExtensions(
        ppid=_octets(data, found, _PPID, 16), components=components, pcesvn=pcesvn, cpusvn=cpusvn,
        pceid=_octets(data, found, _PCEID, 2), fmspc=_octets(data, found, _FMSPC, 6), sgx_type=SGX_TYPES[data[start]],
        platform_instance_id=_octets(data, found, _INSTANCE, 16) if _INSTANCE in found else None, **flags,
    )  # fmt: skip


def _configuration(data: bytes, value: Tuple[int, int, int]) -> Dict[str, bool]:
    tag, start, end = value
    if tag != SEQUENCE:
        raise _bad("the configuration of the SGX extension is malformed")
    flags: Dict[str, bool] = {}
    for number, (kind, begin, stop) in _members(data, start, end, OID_SGX + b"\x07").items():
        if number not in _FLAGS or kind != BOOLEAN or data[begin:stop] not in (b"\0", b"\xff"):
            raise _bad("flag %d of the configuration is not known, or no boolean" % number)
        flags[_FLAGS[number]] = data[begin] != 0
    return flags


# Authorities and root are the same in every chain.
@functools.lru_cache(maxsize=32)
def _decode(block: bytes) -> bytes:
    """One block of PEM: lines of 64 characters, only the last one may be shorter; one spelling per certificate."""
    lines = block.split(b"\n")
    text = b"".join(lines)
    if not lines[-1] or len(text) != _LINE * (len(lines) - 1) + len(lines[-1]) or any(len(line) != _LINE for line in lines[:-1]) or len(lines[-1]) > _LINE:
        raise FormatError("the lines of a block have not 64 characters", where="PEM chain")
    try:
        data = binascii.a2b_base64(text)
    except binascii.Error:
        raise FormatError("it is not base64", where="PEM chain") from None
    if binascii.b2a_base64(data, newline=False) != text:
        raise FormatError("it is not canonical base64", where="PEM chain")
    return data


def chain_to_der(pem: bytes) -> Tuple[bytes, ...]:
    """The certificates (DER) of a PEM chain, in order, as Intel writes it (RFC 7468, strict form): nothing stands between the blocks; at the
    end may be blank lines and the zeros that end a string in C. Every other byte counts. Raises FormatError."""
    if len(pem) > CHAIN_MAX:
        raise FormatError("it is %d bytes, at most %d are read" % (len(pem), CHAIN_MAX), where="PEM chain")
    text = pem.rstrip(b"\0")
    blocks: List[bytes] = []
    position = 0
    while text.startswith(_BEGIN, position):
        end = text.find(_END, position)
        if end < 0:
            raise FormatError("a block without an end", where="PEM chain")
        blocks.append(_decode(text[position + len(_BEGIN):end]))
        position = end + len(_END)
        if position < len(text):
            if text[position] != 0x0A:
                raise FormatError("bytes after a block", where="PEM chain")
            position += 1
    if not blocks or text[position:].strip(b"\n"):
        raise FormatError("no PEM block as Intel writes them at byte %d" % position, where="PEM chain")
    return tuple(blocks)
