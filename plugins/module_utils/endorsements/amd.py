# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""AMD's public CA certificates, shipped in data/amd.json and pinned by the SHA-256 of their SubjectPublicKeyInfo."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.shipped import read_certificate, read_document
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate

SCHEMA = "attested.ai/amd-ca/1"
WHERE = "data/amd.json"


@dataclass(frozen=True)
class AmdCa:
    """One of AMD's CA certificates. ``role``: "ark" (root), "ask" (issues VCEKs) or "asvk" (issues VLEKs)."""

    name: str
    role: str
    product: str
    certificate: Certificate
    sha256: str
    spki_sha256: str


@functools.lru_cache(maxsize=None)
def load_amd_cas() -> Tuple[AmdCa, ...]:
    """The shipped certificates. Raises EndorsementError if the file is missing, or if a digest in it is not that of its bytes."""
    document = read_document(WHERE, SCHEMA, "AMD's certificates")
    return tuple(_read(entry) for entry in document["certificates"])


def _read(entry: Mapping[str, Any]) -> AmdCa:
    certificate = read_certificate(entry, WHERE)
    return AmdCa(entry["name"], entry["role"], entry["product"], certificate, entry["sha256"], entry["spki_sha256"])
