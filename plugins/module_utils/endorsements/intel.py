# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Intel's public root of SGX and TDX, shipped in data/intel.json and pinned by the SHA-256 of its SubjectPublicKeyInfo."""

from __future__ import annotations

import functools
from typing import Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.shipped import read_roots
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate

SCHEMA = "attested.ai/intel-ca/1"
WHERE = "data/intel.json"


@functools.lru_cache(maxsize=None)
def load_intel_roots() -> Tuple[Tuple[str, Certificate], ...]:
    """The shipped roots as (role, certificate). Raises EndorsementError if the file is missing, or if a digest in it is not that of its bytes."""
    return read_roots(WHERE, SCHEMA, "Intel's root")
