# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which of many certificates may have signed a SEV-SNP report. Nothing is trusted here: it only saves trying all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.der import parse_certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import REPORT_SIZE, SIGNING_KEY_VLEK
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_tcb import TcbVersion, layout_of_product
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_vek import VekExtensions, parse_vek_extensions

# DER of a common name of exactly these 8 characters: SEV-VLEK-Milan, a CA, has a longer one.
_VCEK, _VLEK = b"\x08SEV-VCEK", b"\x08SEV-VLEK"
# Offsets in the report (AMD publication 56860, ATTESTATION_REPORT).
_KEY_INFO, _REPORTED_TCB, _CHIP_ID = 0x48, slice(0x180, 0x188), slice(0x1A0, 0x1E0)


@dataclass(frozen=True)
class Leaf:
    """A VCEK or VLEK. ``vek`` is None if AMD's extensions cannot be read."""

    der: bytes
    is_vlek: bool
    vek: Optional[VekExtensions]

    @property
    def chip(self) -> Optional[bytes]:
        """The 64 bytes that CHIP_ID has under this certificate; Turin names its chip with 8 bytes, the rest of the field is zeros."""
        return None if self.vek is None or self.vek.hwid is None else self.vek.hwid.ljust(64, b"\0")

    def is_for(self, reported_tcb: bytes) -> bool:
        """True if REPORTED_TCB is the one that the certificate was issued for."""
        if self.vek is None or self.vek.product is None:
            return False
        try:
            return dict(TcbVersion.parse(reported_tcb, layout_of_product(self.vek.product)).components()) == dict(self.vek.tcb)
        except FormatError:
            return False


@dataclass(frozen=True)
class Certificates:
    """Leaves by chip, VLEKs, leaves that name no chip, and all other certificates (path material)."""

    by_chip: Mapping[bytes, Sequence[Leaf]]
    vleks: Sequence[Leaf]
    unnamed: Sequence[Leaf]
    path: Tuple[bytes, ...]


def sort_certificates(every: Sequence[bytes]) -> Certificates:
    """Read each certificate once."""
    by_chip: Dict[bytes, List[Leaf]] = {}
    vleks: List[Leaf] = []
    unnamed: List[Leaf] = []
    path: List[bytes] = []
    for der in dict.fromkeys(every):
        if _VCEK not in der and _VLEK not in der:
            path.append(der)
            continue
        leaf = _leaf(der)
        if leaf.is_vlek:
            vleks.append(leaf)
        elif leaf.chip is not None:
            by_chip.setdefault(leaf.chip, []).append(leaf)
        else:
            unnamed.append(leaf)
    return Certificates(by_chip, vleks, unnamed, tuple(path))


def candidates(report: bytes, own: Certificates, endorsements: Endorsements) -> Tuple[List[bytes], Tuple[bytes, ...]]:
    """(leaves, path): certificates that may have signed the report, likeliest first, and the others, in DER.

    ``own`` came with the evidence. Where none is for the chip, any will do: what is wrong with it is what there is to tell.
    """
    given = endorsements.once("snp-certificates", lambda all_of_them: sort_certificates(all_of_them.certificates))
    known = (own, given)
    path = tuple(dict.fromkeys(own.path + given.path))
    vleks = [leaf for part in known for leaf in part.vleks]
    if len(report) != REPORT_SIZE:
        found = [leaf for part in known for group in part.by_chip.values() for leaf in group][:1] + vleks
        return _unique(found), path
    chip, tcb = report[_CHIP_ID], report[_REPORTED_TCB]
    named = [leaf for part in known for leaf in part.by_chip.get(chip, ())]
    named.sort(key=lambda leaf: not leaf.is_for(tcb))
    vleks.sort(key=lambda leaf: not leaf.is_for(tcb))
    is_vlek = report[_KEY_INFO] >> 2 & 7 == SIGNING_KEY_VLEK
    found = vleks + named if is_vlek else named + vleks
    found += [leaf for part in known for leaf in part.unnamed]
    if not named:
        others = (group[0] for part in known for group in part.by_chip.values())
        found += [leaf for leaf, _number in zip(others, range(2))]
    return _unique(found), path


def _unique(leaves: Sequence[Leaf]) -> List[bytes]:
    return list(dict.fromkeys(leaf.der for leaf in leaves))


def _leaf(der: bytes) -> Leaf:
    try:
        return Leaf(der, _VLEK in der, parse_vek_extensions(parse_certificate(der).extensions))
    except FormatError:
        return Leaf(der, _VLEK in der, None)
