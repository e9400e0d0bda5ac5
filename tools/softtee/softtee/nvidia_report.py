# SPDX-License-Identifier: GPL-3.0-or-later
"""SPDM 1.1 measurement reports in the layout of NVIDIA's devices, with legacy or NVDAOD opaque data, signed by a device's key."""

from __future__ import annotations

import hashlib
import os
from typing import Dict, Mapping, Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

DRIVER = "580.95.05"
VBIOS = {"hopper": "96.00.9F.00.01", "blackwell": "97.00.88.00.0F", "ls10": "96.10.55.00.01"}
OLD_VBIOS = {"hopper": "96.00.5E.00.01", "blackwell": "97.00.0C.00.01", "ls10": "96.10.30.00.01"}
BLOCKS = {"gpu": 64, "switch": 31}
# As on genuine GPUs, driver and VBIOS manifests share the indices between them; a switch has one manifest for all of its own.
DRIVER_INDICES = (14, 15, 17, 18, 22, 28, 30, 32, 33, 34, 35, 36, 40, 45, 46, 49, 50, 51, 52, 53, 54)
FIRMWARE_INDICES = (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12)
# What a device in a state that it should not have measures otherwise.
SECURE_BOOT_INDEX, DEBUG_INDEX, CHANGED_INDEX = 0, 4, 9
MODES = {"spt": 0, "mpt": 1, "ppcie": 2}
MULTI_GPU = {"spt": 0, "mpt": 0, "ppcie": 1}
_VALUE_TYPES = {3: 0x86, 6: 0x86, 11: 0x82, 12: 0x84, 20: 0x01, 21: 0x85, 34: 0x86, 36: 0x85, 37: 0x87}
_ON, _OFF = b"\xaa", b"\x55"


def measurement(arch: str, index: int, state: str = "") -> bytes:
    """48 bytes that stand for what the device measures at a manifest's index (SPDM block index + 1)."""
    return hashlib.sha384(("soft %s %d %s" % (arch, index, state)).encode("ascii")).digest()


def measurements(kind: str, arch: str, changed: Mapping[int, str]) -> Dict[int, bytes]:
    """All measurements by manifest index; ``changed`` names the states of those that are not as published."""
    return {index: measurement(arch, index, changed.get(index, "")) for index in range(BLOCKS[kind])}


def gpu_fields(arch: str, fwid: bytes, mode: str, vbios: str, switches: Sequence[bytes]) -> Dict[int, bytes]:
    """Opaque data of a GPU by field number. ``switches`` are the PDIs on its links, in the order of bytes that switches use."""
    parts = bytes.fromhex(vbios.replace(".", ""))
    fields = {
        6: parts[3::-1] + parts[4:] + bytes(3),
        14: bytes.fromhex("35040000"),
        15: b"885".ljust(9, b"\0"),
        17: (b"G520" if arch == "hopper" else b"G525") + b"\0",
        18: b"0200\0",
        3: DRIVER.encode("ascii") + b"\0",
        12: bytes(256),
        11: _OFF,
        20: fwid,
        21: _ON if mode == "ppcie" else _OFF,
        36: MODES[mode].to_bytes(2, "little"),
    }
    if arch == "blackwell":
        fields[37] = (1).to_bytes(2, "little")
    if switches:
        fields[22] = b"".join(switches[link % len(switches)][::-1] for link in range(18))
    return fields


def switch_fields(pdi: bytes, bios: str, gpus: Sequence[bytes]) -> Dict[int, bytes]:
    """Opaque data of a switch by field number. ``gpus`` are the PDIs of up to eight GPUs; behind them stand the ports."""
    peers = b"".join(gpus)[:64].ljust(64, b"\0")
    return {6: bios.encode("ascii"), 22: pdi, 12: bytes(104), 26: peers + bytes(64), 23: b"\xec\0"}


def opaque(fields: Mapping[int, bytes], versioned: bool) -> bytes:
    """The fields in the layout of NVDAOD 2.0.0, or in the legacy one."""
    if not versioned:
        return b"".join(number.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value for number, value in fields.items())
    data = b"NVDAOD" + bytes((0, 0, 2, 0, 0, 0))
    for number, value in fields.items():
        data += number.to_bytes(2, "little") + _VALUE_TYPES.get(number, 0x82).to_bytes(2, "little") + len(value).to_bytes(2, "little") + value
    return data


def raw_signature(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """ECDSA with SHA-384, r and s of 48 bytes each."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA384())))
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def build(key: ec.EllipticCurvePrivateKey, nonce: bytes, opaque_data: bytes, values: Mapping[int, bytes]) -> bytes:
    """Request and response as NVML hands them out, signed by ``key``. ``values`` are by manifest index."""
    record = b""
    for index, value in sorted(values.items()):
        record += bytes((index + 1, 1)) + (3 + len(value)).to_bytes(2, "little") + b"\x01" + len(value).to_bytes(2, "little") + value
    body = b"\x11\xe0\x01\xff" + nonce + b"\0"
    body += b"\x11\x60\0\0" + bytes((len(values),)) + len(record).to_bytes(3, "little") + record
    body += os.urandom(32) + len(opaque_data).to_bytes(2, "little") + opaque_data
    return body + raw_signature(key, body)
