# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Values that a person gives for a plan. Unknown keys are errors: a misspelt number would be a number that was not counted."""

from __future__ import annotations

import math
import re
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.planning.failure import PlanError

_SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}


def only(given: t.Mapping[str, t.Any], known: t.Iterable[str], where: str) -> None:
    unknown = sorted(str(key) for key in set(given) - set(known))
    if unknown:
        raise PlanError(f"{', '.join(unknown)} is not known", where=where, fix=f"There are {', '.join(sorted(known))}")


def mapping(value: t.Any, where: str) -> t.Mapping[str, t.Any]:
    if not isinstance(value, t.Mapping):
        raise PlanError("a dictionary was expected", where=where)
    return value


def whole(value: t.Any, where: str, least: int = 1, most: int = 10**12) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,13}", value.strip(), re.ASCII):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise PlanError(f"{ascii(value)[:40]} is no whole number from {least} to {most}", where=where)
    return value


def number(value: t.Any, where: str, most: float) -> float:
    try:
        found = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        found = math.nan
    if not 0 < found <= most:
        raise PlanError(f"{ascii(value)[:40]} is no number above 0 and up to {most:g}", where=where)
    return found


def count(value: t.Any, where: str) -> float:
    """70e9, 70000000000 or 70B."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kKmMbBtT]?)", value.strip()) if isinstance(value, str) else None
    if match:
        value = float(match.group(1)) * _SCALES[match.group(2).lower()]
    return number(value, where, 1e14)


def size(value: t.Any, where: str) -> int:
    """141 GB, 130 GiB, or bytes."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", value.strip()) if isinstance(value, str) else None
    if match:
        unit = match.group(2).lower()
        if unit not in _UNITS:
            raise PlanError(f"{ascii(match.group(2))} is no unit of size", where=where, fix="Write 141 GB or 130 GiB")
        value = float(match.group(1)) * _UNITS[unit]
    return int(number(value, where, 1e16))
