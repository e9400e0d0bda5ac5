# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which source an encrypted image was made of: an annotation that only a holder of the key can write, and that tells nothing to others.

The digest of a plain image names it to everybody who has seen it, so that it is not written down; its authentication code with the key is.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, Dict, Mapping

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.packet import check_key

ANNOTATION = "ai.attested.image.source"
_PURPOSE = b"attested.ai/image-source/1"


def written(document: Mapping[str, Any], key: bytes, kid: str, source: str) -> bytes:
    """The manifest with the annotation."""
    annotations = dict(document.get("annotations") or {})
    annotations[ANNOTATION] = code(document, key, kid, source)
    return json.dumps(dict(document, annotations=annotations), separators=(",", ":")).encode("utf-8")


def holds(document: Mapping[str, Any], key: bytes, kid: str, source: str) -> bool:
    """Whether this manifest was made by a holder of the key, of the source with this digest."""
    found = (document.get("annotations") or {}).get(ANNOTATION)
    try:
        return isinstance(found, str) and hmac.compare_digest(found.encode("utf-8"), code(document, key, kid, source).encode("ascii"))
    except (AttestedError, UnicodeEncodeError):
        # Something that has no canonical form, and that we did not write.
        return False


def code(document: Mapping[str, Any], key: bytes, kid: str, source: str) -> str:
    """Over everything in the manifest but itself."""
    bare: Dict[str, Any] = dict(document)
    bare["annotations"] = {name: value for name, value in (document.get("annotations") or {}).items() if name != ANNOTATION}
    derived = hmac.new(check_key(key), _PURPOSE, hashlib.sha256).digest()
    return hmac.new(derived, jcs.canonicalize([kid, source, bare]), hashlib.sha256).hexdigest()
