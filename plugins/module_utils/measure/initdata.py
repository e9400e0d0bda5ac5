# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Digests of init-data, as Confidential Containers bind them: over the exact bytes, cut or padded with zeros to the field of the TEE.

Source: kata-containers, src/libs/kata-types/src/initdata.rs; Trustee, kbs/docs/initdata.md.
"""

from __future__ import annotations

import hashlib
from typing import Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

ALGORITHMS = ("sha256", "sha384", "sha512")
# Kind of evidence -> (the key of a reference value, bytes of the field): HOST_DATA, MRCONFIGID, the personalisation value.
FIELDS: Mapping[str, Tuple[str, int]] = {"sev-snp": ("host_data", 32), "tdx": ("mrconfigid", 48), "cca": ("rpv", 64)}


def field_value(data: bytes, algorithm: str, tee: str) -> Tuple[str, str]:
    """(key of a reference value, hexadecimal value) that a guest has which was launched with this init-data. Raises FormatError."""
    if algorithm not in ALGORITHMS:
        raise FormatError("the algorithm %s is none of %s" % (ascii(algorithm)[:20], ", ".join(ALGORITHMS)), where="init_data")
    if tee not in FIELDS:
        raise FormatError("init-data of %s is in no field of a report" % tee, where="init_data", fix="On Azure its digest is in PCR 8: name it in pcrs")
    name, size = FIELDS[tee]
    return name, hashlib.new(algorithm, data).digest()[:size].ljust(size, b"\0").hex()
