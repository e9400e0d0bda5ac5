# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The root of Google's launch endorsements, shipped in data/gce.json and pinned by the SHA-256 of its SubjectPublicKeyInfo."""

from __future__ import annotations

import functools
import hashlib
import pkgutil
from typing import Any, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate, parse_certificate

SCHEMA = "attested.ai/gce-ca/1"
WHERE = "data/gce.json"


@functools.lru_cache(maxsize=None)
def load_gce_roots() -> Tuple[Tuple[str, Certificate], ...]:
    """The shipped root as (role, certificate). Raises EndorsementError if the file is missing, or if a digest in it is not that of its bytes."""
    raw = pkgutil.get_data(__name__, WHERE)
    if raw is None:
        raise EndorsementError("the file of Google's root is missing", where=WHERE, fix="Install the collection again.")
    document = strict.loads(raw, WHERE)
    if document.get("schema") != SCHEMA:
        raise EndorsementError("unknown schema %r" % (document.get("schema"),), where=WHERE)
    return tuple(_read(entry) for entry in document["certificates"])


def _read(entry: Mapping[str, Any]) -> Tuple[str, Certificate]:
    data = strict.decode_base64(entry["certificate"], WHERE)
    certificate = parse_certificate(data)
    found = (hashlib.sha256(data).hexdigest(), hashlib.sha256(certificate.spki).hexdigest(), certificate.common_name)
    if found != (entry["sha256"], entry["spki_sha256"], entry["name"]):
        raise EndorsementError("%s does not have the digests and the name written beside it" % entry["name"], where=WHERE)
    return entry["role"], certificate
