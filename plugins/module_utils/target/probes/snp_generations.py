# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What differs between generations of EPYC. A Python table, as what a module on a target imports is packed by following its imports.

Sources: src/processor.rs of virtee/snphost (families and models), AMD-SB-3015 (alias check), the troubleshooting guide of snphost (boot loaders).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

MILAN, GENOA, TURIN = "Milan", "Genoa", "Turin"
# (family, first model, last model, name under which AMD certifies these chips). Bergamo and Siena go by Genoa. Later parts are in no list yet.
SILICON = ((0x19, 0x00, 0x0F, MILAN), (0x19, 0x10, 0x1F, GENOA), (0x19, 0xA0, 0xAF, GENOA), (0x1A, 0x00, 0x11, TURIN))
# (major, minor) of the interface below which the firmware is too old for all of them.
LEAST_API = (1, 51)


@dataclass(frozen=True)
class Generation:
    """``alias`` is the least (major, minor, build) that makes the alias check of CVE-2024-21944, None where nobody names one; ``before`` is what a
    newer SEV firmware needs first."""

    alias: Optional[Tuple[int, int, int]]
    before: str


GENERATIONS: Dict[str, Generation] = {
    MILAN: Generation((1, 55, 22), "Milan first needs a BIOS with PSP boot loader 00.13.00.70 or later (AGESA 1.0.0.9)"),
    GENOA: Generation((1, 55, 38), "Genoa needs the BIOS update first"),
    TURIN: Generation(None, "Update the BIOS first"),
}


def product_of(family: int, model: int) -> Optional[str]:
    return next((name for known, first, last, name in SILICON if family == known and first <= model <= last), None)
