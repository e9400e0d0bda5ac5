# SPDX-License-Identifier: GPL-3.0-or-later
"""TD quotes of version 4 and 5 in Intel's layout, and the firmware's event log that explains their RTMRs. All integers little endian."""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Dict, List, Optional, Sequence, Tuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from softtee.tdx_authority import MODULE_SVN, MODULE_VERSION, QE_PRODUCT, QE_SIGNER, QE_SVN, raw_signature

HEADER_SIZE, BODY_SIZE, BODY_15_SIZE = 48, 584, 648
QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
ATTRIBUTE_DEBUG, ATTRIBUTE_SEPT_VE_DISABLE = 1, 1 << 28
XFAM = 0x602E7
EV_NO_ACTION, EV_SEPARATOR, EV_IPL, EV_FIRMWARE_BLOB = 0x03, 0x04, 0x0D, 0x8000000A
_SHA384, _DIGEST = 0x000C, 48
_PADDING = 1024
AUTHENTICATION_DATA = bytes(range(32))

# Register (1 to 4 for RTMR0 to RTMR3), type, data.
Event = Tuple[int, int, bytes]


def tcb_svn(level: str = "current") -> bytes:
    """TEE_TCB_SVN: SVN and version of the module, then the component that updates load."""
    return bytes((MODULE_SVN[level], MODULE_VERSION, 6)) + bytes(13)


def td_report(
    *,
    report_data: bytes = bytes(64),
    mrtd: bytes = bytes(48),
    rtmrs: Sequence[bytes] = (bytes(48),) * 4,
    attributes: int = ATTRIBUTE_SEPT_VE_DISABLE,
    xfam: int = XFAM,
    svn: Optional[bytes] = None,
    svn_2: Optional[bytes] = None,
    mrseam: bytes = hashlib.sha384(b"soft TDX module").digest(),
    mrsignerseam: bytes = bytes(48),
    seamattributes: bytes = bytes(8),
    mrconfigid: bytes = bytes(48),
    mrowner: bytes = bytes(48),
    mrownerconfig: bytes = bytes(48),
    mrservicetd: bytes = bytes(48),
) -> bytes:
    """TD report body: TD 1.0, or TD 1.5 when ``svn_2`` (the module that runs now) is given."""
    body = (svn or tcb_svn()) + mrseam + mrsignerseam + seamattributes + struct.pack("<QQ", attributes, xfam) + mrtd
    body += mrconfigid + mrowner + mrownerconfig + b"".join(rtmrs) + report_data.ljust(64, b"\0")
    if svn_2 is not None:
        body += svn_2 + mrservicetd
    if len(body) not in (BODY_SIZE, BODY_15_SIZE):
        raise ValueError("the body has %d bytes: a field is too long or too short" % len(body))
    return body


def qe_report(report_data: bytes, **changes: Any) -> bytes:
    """Report of the quoting enclave, 384 bytes. ``changes``: mrsigner, product, svn, attributes, miscselect."""
    attributes = changes.get("attributes", b"\x15" + bytes(7) + b"\xe7" + bytes(7))
    return struct.pack(
        "<16sI28s16s32s32s32s96sHH60s64s",
        b"\x08" * 16, changes.get("miscselect", 0), b"", attributes, hashlib.sha256(b"soft quoting enclave").digest(), b"",
        changes.get("mrsigner", QE_SIGNER), b"", changes.get("product", QE_PRODUCT), changes.get("svn", QE_SVN), b"", report_data,
    )  # fmt: skip


def quote(
    body: bytes,
    attestation_key: ec.EllipticCurvePrivateKey,
    pck_key: ec.EllipticCurvePrivateKey,
    chain_pem: bytes,
    *,
    version: int = 4,
    user_data: bytes = bytes(20),
    qe: Optional[Dict[str, Any]] = None,
    qe_report_data: Optional[bytes] = None,
    bad_signature: bool = False,
    padding: int = 0,
) -> bytes:
    """A whole quote over a TD report body. Version 4 takes bodies of TD 1.0 only, as the format does."""
    if version not in (4, 5) or version == 4 and len(body) != BODY_SIZE:
        raise ValueError("a quote of version %d cannot hold a body of %d bytes" % (version, len(body)))
    signed = struct.pack("<HHI4s16s20s", version, 2, 0x81, b"", QE_VENDOR, user_data)
    if version == 5:
        signed += struct.pack("<HI", 2 if len(body) == BODY_SIZE else 3, len(body))
    signed += body
    point = attestation_key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)[1:]
    if qe_report_data is None:
        qe_report_data = hashlib.sha256(point + AUTHENTICATION_DATA).digest() + bytes(32)
    enclave = qe_report(qe_report_data, **(qe or {}))
    inner = enclave + raw_signature(pck_key, enclave) + struct.pack("<H", len(AUTHENTICATION_DATA)) + AUTHENTICATION_DATA
    inner += struct.pack("<HI", 5, len(chain_pem)) + chain_pem
    signature = bytearray(raw_signature(attestation_key, signed))
    if bad_signature:
        signature[0] ^= 1
    data = bytes(signature) + point + struct.pack("<HI", 6, len(inner)) + inner
    return signed + struct.pack("<I", len(data)) + data + bytes(padding)


def event_log(events: Sequence[Event]) -> bytes:
    """Data of a CCEL table (TCG crypto-agile log of SHA-384), with the filling that firmware leaves behind it."""
    header = b"Spec ID Event03\0" + struct.pack("<IBBBBIHHB", 0, 0, 2, 0, 2, 1, _SHA384, _DIGEST, 0)
    log = struct.pack("<II20sI", 0, EV_NO_ACTION, b"", len(header)) + header
    for register, kind, data in events:
        log += struct.pack("<IIIH", register, kind, 1, _SHA384) + hashlib.sha384(data).digest() + struct.pack("<I", len(data)) + data
    return log + b"\xff" * _PADDING


def replay(events: Sequence[Event]) -> List[bytes]:
    """RTMR0 to RTMR3 after these events."""
    registers = [bytes(_DIGEST)] * 4
    for register, _kind, data in events:
        registers[register - 1] = hashlib.sha384(registers[register - 1] + hashlib.sha384(data).digest()).digest()
    return registers
