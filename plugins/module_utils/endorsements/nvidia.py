# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""NVIDIA's public roots, shipped in data/nvidia.json and pinned by the SHA-256 of their SubjectPublicKeyInfo."""

from __future__ import annotations

import functools
import hashlib
import pkgutil
from typing import Any, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate, parse_certificate

SCHEMA = "attested.ai/nvidia-ca/1"
WHERE = "data/nvidia.json"
# Device identities, reference integrity manifests, tokens of the remote attestation service.
DEVICE, RIM, NRAS = "device", "rim", "nras"


@functools.lru_cache(maxsize=None)
def _document() -> Mapping[str, Any]:
    raw = pkgutil.get_data(__name__, WHERE)
    if raw is None:
        raise EndorsementError("the file of NVIDIA's roots is missing", where=WHERE, fix="Install the collection again.")
    document = strict.loads(raw, WHERE)
    if document.get("schema") != SCHEMA:
        raise EndorsementError("unknown schema %r" % (document.get("schema"),), where=WHERE)
    return document  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=None)
def load_nvidia_roots() -> Tuple[Tuple[str, Certificate], ...]:
    """The shipped roots as (role, certificate): "device" and "rim". Raises EndorsementError if the file is missing, or if a digest
    in it is not that of its bytes."""
    return tuple(_read(entry) for entry in _document()["certificates"])


def nras_certificate_pins() -> Tuple[str, ...]:
    """SHA-256 (hexadecimal) of certificates that may issue the signers of NRAS tokens. Not shipped: they come with each key (x5c)."""
    return tuple(entry["sha256"] for entry in _document()["pins"] if entry["role"] == NRAS)


def _read(entry: Mapping[str, Any]) -> Tuple[str, Certificate]:
    data = strict.decode_base64(entry["certificate"], WHERE)
    certificate = parse_certificate(data)
    found = (hashlib.sha256(data).hexdigest(), hashlib.sha256(certificate.spki).hexdigest(), certificate.common_name)
    if found != (entry["sha256"], entry["spki_sha256"], entry["name"]):
        raise EndorsementError("%s does not have the digests and the name written beside it" % entry["name"], where=WHERE)
    return entry["role"], certificate
