# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Amounts of memory as Kubernetes writes them."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

MIB = 1 << 20
_FORM = re.compile(r"([0-9]{1,9})(Mi|Gi|Ti)\Z")
_UNITS = {"Mi": 1, "Gi": 1 << 10, "Ti": 1 << 20}
# 64 TiB: more than any machine has, and little enough that no sum gets out of hand.
LARGEST_MIB = 64 << 20


def mebibytes(value: Any, where: str) -> int:
    """From 512Mi, 48Gi or 1Ti. Raises FormatError."""
    match = _FORM.match(value) if isinstance(value, str) else None
    number = int(match.group(1)) * _UNITS[match.group(2)] if match else 0
    if not 0 < number <= LARGEST_MIB:
        raise FormatError("%s is no amount of memory" % ascii(value)[:40], where=where, fix="Write it as 512Mi, 48Gi or 1Ti")
    return number


def written(mib: int) -> str:
    return "%dGi" % (mib >> 10) if mib % 1024 == 0 else "%dMi" % mib
