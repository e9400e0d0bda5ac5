# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Building blocks of the SEV-SNP report: products, TCB versions, guest policy and platform information bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

PRODUCTS = ("milan", "genoa", "turin")

# (CPUID family, first model, last model, product). Bergamo and Siena belong to the Genoa line. Sources disagree whether
# Turin ends at model 0x11 or 0x1F: the narrower range is taken, an unknown model is refused later.
SILICON = (
    (0x19, 0x00, 0x0F, "milan"),
    (0x19, 0x10, 0x1F, "genoa"),
    (0x19, 0xA0, 0xAF, "genoa"),
    (0x1A, 0x00, 0x11, "turin"),
)


def product_of_cpuid(family: int, model: int) -> Optional[str]:
    """The product of a CPUID family and model (combined values as in the report), None if it is not known."""
    for known, first, last, product in SILICON:
        if family == known and first <= model <= last:
            return product
    return None


@dataclass(frozen=True)
class TcbLayout:
    """Which byte of a raw TCB version holds which component (SEV-SNP ABI, TCB_VERSION). ``fmc`` is None where there is none."""

    name: str
    fmc: Optional[int]
    bootloader: int
    tee: int
    snp: int
    microcode: int
    reserved: Tuple[int, int]

    def check_reserved(self, raw: bytes, field: str, where: str = "SEV-SNP report") -> None:
        """Raise FormatError if a reserved byte is not zero."""
        first, end = self.reserved
        if any(raw[first:end]):
            raise FormatError("a reserved byte of %s (%s) is not zero" % (field, raw.hex()), where=where)


LAYOUT_MILAN = TcbLayout("milan-genoa", None, 0, 1, 6, 7, (2, 6))
LAYOUT_TURIN = TcbLayout("turin", 0, 1, 2, 3, 7, (4, 7))
_LAYOUTS = {"milan": LAYOUT_MILAN, "genoa": LAYOUT_MILAN, "turin": LAYOUT_TURIN}


def layout_of_product(product: str) -> TcbLayout:
    """The TCB layout of "milan", "genoa" or "turin". Raises FormatError for another name."""
    try:
        return _LAYOUTS[product]
    except KeyError:
        raise FormatError("no TCB layout is known for the product %r" % (product,)) from None


@dataclass(frozen=True)
class TcbVersion:
    """The components of a TCB version (security version numbers, 0 to 255); ``fmc`` is None before Turin."""

    fmc: Optional[int]
    bootloader: int
    tee: int
    snp: int
    microcode: int

    @classmethod
    def parse(cls, raw: bytes, layout: TcbLayout, field: str = "TCB") -> TcbVersion:
        """Decode 8 bytes. Raises FormatError if the size is wrong or a reserved byte is not zero."""
        if len(raw) != 8:
            raise FormatError("%s is %d bytes, 8 expected" % (field, len(raw)))
        layout.check_reserved(raw, field)
        return cls(
            None if layout.fmc is None else raw[layout.fmc],
            raw[layout.bootloader], raw[layout.tee], raw[layout.snp], raw[layout.microcode],
        )  # fmt: skip

    def components(self) -> Tuple[Tuple[str, int], ...]:
        """(name, value) of the components that this product has."""
        rest = (
            ("bootloader", self.bootloader), ("tee", self.tee), ("snp", self.snp), ("microcode", self.microcode)
        )  # fmt: skip
        return rest if self.fmc is None else (("fmc", self.fmc),) + rest

    def below(self, other: TcbVersion) -> Tuple[str, ...]:
        """Names of the components that are lower than in ``other``. As one integer they must never be compared."""
        theirs = dict(other.components())
        return tuple(name for name, value in self.components() if value < theirs.get(name, 0))

    def to_dict(self) -> Dict[str, int]:
        return dict(self.components())

    def __str__(self) -> str:
        return " ".join("%s=%d" % item for item in self.components())


@dataclass(frozen=True)
class TcbSet:
    """The four TCB versions of a report."""

    current: TcbVersion
    reported: TcbVersion
    committed: TcbVersion
    launch: TcbVersion

    def to_dict(self) -> Dict[str, Dict[str, int]]:
        return {name: getattr(self, name).to_dict() for name in ("current", "reported", "committed", "launch")}


def _bits(value: int, names: Tuple[Tuple[str, int], ...]) -> Dict[str, Any]:
    return {name: bool(value >> bit & 1) for name, bit in names}


@dataclass(frozen=True)
class GuestPolicy:
    """The POLICY field (64 bits), which the launcher chose. Bits from 26 on are unknown at ABI 1.58."""

    raw: int

    FLAGS = (
        ("smt_allowed", 16), ("migrate_ma", 18), ("debug", 19), ("single_socket", 20), ("cxl_allowed", 21),
        ("mem_aes_256_xts", 22), ("rapl_dis", 23), ("ciphertext_hiding_dram", 24), ("page_swap_disable", 25),
    )  # fmt: skip

    @property
    def abi_minor(self) -> int:
        return self.raw & 0xFF

    @property
    def abi_major(self) -> int:
        return self.raw >> 8 & 0xFF

    @property
    def smt_allowed(self) -> bool:
        return bool(self.raw >> 16 & 1)

    @property
    def migrate_ma(self) -> bool:
        return bool(self.raw >> 18 & 1)

    @property
    def debug(self) -> bool:
        return bool(self.raw >> 19 & 1)

    @property
    def single_socket(self) -> bool:
        return bool(self.raw >> 20 & 1)

    @property
    def cxl_allowed(self) -> bool:
        return bool(self.raw >> 21 & 1)

    @property
    def mem_aes_256_xts(self) -> bool:
        return bool(self.raw >> 22 & 1)

    @property
    def rapl_dis(self) -> bool:
        return bool(self.raw >> 23 & 1)

    @property
    def ciphertext_hiding_dram(self) -> bool:
        return bool(self.raw >> 24 & 1)

    @property
    def page_swap_disable(self) -> bool:
        return bool(self.raw >> 25 & 1)

    @property
    def unknown_bits(self) -> int:
        """The bits 26 to 63 in their places; 0 if none is set."""
        return self.raw >> 26 << 26

    def to_dict(self) -> Dict[str, Any]:
        result: Dict[str, Any] = {"raw": "0x%x" % self.raw, "abi_major": self.abi_major, "abi_minor": self.abi_minor}
        result.update(_bits(self.raw, self.FLAGS))
        result["unknown_bits"] = "0x%x" % self.unknown_bits
        return result


@dataclass(frozen=True)
class PlatformInfo:
    """The PLATFORM_INFO field (64 bits). Unknown bits are no reason to refuse: genuine reports set bit 6."""

    raw: int

    FLAGS = (
        ("smt_en", 0), ("tsme_en", 1), ("ecc_en", 2), ("rapl_dis", 3), ("ciphertext_hiding_dram_en", 4),
        ("alias_check_complete", 5), ("sev_tio_en", 7),
    )  # fmt: skip

    @property
    def smt_en(self) -> bool:
        return bool(self.raw & 1)

    @property
    def tsme_en(self) -> bool:
        return bool(self.raw >> 1 & 1)

    @property
    def ecc_en(self) -> bool:
        return bool(self.raw >> 2 & 1)

    @property
    def rapl_dis(self) -> bool:
        return bool(self.raw >> 3 & 1)

    @property
    def ciphertext_hiding_dram_en(self) -> bool:
        return bool(self.raw >> 4 & 1)

    @property
    def alias_check_complete(self) -> bool:
        return bool(self.raw >> 5 & 1)

    @property
    def sev_tio_en(self) -> bool:
        return bool(self.raw >> 7 & 1)

    @property
    def unknown_bits(self) -> int:
        """Bit 6 and the bits from 8 on, in their places."""
        return self.raw & ~0xBF

    def to_dict(self) -> Dict[str, Any]:
        result: Dict[str, Any] = {"raw": "0x%x" % self.raw}
        result.update(_bits(self.raw, self.FLAGS))
        result["unknown_bits"] = "0x%x" % self.unknown_bits
        return result
