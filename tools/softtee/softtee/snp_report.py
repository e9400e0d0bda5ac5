# SPDX-License-Identifier: GPL-3.0-or-later
"""Write SEV-SNP attestation reports (AMD 56860, table ATTESTATION_REPORT): 1184 bytes, little-endian.

Shares no code with the collection's parser: an error in either shows when the two meet.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple, Union

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

SIZE = 0x4A0
SIGNED = 0x2A0

# Byte of each component in a TCB version. Turin moved them all to make room for the FMC.
TCB_LAYOUT: Dict[str, Dict[str, int]] = {
    "milan": {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7},
    "genoa": {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7},
    "turin": {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7},
}
# CPUID family, model, stepping.
CPUID: Dict[str, Tuple[int, int, int]] = {"milan": (0x19, 0x01, 0x01), "genoa": (0x19, 0x11, 0x01), "turin": (0x1A, 0x02, 0x01)}
REPORT_VERSION = {"milan": 3, "genoa": 5, "turin": 5}
# A current machine of each product: values at or above those of genuine evidence.
DEFAULT_TCB: Dict[str, Dict[str, int]] = {
    "milan": {"bootloader": 4, "tee": 0, "snp": 27, "microcode": 219},
    "genoa": {"bootloader": 10, "tee": 0, "snp": 27, "microcode": 84},
    "turin": {"fmc": 1, "bootloader": 1, "tee": 0, "snp": 4, "microcode": 76},
}
# major, minor, build of the firmware.
FIRMWARE: Dict[str, Tuple[int, int, int]] = {"milan": (1, 55, 29), "genoa": (1, 55, 43), "turin": (1, 55, 61)}
SIGNING_KEYS = {"vcek": 0, "vlek": 1, "none": 7}

POLICY_SMT = 1 << 16
POLICY_RESERVED_ONE = 1 << 17
POLICY_MIGRATE_MA = 1 << 18
POLICY_DEBUG = 1 << 19
# SMT_EN, ECC_EN, ALIAS_CHECK_COMPLETE: what every genuine report of version 3 and later shows.
PLATFORM_INFO = 0x25

Tcb = Union[Mapping[str, int], int]


def encode_tcb(product: str, tcb: Tcb) -> int:
    """The 64-bit TCB version of a product from its components; a number passes through."""
    if isinstance(tcb, int):
        return tcb
    layout = TCB_LAYOUT[product]
    unknown = set(tcb) - set(layout)
    if unknown:
        raise ValueError("%s has no TCB component %s" % (product, ", ".join(sorted(unknown))))
    return sum(value << (8 * layout[key]) for key, value in tcb.items())


def build_report(
    product: str = "genoa",
    version: Optional[int] = None,
    *,
    report_data: bytes = b"",
    measurement: bytes = b"",
    policy: int = POLICY_SMT | POLICY_RESERVED_ONE,
    vmpl: int = 0,
    host_data: bytes = b"",
    chip_id: Optional[bytes] = None,
    current_tcb: Optional[Tcb] = None,
    committed_tcb: Optional[Tcb] = None,
    reported_tcb: Optional[Tcb] = None,
    launch_tcb: Optional[Tcb] = None,
    platform_info: int = PLATFORM_INFO,
    guest_svn: int = 0,
    family_id: bytes = b"",
    image_id: bytes = b"",
    id_key_digest: bytes = b"",
    author_key_digest: bytes = b"",
    author_key_en: bool = False,
    mask_chip_key: bool = False,
    signing_key: Union[str, int] = "vcek",
    signature_algo: int = 1,
    key_info: Optional[int] = None,
    report_id: bytes = b"\x5a" * 32,
    report_id_ma: bytes = b"\xff" * 32,
    cpuid: Optional[Tuple[int, int, int]] = None,
    current_version: Optional[Tuple[int, int, int]] = None,
    committed_version: Optional[Tuple[int, int, int]] = None,
    launch_mit_vector: Optional[int] = None,
    current_mit_vector: Optional[int] = None,
    patch: Optional[Mapping[int, bytes]] = None,
    **unknown: Any,
) -> bytearray:
    """An unsigned report of 1184 bytes.

    The product is milan, genoa or turin; the version defaults to what that product's firmware writes (3, 5, 5). Byte fields are padded
    with zeros; ``chip_id`` defaults to a made-up chip under a VCEK and to zeros under a VLEK, ``b""`` masks it. TCBs are dictionaries of
    {fmc (turin), bootloader, tee, snp, microcode} or raw 64-bit numbers: the current one defaults to DEFAULT_TCB, the others to the
    current one. Versions are (major, minor, build). ``patch`` maps offsets to bytes and is applied last. Raises ValueError when a value
    does not fit its field.
    """
    if unknown:
        raise TypeError("unknown report fields: %s" % ", ".join(sorted(unknown)))
    version = REPORT_VERSION[product] if version is None else version
    report = bytearray(SIZE)

    def number(offset: int, size: int, value: int) -> None:
        report[offset : offset + size] = value.to_bytes(size, "little")

    def field(offset: int, size: int, value: bytes) -> None:
        if len(value) > size:
            raise ValueError("the field at 0x%x takes %d bytes, not %d" % (offset, size, len(value)))
        report[offset : offset + size] = bytes(value).ljust(size, b"\0")

    role = SIGNING_KEYS[signing_key] if isinstance(signing_key, str) else signing_key
    if chip_id is None:
        chip_id = b"" if role == 1 else default_chip_id(product)
    current = DEFAULT_TCB[product] if current_tcb is None else current_tcb
    number(0x000, 4, version)
    number(0x004, 4, guest_svn)
    number(0x008, 8, policy)
    field(0x010, 16, family_id)
    field(0x020, 16, image_id)
    number(0x030, 4, vmpl)
    number(0x034, 4, signature_algo)
    number(0x038, 8, encode_tcb(product, current))
    number(0x040, 8, platform_info)
    number(0x048, 4, int(author_key_en) | int(mask_chip_key) << 1 | role << 2 if key_info is None else key_info)
    field(0x050, 64, report_data)
    field(0x090, 48, measurement)
    field(0x0C0, 32, host_data)
    field(0x0E0, 48, id_key_digest)
    field(0x110, 48, author_key_digest)
    field(0x140, 32, report_id)
    field(0x160, 32, report_id_ma)
    number(0x180, 8, encode_tcb(product, current if reported_tcb is None else reported_tcb))
    if cpuid is not None or version >= 3:
        field(0x188, 3, bytes(cpuid or CPUID[product]))
    field(0x1A0, 64, chip_id)
    number(0x1E0, 8, encode_tcb(product, current if committed_tcb is None else committed_tcb))
    firmware = current_version or FIRMWARE[product]
    # Stored as build, minor, major.
    field(0x1E8, 3, bytes(reversed(firmware)))
    field(0x1EC, 3, bytes(reversed(committed_version or firmware)))
    number(0x1F0, 8, encode_tcb(product, current if launch_tcb is None else launch_tcb))
    # Mitigation vectors came with version 5; before it these bytes must be zero.
    default_vector = 0x0B if version >= 5 else 0
    number(0x1F8, 8, default_vector if launch_mit_vector is None else launch_mit_vector)
    number(0x200, 8, default_vector if current_mit_vector is None else current_mit_vector)
    for offset, data in (patch or {}).items():
        if not 0 <= offset <= SIZE - len(data):
            raise ValueError("a patch of %d bytes at 0x%x leaves the report" % (len(data), offset))
        report[offset : offset + len(data)] = data
    return report


def default_chip_id(product: str) -> bytes:
    """CHIP_ID of the made-up chip: 64 bytes, on Turin 8 (zeros follow in the report)."""
    digest = hashes.Hash(hashes.SHA512())
    digest.update(b"attested.ai soft chip " + product.encode("ascii"))
    return digest.finalize()[: 8 if product == "turin" else 64]


def sign_report(report: bytearray, key: ec.EllipticCurvePrivateKey) -> bytearray:
    """Sign bytes 0 to 0x29F with ECDSA P-384/SHA-384 and write R and S, 72 bytes each, little-endian. Changes and returns the report."""
    r, s = decode_dss_signature(key.sign(bytes(report[:SIGNED]), ec.ECDSA(hashes.SHA384())))
    report[SIGNED:SIZE] = r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(SIZE - SIGNED - 144)
    return report
