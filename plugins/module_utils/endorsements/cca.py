# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""CCA attestation keys whose private halves are public, from data/cca.json: whoever signs with one proves nothing."""

from __future__ import annotations

import functools
import pkgutil
from typing import Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.cca_endorsement import read_jwk
from ansible_collections.attested.ai.plugins.module_utils.formats.cose import EcPoint
from ansible_collections.attested.ai.plugins.module_utils.formats.jwk import thumbprint

SCHEMA = "attested.ai/cca-test-keys/1"
WHERE = "data/cca.json"


@functools.lru_cache(maxsize=None)
def load_test_keys() -> Mapping[Tuple[str, bytes], str]:
    """(curve, x) -> name. Raises EndorsementError if the file is missing, or if a thumbprint in it is not that of its key."""
    raw = pkgutil.get_data(__name__, WHERE)
    if raw is None:
        raise EndorsementError("the list of public test keys is missing", where=WHERE, fix="Install the collection again.")
    document = strict.loads(raw, WHERE)
    if document.get("schema") != SCHEMA:
        raise EndorsementError("unknown schema %r" % (document.get("schema"),), where=WHERE)
    found: Dict[Tuple[str, bytes], str] = {}
    for entry in document["keys"]:
        if thumbprint(entry["key"]) != entry["thumbprint"]:
            raise EndorsementError("%s does not have the thumbprint written beside it" % entry["name"], where=WHERE)
        point = read_jwk(entry["key"], WHERE)
        found[point.curve, point.x] = entry["name"]
    return found


def public_test_key(point: EcPoint) -> Optional[str]:
    """The name of the public test key that this is, None for any other key.

    The second coordinate is not looked at: who knows the private half of (x, y) knows that of (x, -y) as well.
    """
    return load_test_keys().get((point.curve, point.x))
