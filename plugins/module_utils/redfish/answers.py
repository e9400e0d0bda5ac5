# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What comes from a service, taken with care: links that stay on it, messages that are short, JSON that is an object."""

from __future__ import annotations

import json
import re
from typing import Any, List, Mapping
from urllib.parse import urlsplit

from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted

PATH_MAX = 2048


def checked_path(path: Any, where: str) -> str:
    """A link that a service gave, if it stays on that service. Credentials must not go elsewhere."""
    if not isinstance(path, str) or not re.match(r"/(?!/)[\x21-\x7e]*\Z", path) or len(path) > PATH_MAX or "\\" in path:
        raise RedfishError("the link %s does not stay on this controller" % quoted(path), where=where, fix="Nothing was sent there", code="redfish-link")
    return path.partition("#")[0]


def path_in(location: str) -> str:
    """The path in a Location header, empty where it has none."""
    try:
        return urlsplit(location).path
    except ValueError:
        return ""


def messages(body: bytes) -> List[str]:
    """What a service says of an error (DSP0266 clause 8.6), at most three short lines."""
    try:
        error = json_object(body).get("error")
    except ValueError:
        return []
    listed = error.get("@Message.ExtendedInfo") if isinstance(error, dict) else None
    found = [entry.get("Message") for entry in (listed if isinstance(listed, list) else []) if isinstance(entry, dict)]
    return [" ".join(ascii(text)[1:-1].split())[:300] for text in found if isinstance(text, str) and text][:3]


def json_object(body: bytes, strict: bool = False) -> Mapping[str, Any]:
    """The JSON object in ``body``; without ``strict`` an empty one where there is none. Raises ValueError."""
    try:
        found = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        if strict:
            raise ValueError(type(error).__name__) from None
        return {}
    if not isinstance(found, dict):
        if strict:
            raise ValueError("it is a %s" % type(found).__name__)
        return {}
    return found
