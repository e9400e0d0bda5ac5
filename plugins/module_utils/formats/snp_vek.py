# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""AMD's extensions in VCEK and VLEK certificates (1.3.6.1.4.1.3704.1, KDS interface specification): bytes to frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der

_ARC = bytes.fromhex("2b060104019c7801")  # 1.3.6.1.4.1.3704.1
OID_STRUCT_VERSION = _ARC + b"\x01"
OID_PRODUCT_NAME = _ARC + b"\x02"
OID_HWID = _ARC + b"\x04"
OID_CSP_ID = _ARC + b"\x05"
_COMPONENTS = (
    (_ARC + b"\x03\x01", "bootloader"), (_ARC + b"\x03\x02", "tee"), (_ARC + b"\x03\x03", "snp"),
    (_ARC + b"\x03\x08", "microcode"), (_ARC + b"\x03\x09", "fmc"),
)  # fmt: skip
_RESERVED = tuple(_ARC + b"\x03" + bytes([number]) for number in (4, 5, 6, 7))
KNOWN = frozenset(
    (OID_STRUCT_VERSION, OID_PRODUCT_NAME, OID_HWID, OID_CSP_ID) + _RESERVED + tuple(oid for oid, _name in _COMPONENTS)
)  # fmt: skip

_PRODUCT_NAMES = {"Milan": "milan", "Genoa": "genoa", "Turin": "turin"}
_HWID_SIZES = (8, 64)


@dataclass(frozen=True)
class VekExtensions:
    """``product_name`` as written ("Milan-B0"), ``product`` in our spelling ("milan") or None if unknown. ``tcb`` maps the names
    of the components that are present to their value. ``reserved`` are the reserved version numbers that are not zero.
    ``hwid`` is 64 bytes or, on Turin, 8. ``hwid`` and ``csp_id`` are None if absent."""

    struct_version: int
    product_name: str
    product: Optional[str]
    tcb: Mapping[str, int]
    reserved: Tuple[int, ...]
    hwid: Optional[bytes]
    csp_id: Optional[str]


def _integer(value: bytes) -> int:
    start, stop = der.whole(value, der.INTEGER)
    return der.unsigned(value[start:stop])


def _text(value: bytes) -> str:
    start, stop = der.whole(value, der.IA5_STRING)
    try:
        text = value[start:stop].decode("ascii")
    except UnicodeDecodeError:
        raise FormatError("a text extension is not ASCII", where="VEK certificate") from None
    if not text or not text.isprintable():
        raise FormatError("a text extension is empty or not printable", where="VEK certificate")
    return text


def _hwid(value: bytes) -> bytes:
    # Genuine certificates hold the bytes raw; some wrap them in a second OCTET STRING. The sizes tell the two apart.
    if len(value) not in _HWID_SIZES:
        start, stop = der.whole(value, der.OCTET_STRING)
        value = value[start:stop]
    if len(value) not in _HWID_SIZES:
        raise FormatError("the HWID is %d bytes, 8 or 64 expected" % len(value), where="VEK certificate")
    return value


def parse_vek_extensions(extensions: Mapping[bytes, Tuple[bool, bytes]]) -> VekExtensions:
    """Read AMD's extensions from those of a certificate. Raises FormatError if structVersion or productName is missing, or any
    of them is malformed. Which of HWID, CSP_ID and the components must be there is for the verifier to judge."""
    for oid in (OID_STRUCT_VERSION, OID_PRODUCT_NAME):
        if oid not in extensions:
            raise FormatError("extension 1.3.6.1.4.1.3704.1.%d is missing" % oid[-1], where="VEK certificate")
    product_name = _text(extensions[OID_PRODUCT_NAME][1])
    hwid = extensions.get(OID_HWID)
    csp_id = extensions.get(OID_CSP_ID)
    return VekExtensions(
        struct_version=_integer(extensions[OID_STRUCT_VERSION][1]),
        product_name=product_name,
        product=_PRODUCT_NAMES.get(product_name.partition("-")[0]),
        tcb={name: _integer(extensions[oid][1]) for oid, name in _COMPONENTS if oid in extensions},
        reserved=tuple(value for value in [_integer(extensions[oid][1]) for oid in _RESERVED if oid in extensions] if value),
        hwid=None if hwid is None else _hwid(hwid[1]),
        csp_id=None if csp_id is None else _text(csp_id[1]),
    )
