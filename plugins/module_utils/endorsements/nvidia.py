# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""NVIDIA's public roots, shipped in data/nvidia.json and pinned by the SHA-256 of their SubjectPublicKeyInfo."""

from __future__ import annotations

import functools
from typing import Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.shipped import read_document, read_roots
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate

SCHEMA = "attested.ai/nvidia-ca/1"
WHERE = "data/nvidia.json"
WHAT = "NVIDIA's roots"
# Device identities, reference integrity manifests, tokens of the remote attestation service.
DEVICE, RIM, NRAS = "device", "rim", "nras"


@functools.lru_cache(maxsize=None)
def load_nvidia_roots() -> Tuple[Tuple[str, Certificate], ...]:
    """The shipped roots as (role, certificate): "device" and "rim". Raises EndorsementError if the file is missing, or if a digest
    in it is not that of its bytes."""
    return read_roots(WHERE, SCHEMA, WHAT)


@functools.lru_cache(maxsize=None)
def nras_certificate_pins() -> Tuple[str, ...]:
    """SHA-256 (hexadecimal) of certificates that may issue the signers of NRAS tokens. Not shipped: they come with each key (x5c)."""
    return tuple(entry["sha256"] for entry in read_document(WHERE, SCHEMA, WHAT)["pins"] if entry["role"] == NRAS)
