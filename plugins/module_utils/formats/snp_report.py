# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The AMD SEV-SNP attestation report (SEV-SNP ABI, table ATTESTATION_REPORT, versions 2 to 5): bytes to frozen values.

Nothing here decides about trust: a report that parses may be forged. All integers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_tcb import (
    GuestPolicy,
    PlatformInfo,
    TcbSet,
    TcbVersion,
    layout_of_product,
    product_of_cpuid,
)

__all__ = [
    "GuestPolicy",
    "PlatformInfo",
    "SnpReport",
    "TcbSet",
    "TcbVersion",
    "REPORT_SIZE",
    "SIGNED_SIZE",
    "parse_report",
    "product_of_cpuid",
]

REPORT_SIZE = 0x4A0
SIGNED_SIZE = 0x2A0
VERSIONS = (2, 3, 4, 5)

SIGNING_KEY_VCEK = 0
SIGNING_KEY_VLEK = 1
SIGNING_KEY_NONE = 7

ECDSA_P384_SHA384 = 1

# One field per value; the reserved regions are read too, so that each of them is looked at.
_LAYOUT = struct.Struct(
    "<"
    "I I Q"  # 0x000 version, guest SVN, policy
    "16s 16s"  # 0x010 family id, image id
    "I I"  # 0x030 VMPL, signature algorithm
    "8s Q"  # 0x038 current TCB, platform info
    "I I"  # 0x048 key info, reserved
    "64s 48s 32s"  # 0x050 report data, measurement, host data
    "48s 48s 32s 32s"  # 0x0E0 id key digest, author key digest, report id, report id of the migration agent
    "8s"  # 0x180 reported TCB
    "3B 21s"  # 0x188 CPUID family, model, stepping; reserved
    "64s 8s"  # 0x1A0 chip id, committed TCB
    "4B 4B"  # 0x1E8 current build, minor, major, reserved; committed likewise
    "8s"  # 0x1F0 launch TCB
    "Q Q"  # 0x1F8 launch and current mitigation vector
    "152s"  # 0x208 reserved
    "48s 24s 48s 24s"  # 0x2A0 R and its padding, S and its padding
    "368s"  # 0x330 reserved, not covered by the signature
)
_KEY_INFO_KNOWN = 0x1F
_POLICY_RESERVED_ONE = 1 << 17
_ZERO = bytes(512)


@dataclass(frozen=True)
class SnpReport:
    """An attestation report, field by field; ``raw`` are the 1184 bytes as received.

    ``cpuid`` is (family, model, stepping), None in version 2, which does not carry it. ``product`` ("milan", "genoa",
    "turin") follows from it, None if it is unknown or not stated. TCB versions are 8 raw bytes: their layout depends on
    the product, see ``tcb()``. ``signing_key`` is 0 VCEK, 1 VLEK, 7 none. ABI versions are (major, minor, build).
    ``signature_r`` and ``signature_s`` are integers. The mitigation vectors are None before version 5.
    """

    raw: bytes
    version: int
    guest_svn: int
    policy: GuestPolicy
    family_id: bytes
    image_id: bytes
    vmpl: int
    signature_algorithm: int
    current_tcb: bytes
    platform_info: PlatformInfo
    author_key_en: bool
    mask_chip_key: bool
    signing_key: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: bytes
    cpuid: Optional[Tuple[int, int, int]]
    product: Optional[str]
    chip_id: bytes
    committed_tcb: bytes
    current_abi: Tuple[int, int, int]
    committed_abi: Tuple[int, int, int]
    launch_tcb: bytes
    launch_mit_vector: Optional[int]
    current_mit_vector: Optional[int]
    signature_r: int
    signature_s: int

    @property
    def signed_region(self) -> bytes:
        """The bytes that the signature covers, as received."""
        return self.raw[:SIGNED_SIZE]

    @property
    def chip_id_masked(self) -> bool:
        """True if CHIP_ID is all zeros: the report does not say which chip made it."""
        return self.chip_id == _ZERO[:64]

    @property
    def silicon(self) -> Optional[Tuple[int, int]]:
        """(CPUID family, CPUID model), the key of TCB floors; None in version 2."""
        return self.cpuid[:2] if self.cpuid else None

    @property
    def provisional_firmware(self) -> bool:
        """True if the host can still roll the firmware back: committed version or TCB differ from the current ones."""
        return self.committed_tcb != self.current_tcb or self.committed_abi != self.current_abi

    def tcb(self, product: str) -> TcbSet:
        """Decode the four TCB versions for ``product``. Raises FormatError if a reserved byte is not zero."""
        layout = layout_of_product(product)
        return TcbSet(
            current=TcbVersion.parse(self.current_tcb, layout, "CURRENT_TCB"),
            reported=TcbVersion.parse(self.reported_tcb, layout, "REPORTED_TCB"),
            committed=TcbVersion.parse(self.committed_tcb, layout, "COMMITTED_TCB"),
            launch=TcbVersion.parse(self.launch_tcb, layout, "LAUNCH_TCB"),
        )

    def to_dict(self) -> Dict[str, Any]:
        """JSON-able: byte strings as hexadecimal text; without the raw bytes and the signature."""
        result: Dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name in ("raw", "signature_r", "signature_s"):
                continue
            if isinstance(value, bytes):
                value = value.hex()
            elif isinstance(value, tuple):
                value = list(value)
            elif value is not None and name in ("launch_mit_vector", "current_mit_vector"):
                value = "0x%x" % value  # 64 bits, more than a JSON number holds exactly
            elif isinstance(value, (GuestPolicy, PlatformInfo)):
                value = value.to_dict()
            result[name] = value
        return result


def parse_report(data: bytes, where: str = "SEV-SNP report") -> SnpReport:
    """Parse the 1184 bytes of an attestation report.

    Raises FormatError: code "version-unsupported" for another version than 2 to 5, code "format" for another size or a
    region that must be zero and is not (the unsigned rest of the signature field included). The reserved bytes of the TCB
    versions are checked here where the report names its product, else by ``SnpReport.tcb``.
    """
    data = bytes(data)
    if len(data) != REPORT_SIZE:
        raise FormatError(
            "the report is %d bytes, %d expected" % (len(data), REPORT_SIZE), where=where, fix="Collect it again."
        )
    (
        version, guest_svn, policy, family_id, image_id, vmpl, signature_algorithm, current_tcb, platform_info, key_info, mbz_4c,
        report_data, measurement, host_data, id_key_digest, author_key_digest, report_id, report_id_ma, reported_tcb,
        family, model, stepping, mbz_18b, chip_id, committed_tcb,
        current_build, current_minor, current_major, mbz_1eb, committed_build, committed_minor, committed_major, mbz_1ef,
        launch_tcb, launch_mit, current_mit, mbz_208, r, r_padding, s, s_padding, tail,
    ) = _LAYOUT.unpack(data)  # fmt: skip

    if version not in VERSIONS:
        raise FormatError("report version %d is not one of 2 to 5" % version, where=where, code="version-unsupported")
    has_cpuid = version >= 3
    has_mitigations = version >= 5
    if (
        mbz_4c or key_info > _KEY_INFO_KNOWN or mbz_1eb or mbz_1ef or not policy & _POLICY_RESERVED_ONE
        or any(mbz_18b) or any(mbz_208) or any(r_padding) or any(s_padding) or any(tail)
        or not has_cpuid and (family or model or stepping)
        or not has_mitigations and (launch_mit or current_mit)
    ):  # fmt: skip
        raise FormatError(_offence(data, version), where=where)
    product = product_of_cpuid(family, model) if has_cpuid else None
    report = SnpReport(
        data, version, guest_svn, GuestPolicy(policy), family_id, image_id, vmpl, signature_algorithm, current_tcb,
        PlatformInfo(platform_info), bool(key_info & 1), bool(key_info & 2), key_info >> 2 & 7,
        report_data, measurement, host_data, id_key_digest, author_key_digest, report_id, report_id_ma, reported_tcb,
        (family, model, stepping) if has_cpuid else None, product, chip_id, committed_tcb,
        (current_major, current_minor, current_build), (committed_major, committed_minor, committed_build), launch_tcb,
        launch_mit if has_mitigations else None, current_mit if has_mitigations else None,
        int.from_bytes(r, "little"), int.from_bytes(s, "little"),
    )  # fmt: skip
    if product is not None:
        layout = layout_of_product(product)
        for name, tcb in (
            ("CURRENT_TCB", current_tcb), ("REPORTED_TCB", reported_tcb),
            ("COMMITTED_TCB", committed_tcb), ("LAUNCH_TCB", launch_tcb),
        ):  # fmt: skip
            layout.check_reserved(tcb, name, where)
    return report


def _offence(data: bytes, version: int) -> str:
    """Name the first reserved region that does not hold what it must (only called when there is one)."""
    regions = [(0x4C, 0x50), (0x18B if version >= 3 else 0x188, 0x1A0), (0x1EB, 0x1EC), (0x1EF, 0x1F0)]
    regions += [(0x208 if version >= 5 else 0x1F8, 0x2A0), (0x2D0, 0x2E8), (0x318, 0x330), (0x330, 0x4A0)]
    for start, end in regions:
        for offset in range(start, end):
            if data[offset]:
                return "the byte at 0x%03X is 0x%02X, it must be zero in version %d" % (offset, data[offset], version)
    if data[0x4B] or data[0x4A] or data[0x49] or data[0x48] > _KEY_INFO_KNOWN:
        return "reserved bits of the key information at 0x048 are set"
    return "bit 17 of the guest policy at 0x008 is 0, it must be 1"
