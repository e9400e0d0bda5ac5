# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The root of Google's launch endorsements. It is pinned by the digest of its certificate, in data/gce.json, and not shipped."""

from __future__ import annotations

import functools
import pkgutil
from typing import FrozenSet, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate

SCHEMA = "attested.ai/gce-ca/1"
WHERE = "data/gce.json"


def load_gce_roots() -> Tuple[Tuple[str, Certificate], ...]:
    """No certificate is shipped: see ``gce_certificate_pins``."""
    return ()


@functools.lru_cache(maxsize=None)
def gce_certificate_pins() -> FrozenSet[str]:
    """SHA-256 (hexadecimal) of root certificates, which come with an endorsement or from the operator.

    Raises EndorsementError if the file is missing or not of its schema.
    """
    raw = pkgutil.get_data(__name__, WHERE)
    if raw is None:
        raise EndorsementError("the file of Google's pins is missing", where=WHERE, fix="Install the collection again.")
    document = strict.loads(raw, WHERE)
    if document.get("schema") != SCHEMA:
        raise EndorsementError("unknown schema %r" % (document.get("schema"),), where=WHERE)
    return frozenset(strict.decode_hex(entry["sha256"], WHERE, 32).hex() for entry in document["pins"])
