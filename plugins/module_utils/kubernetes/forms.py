# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The forms that names and other texts of a description must have."""

from __future__ import annotations

import re
from typing import Any, Mapping

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

# Names of objects; short enough that what is made of them stays within 63 characters.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?\Z")
# Names of objects of others, which may have dots.
GROUP_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?\Z")
# Keys of Secrets, and names of files.
CLAIM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}\Z")
ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,100}\Z")
# An image: a registry, which must be named, a path, and a tag, a digest or both. Whether that is enough is decided later.
REFERENCE = re.compile(
    r"(?P<registry>[A-Za-z0-9.-]+(:[0-9]{1,5})?)/(?P<path>[a-z0-9]+([._/-]+[a-z0-9]+)*)(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(@(?P<digest>sha256:[0-9a-f]{64}))?\Z"
)
# One line, without control characters.
PRINTABLE = re.compile(r"[^\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]{1,4096}\Z")
URL = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9/_.+~%-]*)?\Z")
# nvidia.com/pgpu and the like, and keys of labels.
RESOURCE = re.compile(r"([a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")


def labels(given: Any, where: str) -> Mapping[str, str]:
    """Raises FormatError."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise FormatError("it is no dictionary of labels", where=where)
    for key, value in given.items():
        if not isinstance(key, str) or not RESOURCE.match(key) or not isinstance(value, str) or not (value == "" or LABEL_VALUE.match(value)):
            raise FormatError("%s: %s is no label" % (ascii(key)[:60], ascii(value)[:60]), where=where, fix='Write values in quotes: "true"')
    return dict(given)
