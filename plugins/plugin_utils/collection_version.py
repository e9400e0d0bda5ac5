# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which version of the collection this is: an installed one says so in MANIFEST.json, a checkout in galaxy.yml."""

from __future__ import annotations

import functools
from pathlib import Path

import yaml


@functools.cache
def collection_version() -> str:
    """The version, or an empty string where neither file says it."""
    root = Path(__file__).resolve().parents[2]
    for name, place in (("MANIFEST.json", ("collection_info", "version")), ("galaxy.yml", ("version",))):
        try:
            found = yaml.safe_load((root / name).read_text(encoding="utf-8"))
            for member in place:
                found = found[member]
            return str(found)
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            continue
    return ""
