# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hold the measurements of an NVIDIA report against the active values of its reference manifests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.checks import PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.formats.rim import Rim
from ansible_collections.attested.ai.plugins.module_utils.formats.spdm import SpdmReport

# Measured by a unit that is off on some devices: there is nothing to compare then.
NVDEC0_INDEX = 35
# SPDM counts blocks from 1, manifests count indices from 0.
_BLOCK_OF_INDEX_0 = 1


@dataclass(frozen=True)
class Mismatch:
    """One measurement that is none of the good values. ``source`` is "driver" or "firmware", ``version`` that of the manifest;
    ``seen`` is None if the report has no such block."""

    source: str
    version: str
    index: int
    golden: Tuple[bytes, ...]
    seen: Optional[bytes]

    def describe(self) -> str:
        """One line: index, source, what was seen and what was expected (the first bytes of each)."""
        golden = " or ".join(value.hex()[:16] + "..." for value in self.golden[:4])
        seen = "missing" if self.seen is None else self.seen.hex()[:16] + "..."
        return "index %d (%s %s) is %s, the manifest says %s" % (self.index, self.source, self.version, seen, golden)

    def to_dict(self) -> Dict[str, Any]:
        return {
            "source": self.source,
            "version": self.version,
            "index": self.index,
            "golden": [value.hex() for value in self.golden],
            "seen": None if self.seen is None else self.seen.hex(),
        }


@dataclass(frozen=True)
class Comparison:
    """``compared`` counts the values compared by source, ``skipped`` are indices that do not apply to this device, ``conflicts`` are
    active in both manifests, which leaves open what is good."""

    compared: Mapping[str, int]
    mismatches: Tuple[Mismatch, ...]
    skipped: Tuple[int, ...]
    conflicts: Tuple[int, ...]


def compare(report: SpdmReport, rims: Mapping[str, Rim], nvdec0: Optional[bool]) -> Comparison:
    """Compare every active index of ``rims`` (by source) with the report's block. ``nvdec0`` is what the device says of that unit."""
    compared: Dict[str, int] = {}
    mismatches: List[Mismatch] = []
    skipped: List[int] = []
    measured = report.measurements
    for source, rim in rims.items():
        compared[source] = 0
        for index, golden in rim.active.items():
            if index == NVDEC0_INDEX and nvdec0 is False:
                skipped.append(index)
                continue
            compared[source] += 1
            seen = measured.get(index + _BLOCK_OF_INDEX_0)
            if seen not in golden:
                mismatches.append(Mismatch(source, rim.version, index, golden, seen))
    active = [set(rim.active) for rim in rims.values()]
    conflicts = sorted(set.intersection(*active)) if len(active) > 1 else []
    return Comparison(compared, tuple(mismatches), tuple(skipped), tuple(conflicts))


def judge_measurements(unusable: Sequence[str], comparison: Comparison, proven: bool, flags: Sequence[str], checks: List[Check]) -> None:
    """Append rim-index-conflict, measurement-mismatch, debug-state and secure-boot. ``unusable`` names the sources without a manifest
    that counts, ``flags`` what the firmware certificate says against the device."""
    code = "rim-index-conflict"
    if comparison.conflicts:
        numbers = ", ".join(str(index) for index in comparison.conflicts)
        checks.append(failed(code, "both manifests give good values for index %s, so it is open which counts" % numbers))
    elif unusable:
        checks.append(not_checked(code, "there is no usable manifest for: %s" % ", ".join(unusable)))
    else:
        checks.append(passed(code, "no index is active in two manifests"))

    code = "measurement-mismatch"
    counted = ", ".join("%d of %s" % (count, source) for source, count in comparison.compared.items()) or "nothing"
    skipped = "; index %s does not apply, NVDEC0 is off" % ", ".join(str(index) for index in comparison.skipped) if comparison.skipped else ""
    if comparison.mismatches:
        checks.append(failed(code, "%d measurements are not what they should be: %s" % (
            len(comparison.mismatches), "; ".join(mismatch.describe() for mismatch in comparison.mismatches[:8])
        )))  # fmt: skip
    elif unusable or not proven:
        checks.append(not_checked(code, "compared and good: %s; %s" % (
            counted, "there is no usable manifest for: %s" % ", ".join(unusable) if unusable else "but the report is not proven"
        )))  # fmt: skip
    else:
        checks.append(passed(code, "all are good: %s%s" % (counted, skipped)))

    # NVIDIA's definition: secure boot held and debugging is off if all measurements are good, and nothing is said otherwise.
    good = checks[-1].outcome == PASS and not comparison.conflicts
    if not flags and good:
        checks.append(passed("debug-state", "disabled: all measurements are good"))
    elif not flags:
        checks.append(not_checked("debug-state", "known only if all measurements are good"))
    if good and not flags:
        checks.append(passed("secure-boot", "all measurements are good"))
    else:
        checks.append(not_checked("secure-boot", "known only if all measurements are good"))
