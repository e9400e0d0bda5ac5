# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""AMD's public CA certificates, shipped in data/amd.json and pinned by the SHA-256 of their SubjectPublicKeyInfo."""

from __future__ import annotations

import functools
import hashlib
import pkgutil
from dataclasses import dataclass
from typing import Any, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate, parse_certificate

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
    raw = pkgutil.get_data(__name__, WHERE)
    if raw is None:
        raise EndorsementError("the file of AMD's certificates is missing", where=WHERE, fix="Install the collection again.")
    document = strict.loads(raw, WHERE)
    if document.get("schema") != SCHEMA:
        raise EndorsementError("unknown schema %r" % (document.get("schema"),), where=WHERE)
    return tuple(_read(entry) for entry in document["certificates"])


def _read(entry: Mapping[str, Any]) -> AmdCa:
    data = strict.decode_base64(entry["certificate"], WHERE)
    certificate = parse_certificate(data)
    ca = AmdCa(
        entry["name"], entry["role"], entry["product"], certificate,
        hashlib.sha256(data).hexdigest(), hashlib.sha256(certificate.spki).hexdigest(),
    )  # fmt: skip
    if (ca.sha256, ca.spki_sha256, certificate.common_name) != (entry["sha256"], entry["spki_sha256"], ca.name):
        raise EndorsementError("%s does not have the digests and the name written beside it" % ca.name, where=WHERE)
    return ca
